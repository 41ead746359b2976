use super::*;
use crate::config::{
    Options,
    istio::{AuthorizationRule, Operation, Source},
    load,
};

/// A request, without those parts that a test does not care for.
#[derive(Clone, Copy)]
struct From<'a> {
    peer: &'a str,
    source: &'a str,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    port: u16,
}

const GET: From<'static> = From {
    peer: "spiffe://cluster.local/ns/shop/sa/web",
    source: "10.0.0.7",
    method: "GET",
    host: "reviews.shop.svc.cluster.local",
    path: "/reviews/1",
    port: 8080,
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
    let key = |name: &str| ResourceKey::new("AuthorizationPolicy", "shop", name);
    for (specs, decision) in [
        (&[][..], Decision::Allowed(None)),
        (&[allow], Decision::Allowed(Some(key("p0")))),
        (&[deny], Decision::Denied(key("p0"))),
        (&[allow, deny], Decision::Denied(key("p1"))),
        (&[deny_nobody], Decision::Allowed(None)),
        (&[deny_nobody, allow], Decision::Allowed(Some(key("p1")))),
        (&[allow_nobody], Decision::NotAllowed),
        (&[allow_nobody, allow], Decision::Allowed(Some(key("p1")))),
        (&["{}"], Decision::NotAllowed),
        (&["{}", allow], Decision::Allowed(Some(key("p1")))),
        (&["{rules: []}"], Decision::NotAllowed),
        (&["{action: DENY}"], Decision::Allowed(None)),
        (&["{action: DENY, rules: []}"], Decision::Allowed(None)),
        (&["{action: DENY}", "{}"], Decision::NotAllowed),
    ] {
        assert_eq!(decide(&authorizer(specs), GET), decision, "{specs:?}");
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

#[test]
fn a_source_address_that_is_not_known_errs_towards_the_denial() {
    let unknown = From { source: "", ..GET };
    for list in ["ipBlocks", "notIpBlocks"] {
        for action in ["ALLOW", "DENY"] {
            let spec =
                format!("{{action: {action}, rules: [{{from: [{{source: {{{list}: [10.0.0.0/8]}}}}]}}]}}");
            assert_eq!(answer_of(&authorizer(&[&spec]), unknown), No, "{action} {list}");
        }
    }
}

#[test]
fn what_the_reader_of_the_yaml_should_have_refused_errs_towards_the_denial() {
    let rule = |action, source: Option<Source>, operation: Option<Operation>| AuthorizationPolicy {
        action,
        rules: vec![AuthorizationRule {
            from: source.into_iter().collect(),
            to: operation.into_iter().collect(),
        }],
        ..AuthorizationPolicy::default()
    };
    let wrong_template = Operation { paths: vec!["/{**}/a/{**}".to_owned()], ..Operation::default() };
    let not_wrong_template = Operation { not_paths: vec!["/{**}/a/{**}".to_owned()], ..Operation::default() };
    for action in [AuthorizationAction::Allow, AuthorizationAction::Deny] {
        for spec in [
            rule(action, Some(Source::default()), None),
            rule(action, None, Some(Operation::default())),
            rule(action, None, Some(wrong_template.clone())),
            rule(action, None, Some(not_wrong_template.clone())),
        ] {
            let mut resource = policies(&["{}"]).remove(0);
            Arc::make_mut(&mut resource).spec = Spec::AuthorizationPolicy(spec.clone());
            assert_eq!(answer_of(&Authorizer::new([&resource]), GET), No, "{spec:?}");
        }
    }
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

fn decide(authorizer: &Authorizer, request: From<'_>) -> Decision {
    let peer = (!request.peer.is_empty()).then(|| request.peer.parse().unwrap());
    authorizer.decide(&Request {
        peer: peer.as_ref(),
        source: (!request.source.is_empty()).then(|| request.source.parse().unwrap()),
        method: &request.method.parse().unwrap(),
        host: request.host,
        path: request.path,
        port: request.port,
    })
}

fn authorizer(specs: &[&str]) -> Authorizer {
    Authorizer::new(&policies(specs))
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
