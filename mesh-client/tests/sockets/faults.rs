//! Faults that a route injects, and copies of requests that it sends elsewhere.

use crate::support::*;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use mesh_client::ErrorKind;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::Instant;

// spec: envoy fault_filter; istio networking/v1alpha3/virtual_service.proto HTTPFaultInjection
#[tokio::test]
async fn an_abort_is_answered_as_envoy_answers_it_and_reaches_nobody() {
    let (server, reached) = counting().await;
    let mesh = mesh(&server, "{abort: {httpStatus: 418, percentage: {value: 100}}}").await;
    let error = mesh.get("http://reviews/").await.unwrap_err();
    assert_eq!((error.kind(), error.flags().to_string().as_str()), (ErrorKind::Fault, "FI"));
    assert_eq!((error.attempts(), error.may_have_been_sent()), (0, false));
    let response = error.into_response();
    assert_eq!((response.status().as_u16(), &response.body()[..]), (418, &b"fault filter abort"[..]));
    assert_eq!(reached.load(SeqCst), 0);
}

#[tokio::test]
async fn an_abort_with_a_status_of_grpc_is_an_answer_of_grpc() {
    let (server, _) = counting().await;
    let mesh = mesh(&server, "{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}").await;
    let response = mesh.get("http://reviews/").await.unwrap_err().into_response();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "14");
}

#[tokio::test]
async fn a_fault_without_a_percentage_never_happens() {
    let (server, _) = counting().await;
    let mesh = mesh(&server, "{abort: {httpStatus: 500}, delay: {fixedDelay: 60s}}").await;
    assert_eq!(mesh.text("http://reviews/").await, "ok");
}

#[tokio::test]
async fn the_timeout_of_the_route_begins_when_an_injected_delay_is_over() {
    let (server, _) = counting().await;
    let mesh = mesh(&server, "{delay: {fixedDelay: 300ms, percentage: {value: 100}}}, timeout: 200ms").await;
    let started = Instant::now();
    let response = mesh.get("http://reviews/").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(response.body().call_info().flags.to_string(), "DI");
}

#[tokio::test]
async fn an_injected_delay_is_cut_at_the_deadline_of_the_caller() {
    let (server, reached) = counting().await;
    let mesh = mesh(&server, "{delay: {fixedDelay: 60s, percentage: {value: 100}}}").await;
    let deadline = mesh.workload.clock().now() + Duration::from_millis(100);
    let context = mesh_runtime::Context::new(Some(deadline), None);
    let error = context.scope(mesh.get("http://reviews/")).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!((error.flags().to_string().as_str(), reached.load(SeqCst)), ("UT,DI", 0));
}

#[tokio::test]
async fn a_mirror_gets_the_same_request_and_its_answer_goes_nowhere() {
    let (server, _) = counting().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let copies = Arc::clone(&seen);
    let mirror = Server::start(move |request| {
        let copies = Arc::clone(&copies);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let marked = head.headers.get("x-mark").cloned();
            copies.lock().unwrap().push((head.method, head.uri.path().to_owned(), marked, body));
            status(500)
        }
    })
    .await;
    let mesh = mirroring(&server, &mirror).await;
    let request = Request::post("http://reviews/orders").header("x-mark", "7");
    let answer = mesh.client.send(request.body(Full::new(Bytes::from("order"))).unwrap()).await.unwrap();
    assert_eq!(answer.into_body().text().await.unwrap(), "ok");
    until("the copy to arrive", || !seen.lock().unwrap().is_empty()).await;
    let (method, path, marked, body) = seen.lock().unwrap().remove(0);
    assert_eq!((method.as_str(), path.as_str(), &body[..]), ("POST", "/orders", &b"order"[..]));
    assert_eq!(marked.unwrap(), "7");
}

#[tokio::test]
async fn a_mirror_that_never_answers_holds_up_nobody() {
    let (server, _) = counting().await;
    let mirror = Server::start(|_| std::future::pending()).await;
    let mesh = mirroring(&server, &mirror).await;
    for _ in 0..20 {
        assert_eq!(mesh.text("http://reviews/").await, "ok");
    }
}

async fn counting() -> (Server, Arc<AtomicUsize>) {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    let server = Server::start(move |request| {
        count.fetch_add(1, SeqCst);
        async move {
            let _ = request.into_body().collect().await;
            answer("ok")
        }
    });
    (server.await, reached)
}

async fn mesh(server: &Server, fault: &str) -> Mesh {
    let route = format!("- {{fault: {fault}, route: [{{destination: {{host: reviews}}}}]}}");
    Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &routes("reviews", &route))).await
}

async fn mirroring(server: &Server, mirror: &Server) -> Mesh {
    let route = "- {mirror: {host: shadow}, route: [{destination: {host: reviews}}]}";
    let services =
        service("reviews", &[(server.address, "v1")]) + &service("shadow", &[(mirror.address, "v1")]);
    Mesh::new(&(services + &routes("reviews", route))).await
}
