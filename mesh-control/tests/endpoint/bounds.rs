//! Peers that send too much, too little, or nothing.

use crate::bed::{Bed, lease};
use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_as_such() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let call = bed.call(Method::PUT, "/v1/workloads/default/cart/a").bearer(Some(&token));
    let reply = call.bytes(vec![b' '; (1 << 20) + 1]).send().await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (413, Some("too_large")));
}

#[tokio::test]
async fn a_body_nested_without_end_is_refused() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    for body in ["[".repeat(500_000), "{\"labels\":".repeat(50_000)] {
        let call = bed.call(Method::PUT, "/v1/workloads/default/cart/a").bearer(Some(&token));
        assert_eq!(call.bytes(body).send().await.status, 400);
    }
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let bed = Bed::plain().await;
    for request in [
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(200_000)),
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(1_000)),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(200_000)),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(bed.authority()).await.unwrap();
        // The endpoint may close before it has read all of it.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(bed.call(Method::GET, "/healthz").send().await.status, 200);
}

#[tokio::test]
async fn a_hundred_silent_connections_keep_nobody_out() {
    for bed in [Bed::plain().await, Bed::tls().await] {
        let mut silent = Vec::new();
        for n in 0..100 {
            let mut stream = TcpStream::connect(bed.authority()).await.unwrap();
            stream.write_all(&b"\x16\x03\x01"[..n % 4]).await.unwrap();
            silent.push(stream);
        }
        let token = bed.token("default", "cart", &[]);
        let call =
            bed.call(Method::PUT, "/v1/workloads/default/cart/a").bearer(Some(&token)).json(&lease(8080));
        let status = if bed.url().starts_with("https") {
            call.send_tls(crate::bed::trusting(&bed.data(), None)).await.unwrap().status
        } else {
            call.send().await.status
        };
        assert_eq!(status, 201);
    }
}

#[tokio::test]
async fn plain_http_to_a_tls_port_gets_no_answer_of_the_api() {
    let bed = Bed::tls().await;
    let mut stream = TcpStream::connect(bed.authority()).await.unwrap();
    stream.write_all(b"GET /v1/bundle HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

#[tokio::test]
async fn several_endpoints_live_in_one_process() {
    let beds = [Bed::plain().await, Bed::plain().await, Bed::tls().await];
    beds[0].register("cart", "a", 8080).await;
    assert!(beds[0].entry("cart").await.is_some());
    assert!(beds[1].entry("cart").await.is_none());
}
