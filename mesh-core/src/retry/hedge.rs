//! A second attempt beside one that keeps its caller waiting.
//!
//! It says when, and whether the ceiling allows it; who runs both takes the first good answer and drops the other.
// spec: envoy config.route.v3.HedgePolicy; grpc proposal A6-client-retries, "Hedging Policy"

use super::{Ceiling, GiveUp, Outcome, RetryOn, RetryPolicy, Underway, policy::is_idempotent};
use crate::{health::Verdict, time::Time};
use http::Method;
use std::time::Duration;

/// When an attempt that has no answer yet gets a second one beside it. Nobody hedges unless asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// How long the first attempt has, from its beginning.
    pub after: Duration,
    /// Whether requests are hedged too that are not idempotent: both attempts may be executed. Default false.
    pub any_method: bool,
}

impl RetryPolicy {
    /// Returns after how long a request of this method gets a second attempt, if it is hedged.
    pub fn hedges_after(&self, method: &Method) -> Option<Duration> {
        self.hedge.filter(|hedge| hedge.any_method || is_idempotent(method)).map(|hedge| hedge.after)
    }

    /// Admits a second attempt as a retry: it is one of the policy's, and needs the same place and token.
    ///
    /// Its token is never given back. A retry that succeeds was needed; of a hedge nobody knows, and where every answer is
    /// slow each would win its race, and double the load.
    ///
    /// # Errors
    ///
    /// Returns why there is none; the first attempt goes on.
    pub fn hedge(
        &self,
        retries: u32,
        ceiling: &Ceiling<'_>,
        now: Time,
        deadline: Time,
    ) -> Result<Underway, GiveUp> {
        if retries >= self.retries_max {
            return Err(GiveUp::Attempts);
        }
        if now >= deadline {
            return Err(GiveUp::Deadline);
        }
        Ok(ceiling.reserve(now)?.begin())
    }
}

impl Outcome {
    /// Returns whether nobody would wait for another answer: it is no failure of the server's, and `on` does not name it.
    pub fn is_good(&self, on: &RetryOn) -> bool {
        let failed = matches!(self.verdict(), Some(Verdict::Status(status)) if status >= 500);
        matches!(self, Self::Answer { .. }) && !failed && self.named_by(on).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        health::{Limits, Overflow},
        retry::{Budget, Provenance},
    };
    use http::StatusCode;
    use std::sync::Arc;

    const HEDGE: Hedge = Hedge { after: Duration::from_millis(50), any_method: false };

    #[test]
    fn only_idempotent_requests_are_hedged_unless_any_is_asked_for_and_none_by_default() {
        let any = Hedge { any_method: true, ..HEDGE };
        for (hedge, method, hedged) in [
            (None, Method::GET, false),
            (Some(HEDGE), Method::GET, true),
            (Some(HEDGE), Method::DELETE, true),
            (Some(HEDGE), Method::POST, false),
            (Some(any), Method::POST, true),
        ] {
            let after = RetryPolicy { hedge, ..RetryPolicy::default() }.hedges_after(&method);
            assert_eq!(after, hedged.then_some(HEDGE.after), "{hedge:?} {method}");
        }
    }

    #[test]
    fn a_hedge_is_a_retry_to_every_limit_on_retries() {
        let (policy, cluster, limits) = (RetryPolicy::default(), Arc::default(), Limits::default());
        let budget = Arc::new(Budget::default());
        let ceiling = Ceiling { budget: Some(&budget), written: None, cluster: &cluster, limits: &limits };
        let hedge = |retries, now| policy.hedge(retries, &ceiling, now, Time::MAX);
        assert_eq!(hedge(2, Time::ZERO).unwrap_err(), GiveUp::Attempts);
        assert_eq!(hedge(0, Time::MAX).unwrap_err(), GiveUp::Deadline);
        let underway = hedge(1, Time::ZERO).unwrap();
        assert_eq!((budget.available(), cluster.in_use(Overflow::Retries)), (9, 1));
        drop(underway);
        assert_eq!((budget.available(), cluster.in_use(Overflow::Retries)), (9, 0), "its token is spent");
        while budget.borrow(Time::ZERO).is_some() {}
        assert_eq!(hedge(0, Time::ZERO).unwrap_err(), GiveUp::Budget);
        let none = Limits { retries_max: 0, ..limits };
        let full = Ceiling { limits: &none, ..ceiling };
        assert_eq!(policy.hedge(0, &full, Time::ZERO, Time::MAX).unwrap_err(), GiveUp::Overflow);
    }

    #[test]
    fn an_answer_is_good_if_nobody_would_wait_for_another() {
        let on = RetryOn::parse("409,unavailable").unwrap();
        for (outcome, good) in [
            (answer(200, None), true),
            (answer(200, Some(0)), true),
            (answer(404, None), true),
            (answer(200, Some(5)), true),
            (answer(409, None), false),
            (answer(500, None), false),
            (answer(200, Some(13)), false),
            (answer(200, Some(14)), false),
            (Outcome::Reset { sent: true }, false),
            (Outcome::Overflow, false),
            (Outcome::Body, false),
        ] {
            assert_eq!(outcome.is_good(&on), good, "{outcome:?}");
        }
    }

    fn answer(status: u16, grpc: Option<u32>) -> Outcome {
        let status = StatusCode::from_u16(status).unwrap();
        Outcome::Answer { status, grpc, ratelimited: false, provenance: Provenance::NONE }
    }
}
