//! What a workload sees of the configuration, and what in it is meant for it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test crate uses its part")]
#[path = "support/mesh.rs"]
mod mesh;

use mesh::{Mesh, REVIEWS, routes, rule};
use mesh_core::{balance::Policy, registry::Locality};

const URL: &str = "http://reviews.default.svc.cluster.local/";

#[test]
fn a_virtual_service_routes_for_those_to_whom_it_is_exported() {
    let exported = |scope: &str| {
        let routes = routes("{name: r, route: [{destination: {host: reviews}}]}");
        let routes = routes.replace("hosts: [reviews]", &format!("hosts: [reviews], exportTo: [{scope}]"));
        let mesh = Mesh::of(&[REVIEWS, &routes]);
        ["default", "shop", "billing"]
            .map(|namespace| mesh.seen_by(namespace, "a").route(URL).as_deref() == Some("r"))
    };
    for (scope, sees) in [
        ("'*'", [true, true, true]),
        ("'.'", [true, false, false]),
        ("shop", [false, true, false]),
        ("'.', shop", [true, true, false]),
        ("'~'", [false, false, false]),
    ] {
        assert_eq!(exported(scope), sees, "{scope}");
    }
}

#[test]
fn a_destination_rule_is_for_those_to_whom_it_is_exported_and_whom_it_selects() {
    let balance = |rest: &str, namespace: &str, app: &str| {
        let mesh = Mesh::of(&[
            REVIEWS,
            &rule(&format!("trafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}, {rest}")),
        ]);
        mesh.seen_by(namespace, app).cluster(URL).endpoints.policy()
    };
    for (rest, namespace, app, expected) in [
        ("exportTo: ['*']", "shop", "a", Policy::Random),
        ("exportTo: ['.']", "default", "a", Policy::Random),
        ("exportTo: ['.']", "shop", "a", Policy::LeastRequest),
        ("workloadSelector: {matchLabels: {app: a}}", "default", "a", Policy::Random),
        ("workloadSelector: {matchLabels: {app: a}}", "default", "b", Policy::LeastRequest),
        ("workloadSelector: {matchLabels: {app: a}}", "shop", "a", Policy::LeastRequest),
    ] {
        assert_eq!(balance(rest, namespace, app), expected, "{rest}, {app} in {namespace}");
    }
}

#[test]
fn a_match_for_gateways_takes_calls_of_the_mesh_only_if_it_names_it() {
    let route = |gateways: &str| {
        let routes = routes(&format!(
            "{{name: r, match: [{{gateways: [{gateways}]}}], route: [{{destination: {{host: reviews}}}}]}}"
        ));
        Mesh::of(&[REVIEWS, &routes.replace("hosts: [reviews]", "hosts: [reviews], gateways: [mesh, edge]")])
            .route(URL)
    };
    assert_eq!(route("edge"), None);
    assert_eq!(route("edge, mesh").as_deref(), Some("r"));
}

#[test]
fn a_service_object_is_called_by_the_ports_it_has() {
    let mesh = Mesh::of(&[
        "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {ports: [{port: 8080, name: http}, {port: 9090, name: grpc}]}\n",
    ]);
    for (url, cluster) in [
        ("http://cart:8080/", Some("outbound|8080||cart.default.svc.cluster.local")),
        ("http://cart:9090/", Some("outbound|9090||cart.default.svc.cluster.local")),
        ("http://cart:7070/", None),
    ] {
        assert_eq!(mesh.explain(url).cluster.as_deref(), cluster, "{url}");
    }
}

#[test]
fn an_endpoint_is_where_its_entry_says() {
    let entry = REVIEWS.replace(
        "address: 10.0.0.1,",
        "address: 10.0.0.1, ports: {http: 8080}, locality: eu/a/1, weight: 3,",
    );
    let mesh = Mesh::of(&[&entry]);
    let endpoints = mesh.cluster(URL).endpoints.as_slice();
    assert_eq!(endpoints[0].address.to_string(), "10.0.0.1:8080");
    assert_eq!(endpoints[0].locality, Locality::parse("eu/a/1"));
    assert_eq!((endpoints[0].weight, endpoints[1].address.to_string().as_str()), (3, "10.0.0.2:80"));
}
