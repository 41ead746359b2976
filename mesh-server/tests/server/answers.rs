//! A request while it is handled: its deadline, its trace, its end when nobody waits any more.

use crate::support::*;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use mesh_core::config::istio::MtlsMode;
use mesh_runtime::{Context, identity::Alpn};
use mesh_server::RequestBody;
use std::{convert::Infallible, sync::Arc, task::Poll};
use tokio::sync::Semaphore;

fn with_header(path: &str, name: &'static str, value: &str) -> Request<Body> {
    Request::get(path).header(name, value).body(empty()).unwrap()
}

fn context() -> String {
    let context = Context::current();
    let trace = context.trace().map(|trace| (trace.parent.clone(), trace.state.clone()));
    format!("{} {trace:?}\n", context.deadline().is_some())
}

/// Answers, from the handler and twice from its body, what context it is in.
fn contexts() -> impl tower::Service<
    Request<RequestBody>,
    Response = Response<StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>>>>,
    Error = Infallible,
    Future: Send,
> + Clone {
    tower::service_fn(|request: Request<RequestBody>| async move {
        assert!(request.extensions().get::<Context>().is_some());
        let head = context();
        let mut pieces = 0;
        let body = futures_util::stream::poll_fn(move |cx| {
            pieces += 1;
            match pieces {
                1 => Poll::Ready(Some(Ok(Frame::data(head.clone().into())))),
                // A poll of its own, woken later.
                2 => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                3 | 4 => Poll::Ready(Some(Ok(Frame::data(context().into())))),
                _ => Poll::Ready(None),
            }
        });
        Ok(Response::new(StreamBody::new(body)))
    })
}

#[tokio::test]
async fn deadline_and_trace_are_at_hand_in_the_handler_and_in_its_body() {
    let server = Running::start(MtlsMode::Permissive, contexts(), |server| server).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for mut client in [http1(server.tcp().await).await, http2(server.mtls(Alpn::Http2).await).await] {
        for (name, value, seen) in [
            ("grpc-timeout", "10S", "true None"),
            ("x-envoy-expected-rq-timeout-ms", "10000", "true None"),
            ("grpc-timeout", "soon", "false None"),
            ("traceparent", trace, &format!("false Some((\"{trace}\", None))")),
            ("traceparent", "00-what", "false None"),
        ] {
            let answer = text(client.send(with_header("/", name, value)).await.unwrap()).await.unwrap();
            assert_eq!(answer, (StatusCode::OK, format!("{seen}\n").repeat(3)), "{name}: {value}");
        }
    }
}

/// Never answers `/head`; answers anything else with a body that never ends.
fn endless(
    dropped: Arc<Semaphore>,
    arrived: Arc<Semaphore>,
) -> impl tower::Service<
    Request<RequestBody>,
    Response = Response<StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>>>>,
    Error = Infallible,
    Future: Send,
> + Clone {
    tower::service_fn(move |request: Request<RequestBody>| {
        let (dropped, arrived) = (dropped.clone(), arrived.clone());
        async move {
            let witness = Witness::new(&dropped);
            arrived.add_permits(1);
            if request.uri().path() == "/head" {
                std::future::pending::<()>().await;
            }
            let mut first = true;
            let body = futures_util::stream::poll_fn(move |_| {
                let _ = &witness;
                if std::mem::take(&mut first) {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"first")))));
                }
                Poll::Pending
            });
            Ok(Response::new(StreamBody::new(body)))
        }
    })
}

#[tokio::test]
async fn a_handler_that_outlasts_its_deadline_is_ended() {
    let (dropped, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let service = endless(Arc::clone(&dropped), arrived);
    let server = Running::start(MtlsMode::Permissive, service, |server| server).await;
    for mut client in [http1(server.tcp().await).await, http2(server.tcp().await).await] {
        let late =
            soon(client.send(with_header("/head", "x-envoy-expected-rq-timeout-ms", "20"))).await.unwrap();
        let expected = (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout".to_owned());
        assert_eq!(text(late).await.unwrap(), expected);
        soon(dropped.acquire()).await.unwrap().forget();

        let mut request = with_header("/head", "grpc-timeout", "20m");
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let late = soon(client.send(request)).await.unwrap();
        assert_eq!((late.status(), &late.headers()["grpc-status"]), (StatusCode::OK, &"4".parse().unwrap()));
        soon(dropped.acquire()).await.unwrap().forget();

        // After the head the status is out: the body breaks off, visibly, unless it is gRPC's.
        let late =
            soon(client.send(with_header("/body", "x-envoy-expected-rq-timeout-ms", "20"))).await.unwrap();
        assert_eq!(late.status(), StatusCode::OK);
        assert!(text(late).await.is_err());
        soon(dropped.acquire()).await.unwrap().forget();
    }
}

#[tokio::test]
async fn a_grpc_answer_that_outlasts_its_deadline_ends_with_that_status() {
    let (dropped, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let service = endless(Arc::clone(&dropped), arrived);
    let server = Running::start(MtlsMode::Permissive, service, |server| server).await;
    let mut client = http2(server.tcp().await).await;
    let mut request = with_header("/body", "grpc-timeout", "20m");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let answer = soon(client.send(request)).await.unwrap();
    let whole = soon(answer.into_body().collect()).await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "4");
    assert_eq!(whole.to_bytes(), "first");
    soon(dropped.acquire()).await.unwrap().forget();
}

#[tokio::test]
async fn a_handler_whose_caller_goes_away_is_dropped() {
    let (dropped, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let service = endless(Arc::clone(&dropped), Arc::clone(&arrived));
    let server = Running::start(MtlsMode::Permissive, service, |server| server).await;
    for path in ["/head", "/body"] {
        for is_http2 in [false, true] {
            let stream = server.tcp().await;
            let mut client = if is_http2 { http2(stream).await } else { http1(stream).await };
            let call = tokio::spawn(async move { client.get(path).await });
            soon(arrived.acquire()).await.unwrap().forget();
            assert_eq!(dropped.available_permits(), 0);
            call.abort();
            soon(dropped.acquire()).await.unwrap().forget();
        }
    }
}

#[tokio::test]
async fn one_reset_stream_leaves_its_siblings_alone() {
    let door = Door::new();
    let server = Running::start(MtlsMode::Permissive, behind(door.clone()), |server| server).await;
    let Client::Http2(send) = http2(server.tcp().await).await else { unreachable!() };
    let call = |mut client: Client| tokio::spawn(async move { client.get("/wait").await });
    let (doomed, sibling) = (call(Client::Http2(send.clone())), call(Client::Http2(send)));
    door.on_arrival(2).await;
    doomed.abort();
    let _ = doomed.await;
    door.open(2);
    assert_eq!(soon(sibling).await.unwrap().unwrap().0, StatusCode::OK);
}

#[tokio::test]
async fn a_panic_is_a_500_and_nobody_elses_trouble() {
    let door = Door::new();
    let service = tower::service_fn({
        let door = door.clone();
        move |request: Request<RequestBody>| {
            let door = door.clone();
            async move {
                match request.uri().path() {
                    "/panic" => panic!("a handler of the test panics"),
                    "/wait" => door.pass().await,
                    _ => {}
                }
                Ok::<_, Infallible>(Response::new("fine".to_owned()))
            }
        }
    });
    let server = Running::start(MtlsMode::Permissive, service, |server| server).await;
    let Client::Http2(send) = http2(server.tcp().await).await else { unreachable!() };
    let mut sibling = Client::Http2(send.clone());
    let sibling = tokio::spawn(async move { sibling.get("/wait").await });
    door.on_arrival(1).await;
    for mut client in [http1(server.tcp().await).await, Client::Http2(send)] {
        let answer = client.get("/panic").await.unwrap();
        assert_eq!(answer, (StatusCode::INTERNAL_SERVER_ERROR, "internal error".to_owned()));
        assert_eq!(client.get("/").await.unwrap().0, StatusCode::OK);
    }
    door.open(1);
    assert_eq!(soon(sibling).await.unwrap().unwrap().1, "fine");
}

/// A service with a limit of one: its readiness is waited for, not assumed.
#[tokio::test]
async fn a_service_that_is_not_ready_is_waited_for() {
    use tower::limit::GlobalConcurrencyLimitLayer;
    let door = Door::new();
    let service =
        tower::ServiceBuilder::new().layer(GlobalConcurrencyLimitLayer::new(1)).service(behind(door.clone()));
    let server = Running::start(MtlsMode::Permissive, service, |server| server).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        let mut client = http1(server.tcp().await).await;
        calls.push(tokio::spawn(async move { client.get("/wait").await }));
    }
    for _ in 0..3 {
        door.on_arrival(1).await;
        door.open(1);
    }
    for call in calls {
        assert_eq!(soon(call).await.unwrap().unwrap().0, StatusCode::OK);
    }
}
