//! Whether a failed attempt is made again, and when.

use super::{Backoff, Ceiling, Condition, Hedge, Outcome, Provenance, PushBack, Reservation, RetryOn};
use crate::{dice::Dice, event::Flag, time::Time};
use http::Method;
use std::time::Duration;

/// The retry policy of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first try. Default 2.
    pub retries_max: u32,
    /// Which failures.
    pub on: RetryOn,
    /// Whether the user wrote `retryOn`: only then may something be repeated that may have been executed.
    pub explicit: bool,
    /// What of `on` one call asks for: that may be repeated too. Default none.
    // Boxed: every route has a policy, and few calls ask.
    pub asked: Option<Box<RetryOn>>,
    /// Bound of each try, the first included; `None` is unbounded.
    pub per_try_timeout: Option<Duration>,
    /// Waiting between tries.
    pub backoff: Backoff,
    /// Whether hosts already tried are avoided. Default true.
    pub avoid_previous_hosts: bool,
    /// Whether localities already tried twice are left for others (`retryRemoteLocalities`). Default false.
    pub leave_localities: bool,
    /// When a second attempt is made beside one that has no answer yet. Default never.
    pub hedge: Option<Hedge>,
}

/// An attempt that ended, as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// What became of it.
    pub outcome: &'a Outcome,
    /// The method of the request.
    pub method: &'a Method,
    /// How many retries this request has had already: 0 after the first try.
    pub retries: u32,
    /// Whether the request, its body included, can be sent again byte for byte.
    pub replayable: bool,
    /// What its answer says of when to try again.
    pub push_back: PushBack,
}

/// What to do after an attempt.
#[derive(Debug)]
pub enum Verdict {
    /// Wait, then try again.
    Retry {
        /// When.
        at: Time,
        /// The admission; begin it when the wait is over.
        reservation: Reservation,
        /// The condition of `retryOn` that named the failure.
        condition: Condition,
    },
    /// The attempt's outcome is the request's.
    GiveUp(GiveUp),
}

/// Why an attempt is not followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GiveUp {
    /// The policy does not name this outcome. Every success ends so.
    NotNamed,
    /// The server may have acted on it, the method is not idempotent, and the user did not ask for it.
    MayHaveBeenExecuted,
    /// The cause lies a hop deeper, and was retried there, or refused a retry by the budget.
    SettledDeeper,
    /// The body cannot be sent again.
    NotReplayable,
    /// The policy's retries are used up.
    Attempts,
    /// The server says not to try again.
    PushedBack,
    /// The server asks to wait for longer than the deadline or [`PushBack::LONGEST`] allows.
    LongWait,
    /// The retry would begin after the deadline.
    Deadline,
    /// The cluster has as many retries under way as its limit allows.
    Overflow,
    /// The retry budget of the destination is used up.
    Budget,
}

impl RetryPolicy {
    /// Decides after an attempt. Nothing is reserved unless the answer is [`Verdict::Retry`].
    // spec: envoy source/common/router/retry_state_impl.cc shouldRetry, for the order of the questions
    pub fn decide(
        &self,
        attempt: &Attempt<'_>,
        ceiling: &Ceiling<'_>,
        now: Time,
        deadline: Time,
        dice: &mut impl Dice,
    ) -> Verdict {
        match self.reserve(attempt, ceiling, now, deadline, dice) {
            Ok((at, reservation, condition)) => Verdict::Retry { at, reservation, condition },
            Err(reason) => Verdict::GiveUp(reason),
        }
    }

    fn reserve(
        &self,
        attempt: &Attempt<'_>,
        ceiling: &Ceiling<'_>,
        now: Time,
        deadline: Time,
        dice: &mut impl Dice,
    ) -> Result<(Time, Reservation, Condition), GiveUp> {
        let condition = self.names(attempt).ok_or(GiveUp::NotNamed)?;
        if !self.may_repeat(attempt) {
            return Err(GiveUp::MayHaveBeenExecuted);
        }
        if attempt.outcome.is_settled_deeper() {
            return Err(GiveUp::SettledDeeper);
        }
        if !attempt.replayable {
            return Err(GiveUp::NotReplayable);
        }
        if attempt.retries >= self.retries_max {
            return Err(GiveUp::Attempts);
        }
        let asked = asked(attempt.push_back, now, deadline)?;
        let at = now + self.backoff.wait(attempt.retries, dice).max(asked);
        if at >= deadline {
            return Err(GiveUp::Deadline);
        }
        Ok((at, ceiling.reserve(now)?, condition))
    }

    /// A peer that vanished is no answer of anybody's to stand: where nobody wrote a list, an idempotent request is made
    /// again elsewhere, as one is that an idle connection was closed under.
    fn names(&self, attempt: &Attempt<'_>) -> Option<Condition> {
        let lost = *attempt.outcome == Outcome::Vanished && !self.explicit && is_idempotent(attempt.method);
        attempt.outcome.named_by(&self.on).or(lost.then_some(Condition::Reset))
    }

    /// Invariant 5: what may have been executed is repeated only if that changes nothing, or if the user asks for it.
    ///
    /// Istio's default list also names gRPC `unavailable` and `cancelled`; both may follow an execution, so by default
    /// they are not repeated for POST, and are as soon as the user writes them.
    fn may_repeat(&self, attempt: &Attempt<'_>) -> bool {
        self.explicit
            || !attempt.outcome.may_have_been_executed()
            || is_idempotent(attempt.method)
            || self.asked.as_deref().is_some_and(|asked| attempt.outcome.named_by(asked).is_some())
    }
}

/// Returns how long the server asks to wait, if that can be done: to come back earlier than asked helps nobody.
fn asked(push_back: PushBack, now: Time, deadline: Time) -> Result<Duration, GiveUp> {
    match push_back {
        PushBack::None => Ok(Duration::ZERO),
        PushBack::Never => Err(GiveUp::PushedBack),
        PushBack::After(wait) if wait > PushBack::LONGEST || now + wait >= deadline => Err(GiveUp::LongWait),
        PushBack::After(wait) => Ok(wait),
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries_max: 2,
            on: RetryOn::default(),
            explicit: false,
            asked: None,
            per_try_timeout: None,
            backoff: Backoff::default(),
            avoid_previous_hosts: true,
            leave_localities: false,
            hedge: None,
        }
    }
}

impl GiveUp {
    /// Returns the word for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotNamed => "not_named",
            Self::MayHaveBeenExecuted => "may_have_been_executed",
            Self::SettledDeeper => "settled_deeper",
            Self::NotReplayable => "not_replayable",
            Self::Attempts => "attempts",
            Self::PushedBack => "pushed_back",
            Self::LongWait => "long_wait",
            Self::Deadline => "deadline",
            Self::Overflow => "overflow",
            Self::Budget => "budget",
        }
    }

    /// Returns what whoever called for this call should know: that trying again a hop above would be in vain.
    pub const fn provenance(self) -> Provenance {
        match self {
            Self::Attempts => Provenance::RETRIED,
            Self::Overflow | Self::Budget => Provenance::BUDGET_SPENT,
            _ => Provenance::NONE,
        }
    }

    /// Returns the response flag that it adds to the attempt's own.
    // spec: envoy source/common/router/retry_state_impl.cc
    pub const fn flag(self) -> Option<Flag> {
        match self {
            Self::Attempts => Some(Flag::URX),
            Self::Overflow | Self::Budget => Some(Flag::UO),
            Self::NotNamed
            | Self::MayHaveBeenExecuted
            | Self::SettledDeeper
            | Self::NotReplayable
            | Self::PushedBack
            | Self::LongWait
            | Self::Deadline => None,
        }
    }
}

// spec: rfc9110 9.2.2
pub(super) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method)
}

#[cfg(test)]
mod tests;
