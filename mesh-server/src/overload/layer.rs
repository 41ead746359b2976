//! The limit on running requests as a Tower layer of its own.

use super::{Entered, Limiter, Permit, Waiting};
use crate::reply::{Reply, ReplyOr};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use mesh_core::{
    deadline,
    grpc::is_grpc,
    overload::{QueueLimits, RequestsMax},
    time::Time,
};
use mesh_runtime::{Clock, Context};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// Lets so many requests run at one time, makes a few more wait, and answers 503 to the others at once.
///
/// A request runs until the body of its answer has ended or is dropped. One whose deadline (`grpc-timeout`, else
/// `x-envoy-expected-rq-timeout-ms`) leaves no time to wait is refused at once. All services of one layer, and their
/// clones, share the limit. They are always ready: the inner service's readiness is asked for when there is a place.
///
/// ```
/// use mesh_core::overload::RequestsMax;
/// use mesh_server::RequestsMaxLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = ServiceBuilder::new()
///     .layer(RequestsMaxLayer::new(RequestsMax::Fixed(1)).queue(|queue| queue.waiting_max = 0))
///     .service(service_fn(|_: http::Request<()>| async {
///         Ok::<_, std::convert::Infallible>(http::Response::new("hello".to_owned()))
///     }));
/// let first = service.clone().oneshot(http::Request::new(())).await?;
/// // Its body is still to be read.
/// let second = service.clone().oneshot(http::Request::new(())).await?;
/// assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 503));
/// assert_eq!(second.headers()["x-envoy-overloaded"], "true");
/// drop(first);
/// assert_eq!(service.oneshot(http::Request::new(())).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RequestsMaxLayer {
    max: RequestsMax,
    queue: QueueLimits,
    limiter: Arc<Limiter>,
}

/// A service of which only so many requests run at one time.
#[derive(Clone, Debug)]
pub struct RequestsMaxService<S> {
    limiter: Arc<Limiter>,
    inner: S,
}

impl RequestsMaxLayer {
    /// Returns the layer that lets `max` requests run.
    pub fn new(max: RequestsMax) -> Self {
        Self::of(max, QueueLimits::default(), Clock::start())
    }

    /// Changes who may wait: `.queue(|queue| queue.waiting_max = 100)`.
    #[must_use]
    pub fn queue(self, change: impl FnOnce(&mut QueueLimits)) -> Self {
        let mut queue = self.queue;
        change(&mut queue);
        Self::of(self.max, queue, self.limiter.clock())
    }

    /// Sets the clock on which the deadline of a [`Context`] in a request's extensions is counted: the one that
    /// [`crate::ReadContext`] before it has. A request without a context brings its deadline in its headers.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self::of(self.max, self.queue, clock)
    }

    fn of(max: RequestsMax, queue: QueueLimits, clock: Clock) -> Self {
        Self { max, queue, limiter: Limiter::new(Some(max), queue, clock) }
    }
}

impl<S> Layer<S> for RequestsMaxLayer {
    type Service = RequestsMaxService<S>;

    fn layer(&self, inner: S) -> RequestsMaxService<S> {
        RequestsMaxService { limiter: Arc::clone(&self.limiter), inner }
    }
}

impl<S, B, R> Service<Request<B>> for RequestsMaxService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
{
    type Response = Response<Held<ReplyOr<R>>>;
    type Error = S::Error;
    type Future = RequestsMaxFuture<S, B>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let grpc = is_grpc(request.headers());
        let call = match self.limiter.enter(deadline_of(&request, self.limiter.clock())) {
            Entered::Refused => Call::Refused,
            Entered::Admitted(permit) => self.asked(request, None, Some(permit)),
            Entered::Waiting(waiting) => self.asked(request, Some(waiting), None),
        };
        RequestsMaxFuture { call, grpc }
    }
}

impl<S> RequestsMaxService<S> {
    fn asked<B>(&self, request: Request<B>, waiting: Option<Waiting>, permit: Option<Permit>) -> Call<S, B>
    where
        S: Service<Request<B>> + Clone,
    {
        Call::Asked { waiting, permit, inner: self.inner.clone(), request: Some(request) }
    }
}

fn deadline_of<B>(request: &Request<B>, clock: Clock) -> Option<Time> {
    match request.extensions().get::<Context>() {
        Some(context) => context.deadline(),
        None => Some(deadline::of_headers(request.headers(), clock.now())),
    }
}

pin_project! {
    /// The answer of a [`RequestsMaxService`].
    #[derive(Debug)]
    #[must_use = "a future does nothing until it is polled"]
    pub struct RequestsMaxFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        call: Call<S, B>,
        grpc: bool,
    }
}

pin_project! {
    //  Asked --place, ready--> Answering
    #[project = CallProjected]
    enum Call<S, B>
    where
        S: Service<Request<B>>,
    {
        Refused,
        Asked { waiting: Option<Waiting>, permit: Option<Permit>, inner: S, request: Option<Request<B>> },
        Answering { permit: Option<Permit>, #[pin] answer: S::Future },
    }
}

impl<S, B> fmt::Debug for Call<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "Refused",
            Self::Asked { .. } => "Asked",
            Self::Answering { .. } => "Answering",
        })
    }
}

impl<S, B, R> Future for RequestsMaxFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<Held<ReplyOr<R>>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.call.as_mut().project() {
                CallProjected::Refused => return Poll::Ready(Ok(overloaded(*this.grpc))),
                CallProjected::Asked { waiting, permit, inner, request } => {
                    match waiting.as_mut().map(|waiting| waiting.poll(cx)) {
                        None => {}
                        Some(Poll::Ready(Ok(place))) => (*permit, *waiting) = (Some(place), None),
                        Some(Poll::Ready(Err(_))) => {
                            this.call.set(Call::Refused);
                            continue;
                        }
                        Some(Poll::Pending) => return Poll::Pending,
                    }
                    ready!(inner.poll_ready(cx))?;
                    let Some(request) = request.take() else { return Poll::Pending };
                    let (permit, answer) = (permit.take(), inner.call(request));
                    this.call.set(Call::Answering { permit, answer });
                }
                CallProjected::Answering { permit, answer } => {
                    let response = ready!(answer.poll(cx))?;
                    let permit = permit.take();
                    return Poll::Ready(Ok(
                        response.map(|body| Held { body: ReplyOr::handler(body), permit })
                    ));
                }
            }
        }
    }
}

fn overloaded<B>(grpc: bool) -> Response<Held<ReplyOr<B>>> {
    Reply::Overloaded.into_response(grpc).map(|body| Held { body, permit: None })
}

pin_project! {
    /// A body that holds the place of its request until it has ended or is dropped.
    #[derive(Debug)]
    pub struct Held<B> {
        #[pin]
        body: B,
        permit: Option<Permit>,
    }
}

impl<B: Body<Data = Bytes>> Body for Held<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let mut body = this.body;
        let frame = ready!(body.as_mut().poll_frame(cx));
        // Who knows the length does not ask for more than that.
        let ended = frame.is_none() || body.is_end_stream();
        if let Some(permit) = this.permit.take_if(|_| ended) {
            permit.on_end(true);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
