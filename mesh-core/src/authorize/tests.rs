use super::*;
use crate::config::{Options, load};
use http::{HeaderName, HeaderValue};
use serde_json::json;

/// A request, without those parts that a test does not care for.
#[derive(Clone, Copy)]
struct From<'a> {
    peer: &'a str,
    source: &'a str,
    remote: &'a str,
    destination: &'a str,
    sni: Option<&'a str>,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    port: u16,
    headers: &'a [(&'a str, &'a str)],
    /// The payload of a verified token, as JSON; empty if nobody verifies tokens.
    token: &'a str,
}

const GET: From<'static> = From {
    peer: "spiffe://cluster.local/ns/shop/sa/web",
    source: "10.0.0.7",
    remote: "203.0.113.9",
    destination: "10.0.0.1",
    sni: Some("outbound_.80_._.reviews.shop.svc.cluster.local"),
    method: "GET",
    host: "reviews.shop.svc.cluster.local",
    path: "/reviews/1",
    port: 8080,
    headers: &[("x-user", "ann")],
    token: r#"{"iss": "https://login.example", "sub": "ann", "aud": ["shop", "bank"], "azp": "app", "admin": true,
               "realm": {"roles": ["reader"]}, "scope": "read write"}"#,
};

#[derive(Debug, PartialEq)]
enum Answer {
    Yes,
    No,
}
use Answer::{No, Yes};

#[test]
fn before_there_is_any_policy_nobody_is_let_in() {
    assert_eq!(decide(&Authorizer::closed(), GET), Decision::NotAllowed);
}

#[test]
fn deny_comes_before_allow_and_allow_before_nothing() {
    let allow = "{rules: [{}]}";
    let deny = "{action: DENY, rules: [{}]}";
    let deny_nobody = "{action: DENY, rules: [{from: [{source: {namespaces: [nowhere]}}]}]}";
    let allow_nobody = "{rules: [{from: [{source: {namespaces: [nowhere]}}]}]}";
    let allowed = |name: &str| (true, Some(format!("ns[shop]-policy[{name}]-rule[0]")));
    let denied = |name: &str| (false, Some(format!("ns[shop]-policy[{name}]-rule[0]")));
    for (specs, decision) in [
        (&[][..], (true, None)),
        (&[allow], allowed("p0")),
        (&[deny], denied("p0")),
        (&[allow, deny], denied("p1")),
        (&[deny_nobody], (true, None)),
        (&[deny_nobody, allow], allowed("p1")),
        (&[allow_nobody], (false, None)),
        (&[allow_nobody, allow], allowed("p1")),
        (&["{}"], (false, None)),
        (&["{}", allow], allowed("p1")),
        (&["{rules: []}"], (false, None)),
    ] {
        let made = decide(&authorizer(specs), GET);
        assert_eq!((made.is_allowed(), made.grounds().map(ToString::to_string)), decision, "{specs:?}");
    }
}

#[test]
fn a_deny_or_allow_that_got_here_without_rules_matches_nothing() {
    for (action, decision) in [
        (AuthorizationAction::Deny, Decision::Allowed(None)),
        (AuthorizationAction::Allow, Decision::NotAllowed),
    ] {
        let mut resource = policies(&["{}"]).remove(0);
        let spec = crate::config::istio::AuthorizationPolicy { action, ..Default::default() };
        Arc::make_mut(&mut resource).spec = Spec::AuthorizationPolicy(spec);
        assert_eq!(decide(&compiled(&[resource]), GET), decision, "{action:?}");
    }
}

#[test]
fn the_grounds_name_the_rule_and_the_place_of_the_policy() {
    let nobody = "{from: [{source: {namespaces: [nowhere]}}]}";
    let authorizer = authorizer(&[&format!("{{action: DENY, rules: [{nobody}, {{}}]}}")]);
    let decision = decide(&authorizer, GET);
    let grounds = decision.grounds().unwrap();
    assert_eq!(
        (grounds.rule, grounds.policy.resource.to_string()),
        (Some(1), "AuthorizationPolicy shop/p0".into())
    );
    assert_eq!(grounds.policy.location.to_string(), "policies.yaml:2:1");
}

#[test]
fn an_audit_decides_nothing_and_says_what_it_matched() {
    let audit = "{action: AUDIT, rules: [{to: [{operation: {methods: [GET]}}]}]}";
    let authorizer = authorizer(&[audit]);
    let post = From { method: "POST", ..GET };
    for (from, matched) in [(GET, Some("ns[shop]-policy[p0]-rule[0]")), (post, None)] {
        assert_eq!(decide(&authorizer, from), Decision::Allowed(None));
        let recorded = with_request(from, |request| authorizer.audit(request));
        assert_eq!(recorded.map(|grounds| grounds.to_string()).as_deref(), matched);
    }
}

#[test]
fn a_policy_on_trial_is_decided_and_not_enforced() {
    let deny = "{action: DENY, rules: [{}]}";
    let allow_nobody = "{rules: [{from: [{source: {namespaces: [nowhere]}}]}]}";
    for (enforced, on_trial, decision, trial) in [
        (&[][..], &[deny][..], true, Some(false)),
        (&[], &[allow_nobody], true, Some(false)),
        (&[deny], &[allow_nobody], false, Some(false)),
        (&[deny], &["{rules: [{}]}"], false, Some(true)),
        (&[deny], &[], false, None),
    ] {
        let tried = policies(on_trial).into_iter().map(|mut resource| {
            Arc::make_mut(&mut resource).meta.annotations.insert(DRY_RUN.to_owned(), "true".to_owned());
            resource
        });
        let all: Vec<_> = policies(enforced).into_iter().chain(tried).collect();
        let authorizer = compiled(&all);
        assert_eq!(decide(&authorizer, GET).is_allowed(), decision, "{enforced:?} {on_trial:?}");
        let tried = with_request(GET, |request| authorizer.decide_on_trial(request));
        assert_eq!(tried.map(|decision| decision.is_allowed()), trial, "{enforced:?} {on_trial:?}");
    }
}

#[test]
fn a_malformed_policy_fails_closed_and_leaves_the_others_alone() {
    let allow = "{rules: [{}]}";
    let malformed_allow = "{rules: [{form: []}]}";
    let malformed_deny = "{action: DENY, rules: [{form: []}]}";
    for (specs, answer) in [
        (&[malformed_allow][..], No),
        (&[malformed_allow, allow], Yes),
        (&[malformed_deny], No),
        (&[malformed_deny, allow], No),
        (&["{rules: 1}"], No),
        (&["{action: LET_IN, rules: [{}]}", allow], No),
    ] {
        assert_eq!(answer_of(&authorizer(specs), GET), answer, "{specs:?}");
    }
}

#[test]
fn a_source_matches_as_istio_says() {
    let anonymous = From { peer: "", ..GET };
    let of = |peer| From { peer, ..GET };
    let from = |source| From { source, ..GET };
    for (source, request, matches) in [
        ("principals: [cluster.local/ns/shop/sa/web]", GET, Yes),
        ("principals: [cluster.local/ns/shop/sa/webby, cluster.local/ns/shop/sa/web]", GET, Yes),
        ("principals: [cluster.local/ns/shop/sa/we]", GET, No),
        ("principals: ['cluster.local/ns/shop/*']", GET, Yes),
        ("principals: ['cluster.local/ns/shop/*']", of("spiffe://cluster.local/ns/shopping/sa/web"), No),
        ("principals: ['*/sa/web']", GET, Yes),
        ("principals: ['*/sa/web']", of("spiffe://other/ns/shop/sa/web"), Yes),
        ("principals: ['*']", GET, Yes),
        ("principals: ['*']", anonymous, No),
        // A dot is a dot: CVE-2026-39350.
        ("principals: [cluster.local/ns/shop/sa/a.b]", of("spiffe://cluster.local/ns/shop/sa/a-b"), No),
        ("principals: ['spiffe://cluster.local/ns/shop/sa/web']", GET, No),
        ("notPrincipals: [cluster.local/ns/shop/sa/web]", GET, No),
        ("notPrincipals: [cluster.local/ns/shop/sa/other]", GET, Yes),
        ("notPrincipals: ['*']", anonymous, Yes),
        ("namespaces: [shop]", GET, Yes),
        ("namespaces: [sho]", GET, No),
        ("namespaces: ['sh*']", GET, Yes),
        ("namespaces: ['*op']", GET, Yes),
        ("namespaces: ['s*p']", GET, Yes),
        ("namespaces: ['s*x']", GET, No),
        ("serviceAccounts: [web]", GET, Yes),
        ("serviceAccounts: [shop/web]", GET, Yes),
        ("serviceAccounts: [other/web]", GET, No),
        ("serviceAccounts: [we]", GET, No),
        ("serviceAccounts: [web]", of("spiffe://other/ns/shop/sa/web"), Yes),
        ("serviceAccounts: [web]", of("spiffe://td/ns/shop/pod/x/sa/web/v/1"), Yes),
        ("serviceAccounts: [web]", of("spiffe://td/ns/shop/sa/web-2"), No),
        ("serviceAccounts: [web]", anonymous, No),
        ("notServiceAccounts: [web]", GET, No),
        ("notServiceAccounts: [web]", anonymous, Yes),
        ("trustDomains: [cluster.local]", GET, Yes),
        ("trustDomains: [cluster]", GET, No),
        ("trustDomains: ['cluster*']", GET, Yes),
        ("trustDomains: ['*.local']", GET, Yes),
        ("trustDomains: ['*']", GET, Yes),
        ("trustDomains: ['*']", anonymous, No),
        ("notTrustDomains: [cluster.local]", GET, No),
        ("notTrustDomains: [cluster.local]", of("spiffe://other/ns/shop/sa/web"), Yes),
        ("notTrustDomains: [cluster.local]", anonymous, Yes),
        ("remoteIpBlocks: [203.0.113.0/24]", GET, Yes),
        ("remoteIpBlocks: [10.0.0.7]", GET, No),
        ("notRemoteIpBlocks: [203.0.113.9]", GET, No),
        ("notRemoteIpBlocks: [10.0.0.7]", GET, Yes),
        ("namespaces: ['*']", GET, Yes),
        ("namespaces: ['*']", anonymous, No),
        ("namespaces: [shop]", anonymous, No),
        ("namespaces: [shop]", of("spiffe://cluster.local/workload/shop"), No),
        ("namespaces: [web]", GET, No),
        ("namespaces: [shop]", of("spiffe://cluster.local/team/ns/shop/x"), Yes),
        ("namespaces: [shop]", of("spiffe://cluster.local/team/ns/shop"), No),
        ("notNamespaces: [shop]", GET, No),
        ("notNamespaces: [other]", GET, Yes),
        ("notNamespaces: [shop]", anonymous, Yes),
        ("ipBlocks: [10.0.0.7]", GET, Yes),
        ("ipBlocks: [10.0.0.0/8]", GET, Yes),
        ("ipBlocks: [10.0.1.0/24]", GET, No),
        ("ipBlocks: [10.0.0.0/8]", from("::ffff:10.0.0.7"), Yes),
        ("ipBlocks: ['2001:db8::/32']", from("2001:db8::1"), Yes),
        ("ipBlocks: ['2001:db8::/32']", GET, No),
        ("notIpBlocks: [10.0.0.0/8]", GET, No),
        ("notIpBlocks: [192.168.0.0/16]", GET, Yes),
        ("requestPrincipals: ['https://login.example/ann']", GET, Yes),
        ("requestPrincipals: ['https://login.example/bob']", GET, No),
        ("requestPrincipals: ['https://login.example/*']", GET, Yes),
        ("requestPrincipals: ['*']", GET, Yes),
        ("requestPrincipals: ['*']", From { token: "{}", ..GET }, No),
        ("notRequestPrincipals: ['*']", GET, No),
        ("notRequestPrincipals: ['*']", From { token: "{}", ..GET }, Yes),
        ("notRequestPrincipals: ['https://login.example/bob']", GET, Yes),
        ("namespaces: [shop], ipBlocks: [10.0.0.0/8]", GET, Yes),
        ("namespaces: [shop], ipBlocks: [192.168.0.0/16]", GET, No),
        ("namespaces: [shop], notPrincipals: ['*/sa/web']", GET, No),
    ] {
        assert_matches(&format!("from: [{{source: {{{source}}}}}]"), request, matches);
    }
}

#[test]
fn an_operation_matches_as_istio_says() {
    let method = |method| From { method, ..GET };
    let path = |path| From { path, ..GET };
    let host = |host| From { host, ..GET };
    for (operation, request, matches) in [
        ("methods: [GET]", GET, Yes),
        ("methods: [GET, POST]", method("POST"), Yes),
        ("methods: [get]", GET, No),
        ("methods: ['P*']", method("PATCH"), Yes),
        ("methods: ['*']", method("BREW"), Yes),
        ("notMethods: [GET]", GET, No),
        ("notMethods: [POST]", GET, Yes),
        ("paths: [/reviews/1]", GET, Yes),
        ("paths: [/reviews]", GET, No),
        ("paths: ['/reviews/*']", GET, Yes),
        ("paths: ['/reviews/*']", path("/reviewsX"), No),
        ("paths: ['*/1']", GET, Yes),
        ("paths: [/Reviews/1]", GET, No),
        ("paths: ['*']", GET, Yes),
        ("paths: ['/reviews/{*}']", GET, Yes),
        ("paths: ['/reviews/{*}']", path("/reviews/1/stars"), No),
        ("paths: ['/reviews/{**}']", path("/reviews/1/stars"), Yes),
        ("notPaths: ['/admin*']", GET, Yes),
        ("notPaths: ['/admin*']", path("/admin/x"), No),
        ("ports: ['8080']", GET, Yes),
        ("ports: ['80', '443']", GET, No),
        ("notPorts: ['8080']", GET, No),
        ("notPorts: ['80']", GET, Yes),
        ("hosts: [reviews.shop.svc.cluster.local]", GET, Yes),
        // CVE-2021-39155.
        ("hosts: [Reviews.SHOP.svc.cluster.local]", GET, Yes),
        ("hosts: ['*.shop.svc.cluster.local']", host("X.shop.svc.Cluster.Local"), Yes),
        ("hosts: ['reviews*']", GET, Yes),
        ("hosts: [reviews.shop.svc.cluster.local.]", GET, Yes),
        ("hosts: ['*']", GET, Yes),
        ("hosts: [other]", GET, No),
        ("notHosts: [REVIEWS.shop.svc.cluster.local]", GET, No),
        ("notHosts: [other]", GET, Yes),
        ("methods: [GET], paths: ['/reviews/*'], ports: ['8080']", GET, Yes),
        ("methods: [POST], paths: ['/reviews/*'], ports: ['8080']", GET, No),
        ("paths: ['/reviews/*'], notPaths: [/reviews/1]", GET, No),
    ] {
        assert_matches(&format!("to: [{{operation: {{{operation}}}}}]"), request, matches);
    }
}

#[test]
fn some_source_and_some_operation_of_one_rule_must_match() {
    let shop_or_ops = "from: [{source: {namespaces: [shop]}}, {source: {namespaces: [ops]}}]";
    let get_or_admin = "to: [{operation: {methods: [GET]}}, {operation: {paths: ['/admin/*']}}]";
    let rule = format!("{shop_or_ops}, {get_or_admin}");
    let post = From { method: "POST", ..GET };
    for (request, matches) in [
        (GET, Yes),
        (From { peer: "spiffe://cluster.local/ns/ops/sa/x", ..GET }, Yes),
        (From { peer: "spiffe://cluster.local/ns/other/sa/x", ..GET }, No),
        (post, No),
        (From { path: "/admin/x", ..post }, Yes),
    ] {
        assert_matches(&rule, request, matches);
    }
    // The halves of two rules do not make one.
    let two = authorizer(&[
        "{rules: [{from: [{source: {namespaces: [shop]}}], to: [{operation: {methods: [POST]}}]}, \
         {from: [{source: {namespaces: [ops]}}], to: [{operation: {methods: [GET]}}]}]}",
    ]);
    assert_eq!(answer_of(&two, GET), No);
}

#[test]
fn a_condition_matches_as_istio_says() {
    let headers = |headers| From { headers, ..GET };
    let plaintext = From { sni: None, ..GET };
    for (key, values, request, matches) in [
        ("request.headers[x-user]", "values: [ann]", GET, Yes),
        ("request.headers[X-User]", "values: [ann]", GET, Yes),
        ("request.headers[x-user]", "values: [Ann]", GET, No),
        ("request.headers[x-user]", "values: ['an*']", GET, Yes),
        ("request.headers[x-user]", "values: ['*nn']", GET, Yes),
        ("request.headers[x-user]", "values: [bob, ann]", GET, Yes),
        ("request.headers[x-user]", "values: ['*']", GET, Yes),
        ("request.headers[x-user]", "values: ['*']", headers(&[("x-user", "")]), Yes),
        ("request.headers[x-user]", "values: ['*']", headers(&[]), No),
        ("request.headers[x-user]", "notValues: [ann]", GET, No),
        ("request.headers[x-user]", "notValues: [bob]", GET, Yes),
        ("request.headers[x-user]", "notValues: ['*']", headers(&[]), Yes),
        ("request.headers[x-user]", "notValues: [ann]", headers(&[]), Yes),
        ("request.headers[x-user]", "values: ['a*'], notValues: [ann]", GET, No),
        ("request.headers[:authority]", "values: [reviews.shop.svc.cluster.local]", GET, Yes),
        ("request.headers[host]", "values: [other]", GET, No),
        ("request.headers[:method]", "values: [GET]", GET, Yes),
        ("source.ip", "values: [10.0.0.0/24]", GET, Yes),
        ("source.ip", "values: [203.0.113.9]", GET, No),
        ("source.ip", "notValues: [10.0.0.7]", GET, No),
        ("remote.ip", "values: [203.0.113.9]", GET, Yes),
        ("remote.ip", "values: [10.0.0.7]", GET, No),
        ("source.namespace", "values: [shop]", GET, Yes),
        ("source.namespace", "notValues: [shop]", GET, No),
        ("source.principal", "values: ['*/sa/web']", GET, Yes),
        ("source.principal", "values: [cluster.local/ns/shop/sa/other]", GET, No),
        ("source.serviceAccount", "values: [shop/web]", GET, Yes),
        ("source.serviceAccount", "values: [web]", GET, Yes),
        ("source.serviceAccount", "values: [bank/web]", GET, No),
        ("request.auth.principal", "values: ['https://login.example/ann']", GET, Yes),
        ("request.auth.principal", "notValues: ['https://login.example/ann']", GET, No),
        ("request.auth.audiences", "values: [bank]", GET, Yes),
        ("request.auth.audiences", "values: [other]", GET, No),
        ("request.auth.presenter", "values: [app]", GET, Yes),
        ("request.auth.claims[sub]", "values: ['a*']", GET, Yes),
        ("request.auth.claims[scope]", "values: [write]", GET, Yes),
        ("request.auth.claims[scope]", "values: [read write]", GET, No),
        ("request.auth.claims[realm][roles]", "values: [reader]", GET, Yes),
        ("request.auth.claims[realm][roles]", "values: [writer]", GET, No),
        ("request.auth.claims[realm]", "values: ['*']", GET, No),
        ("request.auth.claims[admin]", "values: ['true']", GET, No),
        ("request.auth.claims[group]", "notValues: [x]", GET, Yes),
        ("destination.ip", "values: [10.0.0.1]", GET, Yes),
        ("destination.ip", "values: [10.0.0.7]", GET, No),
        ("destination.port", "values: ['8080']", GET, Yes),
        ("destination.port", "values: ['80']", GET, No),
        ("destination.port", "notValues: ['8080']", GET, No),
        ("connection.sni", "values: ['*.reviews.shop.svc.cluster.local']", GET, Yes),
        ("connection.sni", "values: [www.example.com]", GET, No),
        ("connection.sni", "values: ['*']", plaintext, No),
        ("connection.sni", "notValues: ['*']", plaintext, Yes),
    ] {
        assert_matches(&format!("when: [{{key: '{key}', {values}}}]"), request, matches);
    }
}

#[test]
fn every_condition_of_a_rule_must_hold_beside_its_source_and_operation() {
    let rule = "from: [{source: {namespaces: [shop]}}], to: [{operation: {methods: [GET]}}], \
                when: [{key: 'request.headers[x-user]', values: [ann]}, {key: source.ip, values: [10.0.0.0/8]}]";
    for (request, matches) in [
        (GET, Yes),
        (From { method: "POST", ..GET }, No),
        (From { peer: "", ..GET }, No),
        (From { headers: &[], ..GET }, No),
        (From { source: "192.168.0.1", ..GET }, No),
    ] {
        assert_matches(rule, request, matches);
    }
}

/// One row per way to send several values; `allowed` and `denied` say what an ALLOW and a DENY on it make of them.
#[test]
fn of_several_values_any_denies_and_only_all_allow() {
    for (list, values, allowed, denied) in [
        ("values: ['a*']", &["ann", "al"][..], true, true),
        ("values: ['a*']", &["ann", "bob"], false, true),
        ("values: ['a*']", &["bob", "ann"], false, true),
        ("values: ['a*']", &["bob", "ben"], false, false),
        // Envoy sees `ann,ann`.
        ("values: [ann]", &["ann", "ann"], false, true),
        ("values: ['ann,bob']", &["ann", "bob"], false, true),
        ("values: ['*']", &["ann", "bob"], true, true),
        ("notValues: [ann]", &["bob", "ann"], false, true),
        ("notValues: [ann]", &["ann", "ann"], false, true),
        ("notValues: ['a*']", &["bob", "ben"], true, true),
        ("notValues: ['a*']", &["ann", "al"], false, false),
        ("notValues: ['ann,bob']", &["ann", "bob"], false, true),
    ] {
        let headers: Vec<_> = values.iter().map(|value| ("x-user", *value)).collect();
        let request = From { headers: &headers, ..GET };
        let when = format!("when: [{{key: 'request.headers[x-user]', {list}}}]");
        let allow = authorizer(&[&format!("{{rules: [{{{when}}}]}}")]);
        assert_eq!(answer_of(&allow, request) == Yes, allowed, "ALLOW {list} {values:?}");
        let deny = authorizer(&[&format!("{{action: DENY, rules: [{{{when}}}]}}")]);
        assert_eq!(answer_of(&deny, request) == No, denied, "DENY {list} {values:?}");
    }
}

#[test]
fn a_principal_of_one_name_of_the_trust_domain_is_that_of_every_other() {
    let names: Vec<crate::identity::TrustDomain> = ["new", "old"].map(|name| name.parse().unwrap()).into();
    let domains = TrustDomains { own: &names[0], aliases: &names[1..] };
    let of = |peer| From { peer, ..GET };
    let (new, old) = (of("spiffe://new/ns/shop/sa/web"), of("spiffe://old/ns/shop/sa/web"));
    for (rule, request, matches) in [
        ("from: [{source: {principals: [old/ns/shop/sa/web]}}]", new, Yes),
        ("from: [{source: {principals: [new/ns/shop/sa/web]}}]", old, Yes),
        ("from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]", old, Yes),
        ("from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]", GET, No),
        ("from: [{source: {principals: [other/ns/shop/sa/web]}}]", old, No),
        ("from: [{source: {notPrincipals: [old/ns/shop/sa/web]}}]", new, No),
        ("from: [{source: {trustDomains: [old]}}]", new, Yes),
        ("from: [{source: {notTrustDomains: [new]}}]", old, No),
        ("when: [{key: source.principal, values: [old/ns/shop/sa/web]}]", new, Yes),
    ] {
        let policies = policies(&[&format!("{{rules: [{{{rule}}}]}}")]);
        let decision = decide(&Authorizer::new(&policies, &domains), request);
        assert_eq!(decision.is_allowed(), matches == Yes, "{rule} {}", request.peer);
    }
}

#[test]
fn while_nobody_verifies_tokens_a_rule_about_one_never_allows_and_always_denies() {
    let unverified = From { token: "", ..GET };
    for condition in [
        "from: [{source: {requestPrincipals: ['*']}}]",
        "from: [{source: {notRequestPrincipals: ['*']}}]",
        "from: [{source: {notRequestPrincipals: [a/b]}}]",
        "when: [{key: request.auth.principal, values: ['*']}]",
        "when: [{key: request.auth.audiences, notValues: [shop]}]",
        "when: [{key: 'request.auth.claims[group]', values: [x]}]",
    ] {
        for action in ["ALLOW", "DENY"] {
            let authorizer = authorizer(&[&format!("{{action: {action}, rules: [{{{condition}}}]}}")]);
            assert_eq!(answer_of(&authorizer, unverified), No, "{action} {condition}");
        }
    }
}

#[test]
fn a_host_with_a_port_errs_towards_the_denial() {
    for host in ["reviews.shop.svc.cluster.local:9080", "reviews.shop.svc.cluster.local:*"] {
        let hosts = |action: &str, list: &str| {
            let spec =
                format!("{{action: {action}, rules: [{{to: [{{operation: {{{list}: ['{host}']}}}}]}}]}}");
            answer_of(&authorizer(&[&spec]), GET)
        };
        assert_eq!(hosts("ALLOW", "hosts"), No, "{host}");
        assert_eq!(hosts("DENY", "hosts"), No, "{host}");
        assert_eq!(hosts("ALLOW", "notHosts"), No, "{host}");
        assert_eq!(hosts("DENY", "notHosts"), No, "{host}");
    }
}

/// As with Envoy, which compares the whole authority.
#[test]
fn a_request_that_names_a_port_is_allowed_by_a_host_only_with_that_port() {
    let host = "reviews.shop.svc.cluster.local";
    let request = From { host: "reviews.shop.svc.cluster.local:9080", ..GET };
    for (list, allowed, let_through) in [
        (format!("hosts: ['{host}']"), No, No),
        (format!("hosts: ['{host}:9080']"), Yes, No),
        (format!("hosts: ['{host}:*']"), Yes, No),
        (format!("hosts: ['{host}:80']"), No, Yes),
        (format!("notHosts: ['{host}']"), No, No),
        (format!("notHosts: ['{host}:9080']"), No, Yes),
        (format!("notHosts: ['{host}:80']"), Yes, No),
        ("notHosts: [other]".to_owned(), Yes, No),
    ] {
        let decide = |action: &str| {
            let spec = format!("{{action: {action}, rules: [{{to: [{{operation: {{{list}}}}}]}}]}}");
            answer_of(&authorizer(&[&spec]), request)
        };
        assert_eq!((decide("ALLOW"), decide("DENY")), (allowed, let_through), "{list}");
    }
}

#[test]
fn an_address_that_is_not_known_errs_towards_the_denial() {
    let unknown = From { source: "", remote: "", destination: "", ..GET };
    for condition in [
        "from: [{source: {ipBlocks: [10.0.0.0/8]}}]",
        "from: [{source: {notIpBlocks: [10.0.0.0/8]}}]",
        "from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]",
        "when: [{key: remote.ip, notValues: [10.0.0.0/8]}]",
        "when: [{key: destination.ip, values: [10.0.0.0/8]}]",
    ] {
        for action in ["ALLOW", "DENY"] {
            let spec = format!("{{action: {action}, rules: [{{{condition}}}]}}");
            assert_eq!(answer_of(&authorizer(&[&spec]), unknown), No, "{action} {condition}");
        }
    }
}

#[test]
fn what_the_reader_of_the_yaml_should_have_refused_errs_towards_the_denial() {
    let wrong = || vec!["/{**}/a/{**}".to_owned()];
    let wrong_template = Lists { values: wrong(), ..Lists::default() };
    let not_wrong_template = Lists { not_values: wrong(), ..Lists::default() };
    let paths = |paths| AuthorizationRule {
        to: vec![Operation { paths, ..Operation::default() }],
        ..AuthorizationRule::default()
    };
    for action in [AuthorizationAction::Allow, AuthorizationAction::Deny] {
        for rule in [
            AuthorizationRule { from: vec![Source::default()], ..AuthorizationRule::default() },
            AuthorizationRule { to: vec![Operation::default()], ..AuthorizationRule::default() },
            paths(wrong_template.clone()),
            paths(not_wrong_template.clone()),
        ] {
            let spec =
                crate::config::istio::AuthorizationPolicy { action, rules: vec![rule], ..Default::default() };
            let mut resource = policies(&["{}"]).remove(0);
            Arc::make_mut(&mut resource).spec = Spec::AuthorizationPolicy(spec.clone());
            assert_eq!(answer_of(&compiled(&[resource]), GET), No, "{spec:?}");
        }
    }
}

#[test]
fn the_story_names_every_policy_tried_and_the_first_condition_that_failed() {
    let authorizer = authorizer(&[
        "{action: AUDIT, rules: [{}]}",
        "{action: DENY, rules: [{from: [{source: {namespaces: [nowhere]}}], to: [{operation: {methods: [GET]}}]}, \
         {when: [{key: 'request.headers[x-user]', notValues: [ann]}]}]}",
        "{rules: 1}",
        "{rules: [{from: [{source: {ipBlocks: [192.168.0.0/16]}}, {source: {principals: [x]}}]}, {}, {}]}",
        "{rules: [{}]}",
    ]);
    let story = with_request(GET, |request| authorizer.explain(request));
    assert_eq!((story.allowed, story.decided_by.as_deref()), (true, Some("ns[shop]-policy[p3]-rule[1]")));
    assert_eq!(story.allowed_on_trial, None);
    let tried: Vec<_> = story
        .tried
        .iter()
        .map(|policy| {
            let failed: Vec<_> =
                policy.rules.iter().map(|rule| rule.failed.as_deref().unwrap_or("-")).collect();
            (policy.action, policy.matched, policy.reason, failed)
        })
        .collect();
    assert_eq!(
        tried,
        [
            ("AUDIT", true, None, vec!["-"]),
            (
                "DENY",
                false,
                None,
                vec![
                    r#"from[0].source.namespaces ["nowhere"], got "cluster.local/ns/shop/sa/web""#,
                    r#"when request.headers[x-user] not ["ann"], got ["ann"]"#,
                ]
            ),
            ("ALLOW", false, Some("it could not be read, and allows nothing"), vec![]),
            (
                "ALLOW",
                true,
                None,
                vec![
                    "from[0].source.ipBlocks [192.168.0.0/16], got 10.0.0.7; from[1].source.principals [\"x\"], got \
                     \"cluster.local/ns/shop/sa/web\"",
                    "-",
                ]
            ),
        ]
    );
    assert_eq!(
        (story.tried[1].place.resource.as_str(), story.tried[1].place.line),
        ("AuthorizationPolicy shop/p1", 7)
    );
    assert_eq!(story.tried[1].rules[1].place.line, 10);
}

/// Asserts that a rule matches or does not, as a rule of an ALLOW and of a DENY alike.
fn assert_matches(rule: &str, request: From<'_>, matches: Answer) {
    let allow = authorizer(&[&format!("{{rules: [{{{rule}}}]}}")]);
    assert_eq!(answer_of(&allow, request), matches, "ALLOW {rule}");
    let deny = authorizer(&[&format!("{{action: DENY, rules: [{{{rule}}}]}}")]);
    let denied = if answer_of(&deny, request) == No { Yes } else { No };
    assert_eq!(denied, matches, "DENY {rule}");
}

fn answer_of(authorizer: &Authorizer, request: From<'_>) -> Answer {
    match decide(authorizer, request) {
        Decision::Allowed(_) => Yes,
        Decision::Denied(_) | Decision::NotAllowed => No,
    }
}

fn decide(authorizer: &Authorizer, from: From<'_>) -> Decision {
    let decision = with_request(from, |request| authorizer.decide(request));
    // The story is told by the code that decides.
    let story = with_request(from, |request| authorizer.explain(request));
    assert_eq!(
        (story.allowed, story.decided_by),
        (decision.is_allowed(), decision.grounds().map(Grounds::to_string))
    );
    decision
}

fn with_request<T>(from: From<'_>, f: impl FnOnce(&Request<'_>) -> T) -> T {
    let peer = (!from.peer.is_empty()).then(|| from.peer.parse().unwrap());
    let address = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in from.headers {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let token: serde_json::Value = serde_json::from_str(from.token).unwrap_or(json!(null));
    let claims = token.as_object().map(|payload| Claims::new(payload.clone(), &[]));
    f(&Request {
        peer: peer.as_ref(),
        source: address(from.source),
        remote: address(from.remote),
        destination: address(from.destination),
        port: from.port,
        sni: from.sni,
        method: &from.method.parse().unwrap(),
        host: from.host,
        path: from.path,
        headers: &headers,
        claims: claims.as_ref(),
    })
}

fn authorizer(specs: &[&str]) -> Authorizer {
    compiled(&policies(specs))
}

fn compiled(policies: &[Arc<Resource>]) -> Authorizer {
    let own = "cluster.local".parse().unwrap();
    Authorizer::new(policies, &TrustDomains { own: &own, aliases: &[] })
}

/// Reads policies `p0`, `p1`, … as a user would write them.
fn policies(specs: &[&str]) -> Vec<Arc<Resource>> {
    let document = |(index, spec): (usize, &&str)| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: p{index}, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let text: String = specs.iter().enumerate().map(document).collect();
    let loaded = load("policies.yaml", &text, &Options::default());
    assert_eq!(loaded.resources.len(), specs.len(), "{:?}", loaded.diagnostics);
    loaded.resources.into_iter().map(Arc::new).collect()
}
