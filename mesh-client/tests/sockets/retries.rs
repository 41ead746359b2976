//! Which failures are made good, and that what is sent again is what was sent.

use crate::support::*;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use mesh_client::{ErrorKind, Protocol, RequestBody};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_avoided_and_the_call_succeeds() {
    let server = Server::start(|_| async { answer("ok") }).await;
    let dead = unused_address().await;
    let mesh = Mesh::new(&service("reviews", &[(dead, "v1"), (server.address, "v1")])).await;
    let mut retried = 0;
    for _ in 0..20 {
        let response = mesh.get("http://reviews/").await.unwrap();
        retried += response.body().call_info().attempts - 1;
        assert_eq!(response.into_body().text().await.unwrap(), "ok");
    }
    assert!(retried > 0, "no call met the dead endpoint");
}

/// Invariant 4: a retried body is byte-identical.
#[tokio::test]
async fn a_streamed_body_is_sent_again_byte_for_byte() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for read_first in [false, true] {
            let (server, seen) = failing_first(read_first, 1, || status(503)).await;
            let mesh = Mesh::new(&retrying(&server, "retryOn: '503'")).await.speaking(protocol);
            let chunks = (0..50_u8)
                .map(|n| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![n; 1 + usize::from(n) * 40]))));
            let body = StreamBody::new(futures_util::stream::iter(chunks).then(|chunk| async {
                tokio::task::yield_now().await;
                chunk
            }));
            let request = Request::put("http://reviews/").body(body).unwrap();
            let response = mesh.client.send(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let expected: Vec<u8> = (0..50_u8).flat_map(|n| vec![n; 1 + usize::from(n) * 40]).collect();
            let seen = seen.lock().unwrap();
            assert_eq!(seen.last().unwrap(), &expected, "{protocol:?}, first attempt read: {read_first}");
        }
    }
}

/// Invariant 4, the other half: what cannot be repeated byte for byte is not.
#[tokio::test]
async fn a_body_over_the_cap_streams_on_and_is_not_sent_again() {
    let (server, seen) = failing_first(true, 1, || status(503)).await;
    let mesh = Mesh::new(&retrying(&server, "retryOn: '503'")).await;
    let chunks = (0..40_u8).map(|n| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![n; 64 << 10]))));
    let body = StreamBody::new(futures_util::stream::iter(chunks));
    let response = mesh.client.send(Request::put("http://reviews/").body(body).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.body().call_info().attempts), (503, 1));
    assert_eq!(seen.lock().unwrap()[0].len(), 40 * (64 << 10));
}

/// Invariant 5, over a socket: the connection ends after the request has arrived.
#[tokio::test]
async fn what_may_have_been_executed_is_repeated_only_if_idempotent_and_named_or_asked_for() {
    // Rows: method, retryOn, whether the user wrote it, attempts.
    for (method, on, attempts) in [
        (Method::POST, "", 1),
        (Method::GET, "", 1),
        (Method::POST, "retryOn: reset", 3),
        (Method::GET, "retryOn: reset", 3),
        (Method::POST, "retryOn: connect-failure", 1),
    ] {
        let (server, seen) = failing_first(true, usize::MAX, break_off).await;
        let mesh = Mesh::new(&retrying(&server, on)).await;
        let request = Request::builder()
            .method(method.clone())
            .uri("http://reviews/")
            .body(RequestBody::from(Bytes::from_static(b"x")))
            .unwrap();
        let error = mesh.client.send(request).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Reset, attempts), "{method} {on}: {error}");
        assert!(error.may_have_been_sent());
        assert_eq!(seen.lock().unwrap().len(), attempts as usize, "{method} {on}");
    }
}

// spec: envoy configuration/observability/access_log/usage#response-flags, URX: last upstream answer unchanged
#[tokio::test]
async fn the_last_answer_stands_when_retries_are_used_up() {
    let (server, seen) = failing_first(true, usize::MAX, || status(503)).await;
    let mesh = Mesh::new(&retrying(&server, "retryOn: '503'")).await;
    let response = mesh.client.send(post("x")).await.unwrap();
    assert_eq!(response.status(), 503);
    let info = response.body().call_info();
    assert_eq!((info.attempts, info.flags.to_string().as_str()), (3, "URX"));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_503_is_not_retried_by_default() {
    let (server, seen) = failing_first(true, usize::MAX, || status(503)).await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    let response = mesh.get("http://reviews/").await.unwrap();
    assert_eq!((response.status().as_u16(), response.body().call_info().attempts), (503, 1));
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn attempts_are_numbered_for_the_server() {
    let numbers = Arc::new(Mutex::new(Vec::new()));
    let server = Server::start({
        let numbers = Arc::clone(&numbers);
        move |request: Request<Incoming>| {
            numbers
                .lock()
                .unwrap()
                .push(request.headers()["x-envoy-attempt-count"].to_str().unwrap().to_owned());
            async { status(503) }
        }
    })
    .await;
    let mesh = Mesh::new(&retrying(&server, "retryOn: '503', attempts: 4")).await;
    let response = mesh.get("http://reviews/").await.unwrap();
    // Envoy's include_attempt_count_in_response, which Istio leaves off.
    assert!(!response.headers().contains_key("x-envoy-attempt-count"));
    assert_eq!(*numbers.lock().unwrap(), ["1", "2", "3", "4", "5"]);
}

/// One that comes after a body comes too late: the answer is with the caller by then.
#[tokio::test]
async fn a_grpc_status_is_retried_where_the_answer_has_no_more_than_a_head() {
    for (on, code, headers_only, attempts) in [
        ("", "14", true, 3),
        ("", "1", true, 3),
        ("", "8", true, 1),
        ("retryOn: resource-exhausted", "8", true, 3),
        ("retryOn: deadline-exceeded", "4", true, 3),
        ("retryOn: internal", "13", true, 3),
        ("retryOn: internal", "2", true, 1),
        ("retryOn: 'unavailable,cancelled'", "14", false, 1),
    ] {
        let server = Server::start(move |_| async move {
            if headers_only {
                return with(answer(""), "grpc-status", code);
            }
            let trailers =
                http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
            let frames = [Ok(Frame::data(Bytes::from_static(b"x"))), Ok(Frame::trailers(trailers))];
            http::Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
        })
        .await;
        let mesh = Mesh::new(&retrying(&server, on)).await.speaking(Protocol::Http2);
        // A method that is idempotent: by default nothing that may have been executed is repeated.
        let request = Request::put("http://reviews/").header("content-type", "application/grpc");
        let response = mesh.client.send(request.body(RequestBody::empty()).unwrap()).await.unwrap();
        assert_eq!(
            response.body().call_info().attempts,
            attempts,
            "{on} {code}, in the head: {headers_only}"
        );
    }
}

#[tokio::test]
async fn futile_retries_stop_at_the_budget() {
    let (server, seen) = failing_first(true, usize::MAX, || status(503)).await;
    let mesh = Mesh::new(&retrying(&server, "retryOn: '503'")).await;
    for _ in 0..100 {
        let _ = mesh.get("http://reviews/").await.unwrap();
    }
    // Ten tokens to begin with, and a fifth of a token for each request.
    let requests = seen.lock().unwrap().len();
    assert!((125..=131).contains(&requests), "{requests} requests for 100 calls");
}

/// By count: a wait that cannot be kept to is no retry, over HTTP as over gRPC.
#[tokio::test]
async fn a_server_that_asks_for_more_time_than_there_is_gets_no_retry_and_its_answer_stands() {
    for (failure, timeout, attempts) in [
        (asking as fn() -> Answer, "", 3),
        (asking_for_30_s, "timeout: 20s", 1),
        (asking_for_an_hour, "", 1),
        (forbidding, "", 1),
    ] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let (server, seen) = failing_first(true, usize::MAX, failure).await;
            let route = format!(
                "- route: [{{destination: {{host: reviews}}}}]\n    \
                 retries: {{attempts: 2, retryOn: '503,unavailable'}}\n    {timeout}"
            );
            let yaml = service("reviews", &[(server.address, "v1")]) + &routes("reviews", &route);
            let mesh = Mesh::new(&yaml).await.speaking(protocol);
            let response = mesh.client.send(post("x")).await.unwrap();
            assert_eq!(
                response.body().call_info().attempts,
                attempts,
                "{protocol:?}, {:?}",
                response.headers()
            );
            assert_eq!(seen.lock().unwrap().len(), attempts as usize);
        }
    }
}

#[tokio::test]
async fn a_failing_request_body_ends_the_call_and_blames_the_caller() {
    let (server, _) = failing_first(true, 0, || status(503)).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await.speaking(protocol);
        let chunks =
            [Ok(Frame::data(Bytes::from_static(b"begin"))), Err(std::io::Error::other("disk on fire"))];
        let body = StreamBody::new(futures_util::stream::iter(chunks));
        let error = mesh.client.send(Request::post("http://reviews/").body(body).unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Body, 1), "{protocol:?}: {error}");
        assert!(error.to_string().contains("body failed"), "{error}");
    }
}

fn asking() -> Answer {
    with(status(503), "retry-after", "0")
}

fn asking_for_30_s() -> Answer {
    with(status(503), "retry-after", "30")
}

fn asking_for_an_hour() -> Answer {
    let an_hour_later = "Sun, 06 Nov 1994 09:49:37 GMT";
    with(with(status(503), "date", "Sun, 06 Nov 1994 08:49:37 GMT"), "retry-after", an_hour_later)
}

/// An answer of gRPC that is trailers only.
fn forbidding() -> Answer {
    with(with(status(200), "grpc-status", "14"), "grpc-retry-pushback-ms", "-1")
}

fn with(mut answer: Answer, name: &'static str, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, value.parse().unwrap());
    answer
}

fn retrying(server: &Server, retries: &str) -> String {
    let attempts = if retries.contains("attempts") { "" } else { "attempts: 2, " };
    let route =
        format!("- route: [{{destination: {{host: reviews}}}}]\n    retries: {{{attempts}{retries}}}");
    service("reviews", &[(server.address, "v1")]) + &routes("reviews", &route)
}

/// A server that fails the first `failures` requests, and the bodies that it read.
async fn failing_first(
    read_first: bool,
    failures: usize,
    failure: fn() -> Answer,
) -> (Server, Arc<Mutex<Vec<Vec<u8>>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let count = Arc::new(AtomicUsize::new(0));
    let server = Server::start({
        let seen = Arc::clone(&seen);
        move |request: Request<Incoming>| {
            let fails = count.fetch_add(1, SeqCst) < failures;
            let seen = Arc::clone(&seen);
            async move {
                if read_first || !fails {
                    // A body that breaks off never arrives.
                    let Ok(body) = request.into_body().collect().await else { return status(400) };
                    seen.lock().unwrap().push(body.to_bytes().to_vec());
                }
                if fails { failure() } else { answer("ok") }
            }
        }
    })
    .await;
    (server, seen)
}
