//! Whole applications as they are deployed: what a team has in its directory is read as it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mesh_core::{
    config::{Code, Diagnostic, Level, Options, SourceFile, load},
    explain::Action,
    testing::TestMesh,
};

/// Every file of an application, name and text.
macro_rules! library {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("fixtures/library/", $name)))),*]
    };
}

const LIBRARY: [(&str, &str); 13] = library![
    "services.yaml",
    "rules.yaml",
    "rules-mutual-tls.yaml",
    "all-v1.yaml",
    "split-90-10.yaml",
    "split-80-20.yaml",
    "split-50-50.yaml",
    "librarians-first.yaml",
    "delay.yaml",
    "abort.yaml",
    "outside.yaml",
    "gateway.yaml",
    "bundle.yaml",
];

#[test]
fn every_file_loads_without_an_error() {
    for (name, text) in LIBRARY {
        let loaded = load(name, text, &Options::default());
        let errors: Vec<_> = loaded.diagnostics.iter().filter(|finding| finding.is_error()).collect();
        assert!(errors.is_empty() && loaded.complete, "{name}: {errors:#?}");
        assert!(!loaded.resources.is_empty(), "{name}");
    }
}

#[test]
fn a_file_of_routes_alone_is_judged_as_the_part_of_a_configuration_that_it_is() {
    for (name, text) in LIBRARY {
        let file = SourceFile { name: name.to_owned(), text: Ok(text.to_owned()) };
        let findings = TestMesh::of_files(vec![file]).findings();
        let missing = |finding: &&Diagnostic| finding.code == Code::REFERENCE_NOT_FOUND;
        let is_part = !["services.yaml", "outside.yaml", "bundle.yaml"].contains(&name);
        assert!(!is_part || findings.iter().all(|finding| !finding.is_error()), "{name}: {findings:#?}");
        let routes = name.starts_with("split");
        assert!(!routes || findings.iter().filter(missing).count() >= 2, "{name}: {findings:#?}");
    }
}

#[test]
fn kinds_of_a_cluster_that_mean_nothing_in_a_process_are_named_once_and_skipped() {
    let loaded = load("services.yaml", LIBRARY[0].1, &Options::default());
    let foreign: Vec<_> = loaded.diagnostics.iter().filter(|it| it.code == Code::FOREIGN_KIND).collect();
    let kinds: Vec<_> = ["ServiceAccount", "Deployment", "Ingress"]
        .iter()
        .map(|kind| foreign.iter().filter(|it| it.message.contains(&format!("kind {kind} "))).count())
        .collect();
    assert_eq!((kinds, foreign.len()), (vec![1, 1, 1], 3), "{foreign:#?}");
    assert!(foreign.iter().all(|finding| finding.level == Level::Warning));
}

#[test]
fn services_are_the_registry_and_the_routes_beside_them_are_whole() {
    for rules in ["rules.yaml", "rules-mutual-tls.yaml"] {
        for routes in ["all-v1.yaml", "split-90-10.yaml", "librarians-first.yaml", "delay.yaml", "abort.yaml"]
        {
            mesh(&["services.yaml", rules, routes, "outside.yaml", "gateway.yaml"]).assert_no_errors();
        }
    }
}

#[test]
fn traffic_is_split_as_the_weights_say() {
    for (file, split) in [
        ("split-90-10.yaml", [("catalogue v1", 90), ("catalogue v2", 10)]),
        ("split-80-20.yaml", [("catalogue v1", 80), ("catalogue v2", 20)]),
        ("split-50-50.yaml", [("catalogue v1", 50), ("catalogue v2", 50)]),
    ] {
        let mesh = mesh(&["services.yaml", "rules.yaml", file]);
        mesh.caller("default/desk").get("http://catalogue:8000/books").assert_split(&split);
    }
}

#[test]
fn a_header_decides_and_faults_are_for_those_who_carry_it() {
    let first = mesh(&["services.yaml", "rules.yaml", "librarians-first.yaml"]);
    let desk = first.caller("default/desk");
    desk.get("http://catalogue:8000/").assert_destination("catalogue v1");
    desk.get("http://catalogue:8000/").header("end-user", "librarian").assert_destination("catalogue v3");
    for (file, line) in [
        ("delay.yaml", "a delay of 7s, for every request"),
        ("abort.yaml", "the answer 500 in place of the destination's, for every request"),
    ] {
        let mesh = mesh(&["services.yaml", "rules.yaml", file]);
        let desk = mesh.caller("default/desk");
        assert_eq!(desk.get("http://catalogue:8000/").explain().on_the_way, Vec::<String>::new());
        let librarian = desk.get("http://catalogue:8000/").header("end-user", "librarian");
        assert_eq!(librarian.explain().on_the_way, [line]);
    }
}

#[test]
fn what_is_bound_to_a_gateway_does_not_touch_calls_inside_the_mesh() {
    let mesh = mesh(&["services.yaml", "gateway.yaml"]);
    let desk = mesh.caller("default/desk");
    desk.get("http://catalogue:8000/desk").assert_destination("catalogue.default.svc.cluster.local");
    desk.get("http://elsewhere.example/desk").assert_action(Action::Passthrough);
}

#[test]
fn what_is_outside_is_called_with_the_tls_of_its_rule() {
    let mesh = mesh(&["services.yaml", "outside.yaml"]);
    let desk = mesh.caller("default/desk");
    assert_eq!(desk.get("http://www.publishers.example/").explain().mtls, Some("SIMPLE"));
}

#[test]
fn the_only_errors_of_a_bundle_without_its_services_are_what_it_refers_to() {
    let alone = [SourceFile { name: "bundle.yaml".to_owned(), text: Ok(LIBRARY[12].1.to_owned()) }];
    let findings = TestMesh::of_files(alone.to_vec()).findings();
    let missing = |finding: &&Diagnostic| finding.code == Code::REFERENCE_NOT_FOUND;
    assert!(findings.iter().filter(|it| it.is_error()).all(|it| missing(&it)), "{findings:#?}");
    assert!(findings.iter().any(|it| missing(&it)), "{findings:#?}");
    mesh(&["services.yaml", "bundle.yaml"]).assert_no_errors();
}

/// One row per kind: what is right, what is wrong, and the field that is wrong.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn of_each_kind_what_is_right_loads_and_what_is_wrong_is_an_error_at_its_field() {
    for (api, kind, right, wrong, field) in [
        ("networking.istio.io/v1alpha3", "VirtualService", "{hosts: [a], http: [{route: [{destination: {host: a}}]}]}", "{http: [{route: [{destination: {host: a}}]}], host: [a]}", "spec.host"),
        ("networking.istio.io/v1alpha3", "DestinationRule", "{host: a, subsets: [{name: v1, labels: {version: v1}}]}", "{subsets: [{name: v1}]}", "spec.host"),
        ("networking.istio.io/v1alpha3", "ServiceEntry", "{hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}", "{ports: [{number: 80, name: http, protocol: HTTP}]}", "spec.hosts"),
        ("networking.istio.io/v1alpha3", "Gateway", "{selector: {istio: x}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}", "{selector: {istio: x}}", "spec.servers"),
        ("networking.istio.io/v1alpha3", "Sidecar", "{egress: [{hosts: ['./*']}]}", "{workloadSelector: {labels: {app: a}}}", "spec.egress"),
        ("networking.istio.io/v1beta1", "WorkloadEntry", "{address: 10.0.0.1}", "{address: 'no address'}", "spec.address"),
        ("security.istio.io/v1beta1", "PeerAuthentication", "{mtls: {mode: STRICT}}", "{mtls: {mode: STRCT}}", "spec.mtls.mode"),
        ("security.istio.io/v1beta1", "AuthorizationPolicy", "{action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}", "{action: DENY, rules: [{to: [{operation: {path: [/x]}}]}]}", "spec.rules[0].to[0].operation.path"),
        ("security.istio.io/v1beta1", "RequestAuthentication", "{jwtRules: [{issuer: i, jwksUri: 'https://i.example/keys'}]}", "{jwtRules: [{audiences: [a]}]}", "spec.jwtRules[0]"),
        ("authentication.istio.io/v1alpha1", "Policy", "{targets: [{name: a}], peers: [{mtls: {}}]}", "{targets: [{name: a.b}], peers: [{mtls: {}}]}", "spec.targets[0].name"),
        ("telemetry.istio.io/v1alpha1", "Telemetry", "{tracing: [{randomSamplingPercentage: 10}]}", "{tracing: [{randomSamplingPercentage: 110}]}", "spec.tracing[0].randomSamplingPercentage"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "{parentRefs: [{group: '', kind: Service, name: a}], rules: [{backendRefs: [{name: a, port: 80}]}]}", "{parentRefs: [{group: '', kind: Service, name: a}], rules: [{backendRefs: [{port: 80}]}]}", "spec.rules[0].backendRefs[0].name"),
    ] {
        let document = |spec: &str| format!("{{apiVersion: {api}, kind: {kind}, metadata: {{name: x}}, spec: {spec}}}");
        let read = |spec: &str| load("x.yaml", &document(spec), &Options::default());
        let loaded = read(right);
        assert!(loaded.diagnostics.iter().all(|it| !it.is_error()) && loaded.resources.len() == 1, "{kind}: {:#?}", loaded.diagnostics);
        let loaded = read(wrong);
        let named = loaded.diagnostics.iter().any(|it| it.is_error() && it.path == field);
        assert!(named, "{kind}: {:#?}", loaded.diagnostics);
    }
}

fn mesh(names: &[&str]) -> TestMesh {
    let file = |name: &&str| {
        let (_, text) = LIBRARY.into_iter().find(|(known, _)| known == name).unwrap();
        SourceFile { name: (*name).to_owned(), text: Ok(text.to_owned()) }
    };
    TestMesh::of_files(names.iter().map(file).collect())
}
