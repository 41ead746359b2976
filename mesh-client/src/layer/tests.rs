use super::*;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use mesh_core::{
    balance::Policy,
    config,
    health::{OutlierPolicy, States},
    retry::{Hedge, RetryOn, RetryPolicy},
    snapshot::{MeshSettings, Viewer, compile},
};
use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};
use tokio::time::{Instant, sleep};
use tower::{ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_timeout_begins_when_the_request_has_ended() {
    let service = TimeoutLayer::new(SECOND).layer(service_fn(|request: Request<RequestBody>| async {
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        sleep(SECOND - Duration::from_millis(1)).await;
        Ok::<_, Infallible>(Response::new(Full::new(bytes)))
    }));
    let upload = futures_util::stream::once(async {
        sleep(10 * SECOND).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"slow")))
    });
    let response = service.oneshot(Request::new(StreamBody::new(Box::pin(upload)))).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "slow");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_covers_the_body_of_the_answer() {
    let service = TimeoutLayer::new(SECOND).layer(service_fn(|_: Request<RequestBody>| async {
        let body = futures_util::stream::once(async {
            sleep(2 * SECOND).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"late")))
        });
        Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(body))))
    }));
    let response = service.oneshot(Request::new(Empty::<Bytes>::new())).await.unwrap();
    let began = Instant::now();
    let error = response.into_body().collect().await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_never_loses_to_the_timer() {
    let service = TimeoutLayer::new(SECOND).layer(service_fn(|_: Request<RequestBody>| async {
        sleep(SECOND).await;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    }));
    assert!(service.oneshot(Request::new(Empty::<Bytes>::new())).await.is_ok());
}

#[tokio::test]
async fn what_was_uploaded_is_not_held_once_the_answer_has_begun() {
    struct Chunk(#[expect(dead_code, reason = "held")] Arc<()>);
    impl AsRef<[u8]> for Chunk {
        fn as_ref(&self) -> &[u8] {
            b"chunk"
        }
    }
    // Answers at once, with what it is sent.
    let service = RetryLayer::new(policy("5xx")).layer(service_fn(|request: Request<RequestBody>| async {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    }));
    let held = Arc::new(());
    let upload = futures_util::stream::iter(0..10).map({
        let held = Arc::clone(&held);
        move |_| Ok::<_, Infallible>(Frame::data(Bytes::from_owner(Chunk(Arc::clone(&held)))))
    });
    let mut answer = service.oneshot(Request::new(StreamBody::new(upload))).await.unwrap().into_body();
    for _ in 0..9 {
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "chunk");
        assert_eq!(Arc::strong_count(&held), 2, "the test's and the stream's");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_less_than_its_bound_and_sends_the_same_body() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = RetryLayer::new(policy("5xx")).layer(service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<RequestBody>| {
            let seen = Arc::clone(&seen);
            async move {
                let first = seen.lock().unwrap().is_empty();
                // The first attempt is refused before it polls its body.
                let bytes = if first {
                    Bytes::new()
                } else {
                    request.into_body().collect().await.unwrap().to_bytes()
                };
                seen.lock().unwrap().push((bytes, Instant::now()));
                let status = if first { 503 } else { 200 };
                Ok::<_, Infallible>(Response::builder().status(status).body(Empty::<Bytes>::new()).unwrap())
            }
        }
    }));
    let response =
        service.oneshot(Request::post("/").body(Full::new(Bytes::from("body"))).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), seen[1].0.as_ref()), (2, &b"body"[..]));
    assert!(seen[1].1 - seen[0].1 <= Duration::from_millis(25));
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_long_as_the_answer_asks_for_and_an_answer_that_forbids_it_stands() {
    let minutes = |minutes: u32| 60 * minutes * SECOND;
    for (header, value, calls_expected, waited) in [
        ("retry-after", "7", 2, 7 * SECOND),
        ("retry-after", "61", 1, minutes(0)),
        ("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT", 2, minutes(0)),
        ("grpc-retry-pushback-ms", "60000", 2, minutes(1)),
        ("grpc-retry-pushback-ms", "-1", 1, minutes(0)),
    ] {
        let calls = Arc::new(AtomicU32::new(0));
        let service = RetryLayer::new(policy("5xx")).layer(service_fn({
            let calls = Arc::clone(&calls);
            move |_: Request<RequestBody>| {
                let status = if calls.fetch_add(1, SeqCst) == 0 { 503 } else { 200 };
                let answer = Response::builder().status(status).header(header, value);
                async move { Ok::<_, Infallible>(answer.body(Empty::<Bytes>::new()).unwrap()) }
            }
        }));
        let begun = Instant::now();
        let answer = service.oneshot(Request::new(Empty::<Bytes>::new())).await.unwrap();
        let expected = if calls_expected == 2 { 200 } else { 503 };
        assert_eq!(
            (answer.status().as_u16(), calls.load(SeqCst)),
            (expected, calls_expected),
            "{header}: {value}"
        );
        let more = begun.elapsed() - waited;
        assert!(more <= Duration::from_millis(26), "{header}: {value}: {more:?} more than asked for");
    }
}

/// Invariant 6: a call dropped while it waits for its retry has made none.
#[tokio::test(start_paused = true)]
async fn a_call_dropped_during_its_back_off_gives_its_token_back() {
    let budget = Arc::new(Budget::default());
    let mut policy = policy("5xx");
    policy.backoff = mesh_core::retry::Backoff::from_base(1_000 * SECOND);
    let failing = service_fn(|_: Request<RequestBody>| async {
        Ok::<_, Infallible>(Response::builder().status(503).body(Empty::<Bytes>::new()).unwrap())
    });
    let service = RetryLayer::new(policy).budget(Some(Arc::clone(&budget))).layer(failing);
    let before = budget.available();
    {
        let mut call = Box::pin(service.oneshot(Request::new(Empty::<Bytes>::new())));
        assert!(futures_util::FutureExt::now_or_never(&mut call).is_none());
        assert_eq!(budget.available(), before - 1);
    }
    assert_eq!(budget.available(), before);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_succeeds_is_free_and_a_futile_one_is_not() {
    for (fails, left) in [(1, 10), (9, 8)] {
        let budget = Arc::new(Budget::default());
        let calls = Arc::new(AtomicU32::new(0));
        let service = RetryLayer::new(policy("5xx")).budget(Some(Arc::clone(&budget))).layer(service_fn(
            move |_: Request<RequestBody>| {
                let status = if calls.fetch_add(1, SeqCst) < fails { 503 } else { 200 };
                async move {
                    Ok::<_, Infallible>(
                        Response::builder().status(status).body(Empty::<Bytes>::new()).unwrap(),
                    )
                }
            },
        ));
        let _ = service.oneshot(Request::new(Empty::<Bytes>::new())).await.unwrap();
        assert_eq!(budget.available(), left);
    }
}

/// 503 of HTTP, which is retried; then a failure of gRPC, which no condition names, and is a failure nevertheless.
#[tokio::test(start_paused = true)]
async fn a_retry_that_ends_in_a_failure_of_grpc_is_not_free() {
    let budget = Arc::new(Budget::default());
    let calls = Arc::new(AtomicU32::new(0));
    let failing = service_fn(move |_: Request<RequestBody>| {
        let first = calls.fetch_add(1, SeqCst) == 0;
        let answer = Response::builder().status(if first { 503 } else { 200 }).header("grpc-status", "13");
        async move { Ok::<_, Infallible>(answer.body(Empty::<Bytes>::new()).unwrap()) }
    });
    let service = RetryLayer::new(policy("5xx")).budget(Some(Arc::clone(&budget))).layer(failing);
    let _ = service.oneshot(Request::new(Empty::<Bytes>::new())).await.unwrap();
    assert_eq!(budget.available(), 9);
}

#[tokio::test]
async fn an_error_of_the_service_below_is_the_source_of_ours() {
    let service = TimeoutLayer::new(SECOND).layer(service_fn(|_: Request<RequestBody>| async {
        Err::<Response<Empty<Bytes>>, _>(std::io::Error::other("the reason"))
    }));
    let error = service.oneshot(Request::new(Empty::<Bytes>::new())).await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Service);
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the reason");
}

#[tokio::test(start_paused = true)]
async fn layers_stack_and_their_errors_pass_through_each_other() {
    let slow = service_fn(|_: Request<RequestBody>| async {
        sleep(2 * SECOND).await;
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let service = BreakerLayer::new(1)
        .layer(RetryLayer::new(policy("5xx")).layer(TimeoutLayer::new(SECOND).layer(slow)));
    let error = service.oneshot(Request::new(Empty::<Bytes>::new())).await.unwrap_err();
    assert!(error.is_timeout());
}

/// By the clock of the runtime: the second attempt begins after the delay, and answers at once.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_lasts_gets_a_second_one_beside_it_and_the_first_good_answer_is_taken() {
    let hedge = Some(Hedge { after: SECOND, any_method: false });
    for (retries_max, took) in [(1, SECOND), (0, 10 * SECOND)] {
        let calls = Arc::new(AtomicU32::new(0));
        let policy = RetryPolicy { hedge, retries_max, ..RetryPolicy::default() };
        let service = RetryLayer::new(policy).layer(service_fn({
            let calls = Arc::clone(&calls);
            move |request: Request<RequestBody>| {
                let slow = calls.fetch_add(1, SeqCst) == 0;
                async move {
                    let bytes = request.into_body().collect().await.unwrap().to_bytes();
                    sleep(if slow { 10 * SECOND } else { Duration::ZERO }).await;
                    Ok::<_, Infallible>(Response::new(Full::new(bytes)))
                }
            }
        }));
        let begun = Instant::now();
        let request = Request::put("/").body(Full::new(Bytes::from("body"))).unwrap();
        let answer = service.oneshot(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "body");
        assert_eq!((begun.elapsed(), calls.load(SeqCst)), (took, retries_max + 1));
    }
}

/// Both attempts cannot wait for the rest of the same upload.
#[tokio::test(start_paused = true)]
async fn a_second_attempt_waits_for_the_end_of_the_upload() {
    let policy =
        RetryPolicy { hedge: Some(Hedge { after: SECOND, any_method: true }), ..RetryPolicy::default() };
    let calls = Arc::new(AtomicU32::new(0));
    let service = RetryLayer::new(policy).layer(service_fn({
        let calls = Arc::clone(&calls);
        move |request: Request<RequestBody>| {
            let slow = calls.fetch_add(1, SeqCst) == 0;
            async move {
                let bytes = request.into_body().collect().await.unwrap().to_bytes();
                sleep(if slow { 60 * SECOND } else { Duration::ZERO }).await;
                Ok::<_, Infallible>(Response::new(Full::new(bytes)))
            }
        }
    }));
    let upload = futures_util::stream::once(async {
        sleep(5 * SECOND + SECOND / 2).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"slow")))
    });
    let begun = Instant::now();
    let answer = service.oneshot(Request::post("/").body(StreamBody::new(Box::pin(upload))).unwrap()).await;
    assert_eq!(answer.unwrap().into_body().collect().await.unwrap().to_bytes(), "slow");
    assert_eq!((begun.elapsed(), calls.load(SeqCst)), (6 * SECOND, 2));
}

#[tokio::test]
async fn services_take_turns_and_a_request_is_in_flight_until_its_body_ends() {
    let naming = |name: &'static str| {
        service_fn(move |_: Request<RequestBody>| async move {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(name))))
        })
    };
    let services = [("one", naming("one")), ("two", naming("two"))];
    let service = BalanceService::new(services, Policy::RoundRobin, None);
    let mut names = Vec::new();
    for _ in 0..4 {
        let answer = service.clone().oneshot(Request::new(Empty::<Bytes>::new())).await.unwrap();
        names.push(answer.into_body().collect().await.unwrap().to_bytes());
    }
    assert!(names[0] != names[1] && names[0] == names[2] && names[1] == names[3], "in turns: {names:?}");
    let held = service.clone().oneshot(Request::new(Empty::<Bytes>::new())).await.unwrap();
    assert_eq!(service.in_flight(), 1);
    drop(held);
    assert_eq!(service.in_flight(), 0);
}

#[tokio::test]
async fn where_every_service_is_ejected_the_error_says_so() {
    let failing = service_fn(|_: Request<RequestBody>| async {
        Err::<Response<Empty<Bytes>>, _>(std::io::Error::other("down"))
    });
    let outlier = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierPolicy::default() };
    let service = BalanceService::new([("a", failing), ("b", failing)], Policy::LeastRequest, Some(outlier));
    let call = || service.clone().oneshot(Request::new(Empty::<Bytes>::new()));
    for _ in 0..2 {
        assert_eq!(call().await.unwrap_err().kind(), crate::ErrorKind::Service);
    }
    let error = call().await.unwrap_err();
    assert!(error.is_no_endpoints() && error.to_string().contains("2 services, 2 ejected"), "{error}");
}

#[tokio::test]
async fn a_request_is_routed_as_istio_s_configuration_says_and_what_it_cannot_be_is_an_error() {
    let yaml = "
{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, name: http}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: a}, spec: {hosts: [a], http: [
  {match: [{uri: {prefix: /lost}}], route: [{destination: {host: nowhere}}]},
  {match: [{uri: {prefix: /a}}], rewrite: {uri: /b, authority: b.example}, headers: {request: {set: {x-one: '1'}},
    response: {set: {x-two: '2'}}}, route: [{destination: {host: a}}]}]}}
";
    let resources = config::load("mesh.yaml", yaml, &config::Options::default()).resources;
    let resources: Vec<_> = resources.into_iter().map(Arc::new).collect();
    let viewer = Viewer { namespace: "default".to_owned(), service: None, labels: Default::default() };
    let mut settings = MeshSettings::new("cluster.local".parse().unwrap());
    settings.allow_any = false;
    let (snapshot, _) = compile("1", &resources, &viewer, &settings, &States::default());
    let echo = service_fn(|request: Request<RequestBody>| async move {
        let to = request.extensions().get::<Destination>().unwrap();
        let (host, one) = (&request.headers()["host"], &request.headers()["x-one"]);
        let text = format!("{} {} {host:?} {one:?}", request.uri(), to.cluster);
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    let service = RouteLayer::new(Arc::new(snapshot)).layer(echo);
    let call = |url| {
        let request = Request::get(url).header("host", "a").body(Empty::<Bytes>::new()).unwrap();
        service.clone().oneshot(request)
    };
    let answer = call("http://a/a/c?d=e").await.unwrap();
    assert_eq!(answer.headers()["x-two"], "2");
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "http://b.example/b/c?d=e outbound|80||a.default.svc.cluster.local \"b.example\" \"1\"");
    for (url, kind) in [
        ("http://a/lost", crate::ErrorKind::NoCluster),
        ("http://a/", crate::ErrorKind::NoRoute),
        ("http://stranger/", crate::ErrorKind::Blocked),
    ] {
        assert_eq!(call(url).await.unwrap_err().kind(), kind, "{url}");
    }
    let request = Request::post("http://a/").header("content-type", "application/grpc");
    let error = service.oneshot(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap_err();
    assert_eq!(error.flags().to_string(), "NR");
    let answer = error.into_response();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"12".parse().unwrap()));
}

fn policy(on: &str) -> RetryPolicy {
    RetryPolicy { on: RetryOn::parse(on).unwrap(), explicit: true, ..RetryPolicy::default() }
}
