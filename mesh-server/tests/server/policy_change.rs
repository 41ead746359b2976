//! A policy that changes while connections stand.

use crate::support::*;
use http::StatusCode;
use mesh_core::config::istio::MtlsMode;
use mesh_runtime::identity::Alpn;

#[tokio::test]
async fn going_strict_closes_plaintext_and_lets_its_request_in_flight_finish() {
    let door = Door::new();
    let server = Running::start(MtlsMode::Permissive, behind(door.clone()), |server| server).await;
    for is_http2 in [false, true] {
        server.set_mode(MtlsMode::Permissive);
        let mut busy =
            if is_http2 { http2(server.tcp().await).await } else { http1(server.tcp().await).await };
        let mut idle = http1(server.tcp().await).await;
        let mut mutual = http1(server.mtls(Alpn::Http1).await).await;
        assert!(idle.get("/").await.is_ok() && mutual.get("/").await.is_ok());
        let in_flight = tokio::spawn(async move { (busy.get("/wait").await, busy) });
        door.on_arrival(1).await;

        server.set_mode(MtlsMode::Strict);
        idle.ended().await;
        door.open(1);
        let (answer, mut busy) = in_flight.await.unwrap();
        assert_eq!(answer.unwrap(), (StatusCode::OK, "done".to_owned()));
        busy.ended().await;
        assert_eq!(mutual.get("/").await.unwrap().0, StatusCode::OK);
    }
}

#[tokio::test]
async fn going_strict_no_new_request_is_served_on_a_plaintext_connection_that_stands() {
    let door = Door::new();
    let server = Running::start(MtlsMode::Permissive, behind(door.clone()), |server| server).await;
    let Client::Http2(mut first) = http2(server.tcp().await).await else { unreachable!() };
    let mut second = Client::Http2(first.clone());
    let in_flight = tokio::spawn(async move {
        let request = http::Request::get("http://payment/wait").body(empty()).unwrap();
        first.send_request(request).await
    });
    door.on_arrival(1).await;
    server.set_mode(MtlsMode::Strict);
    // Until the client has heard of it, its requests may cross the news; none of them is served from then on.
    soon(async { while second.get("/").await.is_ok() {} }).await;
    for _ in 0..10 {
        assert!(second.get("/").await.is_err());
    }
    door.open(1);
    assert_eq!(soon(in_flight).await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_reload_that_forbids_nobody_closes_no_connection() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let mut plain = http1(server.tcp().await).await;
    let mut mutual = http2(server.mtls(Alpn::Http2).await).await;
    for _ in 0..20 {
        server.set_mode(MtlsMode::Permissive);
        server.workload.identity().publish(server.authority.identity("payment"));
        assert!(plain.get("/").await.is_ok() && mutual.get("/").await.is_ok());
    }
}

#[tokio::test]
async fn a_bundle_that_is_taken_away_ends_what_it_let_in() {
    let server = Running::start(MtlsMode::Strict, mirror(), |server| server).await;
    let mut peer = http2(server.mtls(Alpn::Http2).await).await;
    assert!(peer.get("/").await.is_ok());
    let successor = Authority::new();
    server.workload.identity().publish(server.authority.identity_that_trusts("payment", &successor));
    peer.ended().await;
}
