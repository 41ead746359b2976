//! Sends copies of a request to other destinations, and throws their answers away.
//!
//! A copy goes out as the request itself does, once, without retries; the caller never waits for one.
// spec: envoy config.route.v3.RouteAction.RequestMirrorPolicy

use crate::{
    affinity::Affinity,
    body::{RequestBody, tee},
    journal::Journal,
    path::Path,
    plan::Plan,
    route::Below,
    step::Step as _,
    timeout::Bounds,
};
use http::{Request, uri::Authority};
use http_body::Body;
use http_body_util::BodyExt as _;
use mesh_core::{
    deadline,
    retry::RetryPolicy,
    route::{ClusterId, Mirror},
    time::Time,
};
use mesh_runtime::{Clock, ThreadDice};
use std::{
    pin::pin,
    sync::{Arc, LazyLock, OnceLock},
    time::Duration,
};
use tokio::sync::Semaphore;

/// What sends copies. At most [`UNDER_WAY_MAX`] are under way; more are not made.
#[derive(Clone, Debug)]
pub(crate) struct Mirrors {
    below: Below,
    clock: Clock,
    room: Arc<Semaphore>,
}

/// What a copy has in common with its request.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) plan: Arc<Plan>,
    pub(crate) authority: Authority,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grpc: bool,
    pub(crate) https: bool,
}

impl Mirrors {
    pub(crate) fn new(below: Below, clock: Clock) -> Self {
        Self { below, clock, room: Arc::new(Semaphore::new(UNDER_WAY_MAX)) }
    }

    /// Begins to send copies of `request` to those of `mirrors` that are drawn; returns the request, whose body the
    /// copies read along.
    pub(crate) fn send(
        &self,
        mirrors: &[Mirror],
        request: Request<RequestBody>,
        origin: &Origin,
    ) -> Request<RequestBody> {
        let drawn = mirrors.iter().filter(|mirror| mirror.chance.happens(&mut ThreadDice));
        let clusters: Vec<_> = drawn.filter_map(|mirror| mirror.target.cluster).collect();
        let (head, body) = request.into_parts();
        let (body, copies) = tee(body, clusters.len());
        for (id, copy) in clusters.into_iter().zip(copies) {
            let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
                tracing::debug!("a copy is not sent: {UNDER_WAY_MAX} are under way");
                continue;
            };
            let (mirrors, origin) = (self.clone(), origin.clone());
            let request = Request::from_parts(head.clone(), copy);
            tokio::spawn(async move {
                mirrors.carry(id, request, origin).await;
                drop(room);
            });
        }
        Request::from_parts(head, body)
    }

    async fn carry(&self, id: ClusterId, request: Request<RequestBody>, origin: Origin) {
        let timeout = origin.timeout.unwrap_or(TIMEOUT);
        let path = Path {
            plan: &origin.plan,
            id,
            cluster: origin.plan.snapshot().cluster(id),
            retry: &NEVER,
            authority: origin.authority.clone(),
            affinity: Affinity::default(),
            journal: Journal::default(),
            clock: self.clock,
            bounds: Bounds { timeout: Some(timeout), deadline: None },
            until: deadline::shorten(Time::MAX, self.clock.now(), Some(timeout)),
            deadline: Time::MAX,
            upload: OnceLock::new(),
            grpc: origin.grpc,
            https: origin.https,
        };
        match self.below.run(request, &path).await {
            Ok(answer) => discard(answer.into_body()).await,
            Err(error) => tracing::debug!("a copy of a request failed: {error}"),
        }
    }
}

/// Reads `body` to its end, or the connection could not be used again; keeps nothing of it.
pub(crate) async fn discard<B: Body>(body: B) {
    let mut body = pin!(body);
    while let Some(Ok(_)) = body.frame().await {}
}

static NEVER: LazyLock<RetryPolicy> =
    LazyLock::new(|| RetryPolicy { retries_max: 0, ..RetryPolicy::default() });

/// Nobody waits for a copy, so nobody else would end it where the route has no timeout. Envoy's shadow requests have the
/// route's; 15 s is its timeout of a route that says nothing.
// spec: envoy config.route.v3.RouteAction.timeout
pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);

/// A mirror that hangs must not gather requests without end; each costs a task and what its body lags behind.
pub(crate) const UNDER_WAY_MAX: usize = 1024;
