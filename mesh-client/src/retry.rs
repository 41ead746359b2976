//! Makes a failed attempt again, if `mesh_core::retry` says so: it only waits, and sends the same bytes once more.

mod hedge;
mod replay;

pub(crate) use replay::{LOG_BYTES_MAX, Replay, ReplayBody};

use crate::{Error, body::RequestBody, error::Cause, step::Step};
use http::{Method, Request, Response, request::Parts};
use http_body::Body;
use mesh_core::{
    retry::{Attempt, Ceiling, GiveUp, Outcome, PushBack, RetryPolicy, Underway, Verdict},
    time::Time,
};
use mesh_runtime::{Clock, ThreadDice};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::sleep_until;

/// Where the rules for a call's retries come from.
pub(crate) trait Retried {
    /// Returns the policy.
    fn policy(&self) -> &RetryPolicy;

    /// Returns what limits the retries of all calls together.
    fn ceiling(&self) -> Ceiling<'_>;

    /// Returns the clock.
    fn clock(&self) -> Clock;

    /// Returns by when the call must be complete.
    fn deadline(&self) -> Time;

    /// The last attempt stands, and why.
    fn on_give_up(&self, reason: GiveUp);
}

/// The step that makes failed attempts again.
#[derive(Clone, Debug)]
pub(crate) struct Retry<S> {
    pub(crate) inner: S,
}

impl<'a, D, S> Step<&'a D> for Retry<S>
where
    D: Retried + Sync,
    S: Step<&'a D>,
    S::Body: Send,
{
    type Body = S::Body;

    async fn run(&self, request: Request<RequestBody>, beside: &'a D) -> Result<Response<S::Body>, Error> {
        let (policy, ceiling) = (beside.policy(), beside.ceiling());
        ceiling.on_call(beside.clock().now());
        if policy.retries_max == 0 {
            return self.inner.run(request, beside).await;
        }
        let mut draft = Draft::of(request);
        let mut retries = 0;
        let mut resent = false;
        let mut underway: Option<Underway> = None;
        loop {
            let result = match policy.hedges_after(draft.method()) {
                None => self.inner.run(draft.copy(), beside).await,
                // Boxed: it is rare, and in place every call's future would have room for two attempts.
                Some(after) => Box::pin(self.hedged(&mut draft, beside, &mut retries, after)).await,
            };
            if !resent && draft.may_resend(&result) {
                resent = true;
                continue;
            }
            if let Some(retry) = &mut underway {
                retry.on_answer();
            }
            let outcome = outcome_of(&result);
            let attempt = Attempt {
                outcome: &outcome,
                method: draft.method(),
                retries,
                replayable: draft.is_replayable(),
                push_back: push_back_of(&result),
            };
            let now = beside.clock().now();
            match policy.decide(&attempt, &ceiling, now, beside.deadline(), &mut ThreadDice) {
                Verdict::GiveUp(reason) => {
                    beside.on_give_up(reason);
                    if let Some(retry) = underway.take_if(|_| reason == GiveUp::NotNamed && outcome.is_help())
                    {
                        retry.on_success();
                    }
                    return result;
                }
                Verdict::Retry { at, reservation, condition } => {
                    tracing::debug!(?outcome, %condition, retry = retries + 1, wait = ?now.until(at), "retrying");
                    // What the failed attempt holds is given back before the wait, not after it.
                    drop((result, underway.take()));
                    sleep_until(beside.clock().instant(at)).await;
                    underway = Some(reservation.begin());
                    retries += 1;
                }
            }
        }
    }
}

/// The request, kept to be sent again.
struct Draft {
    head: Parts,
    body: Option<Replay>,
}

impl Draft {
    fn of(request: Request<RequestBody>) -> Self {
        let (head, body) = request.into_parts();
        Self { head, body: (!body.is_end_stream()).then(|| Replay::of(body)) }
    }

    fn copy(&mut self) -> Request<RequestBody> {
        let body = self.body.as_ref().map_or_else(RequestBody::empty, Replay::attempt);
        Request::from_parts(self.head.clone(), body)
    }

    /// Returns the request for an attempt beside the last one, if its body has been read to its end and was kept.
    fn copy_beside(&mut self) -> Option<Request<RequestBody>> {
        let body = match &self.body {
            Some(body) => body.beside()?,
            None => RequestBody::empty(),
        };
        Some(Request::from_parts(self.head.clone(), body))
    }

    fn method(&self) -> &Method {
        &self.head.method
    }

    fn is_replayable(&self) -> bool {
        self.body.as_ref().is_none_or(Replay::is_replayable)
    }

    /// Whether the peer closed an idle connection in the moment in which it was used again: that is no failure of the
    /// call, and no policy is asked.
    // spec: rfc9112 9.3.1: a client may retry an idempotent method by itself when a connection closed early
    fn may_resend<B>(&self, result: &Result<Response<B>, Error>) -> bool {
        let stale = result.as_ref().is_err_and(Error::is_stale);
        stale && self.head.method.is_idempotent() && self.is_replayable()
    }
}

/// The call is decided; what is still to be sent of its body streams on without being kept.
impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(body) = &self.body {
            body.settle();
        }
    }
}

/// Returns what became of an attempt.
pub(crate) fn outcome_of<B>(result: &Result<Response<B>, Error>) -> Outcome {
    match result {
        Ok(response) => Outcome::of_head(response.status(), response.headers()),
        Err(error) => error.outcome(),
    }
}

fn push_back_of<B>(result: &Result<Response<B>, Error>) -> PushBack {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    result.as_ref().map_or(PushBack::None, |response| PushBack::of_headers(response.headers(), now))
}

impl Error {
    /// Returns what it says of the attempt that it ended.
    pub(crate) fn outcome(&self) -> Outcome {
        let sent = self.may_have_been_sent();
        match self.cause() {
            Cause::Connect { .. } | Cause::ConnectTimeout => Outcome::ConnectFailure,
            Cause::RefusedStream => Outcome::RefusedStream,
            Cause::Termination | Cause::RemoteReset | Cause::LocalReset => Outcome::Reset { sent },
            Cause::Vanished => Outcome::Vanished,
            Cause::Protocol => Outcome::Protocol,
            Cause::TryTimeout => Outcome::PerTryTimeout { sent },
            Cause::RouteTimeout => Outcome::Timeout,
            Cause::Overflow(_) => Outcome::Overflow,
            Cause::Body => Outcome::Body,
            // Whatever the service below did, it may have done it.
            Cause::Service => Outcome::Reset { sent: true },
            Cause::NotReady
            | Cause::Request
            | Cause::NoRoute
            | Cause::NoCluster(_)
            | Cause::Blocked
            | Cause::Fault(_)
            | Cause::NoEndpoints => Outcome::Refused,
        }
    }
}
