//! What limits refuse, and that every place is given back.

use crate::support::*;
use http::Request;
use hyper::body::Incoming;
use mesh_client::{ErrorKind, Protocol};
use mesh_core::health::Overflow;
use std::sync::Arc;
use tokio::sync::Semaphore;

// spec: envoy intro/arch_overview/upstream/circuit_breaking
#[tokio::test]
async fn a_request_over_the_limit_is_refused_as_envoy_refuses_it() {
    let (server, gate) = gated().await;
    let mesh = limited(&server, "{connectionPool: {http: {http2MaxRequests: 1}}}").await;
    let first = spawn_get(&mesh);
    until("the first call to be under way", || mesh.endpoint_state().in_flight() == 1).await;
    let error = mesh.get("http://reviews/").await.unwrap_err();
    assert_eq!((error.kind(), error.flags().to_string().as_str()), (ErrorKind::Overload, "UO"));
    assert!(error.to_string().contains("http2MaxRequests is 1"), "{error}");
    assert!(!error.may_have_been_sent());
    let response = error.into_response();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-envoy-overloaded"]),
        (503, &"true".parse().unwrap())
    );
    assert_eq!(
        response.body(),
        "upstream connect error or disconnect/reset before headers. reset reason: overflow"
    );
    gate.add_permits(2);
    assert_eq!(first.await.unwrap(), "ok");
    assert_eq!(mesh.text("http://reviews/").await, "ok");
}

#[tokio::test]
async fn a_place_is_held_until_the_body_ends_or_is_dropped() {
    let server = Server::start(|_| async { answer(vec![b'x'; 1_000_000]) }).await;
    let mesh = limited(&server, "{connectionPool: {http: {http2MaxRequests: 1}}}").await;
    let response = mesh.get("http://reviews/").await.unwrap();
    assert!(mesh.get("http://reviews/").await.unwrap_err().is_overload());
    assert_eq!(response.into_body().bytes().await.unwrap().len(), 1_000_000);
    let response = mesh.get("http://reviews/").await.unwrap();
    assert!(mesh.get("http://reviews/").await.unwrap_err().is_overload());
    drop(response);
    assert!(mesh.get("http://reviews/").await.is_ok());
}

#[tokio::test]
async fn over_one_connection_http1_requests_wait_their_turn() {
    let server = Server::start(|_| async { answer("ok") }).await;
    let mesh = limited(&server, "{connectionPool: {tcp: {maxConnections: 1}}}").await;
    let calls: Vec<_> = (0..20).map(|_| spawn_get(&mesh)).collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), "ok");
    }
    assert_eq!(server.accepted(), 1);
    assert_eq!(mesh.cluster_state().in_use(Overflow::Pending), 0);
}

/// Whoever drops a body may be a thread without a runtime; those in line are served all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_dropped_outside_of_the_runtime_serves_those_in_line() {
    let server = Server::start(|_| async { answer(vec![b'x'; 1_000_000]) }).await;
    let mesh = limited(&server, "{connectionPool: {tcp: {maxConnections: 1}}}").await;
    let first = mesh.get("http://reviews/").await.unwrap();
    let state = mesh.cluster_state();
    let second = spawn_get(&mesh);
    until("the second call to wait", || state.in_use(Overflow::Pending) == 1).await;
    std::thread::spawn(move || drop(first)).join().unwrap();
    assert_eq!(second.await.unwrap().len(), 1_000_000);
}

#[tokio::test]
async fn requests_that_would_wait_beyond_the_limit_are_refused() {
    let (server, gate) = gated().await;
    let mesh =
        limited(&server, "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}")
            .await;
    let first = spawn_get(&mesh);
    until("the first call to have the connection", || {
        mesh.cluster_state().in_use(Overflow::Connections) == 1
            && mesh.cluster_state().in_use(Overflow::Pending) == 0
    })
    .await;
    let second = spawn_get(&mesh);
    until("the second call to wait", || mesh.cluster_state().in_use(Overflow::Pending) == 1).await;
    let error = mesh.get("http://reviews/").await.unwrap_err();
    assert!(error.is_overload() && error.to_string().contains("http1MaxPendingRequests is 1"), "{error}");
    gate.add_permits(2);
    assert_eq!((first.await.unwrap().as_str(), second.await.unwrap().as_str()), ("ok", "ok"));
}

/// As a request over the limit: 503 with flag UO, at once, not retried whatever the route says, and held against nobody.
// spec: envoy intro/arch_overview/upstream/circuit_breaking
#[tokio::test]
async fn every_limit_but_that_of_retries_refuses_as_envoy_does() {
    let outlier = "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}";
    for (pool, limit, attempts) in [
        ("http: {http2MaxRequests: 1}", Overflow::Requests, 0),
        ("tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}", Overflow::Pending, 1),
    ] {
        let (server, gate) = gated().await;
        let everything = "- {retries: {attempts: 5, retryOn: '5xx,reset,connect-failure,gateway-error'}, \
                          route: [{destination: {host: reviews}}]}";
        let policy = policy("reviews", &format!("{{connectionPool: {{{pool}}}, {outlier}}}"));
        let mesh = Mesh::new(
            &(service("reviews", &[(server.address, "v1")]) + &routes("reviews", everything) + &policy),
        )
        .await;
        let first = spawn_get(&mesh);
        let state = mesh.cluster_state();
        until("the first call to be under way", || {
            state.in_use(Overflow::Requests) == 1
                && state.in_use(Overflow::Pending) == 0
                && mesh.endpoint_state().in_flight() == 1
        })
        .await;
        // With one connection and one place in the line, the second call is still admitted.
        let second = (limit == Overflow::Pending).then(|| spawn_get(&mesh));
        if second.is_some() {
            until("the second call to wait", || state.in_use(Overflow::Pending) == 1).await;
        }
        let error = mesh.client.send(post("x")).await.unwrap_err();
        assert_eq!((error.kind(), error.flags().to_string().as_str()), (ErrorKind::Overload, "UO"), "{pool}");
        assert_eq!((error.attempts(), error.may_have_been_sent()), (attempts, false), "{pool}");
        let response = error.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["x-envoy-overloaded"], "true");
        assert!(response.body().ends_with(b"reset reason: overflow"));
        assert_eq!(mesh.endpoint_state().ejected_until(mesh.workload.clock().now()), None);
        gate.add_permits(10);
        assert_eq!(first.await.unwrap(), "ok");
        if let Some(second) = second {
            assert_eq!(second.await.unwrap(), "ok");
        }
    }
}

/// The answer stands as it is: what was refused is the retry, not the call.
#[tokio::test]
async fn a_retry_over_the_limit_is_not_made_and_the_answer_stands_with_flag_uo() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::start({
        let gate = Arc::clone(&gate);
        move |request: Request<Incoming>| {
            let gate = Arc::clone(&gate);
            async move {
                if request.headers()["x-envoy-attempt-count"] != "1" {
                    gate.acquire().await.unwrap().forget();
                    return answer("ok");
                }
                status(503)
            }
        }
    })
    .await;
    let retries =
        "- {retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}, route: [{destination: {host: reviews}}]}";
    let policy = policy("reviews", "{connectionPool: {http: {maxRetries: 1}}}");
    let mesh =
        Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &routes("reviews", retries) + &policy))
            .await;
    let retrying = spawn_get(&mesh);
    let state = mesh.cluster_state();
    until("the first call to try again", || state.in_use(Overflow::Retries) == 1).await;
    let response = mesh.get("http://reviews/").await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(!response.headers().contains_key("x-envoy-overloaded"));
    let info = response.body().call_info();
    assert_eq!((info.attempts, info.flags.to_string().as_str()), (1, "UO"));
    gate.add_permits(1);
    assert_eq!(retrying.await.unwrap(), "ok");
    assert_eq!(state.in_use(Overflow::Retries), 0);
}

/// Invariant 6: a dropped request releases everything it held.
#[tokio::test]
async fn a_dropped_call_gives_everything_back_wherever_it_was() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (server, gate) = gated().await;
        let mesh = limited(&server, "{connectionPool: {tcp: {maxConnections: 1}}}").await.speaking(protocol);
        let calls: Vec<_> = (0..3).map(|_| spawn_get(&mesh)).collect();
        let state = mesh.cluster_state();
        until("three calls to be under way", || state.in_use(Overflow::Requests) == 3).await;
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        until("everything to be given back", || {
            [Overflow::Requests, Overflow::Pending, Overflow::Retries].iter().all(|&it| state.in_use(it) == 0)
                && mesh.endpoint_state().in_flight() == 0
        })
        .await;
        gate.add_permits(10);
        assert_eq!(mesh.text("http://reviews/").await, "ok", "{protocol:?}");
    }
}

#[tokio::test]
async fn an_overflow_is_not_retried_and_not_held_against_the_endpoint() {
    let (server, gate) = gated().await;
    let outlier = "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}";
    let mesh =
        limited(&server, &format!("{{connectionPool: {{http: {{http2MaxRequests: 1}}}}, {outlier}}}")).await;
    let first = spawn_get(&mesh);
    until("the first call to be under way", || mesh.endpoint_state().in_flight() == 1).await;
    for _ in 0..10 {
        assert_eq!(mesh.get("http://reviews/").await.unwrap_err().attempts(), 0);
    }
    assert_eq!(mesh.endpoint_state().ejected_until(mesh.workload.clock().now()), None);
    gate.add_permits(1);
    assert_eq!(first.await.unwrap(), "ok");
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_ejected_and_the_error_says_so() {
    let server = Server::start(|_| async { status(500) }).await;
    let mesh =
        limited(&server, "{outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 100}}").await;
    for _ in 0..3 {
        assert_eq!(mesh.get("http://reviews/").await.unwrap().status(), 500);
    }
    let error = mesh.get("http://reviews/").await.unwrap_err();
    assert!(error.is_no_endpoints());
    assert!(error.to_string().contains("1 endpoints, 1 ejected, the next is back in 30 s"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_in_time_is_ejected() {
    let (server, _gate) = gated().await;
    let timeout = routes("reviews", "- route: [{destination: {host: reviews}}]\n    timeout: 20ms");
    let outlier = policy("reviews", "{outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100}}");
    let mesh = Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &timeout + &outlier)).await;
    for _ in 0..2 {
        assert!(mesh.get("http://reviews/").await.unwrap_err().is_timeout());
    }
    assert!(mesh.get("http://reviews/").await.unwrap_err().is_no_endpoints());
}

async fn limited(server: &Server, traffic_policy: &str) -> Mesh {
    Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &policy("reviews", traffic_policy))).await
}

/// A server that answers as many requests as its gate has permits for.
async fn gated() -> (Server, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::start({
        let gate = Arc::clone(&gate);
        move |_: Request<Incoming>| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                answer("ok")
            }
        }
    })
    .await;
    (server, gate)
}

fn spawn_get(mesh: &Mesh) -> tokio::task::JoinHandle<String> {
    let client = mesh.client.clone();
    tokio::spawn(
        async move { client.get("http://reviews/").await.unwrap().into_body().text().await.unwrap() },
    )
}
