//! More requests than may run: who waits, who is told what, and what a place is held for.

mod load;

use crate::support::*;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use mesh_core::{
    config::istio::MtlsMode,
    overload::{Overload, RequestsMax},
};
use mesh_runtime::{Settings, Workload, identity::Alpn};
use mesh_server::{RequestBody, Server};
use std::{convert::Infallible, sync::Arc};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};

const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";

/// One request runs at a time.
fn one_place(overload: &mut Overload) {
    overload.requests_max = Some(RequestsMax::Fixed(1));
}

/// And nobody waits.
fn one_place_and_no_queue(overload: &mut Overload) {
    one_place(overload);
    overload.queue.waiting_max = 0;
}

async fn one_at_a_time(door: &Door, change: impl FnOnce(&mut Overload)) -> Running {
    Running::start(MtlsMode::Permissive, behind(door.clone()), |server| server.overload(change)).await
}

/// A call on a connection of its own.
async fn call(server: &Running, request: Request<Body>) -> JoinHandle<(StatusCode, String)> {
    let mut client = http1(server.tcp().await).await;
    tokio::spawn(async move { text(soon(client.send(request)).await.unwrap()).await.unwrap() })
}

fn done() -> (StatusCode, String) {
    (StatusCode::OK, "done".to_owned())
}

fn grpc(mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request
}

fn due_in_a_millisecond(path: &str) -> Request<Body> {
    Request::get(path).header("x-envoy-expected-rq-timeout-ms", "1").body(empty()).unwrap()
}

#[tokio::test]
async fn a_request_more_than_may_run_waits_and_runs_when_there_is_a_place() {
    let door = Door::new();
    let server = one_at_a_time(&door, one_place).await;
    let first = call(&server, get("/wait")).await;
    door.on_arrival(1).await;
    let mut client = http2(server.mtls(Alpn::Http2).await).await;
    let second = tokio::spawn(async move { client.get("/").await });
    let third = call(&server, get("/")).await;
    door.open(1);
    for answer in [first.await.unwrap(), soon(second).await.unwrap().unwrap(), soon(third).await.unwrap()] {
        assert_eq!(answer, done());
    }
}

#[tokio::test]
async fn what_finds_no_place_is_answered_as_a_sidecar_answers_it_and_not_handled() {
    let door = Door::new();
    let server = one_at_a_time(&door, one_place_and_no_queue).await;
    let first = call(&server, get("/wait")).await;
    door.on_arrival(1).await;
    for mut client in [http1(server.tcp().await).await, http2(server.mtls(Alpn::Http2).await).await] {
        let refused = client.send(get("/wait")).await.unwrap();
        assert_eq!(refused.headers()["x-envoy-overloaded"], "true");
        let expected = (StatusCode::SERVICE_UNAVAILABLE, OVERFLOW.to_owned());
        assert_eq!(text(refused).await.unwrap(), expected);

        let refused = client.send(grpc(get("/wait"))).await.unwrap();
        assert_eq!(refused.status(), StatusCode::OK);
        assert_eq!(refused.headers()["x-envoy-overloaded"], "true");
        assert_eq!(refused.headers()["grpc-status"], "14");
        assert_eq!(refused.headers()["grpc-message"], OVERFLOW);
    }
    assert!(!door.has_arrivals());
    door.open(1);
    assert_eq!(first.await.unwrap(), done());
}

/// A Sidecar that says so of every port.
fn sidecar(pool: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: a}}\nspec: {{inboundConnectionPool: {{{pool}}}}}"
    )
}

#[tokio::test]
async fn a_sidecar_says_how_many_requests_run_and_wait_and_an_edit_of_it_counts_at_once() {
    let door = Door::new();
    let server = Running::start(MtlsMode::Permissive, behind(door.clone()), |server| server).await;
    let edit = |pool: &str| set_config(&server.workload, &sidecar(pool));
    let first = call(&server, get("/wait")).await;
    door.on_arrival(1).await;

    // What ran before it was said counts too.
    edit("http: {http2MaxRequests: 1}");
    assert_eq!(until(&server, 503).await, OVERFLOW);
    edit("http: {http2MaxRequests: 2}");
    until(&server, 200).await;

    // One more waits, as for a connection, and the next one is refused.
    edit("tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}");
    let mut calls = JoinSet::new();
    loop {
        for _ in 0..2 {
            calls.spawn(call(&server, get("/")).await);
        }
        let (status, _) = soon(calls.join_next()).await.unwrap().unwrap().unwrap();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
    }
    door.open(1);
    assert_eq!(first.await.unwrap(), done());
    let others = soon(calls.join_all()).await;
    assert!(others.iter().any(|answer| answer.as_ref().unwrap() == &done()), "{others:?}");
}

/// Calls until the answer has this status: an edit is in force when the server has heard of it. Returns its text.
async fn until(server: &Running, status: u16) -> String {
    loop {
        let (answered, text) = call(server, get("/")).await.await.unwrap();
        if answered == status {
            return text;
        }
    }
}

/// Not 504: nothing has been executed, and the caller learns it before its deadline passes.
#[tokio::test]
async fn who_would_wait_beyond_its_deadline_is_refused_and_not_handled() {
    let door = Door::new();
    let server = one_at_a_time(&door, one_place).await;
    let first = call(&server, get("/wait")).await;
    door.on_arrival(1).await;
    let late = soon(call(&server, due_in_a_millisecond("/wait")).await).await.unwrap();
    assert_eq!(late, (StatusCode::SERVICE_UNAVAILABLE, OVERFLOW.to_owned()));
    assert!(!door.has_arrivals());
    door.open(1);
    assert_eq!(first.await.unwrap(), done());
}

/// Answers in two halves; to `/half` the second one comes after a door has opened.
fn halves(
    door: Door,
) -> impl tower::Service<
    Request<RequestBody>,
    Response = Response<StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>>>>,
    Error = Infallible,
    Future: Send,
> + Clone {
    let half = || Ok(Frame::data(Bytes::from_static(b"half")));
    tower::service_fn(move |request: Request<RequestBody>| {
        let door = (request.uri().path() == "/half").then(|| door.clone());
        async move {
            let second = async move {
                if let Some(door) = door {
                    door.pass().await;
                }
                half()
            };
            Ok(Response::new(StreamBody::new(
                stream::once(async move { half() }).chain(stream::once(second)),
            )))
        }
    })
}

#[tokio::test]
async fn a_place_is_held_until_the_last_byte_of_the_answer_is_out_or_its_reader_is_gone() {
    let door = Door::new();
    let server = Running::start(MtlsMode::Permissive, halves(door.clone()), |server| {
        server.overload(one_place_and_no_queue)
    })
    .await;
    for reads_to_its_end in [true, false] {
        let mut client = http2(server.tcp().await).await;
        let mut half = client.send(get("/half")).await.unwrap();
        assert_eq!(half.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        door.on_arrival(1).await;
        let refused = call(&server, get("/")).await.await.unwrap();
        assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE);
        if reads_to_its_end {
            door.open(1);
            assert_eq!(soon(half.into_body().collect()).await.unwrap().to_bytes(), "half");
        } else {
            drop(half);
        }
        soon(admitted(&server)).await;
    }
}

/// Asks until there is a place: the server learns a moment later than we do that an answer is at its end.
async fn admitted(server: &Running) {
    while call(server, get("/")).await.await.unwrap().0 != StatusCode::OK {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_frees_its_place_whether_it_runs_or_waits() {
    for http in [1, 2] {
        let door = Door::new();
        let server = one_at_a_time(&door, one_place).await;
        let running = wait(&server, http).await;
        door.on_arrival(1).await;
        let (waiting, last) = (wait(&server, http).await, wait(&server, http).await);
        waiting.abort();
        running.abort();
        // Nobody opened: one of the others has the place of who went away.
        door.on_arrival(1).await;
        door.open(2);
        assert_eq!(soon(last).await.unwrap().unwrap(), done());
        soon(admitted(&server)).await;
    }
}

/// A call that may be given up, in HTTP/1.1 or HTTP/2.
async fn wait(server: &Running, http: u8) -> JoinHandle<hyper::Result<(StatusCode, String)>> {
    let stream = server.tcp().await;
    let mut client = if http == 1 { http1(stream).await } else { http2(stream).await };
    tokio::spawn(async move { client.get("/wait").await })
}

#[tokio::test]
async fn a_handler_that_panics_or_is_overdue_frees_its_place() {
    let service = tower::service_fn(|request: Request<RequestBody>| async move {
        match request.uri().path() {
            "/panic" => panic!("as asked"),
            "/endless" => std::future::pending().await,
            _ => Ok::<_, Infallible>(Response::new("done".to_owned())),
        }
    });
    let server =
        Running::start(MtlsMode::Permissive, service, |server| server.overload(one_place_and_no_queue)).await;
    for (request, status) in [(get("/panic"), 500), (due_in_a_millisecond("/endless"), 504)] {
        assert_eq!(call(&server, request).await.await.unwrap().0, status);
        soon(admitted(&server)).await;
    }
}

#[tokio::test]
async fn who_waits_when_the_server_leaves_is_served_before_it_is_gone() {
    let door = Door::new();
    let mut server = one_at_a_time(&door, one_place).await;
    let first = call(&server, get("/wait")).await;
    door.on_arrival(1).await;
    let second = call(&server, get("/wait")).await;
    // Its head has to be with the server before that closes.
    let mut probe = http1(server.tcp().await).await;
    assert_eq!(
        probe.send(due_in_a_millisecond("/")).await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    drop(probe);
    server.shut_down();
    door.open(2);
    assert_eq!((first.await.unwrap(), soon(second).await.unwrap()), (done(), done()));
    server.ended().await;
}

#[tokio::test]
async fn no_deadline_that_anybody_can_write_does_harm() {
    let door = Door::new();
    let server = one_at_a_time(&door, |overload| {
        one_place(overload);
        overload.queue.waiting_max = 1;
    })
    .await;
    let first = call(&server, get("/wait")).await;
    door.on_arrival(1).await;
    for (name, value) in [
        ("grpc-timeout", "99999999H"),
        ("grpc-timeout", "0n"),
        ("grpc-timeout", "-1S"),
        ("x-envoy-expected-rq-timeout-ms", "999999999999999999"),
        ("x-envoy-expected-rq-timeout-ms", "0"),
        ("x-envoy-expected-rq-timeout-ms", "18446744073709551616"),
    ] {
        let mut client = http1(server.tcp().await).await;
        let request = Request::get("/").header(name, value).body(empty()).unwrap();
        // Whether it waits or not is its deadline's business; it goes away in any case.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(5), client.send(request)).await;
    }
    door.open(1);
    assert_eq!(first.await.unwrap(), done());
    soon(admitted(&server)).await;
}

#[tokio::test]
async fn what_comes_too_often_is_answered_as_envoy_answers_it() {
    for (as_resource_exhausted, grpc_status) in [(false, "14"), (true, "8")] {
        let server = Running::start(MtlsMode::Permissive, mirror(), |server| {
            server.overload(|overload| {
                overload.rate.prefixes.push(("/reports".to_owned(), "1/h".parse().unwrap()));
                overload.rate.as_resource_exhausted = as_resource_exhausted;
            })
        })
        .await;
        let mut client = http2(server.mtls(Alpn::Http2).await).await;
        assert_eq!(client.get("/reports").await.unwrap().0, StatusCode::OK);
        // The path that counts is the one that the handler sees.
        let limited = client.send(get("/x/%2e%2e/reports/7")).await.unwrap();
        assert!(!limited.headers().contains_key("x-envoy-overloaded"));
        let expected = (StatusCode::TOO_MANY_REQUESTS, "local_rate_limited".to_owned());
        assert_eq!(text(limited).await.unwrap(), expected);
        let limited = client.send(grpc(get("/reports"))).await.unwrap();
        assert_eq!(limited.headers()["grpc-status"], grpc_status);
        assert_eq!(client.get("/other").await.unwrap().0, StatusCode::OK);
    }
}

#[tokio::test]
async fn what_policy_forbids_uses_up_nobodys_rate() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| {
        server.overload(|overload| overload.rate.server = Some("1/h".parse().unwrap()))
    })
    .await;
    set_config(
        &server.workload,
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: no-admin, namespace: default},
        spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}}",
    );
    let mut client = http1(server.tcp().await).await;
    for (path, status) in [("/admin", 403), ("/admin", 403), ("/", 200), ("/", 429), ("/admin", 403)] {
        assert_eq!(client.get(path).await.unwrap().0, status, "{path}");
    }
}

#[tokio::test]
async fn what_the_settings_of_a_workload_say_of_overload_is_in_force_unless_the_server_says_otherwise() {
    let variables = [("MESH_SERVICE", "payment"), ("MESH_RATE_LIMIT", "1/h"), ("MESH_REQUESTS_MAX", "1")];
    let value = |name: &str| variables.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
    let workload = Workload::start(Settings::from_variables(value).unwrap()).await.unwrap();
    set_mode(&workload, MtlsMode::Permissive);
    for (unlimited, statuses) in [(false, [200, 429]), (true, [200, 200])] {
        let server = Server::bind(&workload, "127.0.0.1:0").await.unwrap();
        let server =
            if unlimited { server.overload(|overload| *overload = Overload::default()) } else { server };
        let address = server.local_addr();
        let served = tokio::spawn(server.serve(mirror(), std::future::pending()));
        let mut client = http1(tokio::net::TcpStream::connect(address).await.unwrap()).await;
        for status in statuses {
            assert_eq!(client.get("/").await.unwrap().0, status);
        }
        served.abort();
    }
}

/// Many more than may run, all at once, and some of them give up: none is forgotten, none runs beside more than may.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_is_answered_or_refused_to_the_last() {
    let running = Arc::new(Semaphore::new(3));
    let service = tower::service_fn({
        let running = Arc::clone(&running);
        move |_: Request<RequestBody>| {
            let running = Arc::clone(&running);
            async move {
                let _one = running.try_acquire().expect("more run than may");
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(Response::new("done".to_owned()))
            }
        }
    });
    let server = Running::start(MtlsMode::Permissive, service, |server| {
        server.overload(|overload| {
            overload.requests_max = Some(RequestsMax::Fixed(3));
            overload.queue.waiting_max = 20;
        })
    })
    .await;
    let crowd: Vec<_> = (0..16)
        .map(|n| {
            let address = server.address;
            tokio::spawn(async move {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let mut client = http2(stream).await;
                for round in 0..50 {
                    if (n + round) % 7 == 0 {
                        // Gives up at whatever stage it is.
                        let call = client.send(get("/"));
                        let _ = tokio::time::timeout(std::time::Duration::from_micros(500), call).await;
                        continue;
                    }
                    let status = client.get("/").await.unwrap().0;
                    assert!(matches!(status.as_u16(), 200 | 503), "{status}");
                }
            })
        })
        .collect();
    for one in crowd {
        soon(one).await.unwrap();
    }
    soon(admitted(&server)).await;
}
