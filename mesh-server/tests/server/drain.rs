//! The end of a server: what is in flight is finished, what is new is told to go elsewhere.

use crate::support::*;
use http::{Request, StatusCode};
use mesh_core::config::istio::MtlsMode;
use mesh_runtime::{Readiness, identity::Alpn};
use std::time::Duration;
use tokio::net::TcpStream;

#[tokio::test]
async fn requests_in_flight_finish_and_then_the_server_ends() {
    let door = Door::new();
    let mut server = Running::start(MtlsMode::Permissive, behind(door.clone()), |server| server).await;
    let mut clients = vec![
        http1(server.tcp().await).await,
        http2(server.tcp().await).await,
        http1(server.mtls(Alpn::Http1).await).await,
        http2(server.mtls(Alpn::Http2).await).await,
    ];
    let mut idle = http1(server.tcp().await).await;
    assert!(idle.get("/").await.is_ok());
    let in_flight: Vec<_> =
        clients.drain(..).map(|mut client| tokio::spawn(async move { client.get("/wait").await })).collect();
    door.on_arrival(4).await;

    server.shut_down();
    idle.ended().await;
    assert!(matches!(server.workload.readiness(), Readiness::NotReady(_)));
    soon(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    door.open(4);
    for answer in in_flight {
        assert_eq!(soon(answer).await.unwrap().unwrap(), (StatusCode::OK, "done".to_owned()));
    }
    server.ended().await;
}

#[tokio::test]
async fn what_outlasts_the_drain_limit_is_aborted() {
    let door = Door::new();
    let mut server = Running::start(MtlsMode::Permissive, behind(door.clone()), |server| {
        server.limits(|limits| limits.drain = Duration::from_millis(100))
    })
    .await;
    let (mut first, mut second) = (http1(server.tcp().await).await, http2(server.tcp().await).await);
    let first = tokio::spawn(async move { first.get("/wait").await });
    let second = tokio::spawn(async move { second.get("/wait").await });
    door.on_arrival(2).await;
    server.shut_down();
    server.ended().await;
    assert!(soon(first).await.unwrap().is_err() && soon(second).await.unwrap().is_err());
}

/// Callers that never pause lose nothing: each is told to leave before it is closed.
#[tokio::test]
async fn a_drain_under_load_loses_no_request() {
    let mut server = Running::start(MtlsMode::Permissive, mirror(), |server| {
        server.limits(|limits| limits.drain_delay = Duration::from_millis(300))
    })
    .await;
    let mut callers = Vec::new();
    for number in 0..12 {
        let mut client = match number % 3 {
            0 => http1(server.tcp().await).await,
            1 => http1(server.mtls(Alpn::Http1).await).await,
            _ => http2(server.mtls(Alpn::Http2).await).await,
        };
        callers.push(tokio::spawn(async move {
            for answered in 0_u32.. {
                match client.send(get("/")).await {
                    Ok(response) => assert_eq!(text(response).await.unwrap().0, StatusCode::OK),
                    // The client knew before it wrote a byte: not a lost request but one for another endpoint.
                    Err(error) if error.is_canceled() || error.is_closed() => return answered,
                    Err(error) => panic!("lost after {answered} answers: {error:?}"),
                }
            }
            unreachable!()
        }));
    }
    server.shut_down();
    server.ended().await;
    for caller in callers {
        assert!(soon(caller).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_connection_opened_just_before_the_end_may_still_ask() {
    let mut server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let plain = server.tcp().await;
    let mutual = server.mtls(Alpn::Http1).await;
    server.shut_down();
    soon(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    for mut client in [http1(plain).await, http1(mutual).await] {
        let response = soon(client.send(get("/"))).await.unwrap();
        assert_eq!(response.headers()["connection"], "close");
    }
    server.ended().await;
}

#[tokio::test]
async fn the_answer_to_an_upgrade_is_left_alone() {
    let service = tower::service_fn(|_: Request<mesh_server::RequestBody>| async {
        let response = http::Response::builder().status(101).header("connection", "upgrade");
        Ok::<_, std::convert::Infallible>(response.header("upgrade", "echo").body(String::new()).unwrap())
    });
    let server = Running::start(MtlsMode::Permissive, service, |server| server).await;
    let mut client = http1(server.tcp().await).await;
    let mut request = get("/");
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "echo".parse().unwrap());
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["connection"], "upgrade");
}
