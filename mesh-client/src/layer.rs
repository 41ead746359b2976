//! The steps of the mesh as Tower layers, each for use alone with a static policy.
//!
//! They are the same code that [`MeshClient`](crate::MeshClient) runs with the policy of a route. Each wraps any
//! `Service<http::Request<RequestBody>>`, is itself a `Service<http::Request<B>>` for any body, is `Clone` if the
//! service is, and is always ready: the service below is waited for in the call.

use crate::{
    Error, RequestBody,
    body::BoxError,
    breaker::{Breaker, Limited},
    error::Cause,
    retry::{Retried, Retry},
    step::Step,
    timeout::{Bounded, Bounds, Timeout},
};
mod balance;
mod fault;
mod mirror;
mod route;

pub use crate::{body::Held, timeout::TimedBody};
pub use balance::BalanceService;
use bytes::Bytes;
pub use fault::{FaultLayer, FaultService};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use mesh_core::{
    health::{ClusterState, Limits, Permit},
    retry::{Budget, Ceiling, GiveUp, RetryPolicy},
    time::Time,
};
use mesh_runtime::Clock;
pub use mirror::{MirrorLayer, MirrorService};
use pin_project_lite::pin_project;
pub use route::{Destination, RouteLayer, RouteService, RoutedBody};
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// Bounds a call from the end of its request to the end of the answer's body.
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use mesh_client::{RequestBody, layer::TimeoutLayer};
/// use std::{convert::Infallible, time::Duration};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let slow = service_fn(|_: Request<RequestBody>| async {
///     tokio::time::sleep(Duration::from_secs(3)).await;
///     Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from("late"))))
/// });
/// let service = TimeoutLayer::new(Duration::from_secs(1)).layer(slow);
/// let error = service.oneshot(Request::new(RequestBody::empty())).await.unwrap_err();
/// assert!(error.is_timeout());
/// assert_eq!(error.into_response().status(), 504);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    timeout: Duration,
}

/// The service of [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct TimeoutService<S> {
    inner: Below<S>,
    policy: TimeoutLayer,
}

impl TimeoutLayer {
    /// Returns a layer that gives a call `timeout`.
    pub const fn new(timeout: Duration) -> Self {
        Self { timeout }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = TimeoutService<S>;

    fn layer(&self, inner: S) -> TimeoutService<S> {
        TimeoutService { inner: Below(inner), policy: *self }
    }
}

impl Bounded for TimeoutLayer {
    fn bounds(&self) -> Bounds {
        Bounds { timeout: Some(self.timeout), deadline: None }
    }
}

/// Makes failed attempts again, with the same bytes, as a [`RetryPolicy`] says and a retry budget allows.
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use mesh_client::{RequestBody, layer::RetryLayer};
/// use mesh_core::retry::{RetryOn, RetryPolicy};
/// use std::{convert::Infallible, sync::atomic::{AtomicU32, Ordering::Relaxed}};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let flaky = service_fn(|_: Request<RequestBody>| async {
///     let status = if CALLS.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
///     let body = Full::new(bytes::Bytes::new());
///     Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
/// });
/// let policy = RetryPolicy { on: RetryOn::parse("503")?, explicit: true, ..RetryPolicy::default() };
/// let service = RetryLayer::new(policy).layer(flaky);
/// let response = service.oneshot(Request::new(RequestBody::empty())).await?;
/// assert_eq!(response.status(), 200);
/// assert_eq!(CALLS.load(Relaxed), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer {
    policy: Arc<StaticRetry>,
}

/// The service of [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct RetryService<S> {
    inner: Below<S>,
    policy: Arc<StaticRetry>,
}

#[derive(Clone, Debug)]
struct StaticRetry {
    policy: RetryPolicy,
    budget: Option<Arc<Budget>>,
    in_use: Arc<ClusterState>,
    limits: Limits,
    clock: Clock,
}

impl RetryLayer {
    /// Returns a layer with its own retry budget: futile retries stop at 20 % of the calls.
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy: Arc::new(StaticRetry {
                policy,
                budget: Some(Arc::default()),
                in_use: Arc::default(),
                limits: Limits::default(),
                clock: Clock::start(),
            }),
        }
    }

    /// Shares `budget` with whoever else has it; `None` switches it off.
    #[must_use]
    pub fn budget(self, budget: Option<Arc<Budget>>) -> Self {
        let policy = StaticRetry { budget, ..(*self.policy).clone() };
        Self { policy: Arc::new(policy) }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = RetryService<S>;

    fn layer(&self, inner: S) -> RetryService<S> {
        RetryService { inner: Below(inner), policy: Arc::clone(&self.policy) }
    }
}

impl Retried for StaticRetry {
    fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    fn ceiling(&self) -> Ceiling<'_> {
        let Self { budget, in_use, limits, .. } = self;
        Ceiling { budget: budget.as_ref(), written: None, cluster: in_use, limits }
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn deadline(&self) -> Time {
        Time::MAX
    }

    fn on_give_up(&self, _: GiveUp) {}
}

/// Refuses calls beyond a number under way at a time; a call is under way until its answer's body ends.
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use mesh_client::{RequestBody, layer::BreakerLayer};
/// use std::convert::Infallible;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let echo = service_fn(|_: Request<RequestBody>| async {
///     Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from("body"))))
/// });
/// let service = BreakerLayer::new(1).layer(echo);
/// let first = service.clone().oneshot(Request::new(RequestBody::empty())).await?;
/// let second = service.clone().oneshot(Request::new(RequestBody::empty())).await;
/// assert!(second.unwrap_err().is_overload());
/// drop(first);
/// assert!(service.oneshot(Request::new(RequestBody::empty())).await.is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BreakerLayer {
    policy: Arc<StaticLimits>,
}

/// The service of [`BreakerLayer`].
#[derive(Clone, Debug)]
pub struct BreakerService<S> {
    inner: Below<S>,
    policy: Arc<StaticLimits>,
}

#[derive(Debug)]
struct StaticLimits {
    limits: Limits,
    in_use: Arc<ClusterState>,
}

impl BreakerLayer {
    /// Returns a layer that lets `requests_max` calls be under way, over all the services it wraps and their clones.
    pub fn new(requests_max: u32) -> Self {
        let limits = Limits { requests_max, ..Limits::default() };
        Self { policy: Arc::new(StaticLimits { limits, in_use: Arc::default() }) }
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = BreakerService<S>;

    fn layer(&self, inner: S) -> BreakerService<S> {
        BreakerService { inner: Below(inner), policy: Arc::clone(&self.policy) }
    }
}

impl Limited for StaticLimits {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn in_use(&self) -> &Arc<ClusterState> {
        &self.in_use
    }

    fn name(&self) -> &str {
        "the service"
    }
}

macro_rules! service {
    ($service:ident, $step:ident, $policy:ident => $beside:expr, $body:ty) => {
        impl<S, B, R> Service<Request<B>> for $service<S>
        where
            S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + Sync + 'static,
            S::Future: Send,
            S::Error: Into<BoxError>,
            B: Body<Data = Bytes> + Send + 'static,
            B::Error: Into<BoxError>,
            R: Body<Data = Bytes> + Send + 'static,
            R::Error: Into<BoxError>,
        {
            type Response = Response<$body>;
            type Error = Error;
            type Future = Answer<$body>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: Request<B>) -> Self::Future {
                let step = $step { inner: self.inner.clone() };
                let $policy = self.policy.clone();
                let request = request.map(RequestBody::new);
                Answer(Box::pin(async move { step.run(request, $beside).await }))
            }
        }
    };
}

service!(TimeoutService, Timeout, policy => &policy, TimedBody<AnswerBody<R>>);
service!(RetryService, Retry, policy => &*policy, AnswerBody<R>);
service!(BreakerService, Breaker, policy => &*policy, Held<AnswerBody<R>, Permit>);

/// The future of a layer that is used alone. It is boxed, once.
pub struct Answer<B>(Pin<Box<dyn Future<Output = Result<Response<B>, Error>> + Send>>);

impl<B> Future for Answer<B> {
    type Output = Result<Response<B>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<B> fmt::Debug for Answer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

/// The service below a layer, as the last step.
#[derive(Clone, Debug)]
struct Below<S>(S);

impl<D, S, R> Step<D> for Below<S>
where
    D: Send,
    S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + Sync,
    S::Future: Send,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send,
    R::Error: Into<BoxError>,
{
    type Body = AnswerBody<R>;

    async fn run(&self, request: Request<RequestBody>, _: D) -> Result<Response<AnswerBody<R>>, Error> {
        let mut service = self.0.clone();
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(below)?;
        let response = service.call(request).await.map_err(below)?;
        Ok(response.map(|body| AnswerBody { body }))
    }
}

pin_project! {
    /// The body of the service below, with the error of this crate.
    #[derive(Debug)]
    pub struct AnswerBody<R> {
        #[pin]
        body: R,
    }
}

impl<R> Body for AnswerBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.project().body.poll_frame(cx).map_err(below)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns the error of the service below: our own as it is, others as the source of one.
fn below(error: impl Into<BoxError>) -> Error {
    match error.into().downcast::<Error>() {
        Ok(own) => *own,
        Err(other) => Error::new(Cause::Service, format!("the service below failed: {other}"))
            .with_source(Arc::from(other)),
    }
}

#[cfg(test)]
mod tests;
