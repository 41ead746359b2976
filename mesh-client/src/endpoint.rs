//! One attempt at one endpoint: a connection of its pool, the exchange on it, and what that says of the endpoint.

use crate::{
    Error,
    body::RequestBody,
    error::Cause,
    journal::Journal,
    path::Path,
    plan::Plans,
    pool::{Lease, Pool, Terms},
    step::Step,
    timeout::{Alarm, Bounds},
    wire,
};
use bytes::Bytes;
use http::{Request, Response, uri::Authority};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mesh_core::{
    health::{Change, InFlight},
    registry::Address,
    retry::Outcome,
};
use std::{
    error::Error as StdError,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

/// The step that sends.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) plans: Arc<Plans>,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) path: &'a Path<'a>,
    /// The endpoint chosen.
    pub(crate) index: usize,
    /// From 1.
    pub(crate) number: u32,
}

impl<'a> Step<Attempt<'a>> for Endpoint {
    type Body = EndpointBody;

    async fn run(
        &self,
        mut request: Request<RequestBody>,
        attempt: Attempt<'a>,
    ) -> Result<Response<EndpointBody>, Error> {
        let Attempt { path, index, number } = attempt;
        let endpoint = &path.cluster.endpoints.as_slice()[index];
        let watched = Watched { path, in_flight: Some(endpoint.state.begin(path.clock.now())) };
        let connections = path.plan.connections(path.id);
        path.journal.on_endpoint(&connections.slot(index).label);
        wire::announce(request.headers_mut(), path, number);
        let exchange = Exchange {
            pool: path.plan.pool(path.id, index, &self.plans.pools),
            terms: &connections.terms,
            authority: &path.authority,
            journal: &path.journal,
            per_try_timeout: per_try_timeout(path),
        };
        let answer = exchange.run(request).await;
        let in_flight = watched.on_end(&answer);
        answer.map(|response| response.map(|body| body.counted(in_flight)))
    }
}

/// One that would not end before the whole call is ignored.
// spec: istio-semantics 2.1, "retries.perTryTimeout"
fn per_try_timeout(path: &Path<'_>) -> Option<Duration> {
    let limit = path.forward.retry.per_try_timeout?;
    path.bounds.timeout.is_none_or(|timeout| limit < timeout).then_some(limit)
}

/// An attempt as the outlier detection sees it.
struct Watched<'a> {
    path: &'a Path<'a>,
    in_flight: Option<InFlight>,
}

impl Watched<'_> {
    /// The attempt has ended by itself. Returns the count, which goes on until the body ends.
    fn on_end(mut self, answer: &Result<Response<EndpointBody>, Error>) -> Option<InFlight> {
        let in_flight = self.in_flight.take();
        match answer {
            Ok(response) => self.report(&in_flight, Outcome::of_head(response.status(), response.headers())),
            // That an idle connection was closed is no failure of who closed it.
            Err(error) if error.is_stale() => {}
            Err(error) => self.report(&in_flight, error.outcome()),
        }
        in_flight
    }

    fn report(&self, in_flight: &Option<InFlight>, outcome: Outcome) {
        let cluster = self.path.cluster;
        let (Some(policy), Some(in_flight), Some(verdict)) = (&cluster.outlier, in_flight, outcome.verdict())
        else {
            return;
        };
        let now = self.path.clock.now();
        match cluster.state.on_answer(in_flight, verdict, policy, &cluster.endpoints, now) {
            Change::Ejected { until, cause } => tracing::info!(
                cluster = %cluster.name,
                endpoint = self.path.journal.account().info.endpoint.as_deref(),
                cause = cause.as_str(),
                seconds = now.until(until).as_secs(),
                "endpoint ejected"
            ),
            Change::Spared { cause } => tracing::debug!(
                cluster = %cluster.name,
                cause = cause.as_str(),
                "endpoint not ejected: as many are as maxEjectionPercent allows"
            ),
            Change::None => {}
        }
    }
}

impl Drop for Watched<'_> {
    /// Cancelled: by the timeout of the call, which is held against the endpoint, or by a caller that went away.
    fn drop(&mut self) {
        let in_flight = self.in_flight.take();
        if in_flight.is_some() && self.path.journal.is_elapsed() {
            self.report(&in_flight, Outcome::Timeout);
        }
    }
}

/// The exchange of one request for one answer on a connection of one pool.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) pool: &'a Arc<Pool>,
    pub(crate) terms: &'a Terms,
    pub(crate) authority: &'a Authority,
    pub(crate) journal: &'a Journal,
    pub(crate) per_try_timeout: Option<Duration>,
}

impl Exchange<'_> {
    pub(crate) async fn run(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<EndpointBody>, Error> {
        let mut closed_early = 0;
        loop {
            let lease = self.lease(closed_early).await?;
            // What a name stands for is known only now.
            if let (Address::Name(..), Some(label)) = (self.pool.address(), lease.label()) {
                self.journal.on_endpoint(label);
            }
            match self.send(lease, request).await? {
                Sent::Answered(response) => return Ok(response),
                Sent::Unsent(unsent) => request = unsent,
            }
            closed_early += 1;
        }
    }

    /// A peer that closes idle connections may have closed them all: after two of them a new one is made.
    async fn lease(&self, closed_early: u32) -> Result<Lease, Error> {
        if closed_early < 2 && !self.journal.is_stale() {
            self.pool.checkout(self.terms).await
        } else {
            self.pool.checkout_fresh(self.terms).await
        }
    }

    async fn send(&self, mut lease: Lease, request: Request<RequestBody>) -> Result<Sent, Error> {
        let had_body = !request.body().is_end_stream();
        let request = wire::form(request, self.authority, lease.is_h2())?;
        let bounds = Bounds { timeout: self.per_try_timeout, deadline: None };
        // From here, not from the beginning of the attempt: making a connection has a bound of its own.
        // spec: istio-semantics 4, "Per-try timer starts when the request is complete (or when the pool is ready)"
        let (request, mut alarm) = Alarm::set(bounds, request);
        let sent_before = self.journal.on_sending();
        let reused = lease.is_reused();
        match alarm.within(lease.send(request)).await {
            Ok(Ok(response)) => {
                Ok(Sent::Answered(response.map(|body| EndpointBody::new(body, lease, had_body))))
            }
            Ok(Err(refused)) => {
                let sent = refused.unsent.is_none();
                if !sent {
                    self.journal.on_unsent(sent_before);
                }
                match refused.unsent {
                    Some(unsent) if reused => Ok(Sent::Unsent(unsent)),
                    _ => Err(self.broken(&lease, refused.error, sent, reused)),
                }
            }
            Err(_) => Err(self.late().after_sending(true, false)),
        }
    }

    fn broken(&self, lease: &Lease, error: hyper::Error, sent: bool, reused: bool) -> Error {
        let error = error_of(lease.label(), error);
        let stale = sent && reused && !lease.is_h2() && error.cause() == Cause::Termination;
        if stale {
            self.journal.on_stale();
        }
        error.after_sending(sent, stale)
    }

    fn late(&self) -> Error {
        let limit = self.per_try_timeout.unwrap_or_default();
        Error::new(Cause::TryTimeout, format!("no answer within the perTryTimeout of {limit:?} (UT)"))
    }
}

/// What became of a request on one connection.
enum Sent {
    Answered(Response<EndpointBody>),
    /// The connection was closed before it took a byte.
    Unsent(Request<RequestBody>),
}

/// The body of an answer, and the connection it comes from.
#[derive(Debug)]
pub(crate) struct EndpointBody {
    body: Incoming,
    held: Option<Holding>,
}

/// Dropped in this order when the body ends.
#[derive(Debug)]
struct Holding {
    in_flight: Option<InFlight>,
    lease: Lease,
    had_body: bool,
}

impl EndpointBody {
    fn new(body: Incoming, lease: Lease, had_body: bool) -> Self {
        let mut this = Self { body, held: Some(Holding { in_flight: None, lease, had_body }) };
        if this.body.is_end_stream() {
            this.on_end();
        }
        this
    }

    fn counted(mut self, in_flight: Option<InFlight>) -> Self {
        if let Some(held) = &mut self.held {
            held.in_flight = in_flight;
        }
        self
    }

    fn on_end(&mut self) {
        if let Some(mut held) = self.held.take() {
            held.lease.on_end(!held.had_body);
        }
    }

    fn on_error(&mut self, error: hyper::Error) -> Error {
        let held = self.held.take();
        let error = error_of(held.as_ref().and_then(|held| held.lease.label()), error);
        error.after_sending(true, false)
    }
}

impl Body for EndpointBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Err(error)) => Some(Err(self.on_error(error))),
            Some(Ok(frame)) => {
                if self.body.is_end_stream() {
                    self.on_end();
                }
                Some(Ok(frame))
            }
            None => {
                self.on_end();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns what `error` means for the call.
fn error_of(endpoint: Option<&Arc<str>>, error: hyper::Error) -> Error {
    let cause = cause_of(&error);
    let what = match cause {
        Cause::RefusedStream => "refused the stream",
        Cause::RemoteReset => "reset the stream",
        Cause::Protocol => "broke the protocol",
        Cause::Body => "was not sent the whole request, as its body failed",
        _ => "closed the connection",
    };
    let flag = cause.flag().map_or_else(String::new, |flag| format!(" ({flag:?})"));
    let reason = innermost(&error);
    let message = format!("{} {what}{flag}: {reason}", endpoint.map_or("the peer", |label| label));
    Error::new(cause, message).with_source(Arc::new(error))
}

// spec: istio-semantics 3.1
fn cause_of(error: &hyper::Error) -> Cause {
    if let Some(h2) = find::<h2::Error>(error) {
        return cause_of_h2(h2);
    }
    if error.is_parse() {
        Cause::Protocol
    } else if error.is_user() {
        Cause::Body
    } else {
        Cause::Termination
    }
}

fn cause_of_h2(error: &h2::Error) -> Cause {
    match error.reason() {
        _ if error.is_io() => Cause::Termination,
        Some(h2::Reason::REFUSED_STREAM) => Cause::RefusedStream,
        // Streams that the peer has begun to handle go on after a GOAWAY without error; the others end like this.
        Some(h2::Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => Cause::RefusedStream,
        Some(_) if error.is_remote() => Cause::RemoteReset,
        Some(_) if error.is_library() => Cause::Protocol,
        // hyper resets a stream only because the body for it failed.
        _ => Cause::Body,
    }
}

/// Returns `error` and what it was caused by, outermost first.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn innermost(error: &hyper::Error) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}
