//! What a configuration means to one workload: from YAML to decisions, without a socket.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::{HeaderMap, Method};
use mesh_core::{
    balance::{Policy, Security},
    config::{self, Code, Diagnostic, Level, Resource, istio::MtlsMode},
    dice::Seeded,
    explain::{Action, Explanation, explain},
    health::States,
    identity::PeerRule,
    route::{Decision, Head, RouteAction},
    snapshot::{Cluster, MeshSettings, Snapshot, Viewer, compile},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

// ---- routing

#[test]
fn weights_split_requests_between_subsets() {
    let mesh = Mesh::of(&[PAYMENT, SPLIT]);
    let mut dice = Seeded::new(1);
    let v2 = (0..10_000).filter(|_| mesh.target("http://payment/", &mut dice).contains("|v2|")).count();
    assert!((900..1_100).contains(&v2), "{v2} of 10000, seed 1");
}

#[test]
fn a_service_answers_to_its_short_and_full_names_with_and_without_its_port() {
    let mesh = Mesh::of(&[PAYMENT]);
    for host in [
        "payment",
        "payment:80",
        "payment.default",
        "payment.default.svc:80",
        "PAYMENT.default.svc.cluster.local.",
    ] {
        assert_eq!(
            mesh.cluster(&format!("http://{host}/")).name.as_ref(),
            "outbound|80||payment.default.svc.cluster.local"
        );
    }
    assert!(mesh.is_passthrough("http://payment:81/"));
    assert!(mesh.is_passthrough("http://payments/"));
}

#[test]
fn a_name_that_only_the_mesh_knows_is_never_called_in_plaintext() {
    let mesh = Mesh::of(&[PAYMENT]);
    for url in [
        "http://gone.default.svc.cluster.local/",
        "http://gone.default.svc:8080/",
        "http://GONE.x.SVC.cluster.local/",
        "http://payment.default.svc.cluster.local:81/",
    ] {
        assert!(matches!(mesh.decide(url), Decision::Blocked), "{url}");
    }
    assert!(mesh.is_passthrough("http://gone.example.com/"));
}

#[test]
fn a_rule_for_a_service_that_is_hidden_from_the_caller_still_routes_its_host() {
    let hidden = PAYMENT.replace("spec:\n", "spec:\n  exportTo: [\".\"]\n");
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: payment}\n\
         spec: {hosts: [payment.default.svc.cluster.local], http: [{name: r, route: [{destination: {host: payment}}]}]}";
    let mesh = Mesh::of(&[&hidden, rule]).seen_from("shop");
    let Decision::Forward { route, .. } = mesh.decide("http://payment.default.svc.cluster.local/") else {
        panic!("no route")
    };
    assert_eq!(&*route.name, "r");
}

#[test]
fn a_host_that_only_a_rule_knows_is_routed_by_the_port_that_is_asked_for() {
    let two = PAYMENT.replace("ports: [", "ports: [{number: 8080, name: admin, protocol: HTTP}, ");
    let rule = |http: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop}}\n\
             spec: {{hosts: [shop.example], http: [{http}]}}"
        )
    };
    let to = "route: [{destination: {host: payment, port: {number: 80}}}]";
    let by_port = rule(&format!(
        "{{name: admin, match: [{{port: 80}}], {to}}}, {{name: public, match: [{{port: 8080}}], {to}}}"
    ));
    let mesh = Mesh::of(&[&two, &by_port]);
    for (url, expected) in [
        ("http://shop.example/", Some("admin")),
        ("http://shop.example:80/", Some("admin")),
        ("http://shop.example:8080/", Some("public")),
        ("http://shop.example:9999/", None),
    ] {
        let route = match mesh.decide(url) {
            Decision::Forward { route, .. } => Some(&*route.name),
            _ => None,
        };
        assert_eq!(route, expected, "{url}");
    }
    let mesh = Mesh::of(&[&two, &rule("{route: [{destination: {host: payment}}]}")]);
    for (url, port) in [("http://shop.example/", 80), ("http://shop.example:8080/", 8080)] {
        assert_eq!(mesh.cluster(url).port, port, "{url}");
    }
    let mesh = Mesh::of(&[&rule("{redirect: {uri: /x, derivePort: FROM_REQUEST_PORT}}")]);
    for (url, expected) in [
        ("http://shop.example/", Some(80)),
        ("http://shop.example:80/", Some(80)),
        ("http://shop.example:9999/", None),
    ] {
        let Decision::Answer { route, .. } = mesh.decide(url) else { panic!("{url}") };
        let RouteAction::Redirect(redirect) = &route.action else { panic!("{url}") };
        assert_eq!(redirect.port, expected, "{url}: without one the authority keeps its own");
    }
}

#[test]
fn a_service_that_is_not_exported_to_the_caller_is_no_destination_of_its_routes() {
    let hidden = PAYMENT.replace("spec:\n", "spec:\n  exportTo: [\".\"]\n");
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop, namespace: shop}\n\
         spec: {hosts: [shop.example], http: [{route: [{destination: {host: payment.default.svc.cluster.local}}]}]}";
    for (namespace, reached) in [("default", true), ("shop", false)] {
        let mesh = Mesh::of(&[&hidden, rule]).seen_from(namespace);
        let Decision::Forward { target, .. } = mesh.decide("http://shop.example/") else {
            panic!("no route")
        };
        assert_eq!(target.cluster.is_some(), reached, "{namespace}");
        let said = mesh.findings.iter().find(|finding| finding.code == Code::REFERENCE_NOT_FOUND);
        assert_eq!(said.is_none(), reached, "{said:?}");
        assert!(said.is_none_or(|said| said.message.starts_with("no service")), "{said:?}");
    }
}

#[test]
fn a_destination_without_a_port_is_noted_where_the_service_has_several() {
    let two = PAYMENT.replace("ports: [", "ports: [{number: 81, name: grpc, protocol: GRPC}, ");
    assert!(Mesh::of(&[&two, SPLIT]).finding(Code::PORT_REQUIRED).message.contains("81, 80"));
}

#[test]
fn a_short_name_means_the_callers_own_namespace() {
    let mesh = Mesh::of(&[PAYMENT]).seen_from("shop");
    assert!(mesh.is_passthrough("http://payment/"));
    assert_eq!(mesh.cluster("http://payment.default/").host.as_ref(), "payment.default.svc.cluster.local");
}

#[test]
fn a_service_without_a_virtual_service_is_its_own_route_with_the_default_retries() {
    let mesh = Mesh::of(&[PAYMENT]);
    let Decision::Forward { host, forward, .. } = mesh.decide("http://payment/") else { panic!("no route") };
    assert_eq!(host.source, None);
    assert_eq!(forward.retry.retries_max, 2);
    assert!(!forward.retry.explicit);
    assert_eq!(forward.timeout, None);
}

#[test]
fn the_first_route_that_matches_wins_and_nothing_falls_through() {
    let mesh = Mesh::of(&[
        PAYMENT,
        r#"
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {name: payment}
        spec:
          hosts: [payment]
          http:
          - name: exact
            match: [{uri: {exact: /a}}, {name: two, uri: {prefix: /b}}]
            timeout: 3s
            route: [{destination: {host: payment}}]
          - match: [{uri: {prefix: /a}}]
            route: [{destination: {host: payment}}]
        "#,
    ]);
    let name = |url: &str| match mesh.decide(url) {
        Decision::Forward { route, .. } => route.name.to_string(),
        Decision::NoRoute { .. } => "404".to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name("http://payment/a"), "exact");
    assert_eq!(name("http://payment/bee"), "exact.two");
    assert_eq!(name("http://payment/ab"), "VirtualService default/payment#1");
    assert_eq!(name("http://payment/c"), "404", "a virtual service without a catch-all does not fall back");
}

#[test]
fn a_match_on_the_caller_is_judged_for_the_caller() {
    let rule = r#"
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {name: payment}
        spec:
          hosts: [payment.default.svc.cluster.local]
          http:
          - name: for-shop
            match: [{sourceNamespace: shop}]
            route: [{destination: {host: payment}}]
          - name: for-checkout
            match: [{sourceLabels: {app: checkout}}]
            route: [{destination: {host: payment}}]
          - name: rest
            route: [{destination: {host: payment}}]
        "#;
    let name = |mesh: &Mesh| match mesh.decide("http://payment.default/") {
        Decision::Forward { route, .. } => route.name.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(&Mesh::of(&[PAYMENT, rule]).seen_from("shop")), "for-shop");
    assert_eq!(name(&Mesh::of(&[PAYMENT, rule])), "for-checkout");
    assert_eq!(name(&Mesh::of(&[PAYMENT, rule]).labelled("app", "other")), "rest");
}

#[test]
fn of_two_virtual_services_for_one_host_the_older_wins_whole() {
    let rule = |name: &str, created: &str, route: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, creationTimestamp: \"{created}\"}}\n\
             spec: {{hosts: [payment], http: [{{name: {route}, route: [{{destination: {{host: payment}}}}]}}]}}"
        )
    };
    let (young, old) = (rule("a", "2026-02-01T00:00:00Z", "young"), rule("b", "2026-01-01T00:00:00Z", "old"));
    let mesh = Mesh::of(&[PAYMENT, &young, &old]);
    let Decision::Forward { route, .. } = mesh.decide("http://payment/") else { panic!("no route") };
    assert_eq!(&*route.name, "old");
    let conflict = mesh.finding(Code::CONFLICTING_HOSTS);
    assert_eq!(conflict.resource.as_ref().unwrap().to_string(), "VirtualService default/a");
}

#[test]
fn a_rule_that_names_its_host_twice_is_in_conflict_with_nobody() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
         spec: {hosts: [payment, payment.default.svc.cluster.local], http: [{name: r, route: [{destination: {host: payment}}]}]}";
    let mesh = Mesh::of(&[PAYMENT, rule]);
    let Decision::Forward { route, .. } = mesh.decide("http://payment/") else { panic!("no route") };
    assert_eq!((&*route.name, &mesh.findings[..]), ("r", &[][..]));
}

#[test]
fn a_wildcard_rule_covers_services_that_no_exact_rule_names() {
    let rule = |name: &str, host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
             spec: {{hosts: [\"{host}\"], http: [{{name: {name}, route: [{{destination: {{host: payment}}}}]}}]}}"
        )
    };
    let (wide, narrow) = (rule("wide", "*.cluster.local"), rule("narrow", "*.default.svc.cluster.local"));
    let mesh = Mesh::of(&[PAYMENT, &wide, &narrow]);
    let Decision::Forward { route, .. } = mesh.decide("http://payment/") else { panic!("no route") };
    assert_eq!(&*route.name, "narrow");
}

#[test]
fn a_rule_bound_to_a_gateway_never_touches_calls_inside_the_mesh() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: edge}\n\
         spec: {hosts: [\"*\"], gateways: [edge], http: [{redirect: {uri: /x}}]}";
    let mesh = Mesh::of(&[PAYMENT, rule]);
    assert_eq!(mesh.cluster("http://payment/").host.as_ref(), "payment.default.svc.cluster.local");
}

#[test]
fn a_destination_that_does_not_exist_leads_to_no_cluster_and_says_so() {
    let mesh = Mesh::of(&[
        PAYMENT,
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: payment}\n\
         spec: {hosts: [payment], http: [{route: [{destination: {host: ledger}}]}]}",
    ]);
    let Decision::Forward { target, .. } = mesh.decide("http://payment/") else { panic!("no route") };
    assert_eq!(target.cluster, None);
    assert_eq!(&*target.name, "outbound|80||ledger.default.svc.cluster.local");
    assert!(mesh.finding(Code::REFERENCE_NOT_FOUND).message.contains("ledger"));
}

// ---- destination policy

#[test]
fn a_later_layer_replaces_whole_blocks_and_a_port_entry_resets_the_rest() {
    let mesh = Mesh::of(&[
        PAYMENT,
        SPLIT,
        r#"
        apiVersion: networking.istio.io/v1
        kind: DestinationRule
        metadata: {name: payment}
        spec:
          host: payment
          trafficPolicy:
            loadBalancer: {simple: ROUND_ROBIN}
            connectionPool: {tcp: {maxConnections: 7, connectTimeout: 3s}, http: {http2MaxRequests: 9}}
            outlierDetection: {consecutive5xxErrors: 3}
          subsets:
          - name: v1
            labels: {version: v1}
            trafficPolicy:
              connectionPool: {http: {maxRetries: 5}}
          - name: v2
            labels: {version: v2}
            trafficPolicy:
              portLevelSettings:
              - port: {number: 80}
                loadBalancer: {simple: RANDOM}
        "#,
    ]);
    let (v1, v2) = (mesh.named("|v1|"), mesh.named("|v2|"));
    assert_eq!(v1.endpoints.policy(), Policy::RoundRobin, "inherited");
    assert_eq!(
        (v1.limits.retries_max, v1.limits.connections_max),
        (5, u32::MAX),
        "replaced as a whole block"
    );
    assert_eq!(v1.connect_timeout, Duration::from_secs(10));
    assert_eq!(v1.outlier.unwrap().consecutive_5xx, 3);
    assert_eq!(v2.endpoints.policy(), Policy::Random);
    assert_eq!(
        (v2.limits.connections_max, v2.outlier),
        (u32::MAX, None),
        "not set beside a port entry is the default"
    );
}

#[test]
fn the_rule_of_the_callers_namespace_beats_the_services_and_the_root_namespaces() {
    let rule = |namespace: &str, host: &str, lb: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: {namespace}}}\n\
             spec: {{host: {host}, trafficPolicy: {{loadBalancer: {{simple: {lb}}}}}}}"
        )
    };
    let full = "payment.default.svc.cluster.local";
    let (own, service, root) = (
        rule("shop", full, "RANDOM"),
        rule("default", full, "ROUND_ROBIN"),
        rule("istio-system", "\"*.local\"", "RANDOM"),
    );
    let balance = |objects: &[&str]| {
        Mesh::of(objects).seen_from("shop").cluster("http://payment.default/").endpoints.policy()
    };
    assert_eq!(balance(&[PAYMENT, &own, &service, &root]), Policy::Random);
    assert_eq!(balance(&[PAYMENT, &service, &root]), Policy::RoundRobin);
    assert_eq!(balance(&[PAYMENT, &root]), Policy::Random);
    assert_eq!(balance(&[PAYMENT]), Policy::LeastRequest);
}

#[test]
fn a_subset_holds_the_endpoints_that_carry_all_its_labels() {
    let mesh = Mesh::of(&[PAYMENT, SPLIT]);
    let addresses = |name: &str| {
        let cluster = mesh.named(name);
        cluster.endpoints.as_slice().iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(addresses("|v1|"), ["127.0.0.1:5001"]);
    assert_eq!(addresses("|v2|"), ["127.0.0.1:5002"]);
}

// ---- security

#[test]
fn an_endpoint_that_speaks_mutual_tls_is_called_with_it_and_must_be_its_own_account() {
    let mesh = Mesh::of(&[PAYMENT, SPLIT]);
    let cluster = mesh.named("|v1|");
    let Security::Mutual(mutual) = &cluster.endpoints.as_slice()[0].security else { panic!("not mutual") };
    assert_eq!(&*mutual.sni, "outbound_.80_.v1_.payment.default.svc.cluster.local");
    let id = "spiffe://cluster.local/ns/default/sa/payment".parse().unwrap();
    assert_eq!(mutual.peers, PeerRule::AnyOf(Arc::new([id])));
}

#[test]
fn that_any_identity_may_answer_is_said_once_of_each_host() {
    let noted = |documents: &[&str]| {
        let mesh = Mesh::of(documents);
        let notes = mesh.findings.into_iter().filter(|finding| finding.code == Code::SECURITY_NOTE);
        notes.map(|note| (note.level, note.message)).collect::<Vec<_>>()
    };
    let anybody = PAYMENT
        .replace(", serviceAccount: payment", "")
        .replace("ports: [", "ports: [{number: 8080, name: admin, protocol: HTTP}, ");
    let message = "nothing says which account payment.default.svc.cluster.local runs as: \
                   any identity of cluster.local may answer for it";
    assert_eq!(noted(&[&anybody, SPLIT]), [(Level::Info, message.to_owned())]);
    let named = anybody
        .replace("spec:\n", "spec:\n  subjectAltNames: ['spiffe://cluster.local/ns/default/sa/pay']\n");
    for silent in [PAYMENT, &named, &anybody.replace("tlsMode: istio", "tlsMode: disabled")] {
        assert_eq!(noted(&[silent, SPLIT]), [], "{silent}");
    }
}

#[test]
fn how_an_endpoint_is_called_follows_the_rule_then_the_endpoint() {
    let rule = |tls: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: payment}}\n\
             spec: {{host: payment, trafficPolicy: {{tls: {{{tls}}}}}}}"
        )
    };
    let plain = PAYMENT.replace("security.istio.io/tlsMode: istio, ", "");
    let external = PAYMENT.replace("MESH_INTERNAL", "MESH_EXTERNAL");
    let disabled = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: DISABLE}}";
    let table: [(&str, &[&str], &str); 7] = [
        ("meshed endpoint", &[PAYMENT], "mutual"),
        ("endpoint without a sidecar", &[&plain], "plaintext"),
        ("service outside of the mesh", &[&external], "plaintext"),
        ("server that does not speak TLS", &[PAYMENT, disabled], "plaintext"),
        ("rule says DISABLE", &[PAYMENT, &rule("mode: DISABLE")], "plaintext"),
        ("rule says ISTIO_MUTUAL", &[&plain, &rule("mode: ISTIO_MUTUAL")], "mutual"),
        ("rule says what cannot be done", &[PAYMENT, &rule("mode: SIMPLE")], "refused"),
    ];
    for (case, objects, expected) in table {
        let mesh = Mesh::of(objects);
        let cluster = mesh.cluster("http://payment/");
        let security = match &cluster.endpoints.as_slice()[0].security {
            Security::Mutual(_) => "mutual",
            Security::Plaintext => "plaintext",
            _ => "refused",
        };
        assert_eq!(security, expected, "{case}");
    }
}

#[test]
fn the_mutual_tls_mode_follows_the_narrowest_object_that_says_one() {
    let peer = |name: &str, namespace: &str, rest: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{rest}}}"
        )
    };
    let mesh_strict = peer("mesh", "istio-system", "mtls: {mode: STRICT}");
    let ns_permissive = peer("ns", "default", "mtls: {mode: PERMISSIVE}");
    let ns_unset = peer("ns", "default", "mtls: {mode: UNSET}");
    let ours_strict = peer("w", "default", "selector: {matchLabels: {app: checkout}}, mtls: {mode: STRICT}");
    let others_strict = peer("w", "default", "selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}");
    let root_selector =
        peer("w", "istio-system", "selector: {matchLabels: {app: checkout}}, mtls: {mode: STRICT}");
    let elsewhere = peer("ns", "shop", "mtls: {mode: STRICT}");
    let legacy = "apiVersion: authentication.istio.io/v1alpha1\nkind: MeshPolicy\nmetadata: {name: default}\nspec: {peers: [{mtls: {}}]}";
    let legacy_off = "apiVersion: authentication.istio.io/v1alpha1\nkind: Policy\nmetadata: {name: p, namespace: default}\n\
         spec: {targets: [{name: checkout}]}";
    let table: [(&[&str], MtlsMode); 11] = [
        (&[], MtlsMode::Permissive),
        (&[&mesh_strict], MtlsMode::Strict),
        (&[&mesh_strict, &ns_permissive], MtlsMode::Permissive),
        (&[&mesh_strict, &ns_unset], MtlsMode::Strict),
        (&[&ns_permissive, &ours_strict], MtlsMode::Strict),
        (&[&ns_permissive, &others_strict], MtlsMode::Permissive),
        (&[&root_selector], MtlsMode::Permissive),
        (&[&elsewhere], MtlsMode::Permissive),
        (&[legacy], MtlsMode::Strict),
        (&[legacy, &ns_permissive], MtlsMode::Permissive),
        (&[legacy, legacy_off], MtlsMode::Disable),
    ];
    for (objects, expected) in table {
        assert_eq!(Mesh::of(objects).snapshot.inbound().mode(8080), expected, "{objects:#?}");
    }
}

#[test]
fn a_port_may_have_a_mode_of_its_own() {
    let mesh = Mesh::of(&[
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: w}\n\
         spec: {selector: {matchLabels: {app: checkout}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}, 9090: {mode: UNSET}}}",
    ]);
    let inbound = mesh.snapshot.inbound();
    assert_eq!(
        (inbound.mode(80), inbound.mode(8080), inbound.mode(9090)),
        (MtlsMode::Strict, MtlsMode::Disable, MtlsMode::Strict)
    );
}

// ---- explain

#[test]
fn an_explanation_names_every_route_tried_and_the_first_condition_that_failed() {
    let mesh = Mesh::of(&[
        PAYMENT,
        r#"
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {name: payment}
        spec:
          hosts: [payment]
          http:
          - match: [{uri: {exact: /refund}}]
            route: [{destination: {host: payment}}]
          - name: main
            timeout: 2s
            retries: {attempts: 1, retryOn: "5xx,429"}
            route: [{destination: {host: payment}}]
        "#,
    ]);
    let story = mesh.explain("http://payment/pay");
    assert_eq!(story.virtual_host.as_deref(), Some("payment.default.svc.cluster.local:80"));
    assert_eq!(story.route.as_deref(), Some("main"));
    assert_eq!(story.tried[0].failed.as_deref(), Some(r#"uri exact "/refund", got "/pay""#));
    assert_eq!((story.tried.len(), story.tried[1].matched), (2, true));
    assert_eq!(story.timeout_ms, Some(2000));
    assert_eq!(story.retries.as_ref().unwrap().retry_on, ["5xx", "retriable-status-codes", "429"]);
    assert_eq!(story.mtls, Some("ISTIO_MUTUAL"));
    assert_eq!((story.sources["timeout"].file.as_ref(), story.sources["timeout"].line), ("1.yaml", 10));
    assert!(!story.sources.contains_key("cluster"), "no DestinationRule has a part in it");
}

#[test]
fn an_explanation_of_an_unknown_host_says_that_it_passes_through() {
    let story = Mesh::of(&[PAYMENT]).explain("http://example.com/");
    assert_eq!((story.action, story.mtls, story.virtual_host), (Action::Passthrough, Some("DISABLE"), None));
}

// ---- state

#[test]
fn a_reload_keeps_the_state_of_what_it_does_not_touch() {
    let states = States::default();
    let before = Mesh::compiled(&[PAYMENT, SPLIT], "default", &states);
    let in_flight = before.named("|v1|").endpoints.as_slice()[0].state.begin(mesh_core::time::Time::ZERO);
    let after = Mesh::compiled(
        &[
            PAYMENT,
            SPLIT,
            "apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {ports: [{port: 80}]}",
        ],
        "default",
        &states,
    );
    assert_eq!(after.named("|v1|").endpoints.as_slice()[0].state.in_flight(), 1);
    assert!(
        Arc::ptr_eq(&before.named("|v1|").budget, &after.named("|v2|").budget),
        "subsets share the host's budget"
    );
    drop(in_flight);
    assert_eq!(after.named("|v1|").endpoints.as_slice()[0].state.in_flight(), 0);
}

// ---- the mesh of these tests

const PAYMENT: &str = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payment}
spec:
  hosts: [payment.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.1, ports: {http: 5001}, labels: {security.istio.io/tlsMode: istio, version: v1}, serviceAccount: payment}
  - {address: 127.0.0.1, ports: {http: 5002}, labels: {security.istio.io/tlsMode: istio, version: v2}, serviceAccount: payment}
"#;

const SPLIT: &str = r#"
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: payment-subsets}
spec: {host: payment, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: payment-route}
spec:
  hosts: [payment]
  http:
  - route:
    - {destination: {host: payment, subset: v1}, weight: 90}
    - {destination: {host: payment, subset: v2}, weight: 10}
"#;

struct Mesh {
    resources: Vec<Arc<Resource>>,
    snapshot: Snapshot,
    findings: Vec<Diagnostic>,
}

impl Mesh {
    /// The mesh of these documents as `checkout` in namespace `default` sees it.
    fn of(documents: &[&str]) -> Self {
        Self::compiled(documents, "default", &States::default())
    }

    fn compiled(documents: &[&str], namespace: &str, states: &States) -> Self {
        let mut resources = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let loaded = config::load(&format!("{index}.yaml"), document, &config::Options::default());
            let errors: Vec<_> =
                loaded.diagnostics.iter().filter(|d| d.level == config::Level::Error).collect();
            assert!(errors.is_empty(), "{document}\n{errors:#?}");
            resources.extend(loaded.resources.into_iter().map(Arc::new));
        }
        resources.sort_by(|a, b| a.key.cmp(&b.key));
        Self::seen(resources, &viewer(namespace, "checkout"), states)
    }

    fn seen(resources: Vec<Arc<Resource>>, viewer: &Viewer, states: &States) -> Self {
        let settings = MeshSettings::new("cluster.local".parse().unwrap());
        let (snapshot, findings) = compile("1", &resources, viewer, &settings, states);
        Self { resources, snapshot, findings }
    }

    fn seen_from(self, namespace: &str) -> Self {
        Self::seen(self.resources, &viewer(namespace, "checkout"), &States::default())
    }

    fn labelled(self, name: &str, value: &str) -> Self {
        let mut viewer = viewer("default", "checkout");
        viewer.labels.insert(name.to_owned(), value.to_owned());
        Self::seen(self.resources, &viewer, &States::default())
    }

    fn decide(&self, url: &str) -> Decision<'_> {
        self.decide_with(url, &mut Seeded::new(0))
    }

    fn explain(&self, url: &str) -> Explanation {
        with_head(url, |head| explain(&self.snapshot, head))
    }

    fn decide_with(&self, url: &str, dice: &mut Seeded) -> Decision<'_> {
        with_head(url, |head| self.snapshot.route(head, dice))
    }

    fn target(&self, url: &str, dice: &mut Seeded) -> String {
        match self.decide_with(url, dice) {
            Decision::Forward { target, .. } => target.name.to_string(),
            other => panic!("{url}: {other:?}"),
        }
    }

    fn cluster(&self, url: &str) -> Arc<Cluster> {
        match self.decide(url) {
            Decision::Forward { target, .. } => Arc::clone(self.snapshot.cluster(target.cluster.unwrap())),
            other => panic!("{url}: {other:?}"),
        }
    }

    fn named(&self, part: &str) -> &Arc<Cluster> {
        self.snapshot.clusters().find(|cluster| cluster.name.contains(part)).unwrap()
    }

    fn is_passthrough(&self, url: &str) -> bool {
        matches!(self.decide(url), Decision::Passthrough)
    }

    fn finding(&self, code: Code) -> &Diagnostic {
        self.findings
            .iter()
            .find(|finding| finding.code == code)
            .unwrap_or_else(|| panic!("{:#?}", self.findings))
    }
}

fn with_head<R>(url: &str, f: impl FnOnce(&Head<'_>) -> R) -> R {
    let (authority, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (path, headers) = (format!("/{path}"), HeaderMap::new());
    f(&Head { method: &Method::GET, scheme: "http", authority, path_and_query: &path, headers: &headers })
}

fn viewer(namespace: &str, app: &str) -> Viewer {
    let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    Viewer { namespace: namespace.to_owned(), service: Some(app.to_owned()), labels }
}
