//! What ends a call that takes too long.

use crate::support::*;
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use mesh_client::{ErrorKind, Protocol, RequestBody};
use mesh_runtime::Context;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::mpsc;

#[tokio::test]
async fn a_head_that_does_not_come_in_time_ends_the_call() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let server = Server::start(never).await;
        let mesh = Mesh::new(&timing(&server, "timeout: 50ms")).await.speaking(protocol);
        let error = mesh.get("http://reviews/").await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, 1));
        assert_eq!(error.flags().to_string(), "UT");
        assert!(error.is_timeout() && error.may_have_been_sent());
        assert!(error.to_string().contains("50ms"), "{error}");
        assert_eq!(error.endpoint(), Some(server.address.to_string().as_str()));
        let response = error.into_response();
        assert_eq!(
            (response.status().as_u16(), response.body().as_ref()),
            (504, &b"upstream request timeout"[..])
        );
        assert_eq!(mesh.endpoint_state().in_flight(), 0);
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_in_time_ends_in_an_error() {
    let server = Server::start(|_| async {
        let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"begin")))]);
        let body = StreamBody::new(futures_util::StreamExt::chain(first, futures_util::stream::pending()));
        http::Response::new(body.boxed_unsync())
    })
    .await;
    let mesh = Mesh::new(&timing(&server, "timeout: 100ms")).await;
    let mut body = mesh.get("http://reviews/").await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begin");
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(body.call_info().flags.to_string(), "UT");
}

#[tokio::test]
async fn the_deadline_of_the_caller_ends_a_call_without_a_timeout() {
    let server = Server::start(never).await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    let deadline = mesh.workload.clock().now() + Duration::from_millis(50);
    let error = Context::new(Some(deadline), None).scope(mesh.get("http://reviews/")).await.unwrap_err();
    assert!(error.is_timeout());
    assert!(error.to_string().contains("deadline of the caller"), "{error}");
}

#[tokio::test]
async fn a_call_after_the_deadline_of_the_caller_is_not_sent() {
    let server = Server::start(never).await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    let now = mesh.workload.clock().now();
    let error = Context::new(Some(now), None).scope(mesh.get("http://reviews/")).await.unwrap_err();
    assert!(error.is_timeout() && !error.may_have_been_sent());
    assert_eq!((error.attempts(), server.accepted()), (0, 0));
}

#[tokio::test]
async fn a_grpc_timeout_is_honoured_for_grpc_only() {
    let server = Server::start(|_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        answer("late")
    })
    .await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    for (content_type, ends) in [("application/grpc+proto", true), ("application/json", false)] {
        let request = Request::post("http://reviews/")
            .header("content-type", content_type)
            .header("grpc-timeout", "50m")
            .body(RequestBody::empty())
            .unwrap();
        let answer = mesh.client.send(request).await;
        assert_eq!(answer.is_err_and(|error| error.is_timeout()), ends, "{content_type}");
    }
}

/// Rows: the route, what the request brings, whether it is gRPC, and the most that the endpoint is told it has, in ms.
// spec: envoy configuration/http/http_filters/router_filter#x-envoy-expected-rq-timeout-ms
#[tokio::test]
async fn an_endpoint_is_told_how_long_it_has_the_shorter_of_try_call_and_caller() {
    let both = "timeout: 5s\n    retries: {attempts: 2, perTryTimeout: 2s}";
    for (fields, brought, is_grpc, most) in [
        ("timeout: 5s", "", false, Some(5_000)),
        (both, "", false, Some(2_000)),
        (both, "", true, Some(2_000)),
        ("timeout: 5s", "3S", true, Some(3_000)),
        ("timeout: 5s", "9S", true, Some(5_000)),
        ("timeout: 5s", "3S", false, Some(5_000)),
        ("timeout: 0s", "3S", true, Some(3_000)),
        ("timeout: 0s", "", true, None),
    ] {
        let server = Server::start(|request: Request<Incoming>| async move {
            let told = |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
            answer(format!("{} {}", told("x-envoy-expected-rq-timeout-ms"), told("grpc-timeout")))
        })
        .await;
        let mesh = Mesh::new(&timing(&server, fields)).await;
        let mut request = Request::post("http://reviews/").body(RequestBody::empty()).unwrap();
        if is_grpc {
            request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        }
        if !brought.is_empty() {
            request.headers_mut().insert("grpc-timeout", brought.parse().unwrap());
        }
        let text = mesh.client.send(request).await.unwrap().into_body().text().await.unwrap();
        let (expected, grpc) = text.split_once(' ').unwrap();
        let row = format!("{fields} {brought} {is_grpc}: {text}");
        let Some(most) = most else {
            assert_eq!(text, " ", "{row}");
            continue;
        };
        // Half of it is for a machine that has other things to do.
        let told = |text: &str| (most / 2..=most).contains(&text.parse::<u32>().unwrap());
        assert!(told(expected), "{row}");
        match is_grpc {
            true => assert!(told(grpc.strip_suffix('m').unwrap()), "{row}"),
            false => assert_eq!(grpc, brought, "{row}"),
        }
    }
}

#[tokio::test]
async fn the_time_of_an_upload_does_not_count() {
    let server = Server::start(|request: Request<Incoming>| async move {
        answer(request.into_body().collect().await.unwrap().to_bytes().len().to_string())
    })
    .await;
    // With and without retries: the body passes through other hands.
    for retries in ["attempts: 0", "attempts: 2"] {
        let mesh = Mesh::new(&timing(&server, &format!("timeout: 200ms\n    retries: {{{retries}}}"))).await;
        let (chunks, rest) = mpsc::channel(1);
        let body = StreamBody::new(futures_util::stream::unfold(rest, |mut rest| async {
            let chunk: Bytes = rest.recv().await?;
            Some((Ok::<_, std::io::Error>(Frame::data(chunk)), rest))
        }));
        let call = tokio::spawn({
            let client = mesh.client.clone();
            async move { client.send(Request::post("http://reviews/").body(body).unwrap()).await }
        });
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            chunks.send(Bytes::from_static(b"0123456789")).await.unwrap();
        }
        drop(chunks);
        let response = call.await.unwrap().unwrap();
        assert_eq!(response.into_body().text().await.unwrap(), "50", "{retries}");
    }
}

#[tokio::test]
async fn a_per_try_timeout_ends_a_try_and_a_retry_may_follow() {
    for (on, attempts) in [("retryOn: 5xx, ", 3), ("", 1)] {
        let tries = Arc::new(AtomicUsize::new(0));
        let server = Server::start({
            let tries = Arc::clone(&tries);
            move |request| {
                tries.fetch_add(1, SeqCst);
                never(request)
            }
        })
        .await;
        let retries = format!("retries: {{attempts: 2, {on}perTryTimeout: 50ms}}");
        let mesh = Mesh::new(&timing(&server, &retries)).await;
        let error = mesh.get("http://reviews/").await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, attempts), "{on}");
        assert!(error.to_string().contains("perTryTimeout of 50ms"), "{error}");
        assert_eq!(tries.load(SeqCst), attempts as usize);
    }
}

fn timing(server: &Server, fields: &str) -> String {
    let route = format!("- route: [{{destination: {{host: reviews}}}}]\n    {fields}");
    service("reviews", &[(server.address, "v1")]) + &routes("reviews", &route)
}

async fn never(_: Request<Incoming>) -> Answer {
    std::future::pending().await
}
