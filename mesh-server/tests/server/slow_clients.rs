//! Clients that take their time: each is bounded, and none of them keeps another one waiting.

use crate::support::*;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use mesh_core::config::istio::MtlsMode;
use mesh_runtime::identity::Alpn;
use mesh_server::{BodyError, Limits, RequestBody};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Semaphore};

const SHORT: Duration = Duration::from_millis(50);

/// A server under which only one limit is short, so that nothing else can have closed the connection.
async fn with_limit(change: impl FnOnce(&mut Limits)) -> Running {
    Running::start(MtlsMode::Permissive, mirror(), |server| server.limits(change)).await
}

async fn closes(server: &Running, opening: &[u8]) -> String {
    exchange(server.address, opening).await
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_closed() {
    let server = with_limit(|limits| limits.first_byte = SHORT).await;
    assert_eq!(closes(&server, b"").await, "");
    // After the handshake, too.
    let mut stream = server.mtls(Alpn::Http1).await;
    assert_eq!(read_to_close(&mut stream).await, "");
    // And one that has begun like HTTP/2 or like PUT, and one that has begun like HTTP/2 for certain.
    assert_eq!(closes(&server, b"P").await, "");
    assert!(!closes(&server, b"PRI * HTTP/2.0\r\n\r\nSM").await.contains("HTTP"));
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_closed() {
    let server = with_limit(|limits| limits.handshake = SHORT).await;
    assert_eq!(closes(&server, b"\x16").await, "");
    assert_eq!(closes(&server, b"\x16\x03\x01\x02\x00\x01\x00").await, "");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_closed_the_second_one_too() {
    let server = with_limit(|limits| limits.head = SHORT).await;
    assert_eq!(closes(&server, b"GET / HTTP/1.1\r\nhost:").await, "");
    let mut stream = server.tcp().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut read = vec![0; 17];
    soon(tokio::io::AsyncReadExt::read_exact(&mut stream, &mut read)).await.unwrap();
    assert_eq!(read, b"HTTP/1.1 200 OK\r\n");
    stream.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let rest = read_to_close(&mut stream).await;
    assert!(!rest.contains("HTTP/1.1 "), "{rest}");
}

#[tokio::test]
async fn a_pause_between_requests_is_no_slow_head() {
    let server = with_limit(|limits| (limits.head, limits.first_byte) = (SHORT, SHORT)).await;
    for mut client in [http1(server.tcp().await).await, http2(server.tcp().await).await] {
        for _ in 0..3 {
            assert_eq!(client.get("/").await.unwrap().0, StatusCode::OK);
            // The pause itself is what is tested: four times the limit of a head.
            tokio::time::sleep(4 * SHORT).await;
        }
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let server = with_limit(|limits| limits.idle = SHORT).await;
    let clients = [
        http1(server.tcp().await).await,
        http2(server.tcp().await).await,
        http2(server.mtls(Alpn::Http2).await).await,
    ];
    for mut client in clients {
        // On a slow machine it may be idle for too long already.
        let _ = client.get("/").await;
        client.ended().await;
    }
}

#[tokio::test]
async fn a_request_in_flight_is_not_idle() {
    let door = Door::new();
    let server = Running::start(MtlsMode::Permissive, behind(door.clone()), |server| {
        server.limits(|limits| {
            (limits.idle, limits.head, limits.first_byte, limits.body_gap) = (SHORT, SHORT, SHORT, SHORT);
        })
    })
    .await;
    for is_http2 in [false, true] {
        let stream = server.tcp().await;
        let mut client = if is_http2 { http2(stream).await } else { http1(stream).await };
        let call = tokio::spawn(async move { client.get("/wait").await });
        door.on_arrival(1).await;
        // The time itself is what is tested: a handler may take four times any limit of its client.
        tokio::time::sleep(4 * SHORT).await;
        door.open(1);
        assert_eq!(soon(call).await.unwrap().unwrap().0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_half_open_client_is_closed() {
    let server = with_limit(|_| {}).await;
    for opening in
        ["", "GET / HTTP/1.1\r\nhost", "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab", "\x16\x03"]
    {
        let mut stream = server.tcp().await;
        stream.write_all(opening.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        read_to_close(&mut stream).await;
    }
    // A caller of HTTP/1.1 that closes its half has gone: its handler is dropped.
    let door = Door::new();
    let server = Running::start(MtlsMode::Permissive, behind(door.clone()), |server| server).await;
    let mut stream = server.tcp().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    door.on_arrival(1).await;
    stream.shutdown().await.unwrap();
    assert_eq!(read_to_close(&mut stream).await, "");
}

/// Reads the body and answers 200, or 408 if it stalls.
fn reader()
-> impl tower::Service<Request<RequestBody>, Response = Response<String>, Error = Infallible, Future: Send> + Clone
{
    tower::service_fn(|request: Request<RequestBody>| async move {
        let mut response = Response::new(String::new());
        match request.into_body().collect().await {
            Ok(_) => {}
            Err(BodyError::Stalled(_)) => *response.status_mut() = StatusCode::REQUEST_TIMEOUT,
            Err(error) => panic!("{error}"),
        }
        Ok(response)
    })
}

#[tokio::test]
async fn a_body_that_stalls_is_an_error_for_its_handler_unless_it_is_grpc() {
    let server = Running::start(MtlsMode::Permissive, reader(), |server| {
        server.limits(|limits| limits.body_gap = SHORT)
    })
    .await;
    let stalled = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab";
    let answer = exchange(server.address, stalled.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    let mut client = http2(server.tcp().await).await;
    let (body, mut sent) = tokio::sync::mpsc::channel::<Bytes>(1);
    let pieces = futures_util::stream::poll_fn(move |cx| {
        sent.poll_recv(cx).map(|piece| piece.map(|piece| Ok::<_, Infallible>(Frame::data(piece))))
    });
    let request = Request::post("/").header("content-type", "application/grpc");
    let request = request.body(StreamBody::new(pieces).boxed()).unwrap();
    let call = tokio::spawn(async move { client.send(request).await });
    body.send(Bytes::from_static(b"a")).await.unwrap();
    // The silence itself is what is tested.
    tokio::time::sleep(4 * SHORT).await;
    body.send(Bytes::from_static(b"b")).await.unwrap();
    drop(body);
    assert_eq!(soon(call).await.unwrap().unwrap().status(), StatusCode::OK);
}

/// A body of 64 MiB that tells when it is dropped.
struct Large {
    body: Full<Bytes>,
    _witness: Option<Witness>,
}

impl http_body::Body for Large {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up_and_its_siblings_are_not() {
    let dropped = Arc::new(Semaphore::new(0));
    let service = tower::service_fn({
        let dropped = Arc::clone(&dropped);
        move |request: Request<RequestBody>| {
            let large = request.uri().path() == "/large";
            let witness = large.then(|| Witness::new(&dropped));
            let body = if large { Bytes::from(vec![0; 64 << 20]) } else { Bytes::from_static(b"small") };
            async { Ok::<_, Infallible>(Response::new(Large { body: Full::new(body), _witness: witness })) }
        }
    });
    let server = Running::start(MtlsMode::Permissive, service, |server| {
        server.limits(|limits| limits.write_stall = 4 * SHORT)
    })
    .await;
    // HTTP/1.1: the socket fills up.
    let mut stream = server.tcp().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    soon(dropped.acquire()).await.unwrap().forget();
    // HTTP/2: the window of the stream is used up; the connection lives.
    let mut client = http2(server.tcp().await).await;
    let untaken = client.send(get("/large")).await.unwrap();
    soon(dropped.acquire()).await.unwrap().forget();
    assert!(untaken.into_body().collect().await.is_err());
    assert_eq!(client.get("/").await.unwrap().1, "small");
}

#[tokio::test]
async fn stalled_clients_keep_nobody_waiting() {
    let server = with_limit(|_| {}).await;
    let mut stalled = Vec::new();
    for number in 0..300 {
        let mut stream = server.tcp().await;
        let opening: &[u8] = match number % 3 {
            0 => b"",
            1 => b"\x16\x03\x01",
            _ => b"GET / HTTP/1.1\r\n",
        };
        stream.write_all(opening).await.unwrap();
        stalled.push(stream);
    }
    let mut good = http2(server.mtls(Alpn::Http2).await).await;
    assert!(good.get("/").await.unwrap().1.starts_with(CHECKOUT));
}

#[tokio::test]
async fn where_there_is_no_room_the_longest_silent_makes_it() {
    let server = with_limit(|limits| {
        (limits.silent_max, limits.handshakes_max, limits.handshake_patience) = (2, 2, Duration::ZERO);
    })
    .await;
    for opening in [&b""[..], b"\x16\x03\x01"] {
        let mut stalled: Vec<TcpStream> = Vec::new();
        for _ in 0..8 {
            let mut stream = server.tcp().await;
            stream.write_all(opening).await.unwrap();
            stalled.push(stream);
        }
        assert_eq!(read_to_close(&mut stalled[0]).await, "");
        let mut good = http1(server.mtls(Alpn::Http1).await).await;
        assert!(good.get("/").await.unwrap().1.starts_with(CHECKOUT));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_peer_does_not_take_the_connections_of_all() {
    let server = with_limit(|limits| limits.connections_per_peer_max = 1).await;
    let mut first = http1(server.tcp().await).await;
    assert!(first.get("/").await.is_ok());
    assert_eq!(closes(&server, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
    // The whole of 127.0.0.0/8 is this machine.
    let elsewhere = tokio::net::TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = http1(elsewhere.connect(server.address).await.unwrap()).await;
    assert!(other.get("/").await.is_ok());
    drop(first);
    soon(async {
        while http1(server.tcp().await).await.get("/").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn beyond_the_connections_allowed_one_is_closed_at_once() {
    let server = with_limit(|limits| limits.connections_max = 1).await;
    let mut first = http1(server.tcp().await).await;
    assert!(first.get("/").await.is_ok());
    assert_eq!(closes(&server, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
    assert!(first.get("/").await.is_ok());
}
