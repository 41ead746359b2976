//! Who gets an HTTP answer, by mode and kind of client.

use crate::support::*;
use http::StatusCode;
use mesh_core::{config::istio::MtlsMode, snapshot::Snapshot};
use mesh_runtime::identity::Alpn;
use mesh_server::{ServeError, Server};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    PlainHttp1,
    PlainHttp2,
    TlsWithoutCertificate,
    TlsWithoutCertificateHttp2,
    WrongAuthority,
    Mtls,
    MtlsHttp2,
}

#[derive(Debug, PartialEq, Eq)]
enum Got {
    /// An answer to a request of nobody in particular.
    Anonymous,
    /// An answer to a request of a verified peer.
    Peer,
    /// Not a byte of HTTP.
    Nothing,
}

async fn call(server: &Running, kind: Kind) -> Got {
    let foreign = Authority::new().identity_that_trusts("checkout", &server.authority);
    let connected = match kind {
        Kind::PlainHttp1 => Ok(http1(server.tcp().await).await),
        Kind::PlainHttp2 => Ok(http2(server.tcp().await).await),
        Kind::TlsWithoutCertificate => match server.tls_anonymous(None).await {
            Ok(stream) => Ok(http1(stream).await),
            Err(error) => Err(error),
        },
        Kind::TlsWithoutCertificateHttp2 => match server.tls_anonymous(Some("h2")).await {
            Ok(stream) => Ok(http2(stream).await),
            Err(error) => Err(error),
        },
        Kind::WrongAuthority => match server.tls_as(foreign, Alpn::Http1).await {
            Ok(stream) => Ok(http1(stream).await),
            Err(error) => Err(error),
        },
        Kind::Mtls | Kind::MtlsHttp2 => {
            let alpn = if kind == Kind::Mtls { Alpn::Http1 } else { Alpn::Http2 };
            match server.tls_as(server.authority.identity("checkout"), alpn).await {
                Ok(stream) if kind == Kind::Mtls => Ok(http1(stream).await),
                Ok(stream) => Ok(http2(stream).await),
                Err(error) => Err(error),
            }
        }
    };
    let Ok(mut client) = connected else { return Got::Nothing };
    match client.get("/").await {
        Err(_) => Got::Nothing,
        Ok((status, body)) => {
            assert_eq!(status, StatusCode::OK);
            if body.starts_with(CHECKOUT) {
                return Got::Peer;
            }
            assert!(body.starts_with("peer none\n"), "{body}");
            Got::Anonymous
        }
    }
}

#[tokio::test]
async fn mode_and_evidence_decide_who_gets_an_answer() {
    use Got::*;
    use Kind::*;
    let table = [
        (PlainHttp1, Nothing, Anonymous, Anonymous),
        (PlainHttp2, Nothing, Anonymous, Anonymous),
        (TlsWithoutCertificate, Nothing, Anonymous, Nothing),
        (TlsWithoutCertificateHttp2, Nothing, Anonymous, Nothing),
        (WrongAuthority, Nothing, Nothing, Nothing),
        (Mtls, Peer, Peer, Nothing),
        (MtlsHttp2, Peer, Peer, Nothing),
    ];
    let modes = [MtlsMode::Strict, MtlsMode::Permissive, MtlsMode::Disable];
    for (column, mode) in modes.into_iter().enumerate() {
        let server = Running::start(mode, mirror(), |server| server).await;
        for (kind, strict, permissive, disable) in &table {
            let expected = [strict, permissive, disable][column];
            assert_eq!(&call(&server, *kind).await, expected, "{kind:?} under {mode:?}");
        }
    }
}

#[tokio::test]
async fn strict_closes_plaintext_without_a_byte() {
    let server = Running::start(MtlsMode::Strict, mirror(), |server| server).await;
    for opening in
        [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"G", b"\0"]
    {
        assert_eq!(exchange(server.address, opening).await, "");
    }
}

/// The bytes come one at a time, and still no request is taken for another protocol.
#[tokio::test]
async fn one_port_tells_protocols_apart_byte_by_byte() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    for request in ["PUT /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "P / HTTP/1.0\r\n\r\n"] {
        let mut stream = server.tcp().await;
        stream.set_nodelay(true).unwrap();
        for byte in request.as_bytes() {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = read_to_close(&mut stream).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") || answer.starts_with("HTTP/1.0 200 OK\r\n"),
            "{answer}"
        );
    }
    let mut stream = server.tcp().await;
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut settings = [0; 9];
    soon(stream.read_exact(&mut settings)).await.unwrap();
    assert_eq!(settings[3], 4, "the first frame of a server is SETTINGS");
}

#[tokio::test]
async fn tls_without_alpn_is_http1() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let mut client = http1(server.tls_anonymous(None).await.unwrap()).await;
    assert!(client.get("/").await.unwrap().1.contains("version HTTP/1.1"));
}

/// Whatever begins like TLS is TLS or nothing, in whatever pieces it comes.
#[tokio::test]
async fn a_peer_below_the_least_version_of_tls_gets_no_answer_from_the_edit_on() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let twelve = async || server.tls_in(&[&rustls::version::TLS12], None).await;
    http1(twelve().await.unwrap()).await.get("/").await.unwrap();
    set_config(
        &server.workload,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}
data: {mesh: 'meshMTLS: {minProtocolVersion: TLSV1_3}'}",
    );
    assert!(twelve().await.is_err());
    let thirteen = server.tls_in(&[&rustls::version::TLS13], None).await.unwrap();
    http1(thirteen).await.get("/").await.unwrap();
    http1(server.mtls(Alpn::Http1).await).await.get("/").await.unwrap();
}

#[tokio::test]
async fn a_broken_handshake_is_not_answered_in_plaintext() {
    let request = &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..];
    let short = Duration::from_millis(50);
    for mode in [MtlsMode::Permissive, MtlsMode::Strict, MtlsMode::Disable] {
        let server =
            Running::start(mode, mirror(), |server| server.limits(|limits| limits.handshake = short)).await;
        for (what, first) in [
            ("a record that is none", &b"\x16\x03\x01\x00\x05hello"[..]),
            ("its first byte", b"\x16"),
            ("two bytes of a record", b"\x16\x03"),
            ("the head of a record", b"\x16\x03\x01\x02\x00"),
            ("a record of no length", b"\x16\x03\x01\x00\x00"),
            ("a record beyond every bound", b"\x16\x03\x01\xff\xff"),
            ("a ClientHello of SSL 3.0", b"\x16\x03\x00\x00\x04\x01\x00\x00\x00"),
            ("the preface of HTTP/2 after it", b"\x16PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ] {
            for rest in [&b""[..], request] {
                let answer = exchange(server.address, &[first, rest].concat()).await;
                assert!(!answer.contains("HTTP"), "{mode:?}, {what}: {answer}");
            }
            let mut slow = server.tcp().await;
            slow.set_nodelay(true).unwrap();
            for byte in [first, request].concat() {
                // It may be closed already.
                let _ = slow.write_all(&[byte]).await;
                tokio::task::yield_now().await;
            }
            let answer = read_to_close(&mut slow).await;
            assert!(!answer.contains("HTTP"), "{mode:?}, {what}, byte by byte: {answer}");
        }
    }
}

#[tokio::test]
async fn a_handshake_that_comes_byte_by_byte_is_one() {
    let server = Running::start(MtlsMode::Strict, mirror(), |server| server).await;
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let trickle = Trickle(server.tcp().await);
        let stream = server.tls_over(trickle, server.authority.identity("checkout"), alpn).await.unwrap();
        let mut client = if alpn == Alpn::Http2 { http2(stream).await } else { http1(stream).await };
        assert!(client.get("/").await.unwrap().1.starts_with(CHECKOUT));
    }
}

#[tokio::test]
async fn without_an_identity_tls_is_closed_and_plaintext_still_served_if_policy_lets_it() {
    let workload = workload().await;
    set_mode(&workload, MtlsMode::Permissive);
    let server = Server::bind(&workload, "127.0.0.1:0").await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.serve(mirror(), std::future::pending()));
    assert_eq!(exchange(address, b"\x16\x03\x01\x00\x05hello").await, "");
    let answer = exchange(address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// A request that is judged before there is a policy might be one that the policy forbids.
#[tokio::test]
async fn before_the_first_configuration_nothing_is_allowed() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    server.workload.config().publish(Snapshot::empty(MtlsMode::Permissive));
    for mut client in [http1(server.tcp().await).await, http1(server.mtls(Alpn::Http1).await).await] {
        assert_eq!(client.get("/").await.unwrap().0, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn a_strict_server_without_a_source_of_identity_does_not_start() {
    let workload = workload().await;
    set_mode(&workload, MtlsMode::Strict);
    let server = Server::bind(&workload, "127.0.0.1:0").await.unwrap();
    let served = soon(server.serve(mirror(), std::future::pending())).await;
    assert!(matches!(served, Err(ServeError::NoIdentity(_))), "{served:?}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let taken = server.address.to_string();
    let error = Server::bind(&server.workload, &taken).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen on {taken}: ")), "{error}");
}
