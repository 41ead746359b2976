//! What surprises users of Istio, one test each. docs/ISTIO.md lists them, in this order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test crate uses its part")]
#[path = "support/mesh.rs"]
mod mesh;

use http::{HeaderMap, Method, StatusCode};
use mesh::{Mesh, REVIEWS, routes, rule};
use mesh_core::{
    balance::{self, Policy, Security, Tried, Wish},
    deadline,
    dice::{Lowest, Seeded},
    event::Flag,
    explain::Action,
    health::{self, Change, Limits},
    retry::{Attempt, Ceiling, GiveUp, Outcome, PushBack, RetryOn, RetryPolicy, Verdict},
    route::{Chance, Decision},
    time::Time,
};
use std::{collections::BTreeSet, time::Duration};

const TO_REVIEWS: &str = "route: [{destination: {host: reviews}}]";

#[test]
fn a_service_without_any_virtual_service_is_retried_twice() {
    let retries = Mesh::of(&[REVIEWS]).explain("http://reviews/").retries.unwrap();
    assert_eq!(retries.attempts, 2);
    assert!(retries.retry_on.contains(&"connect-failure".to_owned()), "{retries:?}");
}

#[test]
fn a_503_is_an_answer_and_is_not_retried_unless_it_is_named() {
    let mesh = Mesh::of(&[REVIEWS]);
    let unavailable = answer(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new());
    let default = &mesh.forward("http://reviews/").retry;
    assert_eq!(given_up(default, &unavailable), Some(GiveUp::NotNamed));

    let named = Mesh::of(&[REVIEWS, &routes(&format!("{{{TO_REVIEWS}, retries: {{retryOn: '503'}}}}"))]);
    assert_eq!(given_up(&named.forward("http://reviews/").retry, &unavailable), None);
}

#[test]
fn a_request_that_no_route_takes_is_a_404_and_does_not_fall_through_to_the_service() {
    let mesh = Mesh::of(&[REVIEWS, &routes(&format!("{{match: [{{uri: {{exact: /a}}}}], {TO_REVIEWS}}}"))]);
    assert!(matches!(mesh.decide("http://reviews/b"), Decision::NoRoute { .. }));
    let story = mesh.explain("http://reviews/b");
    assert_eq!((story.action, story.flag), (Action::None, Some(Flag::NR)));
}

#[test]
fn a_prefix_is_one_of_the_text_in_a_virtual_service_and_of_segments_in_an_http_route() {
    let mesh = Mesh::of(&[
        REVIEWS,
        &routes(&format!("{{name: api, match: [{{uri: {{prefix: /api}}}}], {TO_REVIEWS}}}")),
    ]);
    assert_eq!(mesh.route("http://reviews/api/v1").as_deref(), Some("api"));
    assert_eq!(mesh.route("http://reviews/apiary").as_deref(), Some("api"));
    assert_eq!(mesh.route("http://reviews/ap"), None);

    let attached = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: reviews}\n\
         spec: {parentRefs: [{group: '', kind: Service, name: reviews}], \
         rules: [{matches: [{path: {type: PathPrefix, value: /api}}], backendRefs: [{name: reviews, port: 80}]}]}\n";
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: reviews}\nspec: {ports: [{port: 80, name: http}]}\n";
    let mesh = Mesh::of(&[service, attached]);
    assert!(mesh.route("http://reviews/api/v1").is_some());
    assert_eq!(mesh.route("http://reviews/apiary"), None, "an HTTPRoute's prefix is one of segments");
}

#[test]
fn a_port_entry_resets_every_block_that_it_does_not_set() {
    let everywhere = "loadBalancer: {simple: RANDOM}, outlierDetection: {}";
    let port = "portLevelSettings: [{port: {number: 80}, connectionPool: {http: {maxRetries: 1}}}]";
    let cluster = |policy: &str| {
        let mesh = Mesh::of(&[REVIEWS, &rule(&format!("trafficPolicy: {{{policy}}}"))]);
        let cluster = mesh.cluster("http://reviews/");
        (cluster.endpoints.policy(), cluster.outlier.is_some())
    };
    assert_eq!(cluster(everywhere), (Policy::Random, true));
    assert_eq!(cluster(&format!("{everywhere}, {port}")), (Policy::LeastRequest, false));
}

#[test]
fn the_older_of_two_virtual_services_for_a_host_wins_whole_and_nothing_is_merged() {
    let (old, young) = (
        routes(&format!("{{name: old, match: [{{uri: {{exact: /a}}}}], {TO_REVIEWS}}}")),
        routes(&format!("{{name: young, {TO_REVIEWS}}}")),
    );
    let dated = |text: String, name: &str, day: &str| {
        text.replace("{name: reviews}", &format!("{{name: {name}, creationTimestamp: '{day}T00:00:00Z'}}"))
    };
    let mesh = Mesh::of(&[REVIEWS, &dated(young, "a", "2026-02-01"), &dated(old, "b", "2026-01-01")]);
    assert_eq!(mesh.route("http://reviews/a").as_deref(), Some("old"));
    assert_eq!(mesh.route("http://reviews/b"), None);
}

#[test]
fn a_fault_without_a_percentage_never_happens() {
    let fault = "fault: {delay: {fixedDelay: 5s}, abort: {httpStatus: 500}}";
    let mesh = Mesh::of(&[REVIEWS, &routes(&format!("{{{TO_REVIEWS}, {fault}}}"))]);
    let chances = mesh.forward("http://reviews/").fault.iter().flat_map(|fault| {
        [fault.delay.as_ref().map(|delay| delay.chance), fault.abort.as_ref().map(|abort| abort.chance)]
    });
    assert!(chances.flatten().all(|chance| chance == Chance::NEVER));
}

#[test]
fn with_fewer_than_ten_endpoints_the_default_percentage_ejects_nobody() {
    let failed = |detection: &str| {
        let mesh = Mesh::of(&[REVIEWS, &rule(&format!("trafficPolicy: {{outlierDetection: {detection}}}"))]);
        let cluster = mesh.cluster("http://reviews/");
        let fail = || {
            let in_flight = cluster.endpoints.as_slice()[0].state.begin(Time::ZERO);
            let (policy, verdict) = (cluster.outlier.unwrap(), health::Verdict::Status(500));
            cluster.state.on_answer(&in_flight, verdict, &policy, &cluster.endpoints, Time::ZERO)
        };
        (0..4).for_each(|_| assert_eq!(fail(), Change::None));
        fail()
    };
    assert!(matches!(failed("{}"), Change::Spared { .. }));
    assert!(matches!(failed("{maxEjectionPercent: 50}"), Change::Ejected { .. }));
}

#[test]
fn an_overflow_is_neither_retried_nor_held_against_an_endpoint() {
    assert_eq!(Outcome::Overflow.verdict(), None);
    let policy = policy("5xx,gateway-error,reset,connect-failure,refused-stream,503");
    assert_eq!(given_up(&policy, &Outcome::Overflow), Some(GiveUp::NotNamed));
}

#[test]
fn a_grpc_status_that_comes_with_the_trailers_is_not_retried() {
    let in_headers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "14".parse().unwrap())]);
    let policy = policy("unavailable");
    assert_eq!(given_up(&policy, &answer(StatusCode::OK, &in_headers)), None);
    assert_eq!(given_up(&policy, &answer(StatusCode::OK, &HeaderMap::new())), Some(GiveUp::NotNamed));
}

#[test]
fn a_tls_block_in_a_destination_rule_switches_automatic_mutual_tls_off() {
    let is_mutual = |documents: &[&str]| {
        let mesh = Mesh::of(documents);
        let endpoints = &mesh.cluster("http://reviews/").endpoints;
        endpoints.as_slice().iter().all(|endpoint| matches!(endpoint.security, Security::Mutual(_)))
    };
    assert!(is_mutual(&[REVIEWS]));
    assert!(is_mutual(&[REVIEWS, &rule("trafficPolicy: {loadBalancer: {simple: RANDOM}}")]));
    assert!(!is_mutual(&[REVIEWS, &rule("trafficPolicy: {tls: {}}")]));
    assert!(!is_mutual(&[REVIEWS, &rule("trafficPolicy: {tls: {mode: DISABLE}}")]));
}

#[test]
fn a_header_that_is_missing_counts_as_empty_where_it_must_not_match() {
    let takes = |condition: &str| {
        let without = format!("match: [{{withoutHeaders: {{x-user: {condition}}}}}]");
        Mesh::of(&[REVIEWS, &routes(&format!("{{{without}, {TO_REVIEWS}}}"))])
            .route("http://reviews/")
            .is_some()
    };
    assert!(takes("{exact: jason}"));
    assert!(!takes("{regex: '.*'}"), "the empty text matches");
    assert!(!takes("{exact: ''}"), "likewise");
    assert!(takes("{}"), "to be there is another question");
}

#[test]
fn a_grpc_timeout_is_honoured_where_the_route_has_no_timeout() {
    let mesh = Mesh::of(&[REVIEWS]);
    let timeout = mesh.forward("http://reviews/").timeout;
    assert_eq!(timeout, None);
    let headers = HeaderMap::from_iter([(deadline::GRPC_TIMEOUT, "2S".parse().unwrap())]);
    let asked = deadline::of_headers(&headers, Time::ZERO);
    assert_eq!(deadline::shorten(asked, Time::ZERO, timeout), Time::ZERO + Duration::from_secs(2));
}

#[test]
fn outlier_detection_in_a_rule_switches_locality_failover_on() {
    let far = REVIEWS.replace("10.0.0.1,", "10.0.0.1, locality: us,");
    let near = far.replace("10.0.0.2,", "10.0.0.2, locality: eu,");
    let used = |policy: &str| {
        let mesh = Mesh::of(&[&near, &rule(&format!("trafficPolicy: {{{policy}}}"))]).seen_from("eu");
        let set = &mesh.cluster("http://reviews/").endpoints;
        let mut dice = Seeded::new(1);
        let picks = (0..100).map(|_| balance::pick(set, &Wish::default(), Time::ZERO, &mut dice).unwrap());
        picks.map(|index| set.as_slice()[index].locality.region.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(used("loadBalancer: {simple: RANDOM}").len(), 2, "near and far");
    let near = BTreeSet::from(["eu".to_owned()]);
    assert_eq!(used("loadBalancer: {simple: RANDOM}, outlierDetection: {}"), near);
}

#[test]
fn a_destination_is_drawn_once_and_retries_stay_with_it() {
    let subsets = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]";
    let split = "route: [{destination: {host: reviews, subset: v1}, weight: 50}, \
                         {destination: {host: reviews, subset: v2}, weight: 50}]";
    let mesh =
        Mesh::of(&[REVIEWS, &rule(subsets), &routes(&format!("{{{split}, retries: {{attempts: 9}}}}"))]);
    for seed in 0..20 {
        let mut dice = Seeded::new(seed);
        let decision = mesh.decide_with("http://reviews/", &HeaderMap::new(), &mut dice);
        let Decision::Forward { target, .. } = decision else { panic!("{decision:?}") };
        let cluster = mesh.snapshot.cluster(target.cluster.unwrap());
        let mut tried = Tried::default();
        for _ in 0..10 {
            let wish = Wish { avoid: Some(&tried), ..Wish::default() };
            let picked = balance::pick(&cluster.endpoints, &wish, Time::ZERO, &mut dice).unwrap();
            tried.on_attempt(picked);
            let address = cluster.endpoints.as_slice()[picked].address.to_string();
            assert_eq!(address.starts_with("10.0.0.1:"), &*target.subset == "v1", "seed {seed}: {address}");
        }
    }
}

#[test]
fn a_try_that_takes_too_long_is_not_retried_unless_that_is_named() {
    let retries = |more: &str| {
        let retries = format!("retries: {{attempts: 3, perTryTimeout: 1s{more}}}");
        let mesh = Mesh::of(&[REVIEWS, &routes(&format!("{{{TO_REVIEWS}, {retries}}}"))]);
        given_up(&mesh.forward("http://reviews/").retry, &Outcome::PerTryTimeout { sent: true })
    };
    assert_eq!(retries(""), Some(GiveUp::NotNamed));
    for named in ["5xx", "gateway-error", "reset"] {
        assert_eq!(retries(&format!(", retryOn: {named}")), None, "{named}");
    }
}

fn policy(retry_on: &str) -> RetryPolicy {
    RetryPolicy { on: RetryOn::parse(retry_on).unwrap(), explicit: true, ..RetryPolicy::default() }
}

fn answer(status: StatusCode, headers: &HeaderMap) -> Outcome {
    Outcome::of_head(status, headers)
}

/// Returns why a first try that ended with `outcome` is not followed by another; `None` if it is.
fn given_up(policy: &RetryPolicy, outcome: &Outcome) -> Option<GiveUp> {
    let attempt =
        Attempt { outcome, method: &Method::GET, retries: 0, replayable: true, push_back: PushBack::None };
    let (cluster, limits) = (std::sync::Arc::default(), Limits::default());
    let ceiling = Ceiling { budget: None, written: None, cluster: &cluster, limits: &limits };
    match policy.decide(&attempt, &ceiling, Time::ZERO, Time::MAX, &mut Lowest) {
        Verdict::Retry { .. } => None,
        Verdict::GiveUp(why) => Some(why),
    }
}
