//! Point 1, the other half: who is not of the mesh gets no HTTP answer from a mesh port.

use crate::{
    harness::Town,
    intruder::{Card, foreign_card, plaintext, tls},
};

#[test]
fn plaintext_gets_no_http_answer() {
    let (_town, [v1, _v2, _checkout]) = Town::with_the_article(&[]);
    v1.forget();
    for request in ["GET / HTTP/1.1\r\nhost: payment-service\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = plaintext(v1.mesh, request.as_bytes());
        assert!(!answer.contains("HTTP/"), "{request:?}: {answer:?}");
    }
    assert_eq!(v1.seen()["total"], 0, "no handler ran");
}

#[test]
fn a_tls_client_without_a_certificate_gets_no_http_answer() {
    let (_town, [v1, _v2, _checkout]) = Town::with_the_article(&[]);
    v1.forget();
    let answer = tls(v1.mesh, Card::None);
    assert!(!answer.contains("HTTP/"), "{answer:?}");
    assert_eq!(v1.seen()["total"], 0, "no handler ran");
}

#[test]
fn a_tls_client_with_a_certificate_of_somebody_else_gets_no_http_answer() {
    let (_town, [v1, _v2, _checkout]) = Town::with_the_article(&[]);
    v1.forget();
    let answer = tls(v1.mesh, foreign_card("spiffe://cluster.local/ns/default/sa/checkout"));
    assert!(!answer.contains("HTTP/"), "{answer:?}");
    assert_eq!(v1.seen()["total"], 0, "no handler ran");
}

#[test]
fn garbage_and_silence_on_the_mesh_port_hold_up_nobody() {
    let (_town, [v1, v2, checkout]) = Town::with_the_article(&[]);
    let silent: Vec<_> = [v1.mesh, v2.mesh]
        .into_iter()
        .flat_map(|address| (0..100).map(move |_| std::net::TcpStream::connect(address).unwrap()))
        .collect();
    for garbage in [&b"\x16\x03\x01\xff\xff\x01"[..], &[0; 4096], &[0xff; 4096], b"\x80\x2e\x01\x03\x01"] {
        let answer = plaintext(v1.mesh, garbage);
        assert!(!answer.contains("HTTP/"), "{answer:?}");
    }
    let calls = checkout.call("http://payment-service/", 100);
    let failed: Vec<_> = calls.iter().filter(|call| !call.is_fine()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    drop(silent);
}
