//! A policy that changes while connections stand.

use crate::support::*;
use http::StatusCode;
use mesh_core::config::istio::MtlsMode;
use mesh_runtime::identity::Alpn;
use std::time::{Duration, SystemTime};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

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

/// Nothing else changes meanwhile: the server keeps its own certificate, and nobody is idle for long.
#[tokio::test]
async fn a_connection_ends_soon_after_the_certificate_it_was_let_in_with() {
    let server = Running::start(MtlsMode::Strict, mirror(), |server| server).await;
    let end = SystemTime::now() + Duration::from_secs(3);
    let ours = &server.authority;
    let short = ours.identity_changed("checkout", ours, |params| params.not_after = end.into());
    let mut guest = http1(server.tls_as(short.clone(), Alpn::Http1).await.unwrap()).await;
    let mut guest_of_http2 = http2(server.tls_as(short, Alpn::Http2).await.unwrap()).await;
    let mut other = http1(server.mtls(Alpn::Http1).await).await;
    for client in [&mut guest, &mut guest_of_http2, &mut other] {
        assert_eq!(client.get("/").await.unwrap().0, StatusCode::OK);
    }
    guest.ended().await;
    guest_of_http2.ended().await;
    assert!(SystemTime::now() > end, "it ended before its certificate");
    assert_eq!(other.get("/").await.unwrap().0, StatusCode::OK);
}

/// Whatever object says it and however narrowly: a plaintext connection that stands is closed when its port goes STRICT,
/// one of another port is not, and both ports serve plaintext again when the object goes.
#[tokio::test]
async fn every_object_that_demands_mutual_tls_closes_the_plaintext_it_is_for_and_no_other() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let other = server.beside(mirror()).await;
    let (port, other_port) = (server.address.port(), other.port());
    let yaml = |text: &str| text.replace("PORT", &port.to_string()).replace("OTHER", &other_port.to_string());
    for (what, text, both) in [
        ("the mesh", peer_authentication("istio-system", "mtls: {mode: STRICT}"), true),
        ("the namespace", peer_authentication("default", "mtls: {mode: STRICT}"), true),
        (
            "the workload",
            peer_authentication("default", "selector: {matchLabels: {app: payment}}, mtls: {mode: STRICT}"),
            true,
        ),
        (
            "one port",
            peer_authentication(
                "default",
                "selector: {matchLabels: {app: payment}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {PORT: {mode: STRICT}}",
            ),
            false,
        ),
        (
            "all ports but one",
            peer_authentication(
                "default",
                "selector: {matchLabels: {app: payment}}, mtls: {mode: STRICT}, portLevelMtls: {OTHER: {mode: DISABLE}}",
            ),
            false,
        ),
        (
            "one port, and UNSET elsewhere",
            peer_authentication(
                "default",
                "selector: {matchLabels: {app: payment}}, portLevelMtls: {PORT: {mode: STRICT}, OTHER: {mode: UNSET}}",
            ),
            false,
        ),
        ("a MeshPolicy", legacy("MeshPolicy", "", "peers: [{mtls: {}}]"), true),
        ("a MeshPolicy that says no more than mtls", legacy("MeshPolicy", "", "peers: [{mtls: null}]"), true),
        (
            "a Policy of the namespace",
            legacy("Policy", ", namespace: default", "peers: [{mtls: {mode: STRICT}}]"),
            true,
        ),
    ] {
        let mut plain = http1(server.tcp().await).await;
        let mut elsewhere = http1(TcpStream::connect(other).await.unwrap()).await;
        let mut mutual = http1(server.mtls(Alpn::Http1).await).await;
        for client in [&mut plain, &mut elsewhere, &mut mutual] {
            assert!(client.get("/").await.is_ok(), "{what}");
        }
        set_config(&server.workload, &yaml(&text));
        plain.ended().await;
        assert_eq!(exchange(server.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await, "", "{what}");
        assert!(mutual.get("/").await.is_ok(), "{what}");
        match both {
            true => elsewhere.ended().await,
            false => assert!(elsewhere.get("/").await.is_ok(), "{what}"),
        }
        server.set_mode(MtlsMode::Permissive);
        assert!(http1(server.tcp().await).await.get("/").await.is_ok(), "{what}: there is no way back");
    }
}

fn peer_authentication(namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: default, namespace: {namespace}}}\nspec: {{{spec}}}"
    )
}

fn legacy(kind: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: authentication.istio.io/v1alpha1\nkind: {kind}\n\
         metadata: {{name: default{namespace}}}\nspec: {{{spec}}}"
    )
}

#[tokio::test]
async fn every_change_of_mode_ends_exactly_the_connections_that_it_forbids() {
    use MtlsMode::{Disable, Permissive, Strict};
    let server = Running::start(Permissive, mirror(), |server| server).await;
    for (from, to) in [
        (Permissive, Strict),
        (Permissive, Disable),
        (Disable, Strict),
        (Disable, Permissive),
        (Strict, Permissive),
        (Strict, Disable),
    ] {
        server.set_mode(from);
        let case = format!("{from:?} to {to:?}");
        let mut plain = (from != Strict).then_some(http1(server.tcp().await).await);
        let mut anonymous = match from {
            Permissive => Some(http1(server.tls_anonymous(None).await.unwrap()).await),
            _ => None,
        };
        let mut mutual = match from {
            Disable => None,
            _ => Some(http1(server.mtls(Alpn::Http1).await).await),
        };
        for client in [&mut plain, &mut anonymous, &mut mutual].into_iter().flatten() {
            assert!(client.get("/").await.is_ok(), "{case}");
        }
        server.set_mode(to);
        for client in [&mut plain, &mut anonymous].into_iter().flatten() {
            match to {
                Strict => client.ended().await,
                _ => assert!(client.get("/").await.is_ok(), "{case}"),
            }
        }
        // Who has proven who it is stays, also where nobody needs to.
        if let Some(client) = &mut mutual {
            assert!(client.get("/").await.is_ok(), "{case}");
        }
        let plaintext = exchange(server.address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert_eq!(plaintext.await.is_empty(), to == Strict, "{case}");
        assert_eq!(server.tls_anonymous(None).await.is_err(), to == Disable, "{case}");
    }
}

/// Going STRICT is not held up by a handler that never ends.
#[tokio::test]
async fn going_strict_a_plaintext_request_that_outlasts_the_drain_limit_is_cut_off() {
    let door = Door::new();
    let short = |server: mesh_server::Server| {
        server.limits(|limits| limits.drain = std::time::Duration::from_millis(50))
    };
    let server = Running::start(MtlsMode::Permissive, behind(door.clone()), short).await;
    for is_http2 in [false, true] {
        server.set_mode(MtlsMode::Permissive);
        let mut client =
            if is_http2 { http2(server.tcp().await).await } else { http1(server.tcp().await).await };
        let in_flight = tokio::spawn(async move { client.get("/wait").await });
        door.on_arrival(1).await;
        server.set_mode(MtlsMode::Strict);
        assert!(soon(in_flight).await.unwrap().is_err());
    }
}

/// A client that goes on after the GOAWAY and does not answer the ping that comes with it.
#[tokio::test]
async fn going_strict_no_new_request_is_served_on_a_plaintext_connection_that_stands() {
    let door = Door::new();
    let server = Running::start(MtlsMode::Permissive, behind(door.clone()), |server| server).await;
    let mut stream = server.tcp().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.write_all(&get_wait(1)).await.unwrap();
    door.on_arrival(1).await;

    server.set_mode(MtlsMode::Strict);
    frame(&mut stream, GOAWAY, 0).await;
    stream.write_all(&get_wait(3)).await.unwrap();
    frame(&mut stream, RST_STREAM, 3).await;
    assert!(!door.has_arrivals(), "a request of a forbidden client reached the handler");
    door.open(1);
    frame(&mut stream, HEADERS, 1).await;
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// Returns the frame of a whole request, `GET /wait`, in HPACK without compression.
fn get_wait(stream: u8) -> Vec<u8> {
    let fields = b"\x82\x86\x44\x05/wait\x41\x07payment";
    let end_of_stream_and_headers = 5;
    let mut frame = vec![0, 0, fields.len() as u8, HEADERS, end_of_stream_and_headers, 0, 0, 0, stream];
    frame.extend_from_slice(fields);
    frame
}

/// Reads frames until one of this type comes on this stream.
async fn frame(from: &mut TcpStream, kind: u8, stream: u8) {
    soon(async {
        loop {
            let mut head = [0; 9];
            from.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            from.read_exact(&mut payload).await.unwrap();
            if (head[3], head[8]) == (kind, stream) {
                return;
            }
        }
    })
    .await;
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
