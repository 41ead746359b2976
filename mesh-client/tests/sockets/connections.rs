//! How connections are made, shared, and given up.

use crate::support::*;
use futures_util::FutureExt;
use http::Request;
use hyper::body::Incoming;
use mesh_client::{ErrorKind, Protocol};
use mesh_runtime::Settings;
use std::{net::SocketAddr, sync::Arc};
use tokio::{io::AsyncReadExt, net::TcpListener, sync::Semaphore};

#[tokio::test]
async fn calls_one_after_another_share_one_connection() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let server = Server::start(|_| async { answer("ok") }).await;
        let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await.speaking(protocol);
        for _ in 0..50 {
            assert_eq!(mesh.text("http://reviews/").await, "ok");
        }
        assert_eq!(server.accepted(), 1, "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_one_after_another_share_one_connection_over_threads() {
    let server = Server::start(|_| async { answer("ok") }).await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    for _ in 0..300 {
        assert_eq!(mesh.text("http://reviews/").await, "ok");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn calls_at_once_wait_for_one_http2_connection_and_share_it() {
    let ca = Ca::new();
    let server = Server::start_tls(ca.store("reviews"), |_| async { answer("ok") }).await;
    let mesh = Mesh::new(&meshed("reviews", &[(server.address, "v1")])).await;
    mesh.identify(&ca, "client");
    let calls: Vec<_> = (0..50).map(|_| mesh.text("http://reviews/")).collect();
    assert!(futures_util::future::join_all(calls).await.iter().all(|text| text == "ok"));
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn beyond_a_hundred_streams_another_http2_connection_is_opened() {
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
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await.speaking(Protocol::Http2);
    let calls: Vec<_> = (0..150)
        .map(|_| {
            let client = mesh.client.clone();
            tokio::spawn(async move {
                client.get("http://reviews/").await.unwrap().into_body().text().await.unwrap()
            })
        })
        .collect();
    until("a second connection", || server.accepted() == 2).await;
    gate.add_permits(150);
    for call in calls {
        assert_eq!(call.await.unwrap(), "ok");
    }
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn calls_at_once_over_http1_each_get_a_connection() {
    let ca = Ca::new();
    let server = Server::start_tls(ca.store("reviews"), |_| async {
        tokio::task::yield_now().await;
        answer("ok")
    })
    .await;
    let mesh = Mesh::new(&meshed("reviews", &[(server.address, "v1")])).await.speaking(Protocol::Http1);
    mesh.identify(&ca, "client");
    let calls: Vec<_> = (0..10).map(|_| mesh.text("http://reviews/")).collect();
    assert!(futures_util::future::join_all(calls).await.iter().all(|text| text == "ok"));
    assert!((2..=10).contains(&server.accepted()), "{}", server.accepted());
}

#[tokio::test]
async fn connections_closed_by_a_server_that_comes_back_are_replaced_without_a_failed_call() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let server = Server::start(|_| async { answer("old") }).await;
        let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await.speaking(protocol);
        let calls: Vec<_> = (0..5).map(|_| mesh.text("http://reviews/")).collect();
        assert!(futures_util::future::join_all(calls).await.iter().all(|text| text == "old"));
        let address = server.stop().await;
        let server = Server::start_at(address, |_| async { answer("new") }).await;
        for _ in 0..10 {
            assert_eq!(mesh.text("http://reviews/").await, "new", "{protocol:?}");
        }
        drop(server);
    }
}

/// The peer closes an idle connection in the moment in which it is used again.
#[tokio::test]
async fn an_idempotent_call_survives_a_connection_that_is_closed_under_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = tcp.read(&mut buffer).await.unwrap();
                tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                // Reads the next request, and ends without a word.
                let _ = tcp.read(&mut buffer).await;
            });
        }
    });
    let mesh = Mesh::new(&service("reviews", &[(address, "v1")])).await;
    for _ in 0..5 {
        assert_eq!(mesh.text("http://reviews/").await, "ok");
    }
    // Not so a POST: it may have been executed.
    let error = mesh.client.send(post("x")).await.err();
    assert!(error.is_none_or(|error| error.kind() == ErrorKind::Reset && error.may_have_been_sent()));
}

/// A connection that was made for a call that went away before it was there.
#[tokio::test]
async fn an_idempotent_call_survives_the_end_of_an_idle_connection_that_never_carried_a_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"] {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = tcp.read(&mut [0; 4096]).await.unwrap();
                tcp.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    let outlier = policy("reviews", "{outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}");
    let mesh = Mesh::new(&(service("reviews", &[(address, "v1")]) + &outlier)).await;
    assert!(mesh.get("http://reviews/").now_or_never().is_none(), "it waits for its connection");
    until("the connection to be idle", || format!("{:?}", mesh.client).contains("idle: 1")).await;
    assert_eq!(mesh.text("http://reviews/").await, "ok");
    assert_eq!(mesh.endpoint_state().ejected_until(mesh.workload.clock().now()), None);
}

#[tokio::test]
async fn a_connection_carries_as_many_requests_as_the_policy_allows() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let server = Server::start(|_| async { answer("ok") }).await;
        let limit = policy("reviews", "{connectionPool: {http: {maxRequestsPerConnection: 3}}}");
        let mesh =
            Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &limit)).await.speaking(protocol);
        for _ in 0..9 {
            assert_eq!(mesh.text("http://reviews/").await, "ok");
        }
        assert_eq!(server.accepted(), 3, "{protocol:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let server = Server::start(|_| async { answer("ok") }).await;
        let idle = policy("reviews", "{connectionPool: {http: {idleTimeout: 100ms}}}");
        let mesh =
            Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &idle)).await.speaking(protocol);
        assert_eq!(mesh.text("http://reviews/").await, "ok");
        assert_eq!(server.open(), 1);
        until("the connection to be closed", || server.open() == 0).await;
    }
}

#[test]
fn an_idle_connection_is_closed_after_its_time_though_the_runtime_of_the_first_call_is_gone() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let background =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (server, mesh) = background.block_on(async {
        let server = Server::start(|_| async { answer("ok") }).await;
        let idle = policy("reviews", "{connectionPool: {http: {idleTimeout: 100ms}}}");
        let mesh = Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &idle)).await;
        (server, mesh)
    });
    for _ in 0..2 {
        runtime().block_on(async { assert_eq!(mesh.text("http://reviews/").await, "ok") });
    }
    runtime().block_on(async {
        assert_eq!(mesh.text("http://reviews/").await, "ok");
        until("the connection to be closed", || server.open() == 0).await;
    });
}

#[tokio::test]
async fn a_peer_with_another_identity_gets_no_request() {
    let ca = Ca::new();
    let server = Server::start_tls(ca.store("impostor"), |_| async { answer("secret") }).await;
    let mesh = Mesh::new(&meshed("reviews", &[(server.address, "v1")])).await;
    mesh.identify(&ca, "client");
    let error = mesh.get("http://reviews/").await.unwrap_err();
    assert_eq!((error.kind(), error.flags().to_string().as_str()), (ErrorKind::Tls, "UF,URX"));
    assert!(!error.may_have_been_sent());
    let text = error.to_string();
    assert!(text.contains("sa/impostor") && text.contains("sa/reviews"), "{text}");
}

#[tokio::test]
async fn a_peer_of_another_authority_gets_no_request() {
    let server = Server::start_tls(Ca::new().store("reviews"), |_| async { answer("secret") }).await;
    let mesh = Mesh::new(&meshed("reviews", &[(server.address, "v1")])).await;
    mesh.identify(&Ca::new(), "client");
    assert_eq!(mesh.get("http://reviews/").await.unwrap_err().kind(), ErrorKind::Tls);
}

#[tokio::test]
async fn servers_that_are_not_believed_are_counted_by_the_reason() {
    let mut settings = Settings::for_service("client");
    settings.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mesh = Mesh::start(settings).await;
    let ca = Ca::new();
    mesh.identify(&ca, "client");
    let impostor = Server::start_tls(ca.store("impostor"), |_| async { answer("secret") }).await;
    let stranger = Server::start_tls(Ca::new().store("reviews"), |_| async { answer("secret") }).await;
    let plain = Server::start(|_| async { answer("secret") }).await;
    for (server, reason) in [(&impostor, "unexpected"), (&stranger, "untrusted"), (&plain, "handshake")] {
        mesh.apply(&meshed("reviews", &[(server.address, "v1")]));
        assert_eq!(mesh.get("http://reviews/").await.unwrap_err().kind(), ErrorKind::Tls, "{reason}");
        let metrics = mesh.metrics().await;
        let counted = format!("mesh_handshakes_refused_total{{peer=\"server\",reason=\"{reason}\"}}");
        assert!(metrics.contains(&counted), "{counted} in {metrics}");
    }
}

/// Invariant 8: no plaintext fallback, ever.
#[tokio::test]
async fn a_plaintext_server_where_mutual_tls_is_due_gets_no_request() {
    let server = Server::start(|_| async { answer("secret") }).await;
    let mesh = Mesh::new(&meshed("reviews", &[(server.address, "v1")])).await;
    mesh.identify(&Ca::new(), "client");
    let error = mesh.get("http://reviews/").await.unwrap_err();
    assert!(error.is_tls() && !error.may_have_been_sent(), "{error}");
    let response = error.into_response();
    let body = String::from_utf8(response.into_body().to_vec()).unwrap();
    assert!(body.contains("transport failure reason: TLS error: "), "{body}");
}

#[tokio::test]
async fn without_an_identity_a_call_that_needs_one_fails_at_once_and_says_so() {
    let server = Server::start(|_| async { answer("secret") }).await;
    let mesh = Mesh::new(&meshed("reviews", &[(server.address, "v1")])).await;
    let error = mesh.get("http://reviews/").await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::NotReady, 1), "{error}");
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_said_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let _ = tcp.read(&mut [0; 4096]).await;
            let _ = tcp.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await;
        }
    });
    let mesh = Mesh::new(&service("reviews", &[(address, "v1")])).await;
    let error = mesh.get("http://reviews/").await.unwrap_err();
    assert_eq!((error.kind(), error.flags().to_string().as_str()), (ErrorKind::Protocol, "UPE"), "{error}");
    assert_eq!(error.into_response().status(), 502);
}
