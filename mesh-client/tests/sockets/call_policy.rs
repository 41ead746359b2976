//! What a call asks for over the policy of its route, by extension or in Envoy's headers.

use crate::support::*;
use http::{HeaderMap, Method, Request};
use hyper::body::Incoming;
use mesh_client::{CallPolicy, ErrorKind, MeshClient, RequestBody};
use mesh_core::retry::RetryOn;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Rows: the route, what the call asks for, and how many attempts a server that answers 503 sees.
#[tokio::test]
async fn a_call_may_ask_for_other_retries_than_its_route_has() {
    let off = "retries: {attempts: 0}";
    let listed = "retries: {attempts: 1, retryOn: connect-failure}";
    for (route, headers, attempts) in [
        ("", vec![("x-envoy-retry-on", "5xx")], 3),
        ("", vec![("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "1")], 2),
        ("", vec![("x-envoy-max-retries", "5")], 1),
        ("", vec![("x-envoy-retry-on", "nonsense")], 1),
        ("", vec![("x-envoy-retry-grpc-on", "gateway-error")], 1),
        ("", vec![("x-envoy-retriable-status-codes", "503")], 3),
        (listed, vec![("x-envoy-retriable-status-codes", "503")], 1),
        (
            listed,
            vec![("x-envoy-retry-on", "retriable-status-codes"), ("x-envoy-retriable-status-codes", "503")],
            2,
        ),
        (off, vec![("x-envoy-max-retries", "3")], 1),
        (off, vec![("x-envoy-retry-on", "gateway-error")], 2),
        (off, vec![("x-envoy-retry-on", "gateway-error"), ("x-envoy-max-retries", "3")], 4),
    ] {
        let (server, seen) = failing().await;
        let mesh = Mesh::new(&routed(&server, route)).await;
        for (client, expected) in [(obeying(&mesh), attempts), (mesh.client.clone(), 1)] {
            seen.lock().unwrap().clear();
            let mut request = Request::get("http://reviews/").body(RequestBody::empty()).unwrap();
            for (name, value) in &headers {
                request.headers_mut().insert(*name, value.parse().unwrap());
            }
            let response = client.send(request).await.unwrap();
            assert_eq!(response.body().call_info().attempts, expected, "{route}, {headers:?}");
            for (name, _) in &headers {
                let kept = seen.lock().unwrap().iter().any(|head: &HeaderMap| head.contains_key(*name));
                assert!(!kept, "{name} is for this hop only");
            }
        }
    }
}

#[tokio::test]
async fn an_extension_means_the_same_and_goes_before_the_headers() {
    let (server, _) = failing().await;
    let mesh = Mesh::new(&routed(&server, "")).await;
    let mut request = Request::get("http://reviews/").body(RequestBody::empty()).unwrap();
    request.headers_mut().insert("x-envoy-max-retries", "9".parse().unwrap());
    let asked = CallPolicy::default().retry_on(RetryOn::parse("5xx").unwrap()).retries_max(1);
    request.extensions_mut().insert(asked);
    assert_eq!(obeying(&mesh).send(request).await.unwrap().body().call_info().attempts, 2);
}

/// Rows: what the call adds to Istio's default list, and how often a server is called that answers UNAVAILABLE.
#[tokio::test]
async fn what_a_call_adds_does_not_make_the_list_of_its_route_one_that_somebody_wrote() {
    for (added, method, attempts) in [
        ("connect-failure", Method::POST, 1),
        ("connect-failure", Method::GET, 3),
        ("unavailable", Method::POST, 3),
    ] {
        let server = Server::start(|_| async {
            let mut answer = status(200);
            answer.headers_mut().insert("grpc-status", "14".parse().unwrap());
            answer
        })
        .await;
        let mesh = Mesh::new(&routed(&server, "")).await;
        let request = Request::builder().method(&method).uri("http://reviews/");
        let mut request = request.body(RequestBody::empty()).unwrap();
        let asked = CallPolicy::default().retry_on(RetryOn::parse(added).unwrap());
        request.extensions_mut().insert(asked);
        let response = mesh.client.send(request).await.unwrap();
        assert_eq!(response.body().call_info().attempts, attempts, "{method}, {added}");
    }
}

#[tokio::test]
async fn a_call_may_ask_for_other_times_than_its_route_has() {
    let server = Server::start(|_| std::future::pending()).await;
    let mesh = Mesh::new(&routed(&server, "timeout: 3600s")).await;
    for (headers, attempts, said) in [
        (vec![("x-envoy-upstream-rq-timeout-ms", "50")], 1, "its timeout of 50ms"),
        (
            vec![("x-envoy-upstream-rq-per-try-timeout-ms", "50"), ("x-envoy-retry-on", "5xx")],
            3,
            "perTryTimeout of 50ms",
        ),
        (
            vec![("x-envoy-upstream-rq-timeout-ms", "50"), ("x-envoy-upstream-rq-per-try-timeout-ms", "60")],
            1,
            "its timeout of 50ms",
        ),
    ] {
        let mut request = Request::get("http://reviews/").body(RequestBody::empty()).unwrap();
        for (name, value) in &headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let error = obeying(&mesh).send(request).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, attempts), "{headers:?}: {error}");
        assert!(error.to_string().contains(said), "{headers:?}: {error}");
    }
}

#[tokio::test]
async fn a_call_may_do_without_the_timeout_of_its_route_but_not_without_its_callers_deadline() {
    let (server, gate) = gated("ok").await;
    let mesh = Mesh::new(&routed(&server, "timeout: 50ms")).await;
    let patient = || {
        let mut request = Request::get("http://reviews/slow").body(RequestBody::empty()).unwrap();
        request.extensions_mut().insert(CallPolicy::default().timeout(Duration::ZERO));
        mesh.client.send(request)
    };
    let deadline = mesh.workload.clock().now() + Duration::from_millis(50);
    let error = mesh_runtime::Context::new(Some(deadline), None).scope(patient()).await.unwrap_err();
    assert!(error.to_string().contains("deadline of the caller"), "{error}");
    let (answer, ()) = tokio::join!(patient(), async {
        pass(Duration::from_secs(3600)).await;
        gate.add_permits(2);
    });
    assert_eq!(answer.unwrap().status(), 200);
}

fn obeying(mesh: &Mesh) -> MeshClient {
    MeshClient::builder(&mesh.workload).obey_request_headers().build()
}

fn routed(server: &Server, fields: &str) -> String {
    let fields = if fields.is_empty() { String::new() } else { format!("{fields}, ") };
    let route = format!("- {{{fields}route: [{{destination: {{host: reviews}}}}]}}");
    service("reviews", &[(server.address, "v1")]) + &routes("reviews", &route)
}

async fn failing() -> (Server, Arc<Mutex<Vec<HeaderMap>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = Server::start({
        let seen = Arc::clone(&seen);
        move |request: Request<Incoming>| {
            seen.lock().unwrap().push(request.headers().clone());
            async { status(503) }
        }
    });
    (server.await, seen)
}
