//! What was reported of Envoy and Istio, in our rules: one test per advisory about the text of policies and
//! configuration. Those about paths, hosts and headers stand in mesh-server/tests/server/advisories.rs, those about
//! tokens in `authenticate` and mesh-server/tests/server/tokens.rs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::{HeaderMap, Method};
use mesh_core::{
    authorize::{Authorizer, Claims, Request, TrustDomains},
    config::{Code, Level, Options, Resource, load},
    identity::{SpiffeId, TrustDomain},
};
use std::sync::Arc;

#[test]
fn cve_2026_39350_a_dot_in_a_service_account_is_a_dot() {
    for (field, written) in
        [("serviceAccounts", "shop/pay.api"), ("principals", "cluster.local/ns/shop/sa/pay.api")]
    {
        for (account, allowed) in
            [("pay.api", true), ("pay-api", false), ("payxapi", false), ("pay.api2", false)]
        {
            let rule = format!("{{from: [{{source: {{{field}: ['{written}']}}}}]}}");
            assert_eq!(
                allows(&rule, &format!("spiffe://cluster.local/ns/shop/sa/{account}")),
                allowed,
                "{field} {account}"
            );
        }
    }
    for (namespace, allowed) in [("a.b", true), ("a-b", false), ("axb", false)] {
        let rule = "{from: [{source: {namespaces: ['a.b']}}]}";
        assert_eq!(
            allows(rule, &format!("spiffe://cluster.local/ns/{namespace}/sa/x")),
            allowed,
            "{namespace}"
        );
    }
}

/// CVE-2019-14993 and ISTIO-SECURITY-2026-006: expressions that take exponential time, or fill the memory.
#[test]
fn cve_2019_14993_no_expression_costs_more_than_its_text() {
    let route = |regex: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\n\
             spec: {{hosts: [a], http: [{{match: [{{uri: {{regex: '{regex}'}}}}], route: [{{destination: {{host: a}}}}]}}]}}\n"
        )
    };
    for (regex, reads) in [
        ("/(a+)+$", true),
        ("/(a|a|ab)*c", true),
        ("((a{900}){900}){900}", false),
        ("(?:(?:(?:\\pL{100}){100}){100})", false),
        (&"(".repeat(5000), false),
    ] {
        let loaded = load("v.yaml", &route(regex), &Options::default());
        let refused = loaded.diagnostics.iter().any(|finding| finding.level == Level::Error);
        assert_eq!(!refused, reads, "{regex:.40}: {:?}", loaded.diagnostics);
    }
    // What reads is matched in time that grows with the text, and no faster.
    let loaded = load("v.yaml", &route("/(a+)+$"), &Options::default());
    assert_eq!(loaded.resources.len(), 1);
}

/// CVE-2026-48042 and CVE-2022-24726: input that is nested deeper than a stack.
#[test]
fn cve_2022_24726_no_depth_of_nesting_exhausts_the_stack() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("{\"a\":", "}"), ("- ", "")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let loaded = load("deep.yaml", &deep, &Options::default());
        assert!(!loaded.complete || loaded.resources.is_empty(), "{open}");
    }
    let keys = format!("{{\"keys\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(mesh_core::authenticate::KeySet::parse(keys.as_bytes()).is_err());
    let rule = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: r}}\nspec: {{jwtRules: [{{issuer: a, jwks: '{keys}'}}]}}\n"
    );
    let loaded = load("r.yaml", &rule, &Options::default());
    assert!(
        loaded.diagnostics.iter().any(|finding| finding.code == Code::SCHEMA),
        "{:?}",
        loaded.diagnostics
    );
}

/// Returns whether an ALLOW of `rule` lets `peer` in.
fn allows(rule: &str, peer: &str) -> bool {
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{rules: [{rule}]}}\n"
    );
    let loaded = load("p.yaml", &text, &Options::default());
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let policies: Vec<Arc<Resource>> = loaded.resources.into_iter().map(Arc::new).collect();
    let own: TrustDomain = "cluster.local".parse().unwrap();
    let authorizer = Authorizer::new(&policies, &TrustDomains { own: &own, aliases: &[] });
    let (peer, headers, claims): (SpiffeId, _, _) =
        (peer.parse().unwrap(), HeaderMap::new(), Claims::default());
    let request = Request {
        peer: Some(&peer),
        source: None,
        remote: None,
        destination: None,
        port: 80,
        sni: None,
        method: &Method::GET,
        host: "a",
        path: "/",
        headers: &headers,
        claims: Some(&claims),
    };
    authorizer.decide(&request).is_allowed()
}
