//! The layer alone, around services of every kind.

use super::*;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use std::{convert::Infallible, time::Duration};
use tokio::sync::Semaphore;
use tower::{ServiceExt as _, limit::ConcurrencyLimitLayer, service_fn};

#[tokio::test]
async fn a_place_is_held_until_the_body_has_ended_or_is_dropped() {
    let service = one_place().layer(at_once());
    for reads in [true, false] {
        let response = service.clone().oneshot(Request::new(())).await.unwrap();
        assert_eq!(status(&service).await, 503);
        let mut body = response.into_body();
        if reads {
            assert_eq!((&mut body).collect().await.unwrap().to_bytes(), "done");
        } else {
            drop(body);
        }
        assert_eq!(status(&service).await, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_gives_its_place_back_at_every_stage() {
    let gate = Arc::new(Semaphore::new(0));
    let layer = RequestsMaxLayer::new(RequestsMax::Fixed(1));
    let service = layer.layer(ConcurrencyLimitLayer::new(1).layer(behind(&gate)));
    let ask = || Box::pin(service.clone().oneshot(Request::new(())));
    let (mut running, mut waiting) = (ask(), ask());
    assert!(is_pending(&mut running) && is_pending(&mut waiting));
    drop(waiting);
    let mut waiting = ask();
    assert!(is_pending(&mut waiting));
    drop(running);
    assert!(is_pending(&mut waiting));
    gate.add_permits(1);
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
    gate.add_permits(1);
    assert_eq!(status(&service).await, 200);
}

#[tokio::test(start_paused = true)]
async fn the_inner_service_is_asked_whether_it_is_ready_when_there_is_a_place() {
    let gate = Arc::new(Semaphore::new(0));
    let layer = RequestsMaxLayer::new(RequestsMax::Fixed(2)).queue(|queue| queue.waiting_max = 0);
    let service = layer.layer(ConcurrencyLimitLayer::new(1).layer(behind(&gate)));
    let mut calls: Vec<_> = (0..2).map(|_| Box::pin(service.clone().oneshot(Request::new(())))).collect();
    assert!(calls.iter_mut().all(is_pending));
    // Both have a place, one of them waits for the service.
    assert_eq!(status(&service).await, 503);
    gate.add_permits(2);
    for call in calls {
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_a_header_or_in_the_context_bounds_the_wait() {
    let gate = Arc::new(Semaphore::new(0));
    let clock = Clock::start();
    let service = RequestsMaxLayer::new(RequestsMax::Fixed(1)).clock(clock).layer(behind(&gate));
    let mut running = Box::pin(service.clone().oneshot(Request::new(())));
    assert!(is_pending(&mut running));
    let mut by_context = Request::new(());
    by_context.extensions_mut().insert(Context::new(Some(clock.now() + 100 * MS), None));
    for (request, waited) in [
        (Request::builder().header("grpc-timeout", "70m").body(()).unwrap(), 70),
        (by_context, 100),
        (Request::new(()), 1_000),
    ] {
        let start = tokio::time::Instant::now();
        let answer = service.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        // Times of tokio are whole milliseconds; the second one has 70 of its hundred behind it.
        let expected = if waited == 100 { 30 } else { waited };
        assert!(start.elapsed().abs_diff(expected * MS) <= 2 * MS, "{:?} of {waited}", start.elapsed());
    }
}

const MS: Duration = Duration::from_millis(1);

fn one_place() -> RequestsMaxLayer {
    RequestsMaxLayer::new(RequestsMax::Fixed(1)).queue(|queue| queue.waiting_max = 0)
}

fn done() -> Response<Full<Bytes>> {
    Response::new(Full::from("done"))
}

fn at_once() -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone {
    service_fn(|_: Request<()>| async { Ok(done()) })
}

/// Answers as often as `gate` lets it.
fn behind(
    gate: &Arc<Semaphore>,
) -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone + use<> {
    let gate = Arc::clone(gate);
    service_fn(move |_: Request<()>| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(done())
        }
    })
}

async fn status<S, B>(service: &S) -> u16
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible> + Clone,
{
    service.clone().oneshot(Request::new(())).await.unwrap().status().as_u16()
}

fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    let mut cx = task::Context::from_waker(std::task::Waker::noop());
    Pin::new(future).poll(&mut cx).is_pending()
}
