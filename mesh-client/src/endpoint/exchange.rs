//! One request for one answer, on a connection of a pool.

use super::{EndpointBody, failure::error_of};
use crate::{
    Error,
    body::RequestBody,
    error::Cause,
    journal::Journal,
    pool::{Lease, Pool, Terms},
    timeout::{Alarm, Bounds},
    wire,
};
use http::{Request, Response, uri::Authority};
use http_body::Body;
use mesh_core::registry::Address;
use std::{sync::Arc, time::Duration};

/// The exchange of one request for one answer on a connection of one pool.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) pool: &'a Arc<Pool>,
    pub(crate) terms: &'a Terms,
    pub(crate) authority: &'a Authority,
    pub(crate) journal: &'a Journal,
    pub(crate) per_try_timeout: Option<Duration>,
    /// Whether another attempt of the call may run beside it.
    pub(crate) hedged: bool,
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
        let request = wire::form(request, self.authority, lease.is_h2(), self.pool.scheme())?;
        let bounds = Bounds { timeout: self.per_try_timeout, deadline: None };
        // From here, not from the beginning of the attempt: making a connection has a bound of its own.
        // spec: envoy source/common/router/upstream_request.cc setupPerTryTimeout
        let (request, mut alarm) = Alarm::set(bounds, request);
        self.journal.on_sending();
        let kept = lease.is_kept();
        let answer = alarm.within(lease.send(request)).await;
        // Of two attempts the one that ends last is the one whose end stands.
        if let (true, Some(label)) = (self.hedged, lease.label()) {
            self.journal.on_endpoint(label);
        }
        match answer {
            Ok(Ok(response)) => {
                Ok(Sent::Answered(response.map(|body| EndpointBody::new(body, lease, had_body))))
            }
            Ok(Err(refused)) => {
                if refused.unsent.is_some() {
                    self.journal.on_unsent();
                }
                match refused.unsent {
                    Some(unsent) if kept => Ok(Sent::Unsent(unsent)),
                    Some(_) => Err(self.pool.closed(refused.error)),
                    None => Err(self.broken(&lease, refused.error, kept)),
                }
            }
            Err(_) => Err(self.late().after_sending(true, false)),
        }
    }

    fn broken(&self, lease: &Lease, error: hyper::Error, kept: bool) -> Error {
        let error = error_of(lease.label(), error);
        let stale = kept && !lease.is_h2() && error.cause() == Cause::Termination;
        if stale {
            self.journal.on_stale();
        }
        error.after_sending(true, stale)
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
