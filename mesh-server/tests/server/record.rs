//! What is recorded of requests and of connections turned away.

use crate::support::*;
use http::{Request, Response};
use mesh_core::{config::istio::MtlsMode, overload::RequestsMax};
use mesh_runtime::{Settings, Workload};
use mesh_server::{RequestBody, Server};
use std::{convert::Infallible, net::SocketAddr};

async fn metrics(admin: SocketAddr) -> String {
    exchange(admin, b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await
}

/// Waits for a line of the metrics that has all of `parts`: a request is recorded when its answer is out, which may be
/// after its caller has read it.
async fn recorded(admin: SocketAddr, parts: &[&str]) {
    let mut all = String::new();
    for _ in 0..2_000 {
        all = metrics(admin).await;
        if all.lines().any(|line| parts.iter().all(|part| line.contains(part))) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("no line with {parts:?} in:\n{all}");
}

#[tokio::test]
async fn requests_are_recorded_by_their_end_and_refusals_by_their_reason() {
    let mut settings = Settings::for_service("payment");
    settings.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let workload = Workload::start(settings).await.unwrap();
    set_mode(&workload, MtlsMode::Permissive);
    let admin = workload.admin().unwrap();
    let door = Door::new();
    let service = tower::service_fn({
        let door = door.clone();
        move |request: Request<RequestBody>| {
            let door = door.clone();
            async move {
                if request.uri().path() == "/wait" {
                    door.pass().await;
                }
                Ok::<_, Infallible>(Response::new("done".to_owned()))
            }
        }
    });
    let server = Server::bind(&workload, "127.0.0.1:0").await.unwrap().overload(|overload| {
        overload.requests_max = Some(RequestsMax::Fixed(1));
        overload.queue.waiting_max = 0;
        overload.rate.prefixes.push(("/seldom".to_owned(), "1/h".parse().unwrap()));
    });
    let address = server.local_addr();
    tokio::spawn(server.serve(service, std::future::pending()));
    let connect = || async { http1(tokio::net::TcpStream::connect(address).await.unwrap()).await };

    let mut client = connect().await;
    client.get("/").await.unwrap();
    let total = "istio_requests_total{";
    recorded(
        admin,
        &[total, "reporter=\"destination\"", "response_code=\"200\"", "response_flags=\"-\"", "} 1"],
    )
    .await;
    client.get("/a%2fb").await.unwrap();
    recorded(admin, &[total, "response_code=\"400\"", "response_flags=\"-\"", "} 1"]).await;
    let late = Request::get("/wait").header("x-envoy-expected-rq-timeout-ms", "10").body(empty()).unwrap();
    client.send(late).await.unwrap();
    recorded(admin, &[total, "response_code=\"504\"", "response_flags=\"UT\"", "} 1"]).await;
    door.on_arrival(1).await;
    let mut client = connect().await;
    let call = tokio::spawn(async move { client.get("/wait").await });
    door.on_arrival(1).await;
    assert_eq!(connect().await.get("/").await.unwrap().0, 503);
    recorded(admin, &[total, "response_code=\"503\"", "response_flags=\"UO\"", "} 1"]).await;
    call.abort();
    recorded(admin, &[total, "response_code=\"0\"", "response_flags=\"DC\"", "} 1"]).await;
    let mut client = connect().await;
    assert_eq!(client.get("/seldom").await.unwrap().0, 200);
    assert_eq!(client.get("/seldom").await.unwrap().0, 429);
    recorded(admin, &[total, "response_code=\"429\"", "response_flags=\"RL\"", "} 1"]).await;

    set_mode(&workload, MtlsMode::Strict);
    assert_eq!(exchange(address, b"GET / HTTP/1.1\r\n\r\n").await, "");
    recorded(admin, &["mesh_handshakes_refused_total{", "reason=\"plaintext\""]).await;
}

/// Each is refused before any HTTP, and counted once under its own reason.
#[tokio::test]
async fn whom_a_strict_server_does_not_believe_is_counted_by_the_reason_and_never_served() {
    let mut settings = Settings::for_service("payment");
    settings.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let workload = Workload::start(settings).await.unwrap();
    let admin = workload.admin().unwrap();
    let door = Door::new();
    let server = Running::start_with(workload, MtlsMode::Strict, behind(door.clone()), |server| server).await;
    let (ours, stranger) = (&server.authority, Authority::new());
    let bad = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        ours.identity_changed("checkout", ours, |params| change(params))
    };
    let hour = std::time::Duration::from_secs(3600);
    let past = std::time::SystemTime::now() - hour;
    let identities = [
        ("untrusted", stranger.identity_that_trusts("checkout", ours)),
        (
            "expired",
            bad(&|params| (params.not_before, params.not_after) = ((past - hour).into(), past.into())),
        ),
        ("not_yet_valid", bad(&|params| params.not_before = (past + 2 * hour).into())),
        ("extended_key_usage", bad(&|params| drop(params.extended_key_usages.pop()))),
    ];
    for (reason, identity) in identities {
        if let Ok(stream) = server.tls_showing(identity).await {
            assert!(http1(stream).await.get("/wait").await.is_err(), "{reason}");
        }
        recorded(admin, &["mesh_handshakes_refused_total{", "peer=\"client\"", &format!("\"{reason}\"}} 1")])
            .await;
    }
    if let Ok(stream) = server.tls_anonymous(None).await {
        assert!(http1(stream).await.get("/wait").await.is_err());
    }
    recorded(admin, &["mesh_handshakes_refused_total{", "reason=\"anonymous\"} 1"]).await;
    assert_eq!(exchange(server.address, b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
    recorded(admin, &["mesh_handshakes_refused_total{", "reason=\"plaintext\"} 1"]).await;
    exchange(server.address, b"\x16\x03\x01\x00\x05hello").await;
    recorded(admin, &["mesh_handshakes_refused_total{", "reason=\"handshake\"} 1"]).await;
    assert!(!door.has_arrivals(), "a handler ran for somebody who was refused");
}

/// Each bound has a reason of its own: an operator must know which to raise.
#[tokio::test]
async fn a_connection_too_many_is_counted_by_the_bound_that_it_is_beyond() {
    for (reason, connections_max, per_peer_max) in [("full", 1, 5), ("peer_full", 5, 1)] {
        let mut settings = Settings::for_service("payment");
        settings.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let workload = Workload::start(settings).await.unwrap();
        let admin = workload.admin().unwrap();
        let server = Running::start_with(workload, MtlsMode::Permissive, mirror(), |server| {
            server.limits(|limits| {
                (limits.connections_max, limits.connections_per_peer_max) = (connections_max, per_peer_max);
            })
        })
        .await;
        let mut first = http1(server.tcp().await).await;
        assert!(first.get("/").await.is_ok());
        assert_eq!(exchange(server.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
        recorded(admin, &["mesh_handshakes_refused_total{", &format!("reason=\"{reason}\"}} 1")]).await;
    }
}
