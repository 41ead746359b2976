//! What an explanation says beyond the route: why this host, what is in force towards the cluster and where that is
//! written, and what the request meets where it arrives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mesh_core::{
    explain::{Explanation, Place},
    testing::TestMesh,
};

#[test]
fn the_name_by_which_a_host_was_asked_for_is_told() {
    for (url, because) in [
        ("http://reviews/", "reviews is short for it"),
        ("http://reviews.shop.svc.cluster.local/", "reviews.shop.svc.cluster.local is its name"),
        ("http://10.1.0.1/", "10.1.0.1 is an address of it"),
        ("http://a.example.com/", "*.example.com is the longest wildcard that covers a.example.com"),
    ] {
        let story = of("productpage", url);
        assert!(story.because.as_ref().unwrap().contains(because), "{url}: {story:#?}");
    }
    assert_eq!(of("productpage", "http://nobody.test/").because, None);
}

#[test]
fn each_setting_in_force_names_the_line_it_was_written_in() {
    let story = of("productpage", "http://reviews/");
    let row = |field: &str| {
        let row = story.policy.iter().find(|row| row.field == field).unwrap_or_else(|| panic!("{field}"));
        (row.value.as_str(), row.source.as_ref().map(|place| place.line))
    };
    assert_eq!(
        row("loadBalancer.consistentHash"),
        ("header end-user, on a ring of at least 1024 points", Some(14))
    );
    assert_eq!(row("loadBalancer.localityLbSetting"), ("the nearest first", None), "the default of the mesh");
    assert_eq!(row("connectionPool.http.maxRetries"), ("7", Some(24)), "that of the subset");
    assert_eq!(row("connectionPool.http.http2MaxRequests"), ("no limit", None), "not in that block");
    assert_eq!(row("outlierDetection.consecutive5xxErrors"), ("3", Some(16)), "in snake_case");
    assert_eq!(row("outlierDetection.baseEjectionTime"), ("30s", None), "not in that block");
    assert_eq!(place(&of("productpage", "http://reviews/slow"), "retries").line, 45);
    let story = of("productpage", "http://ratings/");
    let written: Vec<_> = story.policy.iter().filter(|row| row.source.is_some()).collect();
    assert!(written.is_empty(), "{written:#?}");
    assert_eq!(place(&story, "mtls").line, 29);
}

#[test]
fn retries_that_nobody_wrote_are_the_default_also_where_requests_are_hashed() {
    assert!(!of("productpage", "http://reviews/").sources.contains_key("retries"));
    assert!(of("productpage", "http://reviews/slow").sources.contains_key("retries"));
}

#[test]
fn how_connections_are_made_and_kept_is_told_where_somebody_says_so() {
    let mesh = TestMesh::of_yaml(
        "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: shop}, spec: {ports: [{port: 80}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: shop}
spec:
  host: a
  trafficPolicy:
    connectionPool:
      tcp:
        tcpKeepalive: {time: 60s, probes: 3}
      http:
        useClientProtocol: true
        maxConcurrentStreams: 7
        http2KeepAlive: {interval: 5s}
",
    );
    let story = mesh.caller("shop/b").get("http://a/").explain();
    for (field, value, line) in [
        ("connectionPool.tcp.tcpKeepalive", "time 60s, interval the system's, probes 3", 11),
        ("connectionPool.http.useClientProtocol", "true", 13),
        ("connectionPool.http.maxConcurrentStreams", "7", 14),
        ("connectionPool.http.http2KeepAlive", "interval 5s, timeout the client's", 15),
    ] {
        let row = story.policy.iter().find(|row| row.field == field).unwrap_or_else(|| panic!("{field}"));
        assert_eq!((&*row.value, row.source.as_ref().map(|it| it.line)), (value, Some(line)), "{field}");
    }
    assert!(story.policy.iter().all(|row| row.field != "connectionPool.http.h2UpgradePolicy"));
}

#[test]
fn a_second_try_beside_the_first_is_told_where_the_request_would_get_one() {
    for (any_method, expected) in [("", [Some(50), None]), (", mesh/hedgeAnyMethod: 'true'", [Some(50); 2])] {
        let annotations = format!("{{mesh/hedgeDelay: 50ms{any_method}}}");
        let mesh = TestMesh::of_yaml(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: a, namespace: shop}}, spec: {{ports: [{{port: 80}}]}}}}\n\
             ---\n\
             {{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: a, namespace: shop, \
             annotations: {annotations}}}, spec: {{hosts: [a], http: [{{route: [{{destination: {{host: a}}}}]}}]}}}}"
        ));
        let caller = mesh.caller("shop/b");
        let told = [caller.get("http://a/"), caller.post("http://a/")].map(|call| call.explain());
        assert_eq!(told.map(|story| story.retries.unwrap().hedge_after_ms), expected, "{any_method}");
    }
}

#[test]
fn what_a_route_does_to_a_request_is_told_in_the_order_in_which_it_is_done() {
    let lines = of("productpage", "http://reviews/slow").on_the_way;
    let expected = [
        "a delay of 7s, for 10 % of the requests",
        "the answer 555 in place of the destination's, for every request",
        "the path becomes \"/fast\"",
        "the authority becomes \"elsewhere\"",
        "a copy to outbound|80||ratings.shop.svc.cluster.local, for every request",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn where_it_arrives_the_policies_of_the_workload_decide_by_the_caller_and_the_path_as_it_was_rewritten() {
    for (account, url, allowed, reason) in [
        ("productpage", "http://reviews/", true, "ns[shop]-policy[reviews]-rule[0] allows it"),
        ("productpage", "http://reviews/slow", true, "rule[0] allows it"),
        ("productpage", "http://reviews/secret", false, "none allows it"),
        ("details", "http://reviews/", false, "none allows it"),
    ] {
        let [arrival] = &of(account, url).arrivals[..] else { panic!("{url}") };
        assert_eq!(
            (arrival.allowed, arrival.mtls, arrival.port, arrival.endpoints),
            (allowed, "STRICT", 9080, 1)
        );
        assert!(arrival.reason.contains(reason), "{url}: {arrival:#?}");
        assert_eq!(arrival.peer.as_deref(), Some(&*format!("spiffe://cluster.local/ns/shop/sa/{account}")));
        assert_eq!(arrival.mtls_source.as_ref().unwrap().resource, "PeerAuthentication shop/default");
        let [tried] = &arrival.authorization.tried[..] else { panic!("{arrival:#?}") };
        assert_eq!(tried.place.resource, "AuthorizationPolicy shop/reviews");
    }
}

#[test]
fn plaintext_does_not_get_in_where_mutual_tls_is_the_only_way() {
    let story = of("productpage", "http://ratings/");
    let [arrival] = &story.arrivals[..] else { panic!("{story:#?}") };
    assert_eq!((arrival.allowed, arrival.endpoints, arrival.peer.as_deref()), (false, 0, None));
    assert!(arrival.reason.contains("STRICT"), "{}", arrival.reason);
    assert_eq!(arrival.labels.get("app").map(String::as_str), Some("ratings"), "what the Service selects");
}

#[test]
fn a_mesh_config_of_its_own_names_the_trust_domain_of_the_callers() {
    let mesh = TestMesh::of_yaml(include_str!("fixtures/explained.yaml"));
    let story = mesh
        .with_mesh_config("trustDomain: shop.example")
        .caller("shop/productpage")
        .get("http://reviews/")
        .explain();
    assert_eq!(story.arrivals[0].peer.as_deref(), Some("spiffe://shop.example/ns/shop/sa/productpage"));
}

#[test]
fn outside_of_the_mesh_nobody_decides() {
    assert!(of("productpage", "http://a.example.com/").arrivals.is_empty());
    assert!(of("productpage", "http://nobody.test/").arrivals.is_empty());
}

fn of(account: &str, url: &str) -> Explanation {
    let mesh = TestMesh::of_yaml(include_str!("fixtures/explained.yaml"));
    mesh.caller(&format!("shop/{account}")).get(url).explain()
}

fn place<'a>(story: &'a Explanation, field: &str) -> &'a Place {
    &story.sources[field]
}
