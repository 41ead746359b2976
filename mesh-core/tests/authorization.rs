//! Who may come in: which security objects are for a workload, what they add up to, and what is odd about them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method};
use mesh_core::{
    authenticate::{Algorithm, PublicKey, Signatures, TokenFault},
    authorize::{Claims, Request},
    config::{Diagnostic, Level, Options, Resource, Spec, istio::MtlsMode, load},
    health::States,
    registry::Registry,
    snapshot::{MeshSettings, Snapshot, Viewer, compile, lint_security},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

// ---- which policies are for a workload

/// One row per policy that denies everything: where it stands, whom it selects, and whether `app: web` of `shop` is meant.
#[test]
fn a_policy_is_for_the_workloads_of_its_namespace_that_carry_its_labels_and_from_the_root_for_all() {
    for (namespace, spec, is_for_us) in [
        ("shop", "", true),
        ("shop", "selector: {matchLabels: {app: web}}, ", true),
        ("shop", "selector: {matchLabels: {app: web, version: v1}}, ", true),
        ("shop", "selector: {matchLabels: {app: web, version: v2}}, ", false),
        ("shop", "selector: {matchLabels: {app: other}}, ", false),
        ("shop", "selector: {}, ", true),
        ("bank", "", false),
        ("bank", "selector: {matchLabels: {app: web}}, ", false),
        ("istio-system", "", true),
        ("istio-system", "selector: {matchLabels: {app: web}}, ", true),
        ("istio-system", "selector: {matchLabels: {app: other}}, ", false),
        ("shop", "targetRefs: [{kind: Service, name: web}], ", false),
        ("shop", "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: web}, ", false),
        (
            "istio-system",
            "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: w}], ",
            false,
        ),
    ] {
        let deny = format!("{{{spec}action: DENY, rules: [{{}}]}}");
        let mesh = Mesh::of(&[&object("AuthorizationPolicy", "p", namespace, &deny)]);
        assert_eq!(!mesh.allows(&GET), is_for_us, "{namespace} {deny}");
        let tokens = format!("{{{spec}jwtRules: [{{issuer: a}}]}}");
        let mesh = Mesh::of(&[&object("RequestAuthentication", "p", namespace, &tokens)]);
        assert_eq!(mesh.snapshot.inbound().authenticator.rules(), usize::from(is_for_us), "{tokens}");
    }
}

#[test]
fn an_alias_of_the_trust_domain_is_the_trust_domain() {
    let policy = object(
        "AuthorizationPolicy",
        "p",
        "shop",
        "{rules: [{from: [{source: {principals: [old.example/ns/shop/sa/web]}}]}]}",
    );
    let mut settings = MeshSettings::new("new.example".parse().unwrap());
    let caller = Call { peer: Some("spiffe://new.example/ns/shop/sa/web"), ..GET };
    assert!(!Mesh::with(&[&policy], &settings).allows(&caller));
    settings.trust_domain_aliases = vec!["old.example".parse().unwrap()];
    assert!(Mesh::with(&[&policy], &settings).allows(&caller));
}

// ---- tokens

/// Nobody knows which tokens it takes, nor which headers tell handlers what they say: a forged one would be believed.
#[test]
fn a_request_authentication_that_does_not_read_denies_what_its_selector_covers() {
    let good = "{jwtRules: [{issuer: a, jwksUri: 'https://a.example/keys'}, {issuer: b}]}";
    let mesh = Mesh::of(&[&object("RequestAuthentication", "r", "shop", good)]);
    assert_eq!((mesh.snapshot.inbound().authenticator.rules(), mesh.allows(&GET)), (2, true));

    for (spec, allowed) in [
        ("{jwtRules: [{}]}", false),
        ("{jwtRules: [{issuer: a, jwks: '{'}]}", false),
        ("{selector: {matchLabels: {app: web}}, jwtRules: [{}]}", false),
        ("{selector: {matchLabels: {app: other}}, jwtRules: [{}]}", true),
    ] {
        let mesh = Mesh::broken(&[&object("RequestAuthentication", "r", "shop", spec)]);
        assert_eq!(mesh.allows(&GET), allowed, "{spec}");
    }
}

#[test]
fn a_policy_of_istio_1_3_that_demands_a_token_denies_where_none_is_verified() {
    let origins = "origins: [{jwt: {issuer: a}}]";
    let mesh_wide = |spec: &str| legacy("MeshPolicy", "default", spec);
    let ours =
        |spec: &str| legacy("Policy", "web", &format!("{{targets: [{{name: web{spec}}}], {origins}}}"));
    let demand = mesh_wide(&format!("{{{origins}}}"));
    let optional = mesh_wide(&format!("{{{origins}, originIsOptional: true}}"));
    let none = legacy("Policy", "default", "{peers: [{mtls: {}}]}");
    for (documents, allows_8080, allows_9090, policies) in [
        (vec![SERVICE, &demand], false, false, 1),
        (vec![SERVICE, &optional], true, true, 1),
        // The narrower policy alone counts.
        (vec![SERVICE, &demand, &none], true, true, 0),
        (vec![SERVICE, &ours("")], false, false, 1),
        (vec![SERVICE, &ours(", ports: [{number: 80}]")], false, true, 1),
        (vec![SERVICE, &ours(", ports: [{number: 80}]"), &demand], false, false, 2),
        (vec![SERVICE, &ours(", ports: [{number: 80}, {number: 90}]")], false, false, 1),
        (vec![SERVICE, &ours(", ports: [{number: 81}]")], true, true, 0),
        (vec![SERVICE, &ours(", ports: [{number: 81}]"), &demand], false, false, 1),
        (vec![&ours(", ports: [{number: 80}]")], false, false, 1),
    ] {
        let mesh = Mesh::of(&documents);
        let on = |port| mesh.allows(&Call { port, ..GET });
        assert_eq!((on(8080), on(9090)), (allows_8080, allows_9090), "{documents:#?}");
        assert_eq!(mesh.snapshot.inbound().authenticator.rules(), policies, "{documents:#?}");
    }
}

#[test]
fn a_policy_of_istio_1_3_takes_tokens_from_where_it_says_and_passes_them_on() {
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let token = |audience: &str| {
        let payload = serde_json::json!({"iss": "a", "sub": "ann", "aud": audience});
        format!("{}.{}.AA", part(serde_json::json!({"alg": "EdDSA"})), part(payload))
    };
    let keys =
        serde_json::json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 32])}]});
    let jwt = format!("{{issuer: a, audiences: [x], jwks: '{keys}', jwtHeaders: [X-T], jwtParams: [t]}}");
    for spec in [
        format!("{{origins: [{{jwt: {jwt}}}]}}"),
        format!("{{peers: [{{jwt: {jwt}}}]}}"),
        format!("{{jwts: [{jwt}]}}"),
    ] {
        let mesh = Mesh::of(&[&legacy("MeshPolicy", "default", &spec)]);
        for (token, outcome) in [
            (Some(token("x")), Ok(Some("ann"))),
            (Some(token("y")), Err(TokenFault::OtherAudience)),
            (None, Ok(None)),
        ] {
            for uri in [format!("/?t={}", token.as_deref().unwrap_or_default()), "/".to_owned()] {
                let is_in_query = uri != "/";
                let mut request = http::Request::get(if token.is_some() { &uri } else { "/" });
                if let Some(token) = token.as_ref().filter(|_| !is_in_query) {
                    request = request.header("x-t", token);
                }
                let (before, ()) = request.body(()).unwrap().into_parts();
                let mut head = before.clone();
                let judged = mesh.snapshot.inbound().authenticator.judge(&mut head, 8080, &AllGood, 0);
                let subject = judged.as_ref().map(Claims::subject).map_err(|fault| *fault);
                assert_eq!(subject, outcome, "{spec} {uri}");
                assert_eq!((&head.uri, &head.headers), (&before.uri, &before.headers), "it stays");
            }
        }
    }
}

/// Takes every signature for good.
struct AllGood;

impl Signatures for AllGood {
    fn is_good(&self, _: Algorithm, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

#[test]
fn a_policy_of_istio_1_3_that_does_not_read_denies_if_it_asks_for_a_token() {
    for (kind, namespace, spec, allowed) in [
        ("MeshPolicy", "bank", "{origins: [{jwt: {}}]}", false),
        ("MeshPolicy", "bank", "{peers: [{mtls: {}}], oops: 1}", true),
        ("Policy", "shop", "{peers: [{jwt: {}}]}", false),
        ("Policy", "bank", "{peers: [{jwt: {}}]}", true),
    ] {
        let policy =
            legacy(kind, "default", spec).replace("namespace: shop", &format!("namespace: {namespace}"));
        let mesh = Mesh::broken(&[&policy]);
        assert_eq!(mesh.allows(&GET), allowed, "{policy}");
        let is_ours = kind == "MeshPolicy" || namespace == "shop";
        let mode = if is_ours { MtlsMode::Strict } else { MtlsMode::Permissive };
        assert_eq!(mesh.snapshot.inbound().mode(8080), mode, "{policy}");
    }
}

#[test]
fn a_token_that_somebody_verified_counts() {
    let mesh = Mesh::of(&[
        &object("RequestAuthentication", "r", "shop", "{jwtRules: [{issuer: a}]}"),
        &object(
            "AuthorizationPolicy",
            "p",
            "shop",
            "{rules: [{from: [{source: {requestPrincipals: [a/*]}}]}]}",
        ),
    ]);
    let payload = serde_json::json!({"iss": "a", "sub": "ann"});
    let ann = Claims::new(payload.as_object().unwrap().clone(), &[]);
    let nobody = Claims::default();
    for (claims, allowed) in [(Some(&ann), true), (Some(&nobody), false), (None, false)] {
        assert_eq!(mesh.allows(&Call { claims, ..GET }), allowed, "{claims:?}");
    }
}

// ---- mutual TLS

/// One row per set of objects, and the mode of the workload ports 8080 (80 of the service), 9090 (90) and 7 (neither).
#[test]
fn the_mode_of_a_port_is_what_the_narrowest_and_oldest_object_says_of_it() {
    use MtlsMode::{Disable, Permissive, Strict};
    let peer = |name: &str, spec: &str| object("PeerAuthentication", name, "shop", spec);
    let aged = |name: &str, time: &str, spec: &str| {
        peer(name, spec).replace("namespace: shop", &format!("namespace: shop, creationTimestamp: '{time}'"))
    };
    let ours =
        |name: &str, rest: &str| peer(name, &format!("{{selector: {{matchLabels: {{app: web}}}}, {rest}}}"));
    let strict_ns = peer("ns", "{mtls: {mode: STRICT}}");
    let unset_port =
        ours("w", "mtls: {mode: DISABLE}, portLevelMtls: {8080: {mode: UNSET}, 9090: {mode: STRICT}}");
    let unset_both = ours("w", "portLevelMtls: {8080: {mode: UNSET}, 9090: {mode: DISABLE}}");
    let young = aged("a", "2024-02-01T00:00:00Z", "{mtls: {mode: STRICT}}");
    let old = aged("b", "2024-01-01T00:00:00Z", "{mtls: {mode: DISABLE}}");
    let old_unset = aged("b", "2024-01-01T00:00:00Z", "{mtls: {mode: UNSET}}");
    let port_80 =
        legacy("Policy", "web", "{targets: [{name: web, ports: [{number: 80}]}], peers: [{mtls: {}}]}");
    let off_90 = legacy("Policy", "web", "{targets: [{name: web, ports: [{number: 90}]}]}");
    let both = legacy(
        "Policy",
        "web",
        "{targets: [{name: web, ports: [{number: 80}]}, {name: web, ports: [{number: 90}]}], peers: [{mtls: {}}]}",
    );
    let other =
        legacy("Policy", "other", "{targets: [{name: other, ports: [{number: 80}]}], peers: [{mtls: {}}]}");
    let null = legacy("Policy", "default", "{peers: [{mtls: null}]}");
    let strict_mesh = legacy("MeshPolicy", "default", "{peers: [{mtls: {}}]}");
    let permissive = legacy("Policy", "default", "{peers: [{mtls: {mode: PERMISSIVE}}]}");
    let allow_tls = legacy("Policy", "default", "{peers: [{mtls: {allowTls: true}}]}");
    for (documents, modes) in [
        (vec![SERVICE], [Permissive; 3]),
        (vec![SERVICE, &unset_port], [Disable, Strict, Disable]),
        (vec![SERVICE, &strict_ns, &unset_both], [Strict, Disable, Strict]),
        (vec![SERVICE, &young, &old], [Disable; 3]),
        (vec![SERVICE, &young, &old_unset], [Permissive; 3]),
        (vec![SERVICE, &port_80], [Strict, Permissive, Permissive]),
        (vec![SERVICE, &port_80, &null], [Strict; 3]),
        (vec![SERVICE, &off_90, &null], [Strict, Disable, Strict]),
        (vec![SERVICE, &both], [Strict; 3]),
        (vec![SERVICE, &other], [Permissive; 3]),
        // Nobody knows which ports of the workload are meant: what demands mutual TLS counts, what waives it does not.
        (vec![&port_80], [Strict; 3]),
        (vec![&off_90], [Permissive; 3]),
        (vec![SERVICE, &null], [Strict; 3]),
        (vec![SERVICE, &strict_mesh], [Strict; 3]),
        (vec![SERVICE, &strict_mesh, &permissive], [Permissive; 3]),
        (vec![SERVICE, &strict_mesh, &allow_tls], [Permissive; 3]),
    ] {
        let mesh = Mesh::of(&documents);
        let inbound = mesh.snapshot.inbound();
        assert_eq!([8080, 9090, 7].map(|port| inbound.mode(port)), modes, "{documents:#?}");
    }
}

#[test]
fn the_mode_without_any_policy_is_a_setting() {
    let mut settings = MeshSettings::new("cluster.local".parse().unwrap());
    settings.default_mtls = MtlsMode::Disable;
    assert_eq!(Mesh::with(&[], &settings).snapshot.inbound().mode(80), MtlsMode::Disable);
    let strict = object("PeerAuthentication", "p", "shop", "{mtls: {mode: STRICT}}");
    assert_eq!(Mesh::with(&[&strict], &settings).snapshot.inbound().mode(80), MtlsMode::Strict);
}

// ---- what is odd

/// One row per oddity: the objects, and the code and path of what is said about them, if anything is.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_is_odd_about_security_objects_is_said_and_nothing_else() {
    let policy = |spec: &str| object("AuthorizationPolicy", "p", "shop", spec);
    let peer = |namespace: &str, spec: &str| object("PeerAuthentication", "p", namespace, spec);
    let rule = |host: &str, policy: &str| object("DestinationRule", "r", "shop", &format!("{{host: '{host}', {policy}}}"));
    let tokens = object("RequestAuthentication", "r", "shop", "{jwtRules: [{issuer: a}]}");
    let strict = peer("shop", "{mtls: {mode: STRICT}}");
    let strict_8080 = peer("shop", "{selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: STRICT}}}");
    let plain = "trafficPolicy: {tls: {mode: DISABLE}}";
    let on_port = |port: u16| format!("trafficPolicy: {{portLevelSettings: [{{port: {{number: {port}}}, tls: {{mode: DISABLE}}}}]}}");
    let one_subset = "subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: DISABLE}}}]";
    let no_subset = "subsets: [{name: v2, labels: {version: v2}, trafficPolicy: {tls: {mode: DISABLE}}}]";
    for (documents, said) in [
        (vec![SERVICE.to_owned(), policy("{rules: [{}]}")], None),
        // Selectors.
        (vec![SERVICE.to_owned(), policy("{selector: {matchLabels: {app: web}}, rules: [{}]}")], None),
        (vec![SERVICE.to_owned(), policy("{selector: {matchLabels: {app: wob}}, rules: [{}]}")], Some("IST0127 spec.selector")),
        (vec![SERVICE.to_owned(), policy("{selector: {matchLabels: {app: web, version: v2}}, rules: [{}]}")], Some("IST0127 spec.selector")),
        (vec![SERVICE.to_owned(), object("AuthorizationPolicy", "p", "istio-system", "{selector: {matchLabels: {app: web}}, rules: [{}]}")], None),
        (vec![SERVICE.to_owned(), object("AuthorizationPolicy", "p", "istio-system", "{selector: {matchLabels: {app: no}}, rules: [{}]}")], Some("IST0127 spec.selector")),
        (vec![SERVICE.to_owned(), peer("shop", "{selector: {matchLabels: {app: no}}, mtls: {mode: STRICT}}")], Some("IST0127 spec.selector")),
        (vec![SERVICE.to_owned(), object("RequestAuthentication", "p", "shop", "{selector: {matchLabels: {app: no}}}")], Some("IST0127 spec.selector")),
        (vec![policy("{selector: {matchLabels: {app: wob}}, rules: [{}]}")], None),
        // Policies without effect.
        (vec![peer("istio-system", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}")], Some("IST0167 spec.selector")),
        (vec![peer("shop", "{}")], Some("IST0167 spec")),
        (vec![peer("shop", "{selector: {matchLabels: {app: web}}, portLevelMtls: {1: {mode: STRICT}}}")], None),
        (vec![policy("{}")], None),
        (vec![policy("{}"), object("AuthorizationPolicy", "q", "shop", "{rules: [{}]}")], Some("IST0167 spec")),
        (vec![policy("{}"), object("AuthorizationPolicy", "q", "bank", "{rules: [{}]}")], None),
        (vec![policy("{action: DENY, rules: [{to: [{operation: {notPaths: ['*']}}]}]}")], Some("IST0167 spec.rules")),
        (vec![policy("{action: DENY, rules: [{to: [{operation: {notPaths: ['*']}}]}, {}]}")], None),
        (vec![policy("{action: DENY, rules: [{to: [{operation: {notPaths: ['*']}}, {operation: {paths: [/]}}]}]}")], None),
        (vec![policy("{action: DENY, rules: [{from: [{source: {namespaces: [a], notNamespaces: [a]}}]}]}")], Some("IST0167 spec.rules")),
        (vec![policy("{action: DENY, rules: [{from: [{source: {ipBlocks: [10.0.1.0/24], notIpBlocks: [10.0.0.0/8]}}]}]}")], Some("IST0167 spec.rules")),
        (vec![policy("{action: AUDIT, rules: [{when: [{key: destination.port, values: ['0']}]}]}")], Some("IST0167 spec.rules")),
        (vec![policy("{rules: [{when: [{key: 'request.headers[a]', values: [b], notValues: [b]}]}]}")], None),
        // Tokens.
        (vec![policy("{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}")], Some("IST0149 spec.rules")),
        (vec![policy("{rules: [{when: [{key: request.auth.audiences, values: [a]}]}]}"), tokens.clone()], None),
        (vec![policy("{rules: [{when: [{key: request.auth.audiences, values: [a]}]}]}"), tokens.replace("namespace: shop", "namespace: bank")], Some("IST0149 spec.rules")),
        (vec![policy("{rules: [{when: [{key: request.auth.audiences, values: [a]}]}]}"), tokens.replace("namespace: shop", "namespace: istio-system")], None),
        (vec![policy("{rules: [{when: [{key: request.auth.audiences, values: [a]}]}]}"), legacy("MeshPolicy", "default", "{origins: [{jwt: {issuer: a}}]}")], None),
        // Plaintext towards a server that refuses it.
        (vec![SERVICE.to_owned(), strict.clone(), rule("web", plain)], Some("IST0113 spec.trafficPolicy.tls")),
        (vec![SERVICE.to_owned(), strict.clone(), rule("*.local", plain)], Some("IST0113 spec.trafficPolicy.tls")),
        (vec![SERVICE.to_owned(), strict.clone(), rule("web.bank", plain)], None),
        (vec![SERVICE.to_owned(), strict.clone(), rule("web", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}")], None),
        (vec![SERVICE.to_owned(), rule("web", plain)], None),
        (vec![SERVICE.to_owned(), strict_8080.clone(), rule("web", &on_port(80))], Some("IST0113 spec.trafficPolicy.tls")),
        (vec![SERVICE.to_owned(), strict_8080, rule("web", &on_port(90))], None),
        (vec![SERVICE.to_owned(), strict.clone(), rule("web", one_subset)], Some("IST0113 spec.trafficPolicy.tls")),
        (vec![SERVICE.to_owned(), strict.clone(), rule("web", no_subset)], None),
        (vec![SERVICE.replace("MESH_INTERNAL", "MESH_EXTERNAL"), strict.clone(), rule("web", plain)], None),
        (vec!["apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}".to_owned(), strict, rule("web", plain)], Some("IST0113 spec.trafficPolicy.tls")),
    ] {
        let documents: Vec<_> = documents.iter().map(String::as_str).collect();
        let found: Vec<_> = Mesh::of(&documents).odd().iter().map(|finding| format!("{} {}", finding.code, finding.path)).collect();
        assert_eq!(found, said.into_iter().collect::<Vec<_>>(), "{documents:#?}");
    }
}

// ---- over random policies and requests

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// The model: any DENY denies; else with any ALLOW one of them must match.
    #[test]
    fn policies_add_up_to_deny_before_allow(specs in prop::collection::vec(spec(), 0..5), call in call()) {
        let matches = |action: &str| {
            let of_action: Vec<_> = specs.iter().filter(|(own, _)| *own == action).collect();
            // Alone, a DENY that matches denies, and an ALLOW that matches allows.
            let matching = of_action.iter().filter(|(_, rules)| {
                policies(&[(action, rules.clone())]).allows(&call.as_call()) == (action == "ALLOW")
            });
            (of_action.len(), matching.count())
        };
        let (_, denying) = matches("DENY");
        let (allows, allowing) = matches("ALLOW");
        let expected = denying == 0 && (allows == 0 || allowing > 0);
        prop_assert_eq!(policies(&specs).allows(&call.as_call()), expected, "{:#?}", specs);
    }

    #[test]
    fn one_more_deny_never_allows_more(specs in prop::collection::vec(spec(), 0..4), rules in rules(), call in call()) {
        let before = policies(&specs).allows(&call.as_call());
        let more: Vec<_> = specs.iter().cloned().chain([("DENY", rules)]).collect();
        prop_assert!(before || !policies(&more).allows(&call.as_call()), "{:#?}", more);
    }

    #[test]
    fn a_policy_that_breaks_never_allows_more(specs in prop::collection::vec(spec(), 1..4), call in call()) {
        let good = policies(&specs).allows(&call.as_call());
        let broken: Vec<_> = specs.iter().map(|(action, rules)| (*action, format!("{rules}, oops: 1"))).collect();
        prop_assert!(good || !malformed_policies(&broken).allows(&call.as_call()), "{:#?}", specs);
        // One of them alone, too.
        let mut one = specs.clone();
        one[0] = broken[0].clone();
        prop_assert!(good || !malformed_policies(&one).allows(&call.as_call()), "{:#?}", one);
    }

    #[test]
    fn what_nobody_knows_never_allows_more(specs in prop::collection::vec(spec(), 0..4), call in call()) {
        let mesh = policies(&specs);
        let unknown = Call { source: None, claims: None, ..call.as_call() };
        prop_assert!(mesh.allows(&call.as_call()) || !mesh.allows(&unknown), "{:#?}", specs);
    }

    /// Every story is the decision's own.
    #[test]
    fn the_story_ends_as_the_decision_does(specs in prop::collection::vec(spec(), 0..4), call in call()) {
        let mesh = policies(&specs);
        let authorizer = &mesh.snapshot.inbound().authorizer;
        call.as_call().with(|request| {
            let (story, decision) = (authorizer.explain(request), authorizer.decide(request));
            assert_eq!(story.allowed, decision.is_allowed());
            assert_eq!(story.decided_by, decision.grounds().map(ToString::to_string));
            assert!(story.tried.iter().flat_map(|policy| &policy.rules).all(|rule| rule.matched == rule.failed.is_none()));
        });
    }
}

fn spec() -> impl Strategy<Value = (&'static str, String)> {
    (prop::sample::select(vec!["ALLOW", "DENY", "AUDIT"]), rules())
}

/// `rules` of a policy, at least one.
fn rules() -> impl Strategy<Value = String> {
    let clause = |pool: &'static [&'static str], what: &'static str| {
        prop::collection::vec(prop::sample::subsequence(pool, 1..3), 0..3).prop_map(move |clauses| {
            let clauses: Vec<_> =
                clauses.iter().map(|fields| format!("{{{what}: {{{}}}}}", fields.join(", "))).collect();
            clauses.join(", ")
        })
    };
    let when = prop::sample::subsequence(WHEN, 0..3).prop_map(|when| when.join(", "));
    let rule =
        (clause(SOURCES, "source"), clause(OPERATIONS, "operation"), when).prop_map(|(from, to, when)| {
            let parts = [("from", from), ("to", to), ("when", when)];
            let parts = parts.into_iter().filter(|(_, list)| !list.is_empty());
            let parts: Vec<_> = parts.map(|(name, list)| format!("{name}: [{list}]")).collect();
            format!("{{{}}}", parts.join(", "))
        });
    prop::collection::vec(rule, 1..3).prop_map(|rules| format!("rules: [{}]", rules.join(", ")))
}

const SOURCES: &[&str] = &[
    "principals: [cluster.local/ns/shop/sa/web]",
    "notPrincipals: ['*/sa/web']",
    "namespaces: [shop]",
    "notNamespaces: ['b*']",
    "ipBlocks: [10.0.0.0/8]",
    "notIpBlocks: [10.0.0.1]",
    "requestPrincipals: ['*']",
    "notRequestPrincipals: [a/ann]",
    "trustDomains: [cluster.local]",
];

const OPERATIONS: &[&str] = &[
    "methods: [GET]",
    "notMethods: [GET]",
    "paths: ['/a/*']",
    "notPaths: ['*b']",
    "hosts: [web]",
    "notHosts: ['w*']",
    "ports: ['8080']",
    "notPorts: ['8080']",
];

const WHEN: &[&str] = &[
    "{key: 'request.headers[x-user]', values: ['a*']}",
    "{key: 'request.headers[x-user]', notValues: [ann, bob]}",
    "{key: source.namespace, values: [shop, bank]}",
    "{key: remote.ip, notValues: [192.168.0.0/16]}",
    "{key: 'request.auth.claims[group]', values: [staff]}",
    "{key: request.auth.audiences, notValues: [shop]}",
    "{key: connection.sni, values: ['*']}",
];

/// A request of few possible parts, so that rules meet it often.
#[derive(Clone, Debug)]
struct RandomCall {
    peer: Option<&'static str>,
    source: &'static str,
    method: Method,
    host: &'static str,
    path: &'static str,
    port: u16,
    users: Vec<&'static str>,
    claims: Claims,
}

fn call() -> impl Strategy<Value = RandomCall> {
    let peers = vec![
        None,
        Some("spiffe://cluster.local/ns/shop/sa/web"),
        Some("spiffe://cluster.local/ns/bank/sa/web"),
        Some("spiffe://other/ns/shop/sa/other"),
    ];
    let claims = [
        "{}",
        r#"{"iss": "a", "sub": "ann", "aud": "shop"}"#,
        r#"{"iss": "a", "sub": "bob", "group": ["staff"]}"#,
    ];
    (
        prop::sample::select(peers),
        prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "192.168.0.1"]),
        prop::sample::select(vec![Method::GET, Method::POST]),
        prop::sample::select(vec!["web", "other"]),
        prop::sample::select(vec!["/a/b", "/a/c", "/"]),
        prop::sample::select(vec![8080, 9090]),
        prop::sample::subsequence(vec!["ann", "al", "bob"], 0..3),
        prop::sample::select(claims.to_vec()),
    )
        .prop_map(|(peer, source, method, host, path, port, users, claims)| {
            let payload: serde_json::Value = serde_json::from_str(claims).unwrap();
            let claims = Claims::new(payload.as_object().unwrap().clone(), &[]);
            RandomCall { peer, source, method, host, path, port, users, claims }
        })
}

impl RandomCall {
    fn as_call(&self) -> Call<'_> {
        Call {
            peer: self.peer,
            source: Some(self.source),
            method: &self.method,
            host: self.host,
            path: self.path,
            port: self.port,
            users: &self.users,
            claims: Some(&self.claims),
        }
    }
}

fn policies(specs: &[(&str, String)]) -> Mesh {
    let documents = documents(specs);
    Mesh::of(&documents.iter().map(String::as_str).collect::<Vec<_>>())
}

fn malformed_policies(specs: &[(&str, String)]) -> Mesh {
    let documents = documents(specs);
    Mesh::broken(&documents.iter().map(String::as_str).collect::<Vec<_>>())
}

fn documents(specs: &[(&str, String)]) -> Vec<String> {
    let document = |(index, (action, rules)): (usize, &(&str, String))| {
        let spec = format!("{{action: {action}, {rules}}}");
        object("AuthorizationPolicy", &format!("p{index}"), "shop", &spec)
    };
    specs.iter().enumerate().map(document).collect()
}

// ---- the mesh of these tests

/// Service `web` of `shop`, whose workload listens on 8080 for port 80 and on 9090 for port 90.
const SERVICE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http}, {number: 90, name: more}]
  endpoints: [{address: 10.0.0.1, ports: {http: 8080, more: 9090}, labels: {app: web, version: v1}}]
";

#[derive(Clone, Copy)]
struct Call<'a> {
    peer: Option<&'a str>,
    source: Option<&'a str>,
    method: &'a Method,
    host: &'a str,
    path: &'a str,
    port: u16,
    users: &'a [&'a str],
    claims: Option<&'a Claims>,
}

const GET: Call<'static> = Call {
    peer: Some("spiffe://cluster.local/ns/shop/sa/web"),
    source: Some("10.0.0.2"),
    method: &Method::GET,
    host: "web",
    path: "/",
    port: 8080,
    users: &[],
    claims: None,
};

impl Call<'_> {
    fn with<T>(&self, f: impl FnOnce(&Request<'_>) -> T) -> T {
        let peer = self.peer.map(|peer| peer.parse().unwrap());
        let source = self.source.map(|address| address.parse().unwrap());
        let mut headers = HeaderMap::new();
        for user in self.users {
            headers.append("x-user", HeaderValue::from_str(user).unwrap());
        }
        f(&Request {
            peer: peer.as_ref(),
            source,
            remote: source,
            destination: None,
            port: self.port,
            sni: peer.as_ref().map(|_| "web"),
            method: self.method,
            host: self.host,
            path: self.path,
            headers: &headers,
            claims: self.claims,
        })
    }
}

struct Mesh {
    resources: Vec<Arc<Resource>>,
    settings: MeshSettings,
    snapshot: Snapshot,
}

impl Mesh {
    /// The mesh of these documents as workload `web` (`version: v1`) of `shop` sees it.
    fn of(documents: &[&str]) -> Self {
        Self::with(documents, &MeshSettings::new("cluster.local".parse().unwrap()))
    }

    fn with(documents: &[&str], settings: &MeshSettings) -> Self {
        let mesh = Self::read(documents, settings);
        let good = |resource: &Arc<Resource>| !matches!(resource.spec, Spec::Malformed { .. });
        assert!(mesh.resources.len() == documents.len() && mesh.resources.iter().all(good), "{documents:#?}");
        mesh
    }

    /// Likewise, of documents that need not be in order.
    fn broken(documents: &[&str]) -> Self {
        Self::read(documents, &MeshSettings::new("cluster.local".parse().unwrap()))
    }

    fn read(documents: &[&str], settings: &MeshSettings) -> Self {
        let loaded = documents
            .iter()
            .enumerate()
            .map(|(index, text)| load(&format!("{index}.yaml"), text, &Options::default()));
        let mut resources: Vec<_> = loaded.flat_map(|loaded| loaded.resources).map(Arc::new).collect();
        resources.sort_by(|a, b| a.key.cmp(&b.key));
        let labels =
            [("app", "web"), ("version", "v1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let viewer =
            Viewer { namespace: "shop".into(), service: Some("web".into()), labels: BTreeMap::from(labels) };
        let (snapshot, _) = compile("1", &resources, &viewer, settings, &States::default());
        Self { resources, settings: settings.clone(), snapshot }
    }

    fn allows(&self, call: &Call<'_>) -> bool {
        call.with(|request| self.snapshot.inbound().authorizer.decide(request)).is_allowed()
    }

    fn odd(&self) -> Vec<Diagnostic> {
        let registry = Registry::build(&self.resources, &self.settings.domain);
        let findings = lint_security::findings(&self.resources, &registry, &self.settings);
        for finding in &findings {
            let level = if finding.code.as_str() == "IST0113" { Level::Error } else { Level::Warning };
            assert!(finding.level == level && finding.location.is_some(), "{finding}");
        }
        findings
    }
}

fn object(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    let group = if kind == "DestinationRule" { "networking" } else { "security" };
    format!(
        "apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn legacy(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: authentication.istio.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}
