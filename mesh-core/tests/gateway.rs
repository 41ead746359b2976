//! Gateways: what may be written, what is said of it, and where a request goes that arrives at the edge.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::{HeaderMap, Method, StatusCode};
use mesh_core::{
    authorize::Claims,
    config::{
        Accepted, Code, Diagnostic, Level, Options, Resource, SourceFile, Spec,
        istio::{Gateway, ServerTlsMode, TlsVersion},
        load,
    },
    dice::Seeded,
    explain::{Action, explain},
    health::States,
    route::{Decision, Head, RouteAction},
    snapshot::{EdgeCompiler, MeshSettings, Snapshot, Viewer, compile, compile_gateway},
};
use std::{collections::BTreeMap, sync::Arc};

// ---- reading

#[test]
fn every_field_of_a_server_is_read() {
    let gateway = gateway(
        "selector: {app: edge}
servers:
- name: web
  port: {number: 443, name: https, protocol: https}
  bind: 10.0.0.1
  hosts: [shop/Pay.example.com, ./*.example.org, '*', 10.1.2.3]
  tls:
    mode: MUTUAL
    serverCertificate: /cert
    privateKey: /key
    caCertificates: /ca
    subjectAltNames: [a]
    minProtocolVersion: TLSV1_3
    maxProtocolVersion: TLSV1_2
- port: {number: 80, name: http, protocol: HTTP}
  hosts: ['*']
  tls: {httpsRedirect: true}
",
    );
    assert_eq!(gateway.selector["app"], "edge");
    let [secure, plain] = &gateway.servers[..] else { panic!() };
    assert_eq!((secure.name.as_deref(), &*secure.port.protocol), (Some("web"), "HTTPS"));
    assert_eq!((secure.port.number, secure.bind), (443, Some("10.0.0.1".parse().unwrap())));
    let covers = |index: usize, namespace| secure.hosts[index].namespaces.include(namespace, "default");
    assert_eq!(secure.hosts[0].host, "pay.example.com");
    assert_eq!([covers(0, "shop"), covers(0, "default")], [true, false]);
    assert_eq!([covers(1, "shop"), covers(1, "default")], [false, true]);
    assert_eq!([covers(2, "shop"), covers(2, "default")], [true, true]);
    let tls = secure.tls.as_ref().unwrap();
    assert_eq!(tls.mode, ServerTlsMode::Mutual);
    assert_eq!(
        [&tls.server_certificate, &tls.private_key, &tls.ca_certificates].map(Option::as_deref),
        [Some("/cert"), Some("/key"), Some("/ca")]
    );
    assert_eq!(
        (&tls.subject_alt_names[..], tls.min_version, tls.max_version),
        (&["a".to_owned()][..], TlsVersion::V1_3, TlsVersion::V1_2)
    );
    assert!(plain.redirects() && plain.routes_http() && secure.routes_http());
}

/// One row per mistake in the one server: what stands in it beside or instead of what is in order.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_istio_would_refuse_is_refused_and_what_the_edge_does_not_do_is_said() {
    const HTTP: &str = "port: {number: 80, name: a, protocol: HTTP}";
    const HTTPS: &str = "port: {number: 443, name: a, protocol: HTTPS}";
    const HOSTS: &str = "hosts: ['*']";
    let tls = |tls: &str| format!("{HTTPS}, {HOSTS}, tls: {{{tls}}}");
    for (server, path, error, part) in [
        (HTTP.to_owned(), "hosts", true, "`hosts` is required"),
        (format!("{HTTP}, hosts: []"), "hosts", true, "at least one host"),
        (HOSTS.to_owned(), "port", true, "`port` is required"),
        (format!("{HOSTS}, port: {{number: 80, protocol: HTTP}}"), "port.name", true, "`name` is required"),
        (format!("{HOSTS}, port: {{number: 80, name: a}}"), "port.protocol", true, "`protocol` is required"),
        (format!("{HOSTS}, port: {{number: 80, name: a, protocol: HTPP}}"), "port.protocol", true, "not a protocol"),
        (format!("{HOSTS}, port: {{number: 0, name: a, protocol: HTTP}}"), "port.number", true, "out of range"),
        (format!("{HOSTS}, port: {{number: 80, name: a, protocol: HTTP, targetPort: 8080}}"), "port.targetPort", true, "no target port"),
        (format!("{HTTP}, hosts: [short]"), "hosts[0]", true, "not a host"),
        (format!("{HTTP}, hosts: ['*foo.com']"), "hosts[0]", true, "not a host"),
        (format!("{HTTP}, hosts: ['a.*.com']"), "hosts[0]", true, "not a host"),
        (format!("{HTTP}, hosts: ['~/*']"), "hosts[0]", true, "not a host"),
        (format!("{HTTP}, hosts: ['A_b/*']"), "hosts[0]", true, "not a host"),
        (format!("{HTTP}, hosts: ['/a.com']"), "hosts[0]", true, "not a host"),
        (format!("{HTTP}, {HOSTS}, bind: nowhere"), "bind", true, "an IP address"),
        (format!("{HTTP}, {HOSTS}, bind: unix:///a"), "bind", true, "Unix sockets"),
        (format!("{HTTP}, {HOSTS}, defaultEndpoint: 127.0.0.1:80"), "defaultEndpoint", false, "no effect"),
        (format!("{HTTP}, {HOSTS}, tls: {{mode: SIMPLE, serverCertificate: a, privateKey: b}}"), "tls", true, "takes no TLS"),
        (format!("{HOSTS}, port: {{number: 80, name: a, protocol: TCP}}, tls: {{}}"), "tls", true, "takes no TLS"),
        (format!("{HTTPS}, {HOSTS}"), "tls", true, "`tls` is required"),
        (tls("mode: SIMPLE, serverCertificate: a"), "tls.privateKey", true, "SIMPLE needs"),
        (tls("mode: MUTUAL, serverCertificate: a, privateKey: b"), "tls.caCertificates", true, "MUTUAL needs"),
        (tls("mode: SIMPLE, serverCertificate: a, privateKey: b, credentialName: c"), "tls.credentialName", true, "exclude each other"),
        (tls("mode: MUTUAL, credentialNames: [c]"), "tls.credentialNames", false, "one certificate"),
        (tls("mode: SIMPLE, tlsCertificates: [{serverCertificate: a}]"), "tls.tlsCertificates[0].privateKey", true, "`privateKey` is required"),
        (tls("mode: SIMPLE, serverCertificate: a, privateKey: b, caCrl: c"), "tls.caCrl", true, "not supported"),
        (tls("mode: MUTUAL, serverCertificate: a, privateKey: b, caCertificates: d, verifyCertificateSpki: [c]"), "tls.verifyCertificateSpki", true, "not supported"),
        (tls("mode: MUTUAL, serverCertificate: a, privateKey: b, caCertificates: d, verifyCertificateHash: [c]"), "tls.verifyCertificateHash", true, "not supported"),
        (tls("mode: SIMPLE, serverCertificate: a, privateKey: b, cipherSuites: [c]"), "tls.cipherSuites", false, "no effect"),
        (tls("mode: SIMPLE, serverCertificate: a, privateKey: b, minProtocolVersion: TLSV1_0"), "tls.minProtocolVersion", false, "not spoken"),
        (tls("mode: SIMPLE, serverCertificate: a, privateKey: b, httpsRedirect: true"), "tls", false, "HTTP in plain redirects"),
        (tls("mode: PASSTHROUGH"), "tls", false, "not served"),
        (tls("mode: AUTO_PASSTHROUGH"), "tls", false, "not served"),
        (tls("mode: ISTIO_MUTUAL"), "tls", false, "not served"),
        (tls("mode: SIMPEL, serverCertificate: a, privateKey: b"), "tls.mode", true, "did you mean `SIMPLE`?"),
    ] {
        let loaded = load("f", &object("Gateway", "edge", "ns", &format!("servers: [{{{server}}}]")), &Options::default());
        let path = format!("spec.servers[0].{path}");
        let found = loaded.diagnostics.iter().find(|finding| finding.path == path);
        let finding = found.unwrap_or_else(|| panic!("{server}\n{:#?}", loaded.diagnostics));
        assert_eq!(finding.is_error(), error, "{finding}");
        assert!(finding.to_string().contains(part), "{finding}");
        assert_eq!(loaded.resources.len(), usize::from(!error), "{server}");
    }
    for mode in ["serverCertificate: a", "privateKey: a", "caCertificates: a", "credentialName: a", "credentialNames: [a]"] {
        let text = object("Gateway", "edge", "ns", &format!("servers: [{{{}}}]", tls(&format!("mode: ISTIO_MUTUAL, {mode}"))));
        let loaded = load("f", &text, &Options::default());
        assert!(loaded.diagnostics.iter().any(|it| it.is_error() && it.message.contains("workload's own")), "{mode}");
    }
}

#[test]
fn a_gateway_needs_a_server_unique_port_names_and_a_name_without_dots() {
    let port = "port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']";
    for (name, spec, path, part) in [
        ("edge", "selector: {a: b}".to_owned(), "spec.servers", "required"),
        ("edge", "servers: []".to_owned(), "spec.servers", "at least one server"),
        ("edge", format!("servers: [{{{port}}}, {{{port}}}]"), "spec.servers", "used twice"),
        ("edge.ns", format!("servers: [{{{port}}}]"), "metadata.name", "no dots"),
    ] {
        let loaded = load("f", &object("Gateway", name, "ns", &spec), &Options::default());
        let found = loaded.diagnostics.iter().find(|finding| finding.path == path && finding.is_error());
        assert!(found.is_some_and(|it| it.message.contains(part)), "{spec}\n{:#?}", loaded.diagnostics);
        assert_eq!(loaded.resources.len(), 0);
    }
}

// ---- what objects say of each other

#[test]
fn a_rule_for_a_gateway_that_is_not_there_or_lacks_its_host_is_noted() {
    let edge = edge("edge", "ingress", "shop/pay.example.com, '*/*.example.org'");
    let bound = |gateways: &str, host: &str| rule("r", gateways, host, "");
    for (gateways, host, found) in [
        ("[ingress/edge]", "pay.example.com", None),
        ("[mesh, ingress/edge]", "'*.example.com'", None),
        ("[ingress/edge]", "a.example.org", None),
        ("[ingress/edge]", "'*.example.org'", None),
        ("[ingress/edge]", "other.example.com", Some((Code::HOST_NOT_IN_GATEWAY, "spec.hosts", (5, 11)))),
        ("[edge]", "pay.example.com", Some((Code::REFERENCE_NOT_FOUND, "spec.gateways[0]", (6, 14)))),
        (
            "[mesh, ingress/egde]",
            "pay.example.com",
            Some((Code::REFERENCE_NOT_FOUND, "spec.gateways[1]", (6, 20))),
        ),
    ] {
        let findings = accepted(&[&bound(gateways, host), &edge]);
        let about_edges = |finding: &&Diagnostic| finding.code != Code::NO_EFFECT;
        let found_here = findings.iter().find(about_edges).map(|finding| {
            let at = finding.location.as_ref().unwrap();
            (finding.code, finding.path.as_str(), (at.line, at.column))
        });
        assert_eq!(found_here, found, "{gateways} {host}");
        assert!(findings.iter().all(|finding| finding.level == Level::Warning));
    }
    // The host is for another namespace.
    let foreign = bound("[ingress/edge]", "pay.example.com").replace("namespace: shop", "namespace: bank");
    let codes: Vec<_> = accepted(&[&foreign, &edge]).iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&Code::HOST_NOT_IN_GATEWAY), "{codes:?}");
}

#[test]
fn two_gateways_that_claim_one_port_and_host_of_the_same_workloads_are_named() {
    let one = edge("one", "ns", "'*/pay.example.com'");
    let findings = accepted(&[&one, &one.replace("name: one", "name: two")]);
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!((finding.code, finding.level), (Code::CONFLICTING_GATEWAYS, Level::Error));
    assert!(finding.message.contains("port 80") && finding.message.contains("Gateway ns/one"), "{finding}");
    assert_eq!(finding.resource.as_ref().unwrap().to_string(), "Gateway ns/two");
    for (from, to) in [("app: edge", "app: other"), ("number: 80", "number: 81"), ("pay", "cart")] {
        assert_eq!(accepted(&[&one, &one.replace("name: one", "name: two").replace(from, to)]), []);
    }
}

// ---- routing

#[test]
fn the_edge_answers_for_what_servers_and_bound_rules_have_in_common() {
    let edge = edge("edge", "ingress", "shop/pay.example.com, '*/*.example.org', ./own.example.com");
    let mesh = Mesh::of(&[
        &edge,
        SERVICE,
        &rule("a", "[ingress/edge]", "'*.example.com'", ""),
        &rule("b", "[ingress/edge]", "a.example.org", ""),
        &rule("c", "[mesh]", "c.example.org", ""),
        &rule("d", "", "d.example.org", ""),
        &rule("e", "[edge]", "e.example.org", ""),
        &rule("f", "[ingress/edge]", "own.example.com", ""),
        &rule("g", "[ingress/edge]", "hidden.example.org", "exportTo: [.]"),
    ]);
    for (host, route) in [
        ("pay.example.com", Some("a")),
        ("pay.example.com:80", Some("a")),
        ("PAY.example.com", Some("a")),
        ("x.example.com", None),
        ("a.example.org", Some("b")),
        ("b.example.org", None),
        ("c.example.org", None),
        ("d.example.org", None),
        ("e.example.org", None),
        ("own.example.com", None),
        ("hidden.example.org", None),
        ("pay.shop.svc.cluster.local", None),
    ] {
        assert_eq!(mesh.route("http", host, "/").as_deref(), route, "{host}");
    }
}

#[test]
fn what_arrives_at_a_port_is_routed_by_that_port_whichever_it_names_itself() {
    let servers = "servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*'], tls: {httpsRedirect: true}}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}";
    let edge = object("Gateway", "edge", "shop", servers);
    let mesh = Mesh::of(&[&edge, SERVICE, &rule("r", "[edge]", "pay.example.com", "")]);
    let arrived = |port: u16, host: &str| {
        with_head("https", host, "/", |head| {
            let none = Claims::default();
            match mesh.snapshot.route_arrived(head, port, &none, &mut Seeded::new(0)) {
                Decision::Forward { route, .. } | Decision::Answer { route, .. } => route.name.to_string(),
                other => format!("{other:?}").split(' ').next().unwrap_or_default().to_owned(),
            }
        })
    };
    for host in ["pay.example.com", "pay.example.com:8443", "PAY.example.com:80"] {
        assert_eq!(
            (arrived(443, host), arrived(80, host)),
            ("r".to_owned(), "httpsRedirect".to_owned()),
            "{host}"
        );
    }
    assert_eq!(arrived(443, "other.example.com"), "NoRoute");
    assert_eq!(arrived(444, "pay.example.com"), "Blocked", "there is no such server");
}

#[test]
fn claims_of_a_verified_token_choose_the_route_at_the_edge() {
    let group = "match: [{headers: {'@request.auth.claims.group': {exact: staff}}}]";
    let guest = "match: [{withoutHeaders: {'@request.auth.claims.group': {}}}]";
    let to = "route: [{destination: {host: pay}}]";
    let http = format!("http: [{{name: staff, {group}, {to}}}, {{name: guest, {guest}, {to}}}]");
    let text =
        object("VirtualService", "r", "shop", &format!("{{hosts: [a.com], gateways: [edge], {http}}}"));
    let mesh = Mesh::of(&[&edge("edge", "shop", "'*'"), SERVICE, &text]);
    let routed = |claims: serde_json::Value| {
        let claims = Claims::new(claims.as_object().unwrap().clone(), &[]);
        with_head("http", "a.com", "/", |head| {
            match mesh.snapshot.route_arrived(head, 80, &claims, &mut Seeded::new(0)) {
                Decision::Forward { route, .. } => Some(route.name.to_string()),
                _ => None,
            }
        })
    };
    for (claims, route) in [
        (serde_json::json!({"group": "staff"}), Some("staff")),
        (serde_json::json!({"group": ["a", "staff"]}), Some("staff")),
        (serde_json::json!({"group": "other"}), None),
        (serde_json::json!({}), Some("guest")),
    ] {
        assert_eq!(routed(claims.clone()).as_deref(), route, "{claims}");
    }
}

#[test]
fn an_edge_without_its_gateway_lets_nobody_in_and_says_so() {
    let settings = MeshSettings::new("cluster.local".parse().unwrap());
    let (mut compiler, states) = (EdgeCompiler::new("shop", "edge"), States::default());
    let (snapshot, findings) = compiler.compile("1", &[], &settings, &states);
    assert!(snapshot.gateway().is_none());
    assert!(findings[0].is_error() && findings[0].message.contains("no Gateway shop/edge"), "{findings:?}");
    let (snapshot, findings) =
        compiler.compile("2", &resources(&[&edge("edge", "shop", "'*'")]), &settings, &states);
    assert!(snapshot.gateway().is_some() && findings.is_empty(), "{findings:?}");
}

#[test]
fn rules_of_one_host_stand_one_behind_the_other_and_what_takes_everything_last() {
    let edge = edge("edge", "shop", "'*'");
    let aged = |name: &str, year: u32, spec: &str| {
        let text = rule(name, "[edge]", "pay.example.com", "");
        let text = text.replace("data: {", &format!("data: {{creationTimestamp: '{year}-01-01T00:00:00Z', "));
        text.replace("  http:\n", &format!("  http:\n{spec}"))
    };
    let route = "route: [{destination: {host: pay}}]";
    let mesh = Mesh::of(&[
        &edge,
        SERVICE,
        &aged("everything", 2020, ""),
        &aged("younger", 2022, &format!("  - {{name: y, match: [{{uri: {{prefix: /a}}}}], {route}}}\n")),
        &aged("older", 2021, &format!("  - {{name: o, match: [{{uri: {{prefix: /a/b}}}}], {route}}}\n")),
    ]);
    for (path, route) in [("/", "everything"), ("/a", "y"), ("/a/b", "o"), ("/c", "everything")] {
        assert_eq!(mesh.route("http", "pay.example.com", path).as_deref(), Some(route), "{path}");
    }
}

#[test]
fn a_match_is_judged_for_the_gateway_and_not_by_labels() {
    let edge = edge("edge", "shop", "'*'");
    let matched = |conditions: &str| {
        let route = "route: [{destination: {host: pay}}]";
        let first = format!("  http:\n  - {{name: first, match: [{{{conditions}}}], {route}}}\n");
        rule("r", "[mesh, edge, other]", "pay.example.com", "").replace("  http:\n", &first)
    };
    for (conditions, route) in [
        ("gateways: [edge]", "first"),
        ("gateways: [shop/edge]", "first"),
        ("gateways: [other, edge]", "first"),
        ("gateways: [mesh]", "r"),
        ("gateways: [other]", "r"),
        ("sourceLabels: {app: nobody}", "first"),
        ("sourceNamespace: nowhere", "first"),
        ("port: 80", "first"),
        ("port: 8080", "r"),
    ] {
        let mesh = Mesh::of(&[&edge, SERVICE, &matched(conditions)]);
        assert_eq!(mesh.route("http", "pay.example.com", "/").as_deref(), Some(route), "{conditions}");
    }
}

#[test]
fn a_server_that_redirects_sends_every_host_it_has_to_https() {
    let servers = "servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com', a.example.org], tls: {httpsRedirect: true}}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}
  - {port: {number: 444, name: raw, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}";
    let edge = object("Gateway", "edge", "shop", servers);
    let mesh = Mesh::of(&[&edge, SERVICE, &rule("r", "[edge]", "pay.example.com", "")]);
    for host in ["pay.example.com", "other.example.com", "a.example.org"] {
        let Decision::Answer { route, .. } = mesh.decide("http", host, "/") else { panic!("{host}") };
        let RouteAction::Redirect(redirect) = &route.action else { panic!("{host}") };
        assert_eq!(
            (redirect.status, redirect.scheme.as_deref()),
            (StatusCode::MOVED_PERMANENTLY, Some("https"))
        );
    }
    assert_eq!(mesh.route("https", "pay.example.com", "/").as_deref(), Some("r"));
    assert!(matches!(mesh.decide("https", "other.example.com", "/"), Decision::NoRoute { .. }));
    assert!(matches!(mesh.decide("http", "nobody.example.net", "/"), Decision::NoRoute { .. }));
}

#[test]
fn an_unknown_host_is_not_found_and_nothing_is_passed_through() {
    let mesh = Mesh::of(&[&edge("edge", "shop", "'*'"), SERVICE]);
    let Decision::NoRoute { host } = mesh.decide("http", "example.net", "/") else { panic!() };
    assert_eq!(&*host.name, "blackhole:80");
    let story = with_head("http", "example.net", "/", |head| explain(&mesh.snapshot, head));
    assert_eq!(story.action, Action::None);
}

#[test]
fn the_order_of_objects_means_nothing_to_an_edge() {
    let root = object(
        "VirtualService",
        "root",
        "shop",
        "{hosts: [pay.example.com], gateways: [edge], http: [{delegate: {name: child}}]}",
    );
    let child = object(
        "VirtualService",
        "child",
        "shop",
        "{http: [{name: r, route: [{destination: {host: pay, port: {number: 8080}}}]}]}",
    );
    let mut resources = resources(&[&edge("edge", "shop", "'*'"), SERVICE, &root, &child]);
    for _ in 0..resources.len() {
        resources.rotate_left(1);
        let mesh = Mesh::with(&resources);
        assert_eq!(mesh.route("http", "pay.example.com", "/").as_deref(), Some("r"));
    }
}

#[test]
fn an_edge_that_nobody_defined_has_no_snapshot() {
    let settings = MeshSettings::new("cluster.local".parse().unwrap());
    assert!(compile_gateway(("shop", "edge"), "1", &[], &settings, &States::default()).is_none());
}

#[test]
fn a_rule_that_only_the_edge_has_is_not_the_meshs() {
    let texts = [&edge("edge", "shop", "'*'"), SERVICE, &rule("r", "[edge]", "pay.example.com", "")];
    let resources = resources(&texts);
    let viewer = Viewer { namespace: "shop".to_owned(), service: None, labels: BTreeMap::new() };
    let settings = MeshSettings::new("cluster.local".parse().unwrap());
    let (snapshot, _) = compile("1", &resources, &viewer, &settings, &States::default());
    let decision = with_head("http", "pay.example.com", "/", |head| {
        matches!(snapshot.route(head, &mut Seeded::new(0)), Decision::Passthrough)
    });
    assert!(decision);
}

/// One row per connection: port, server name or host, and the port name of the server that takes it.
#[test]
fn the_most_specific_server_of_a_port_takes_a_connection() {
    let gateway = gateway(
        "servers:
- {port: {number: 443, name: all, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}
- {port: {number: 443, name: wide, protocol: TLS}, hosts: ['*.example.com', '*.a.example.com'], tls: {mode: PASSTHROUGH}}
- {port: {number: 443, name: one, protocol: TLS}, hosts: [shop/pay.example.com], tls: {mode: PASSTHROUGH}}
- {port: {number: 80, name: plain, protocol: HTTP}, hosts: [pay.example.com]}
",
    );
    for (port, host, name) in [
        (443, "pay.example.com", Some("one")),
        (443, "PAY.example.com", Some("one")),
        (443, "cart.example.com", Some("wide")),
        (443, "x.a.example.com", Some("wide")),
        (443, "example.com", Some("all")),
        (80, "pay.example.com", Some("plain")),
        (80, "cart.example.com", None),
        (81, "pay.example.com", None),
    ] {
        let found = gateway.server(port, host).map(|server| &*server.port.name);
        assert_eq!(found, name, "{port} {host}");
    }
}

// ---- an edge

const SERVICE: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pay, namespace: shop}
spec:
  hosts: [pay]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
";

fn edge(name: &str, namespace: &str, hosts: &str) -> String {
    let port = "{number: 80, name: http, protocol: HTTP}";
    object(
        "Gateway",
        name,
        namespace,
        &format!("selector: {{app: edge}}\n  servers: [{{port: {port}, hosts: [{hosts}]}}]"),
    )
}

/// A rule of namespace `shop` with one route, of its own name.
fn rule(name: &str, gateways: &str, host: &str, more: &str) -> String {
    let gateways = if gateways.is_empty() { String::new() } else { format!("gateways: {gateways}\n  ") };
    let more = if more.is_empty() { String::new() } else { format!("{more}\n  ") };
    let spec = format!(
        "hosts: [{host}]\n  {gateways}{more}http:\n  - {{name: {name}, route: [{{destination: {{host: pay}}}}]}}"
    );
    object("VirtualService", name, "shop", &spec)
}

fn object(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {spec}\n"
    )
}

fn gateway(spec: &str) -> Gateway {
    let loaded =
        load("f", &object("Gateway", "edge", "default", &spec.replace('\n', "\n  ")), &Options::default());
    assert!(loaded.broken.is_empty(), "{:#?}", loaded.diagnostics);
    match &loaded.resources[0].spec {
        Spec::Gateway(gateway) => gateway.clone(),
        other => panic!("{other:?}"),
    }
}

fn accepted(texts: &[&str]) -> Vec<Diagnostic> {
    let file =
        |(index, text): (usize, &&str)| SourceFile { name: index.to_string(), text: Ok((*text).to_owned()) };
    let files: Vec<_> = texts.iter().enumerate().map(file).collect();
    Accepted::default().update(&files, &Options::default()).diagnostics
}

fn resources(texts: &[&str]) -> Vec<Arc<Resource>> {
    let mut resources = Vec::new();
    for text in texts {
        let loaded = load("f", text, &Options::default());
        assert!(loaded.broken.is_empty(), "{text}\n{:#?}", loaded.diagnostics);
        resources.extend(loaded.resources.into_iter().map(Arc::new));
    }
    resources.sort_by(|a, b| a.key.cmp(&b.key));
    resources
}

/// The edge whose Gateway is the only one of the documents.
struct Mesh {
    snapshot: Snapshot,
}

impl Mesh {
    fn of(texts: &[&str]) -> Self {
        Self::with(&resources(texts))
    }

    fn with(resources: &[Arc<Resource>]) -> Self {
        let key =
            resources.iter().find(|resource| matches!(resource.spec, Spec::Gateway(_))).unwrap().key.clone();
        let settings = MeshSettings::new("cluster.local".parse().unwrap());
        let key = (&*key.namespace, &*key.name);
        let (snapshot, _) = compile_gateway(key, "1", resources, &settings, &States::default()).unwrap();
        Self { snapshot }
    }

    fn decide(&self, scheme: &str, host: &str, path: &str) -> Decision<'_> {
        let headers = HeaderMap::new();
        let head =
            Head { method: &Method::GET, scheme, authority: host, path_and_query: path, headers: &headers };
        self.snapshot.route(&head, &mut Seeded::new(0))
    }

    fn route(&self, scheme: &str, host: &str, path: &str) -> Option<String> {
        match self.decide(scheme, host, path) {
            Decision::Forward { route, target, .. } => {
                assert_eq!(&*target.name, "outbound|8080||pay.shop.svc.cluster.local");
                Some(route.name.to_string())
            }
            _ => None,
        }
    }
}

fn with_head<R>(scheme: &str, authority: &str, path_and_query: &str, f: impl FnOnce(&Head<'_>) -> R) -> R {
    let headers = HeaderMap::new();
    f(&Head { method: &Method::GET, scheme, authority, path_and_query, headers: &headers })
}
