//! Balancing over any services, and ejection of those that fail.

use super::{Answer, AnswerBody, Below, Held};
use crate::{Error, RequestBody, body::BoxError, error::Cause, retry::outcome_of, step::Step as _};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use mesh_core::{
    balance::{self, Endpoint, EndpointSet, Policy, Security, SetPolicy, Wish},
    health::{ClusterState, InFlight, OutlierPolicy},
    registry::{Address, Locality},
};
use mesh_runtime::{Clock, ThreadDice};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// Sends each request to one of several services, and to none for a while that fails too often.
///
/// A service is chosen as an endpoint is, by what it has in flight; a request is in flight until the body of its answer
/// ends. One that never answers has not failed: a [`TimeoutLayer`](super::TimeoutLayer) around each service says when it has.
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use mesh_client::{RequestBody, layer::BalanceService};
/// use mesh_core::{balance::Policy, health::OutlierPolicy};
/// use std::convert::Infallible;
/// use tower::{ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let answering = |status: u16| {
///     service_fn(move |_: Request<RequestBody>| async move {
///         let answer = Response::builder().status(status);
///         Ok::<_, Infallible>(answer.body(Full::new(bytes::Bytes::new())).unwrap())
///     })
/// };
/// let outlier = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierPolicy::default() };
/// let service = BalanceService::new(
///     [("good", answering(200)), ("bad", answering(500))],
///     Policy::LeastRequest,
///     Some(outlier),
/// );
/// let mut failed = 0;
/// for _ in 0..20 {
///     let answer = service.clone().oneshot(Request::new(RequestBody::empty())).await.unwrap();
///     failed += u32::from(answer.status() == 500);
/// }
/// assert!(failed <= 1);
/// # }
/// ```
pub struct BalanceService<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    services: Box<[Below<S>]>,
    /// One for each service, in the same order.
    endpoints: EndpointSet,
    outlier: Option<OutlierPolicy>,
    state: Arc<ClusterState>,
    clock: Clock,
}

impl<S> BalanceService<S> {
    /// Returns a service that chooses among `services` by `policy`, and ejects them by `outlier` if there is one. Their names
    /// are for people. What goes by a hash goes by chance here, where nothing is hashed.
    pub fn new<N: Into<Arc<str>>>(
        services: impl IntoIterator<Item = (N, S)>,
        policy: Policy,
        outlier: Option<OutlierPolicy>,
    ) -> Self {
        let (endpoints, services): (Vec<_>, Vec<_>) =
            services.into_iter().map(|(name, service)| (endpoint(name.into()), Below(service))).unzip();
        let min_health_percent = outlier.as_ref().map_or(0, |outlier| outlier.min_health_percent);
        let policy = SetPolicy { policy, min_health_percent, ..SetPolicy::default() };
        Self {
            shared: Arc::new(Shared {
                services: services.into(),
                endpoints: EndpointSet::build(endpoints, &policy),
                outlier,
                state: Arc::default(),
                clock: Clock::start(),
            }),
        }
    }

    /// Returns how many requests are in flight, over all services.
    pub fn in_flight(&self) -> u32 {
        self.shared.endpoints.as_slice().iter().map(|endpoint| endpoint.state.in_flight()).sum()
    }
}

fn endpoint(name: Arc<str>) -> Endpoint {
    Endpoint {
        address: Address::Name(name, 0),
        labels: Arc::default(),
        locality: Locality::default(),
        weight: 1,
        security: Security::Plaintext,
        state: Arc::default(),
    }
}

impl<S> Shared<S> {
    fn choose(&self) -> Result<(&Below<S>, InFlight), Error> {
        let now = self.clock.now();
        let index = balance::pick(&self.endpoints, &Wish::default(), now, &mut ThreadDice);
        let chosen =
            index.and_then(|index| Some((self.services.get(index)?, self.endpoints.as_slice().get(index)?)));
        let (service, endpoint) = chosen.ok_or_else(|| {
            let (all, healthy) = (self.endpoints.len(), self.endpoints.healthy(now));
            let message = format!("no healthy service (UH): {all} services, {} ejected", all - healthy);
            Error::new(Cause::NoEndpoints, message)
        })?;
        Ok((service, endpoint.state.begin(now)))
    }

    fn on_answer<R>(&self, in_flight: &InFlight, answer: &Result<Response<R>, Error>) {
        let now = self.clock.now();
        if answer.as_ref().is_ok_and(|response| !response.status().is_server_error()) {
            in_flight.on_head(now);
        }
        if let (Some(policy), Some(verdict)) = (&self.outlier, outcome_of(answer).verdict()) {
            self.state.on_time(policy, &self.endpoints, now);
            self.state.on_answer(in_flight, verdict, policy, &self.endpoints, now);
        }
    }
}

impl<S, B, R> Service<Request<B>> for BalanceService<S>
where
    S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Held<AnswerBody<R>, InFlight>>;
    type Error = Error;
    type Future = Answer<Held<AnswerBody<R>, InFlight>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let request = request.map(RequestBody::new);
        Answer(Box::pin(async move {
            let (service, in_flight) = shared.choose()?;
            let answer = service.run(request, ()).await;
            shared.on_answer(&in_flight, &answer);
            answer.map(|response| response.map(|body| Held::new(body, in_flight)))
        }))
    }
}

impl<S> Clone for BalanceService<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for BalanceService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceService").field("endpoints", &self.shared.endpoints).finish_non_exhaustive()
    }
}
