//! How connections end under requests: which requests are made again, and which must not be.

use crate::{raw_http2::*, support::*};
use bytes::Bytes;
use http::{Method, Request, Response};
use mesh_client::{Error, ErrorKind, MeshClient, Protocol, RequestBody, ResponseBody};
use std::time::Duration;
use tokio::{net::TcpListener, task::JoinHandle};

/// A GOAWAY names the last stream that may have been handled; those beyond it surely were not.
// spec: rfc9113 6.8
#[tokio::test]
async fn a_request_beyond_the_last_one_of_a_goaway_is_made_again_whatever_its_method_and_the_reason() {
    for reason in [NO_ERROR, INTERNAL_ERROR, ENHANCE_YOUR_CALM] {
        for method in [Method::GET, Method::POST] {
            let (listener, mesh) = peer().await;
            let call = call(&mesh, &method);
            let mut first = Frames::accept(&listener, &[]).await;
            first.request().await;
            first.go_away(0, reason).await;
            let mut second = Frames::accept(&listener, &[]).await;
            let stream = second.request().await;
            second.answer(stream).await;
            let response = call.await.unwrap().unwrap();
            assert_eq!(response.body().call_info().attempts, 2, "{method} {reason}");
        }
    }
}

#[tokio::test]
async fn a_request_that_a_goaway_leaves_is_finished_while_the_one_beyond_it_is_made_again() {
    let (listener, mesh) = peer().await;
    let one = call(&mesh, &Method::POST);
    let mut first = Frames::accept(&listener, &[]).await;
    let handled = first.request().await;
    let two = call(&mesh, &Method::POST);
    assert!(first.request().await > handled);
    first.go_away(handled, NO_ERROR).await;
    let mut second = Frames::accept(&listener, &[]).await;
    let stream = second.request().await;
    second.answer(stream).await;
    assert_eq!(two.await.unwrap().unwrap().body().call_info().attempts, 2);
    // A third one is not sent on a connection that ends.
    let three = call(&mesh, &Method::POST);
    let stream = second.request().await;
    second.answer(stream).await;
    assert_eq!(three.await.unwrap().unwrap().body().call_info().attempts, 1);
    first.answer(handled).await;
    assert_eq!(one.await.unwrap().unwrap().body().call_info().attempts, 1);
}

#[tokio::test]
async fn a_request_that_a_goaway_leaves_and_nobody_answers_may_have_been_executed() {
    for method in [Method::GET, Method::POST] {
        let (listener, mesh) = peer().await;
        let call = call(&mesh, &method);
        let mut first = Frames::accept(&listener, &[]).await;
        let stream = first.request().await;
        first.go_away(stream, NO_ERROR).await;
        drop(first);
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Reset, 1), "{method}: {error}");
        assert!(error.may_have_been_sent());
    }
}

/// CVE-2021-32780: a proxy crashed on it.
#[tokio::test]
async fn no_request_is_lost_to_a_peer_that_allows_no_streams_and_goes_away() {
    for (first, then) in [(vec![NO_STREAMS], vec![]), (vec![], vec![NO_STREAMS])] {
        for method in [Method::GET, Method::POST] {
            let (listener, mesh) = peer().await;
            let calls = [call(&mesh, &method), call(&mesh, &method)];
            let mut closing = Frames::accept(&listener, &first).await;
            closing.settings(&then).await;
            closing.go_away(0, NO_ERROR).await;
            let served = tokio::spawn(async move {
                loop {
                    let mut open = Frames::accept(&listener, &[]).await;
                    tokio::spawn(async move {
                        while let Some(request) = open.next(HEADERS).await {
                            open.answer(request.stream).await;
                        }
                    });
                }
            });
            for call in calls {
                assert_eq!(call.await.unwrap().unwrap().status(), 200, "{method} {first:?} {then:?}");
            }
            served.abort();
        }
    }
}

// spec: rfc9113 8.7: REFUSED_STREAM says that nothing was done
#[tokio::test]
async fn a_refused_stream_is_made_again_and_one_that_is_reset_otherwise_is_not() {
    for (reason, attempts) in [(REFUSED_STREAM, 2), (CANCEL, 1), (INTERNAL_ERROR, 1)] {
        let (listener, mesh) = peer().await;
        let call = call(&mesh, &Method::POST);
        let mut peer = Frames::accept(&listener, &[]).await;
        let stream = peer.request().await;
        peer.reset(stream, reason).await;
        if attempts == 2 {
            let stream = peer.request().await;
            peer.answer(stream).await;
        }
        match call.await.unwrap() {
            Ok(response) => assert_eq!(response.body().call_info().attempts, attempts, "{reason}"),
            Err(error) => {
                assert_eq!((error.kind(), error.attempts()), (ErrorKind::Reset, attempts), "{error}");
                assert!(error.may_have_been_sent());
            }
        }
    }
}

/// The peer takes the request and is silent from then on, as one does whose machine has lost its power. By default it is
/// pinged after 10 s and given up after 20.
#[tokio::test]
async fn a_peer_that_vanished_is_found_and_an_idempotent_request_to_it_is_made_again() {
    for method in [Method::GET, Method::POST] {
        let (listener, mesh) = peer().await;
        let call = call(&mesh, &method);
        let mut vanished = Frames::accept(&listener, &[]).await;
        vanished.request().await;
        pass(Duration::from_secs(10)).await;
        vanished.next(PING).await.unwrap();
        pass(Duration::from_secs(10)).await;
        if method == Method::GET {
            let mut other = Frames::accept(&listener, &[]).await;
            let stream = other.request().await;
            other.answer(stream).await;
        }
        match call.await.unwrap() {
            Ok(response) => {
                assert_eq!(
                    (method, response.body().call_info().attempts, response.status().as_u16()),
                    (Method::GET, 2, 200)
                );
            }
            Err(error) => {
                assert_eq!((error.kind(), error.attempts()), (ErrorKind::Reset, 1), "{method}: {error}");
                assert!(error.to_string().contains("gone without a word"), "{error}");
                assert!(error.may_have_been_sent());
                assert_eq!(error.flags().to_string(), "UC");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_closes_its_connection_after_an_answer_loses_no_request() {
    let server = Server::start(|_| async {
        let mut answer = answer("ok");
        answer.headers_mut().insert("connection", "close".parse().unwrap());
        answer
    })
    .await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    for _ in 0..10 {
        let response = mesh.client.send(post("x")).await.unwrap();
        assert_eq!(response.body().call_info().attempts, 1);
        assert_eq!(response.into_body().text().await.unwrap(), "ok");
    }
    assert_eq!(server.accepted(), 10);
}

const NO_STREAMS: (u16, u32) = (MAX_CONCURRENT_STREAMS, 0);

/// A peer that the test plays, and a mesh that speaks HTTP/2 to it.
async fn peer() -> (TcpListener, Mesh) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = service("reviews", &[(listener.local_addr().unwrap(), "v1")]);
    (listener, Mesh::new(&yaml).await.speaking(Protocol::Http2))
}

fn call(mesh: &Mesh, method: &Method) -> JoinHandle<Result<Response<ResponseBody>, Error>> {
    let client: MeshClient = mesh.client.clone();
    let body = if method == Method::POST {
        RequestBody::from(Bytes::from_static(b"x"))
    } else {
        RequestBody::empty()
    };
    let request = Request::builder().method(method).uri("http://reviews/").body(body).unwrap();
    tokio::spawn(async move { client.send(request).await })
}
