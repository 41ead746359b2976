//! What limits retries beyond the policy of one route, and the admission that a retry holds.
//!
//! A retry is reserved when it is decided, begun when its wait is over. A caller that goes away while waiting has made
//! no retry: dropping the reservation gives everything back.

use super::{Budget, GiveUp, Loan, RetryBudget};
use crate::{
    health::{ClusterState, Limits, Overflow, Permit},
    time::Time,
};
use std::sync::Arc;

/// The limits on retries that requests to a destination share.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling<'a> {
    /// The budget of the destination host; `None` if it is switched off.
    pub budget: Option<&'a Arc<Budget>>,
    /// The `retryBudget` that a DestinationRule has; if there is one, neither `budget` nor the limit on retries counts.
    pub written: Option<&'a RetryBudget>,
    /// The cluster whose retries under way are counted.
    pub cluster: &'a Arc<ClusterState>,
    /// Its limits.
    pub limits: &'a Limits,
}

/// A retry that may be made, and has not been.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is a retry that is not made"]
pub struct Reservation {
    loan: Option<Loan>,
    permit: Option<Permit>,
}

/// A retry under way. Dropping it ends it as futile.
#[derive(Debug)]
#[must_use = "dropping it ends the retry as futile"]
pub struct Underway {
    loan: Option<Loan>,
    permit: Option<Permit>,
}

impl Ceiling<'_> {
    /// Counts a call, whose retries it will bound.
    pub fn on_call(&self, now: Time) {
        match (self.written, self.budget) {
            (Some(written), _) => written.on_request(now),
            (None, Some(budget)) => budget.deposit(now),
            (None, None) => {}
        }
    }

    /// Reserves a retry.
    ///
    /// # Errors
    ///
    /// Returns which limit is reached.
    pub(super) fn reserve(&self, now: Time) -> Result<Reservation, GiveUp> {
        if let Some(written) = self.written {
            let limits = Limits { retries_max: written.retries_max(self.cluster, now), ..*self.limits };
            let permit = self.permit(&limits)?;
            written.on_request(now);
            return Ok(Reservation { loan: None, permit: Some(permit) });
        }
        let permit = self.permit(self.limits)?;
        let loan = match self.budget {
            Some(budget) => Some(budget.borrow(now).ok_or(GiveUp::Budget)?),
            None => None,
        };
        Ok(Reservation { loan, permit: Some(permit) })
    }

    fn permit(&self, limits: &Limits) -> Result<Permit, GiveUp> {
        self.cluster.admit(Overflow::Retries, limits).map_err(|_| GiveUp::Overflow)
    }
}

impl Reservation {
    /// Begins the retry. From here on its token is spent unless [`Underway::on_success`] is called.
    pub fn begin(mut self) -> Underway {
        Underway { loan: self.loan.take(), permit: self.permit.take() }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(loan) = self.loan.take() {
            loan.on_unused();
        }
    }
}

impl Underway {
    /// The retry has its answer: its place is free before it is decided whether there is another one.
    // spec: envoy source/common/router/retry_state_impl.cc shouldRetry, resetRetry
    pub fn on_answer(&mut self) {
        self.permit = None;
    }

    /// Ends the retry as a success: it was free.
    pub fn on_success(mut self) {
        if let Some(loan) = self.loan.take() {
            loan.on_success();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_that_is_dropped_gives_back_token_and_place() {
        let shared = Shared::default();
        drop(shared.reserve().unwrap());
        assert_eq!((shared.budget.available(), shared.cluster.in_use(Overflow::Retries)), (10, 0));
    }

    #[test]
    fn a_retry_under_way_holds_its_place_and_spends_its_token_unless_it_succeeds() {
        let shared = Shared::default();
        let underway = shared.reserve().unwrap().begin();
        assert_eq!(shared.cluster.in_use(Overflow::Retries), 1);
        underway.on_success();
        assert_eq!((shared.budget.available(), shared.cluster.in_use(Overflow::Retries)), (10, 0));
        drop(shared.reserve().unwrap().begin());
        assert_eq!((shared.budget.available(), shared.cluster.in_use(Overflow::Retries)), (9, 0));
    }

    #[test]
    fn an_answered_retry_makes_room_for_the_next_one_of_its_call() {
        let shared = Shared { limits: Limits { retries_max: 1, ..Limits::default() }, ..Shared::default() };
        let mut underway = shared.reserve().unwrap().begin();
        assert_eq!(shared.reserve().unwrap_err(), GiveUp::Overflow);
        underway.on_answer();
        drop(shared.reserve().unwrap());
        underway.on_success();
        assert_eq!(shared.budget.available(), 10);
    }

    /// Every state of a retry with every event that its type allows: how many tokens of ten are left, and how many places
    /// are taken.
    #[test]
    fn every_state_of_a_retry_meets_every_event() {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum State {
            Reserved,
            Begun,
            Answered,
        }
        #[derive(Clone, Copy, Debug)]
        enum Event {
            Begin,
            Answer,
            Success,
            Dropped,
        }
        use {Event::*, State::*};
        let table = [
            (Reserved, Begin, (9, 1)),
            (Reserved, Dropped, (10, 0)),
            (Begun, Answer, (9, 0)),
            (Begun, Success, (10, 0)),
            (Begun, Dropped, (9, 0)),
            (Answered, Answer, (9, 0)),
            (Answered, Success, (10, 0)),
            (Answered, Dropped, (9, 0)),
        ];
        for (state, event, expected) in table {
            let shared = Shared::default();
            let reservation = shared.reserve().unwrap();
            let mut retry = match (state, event) {
                (Reserved, Dropped) => {
                    drop(reservation);
                    None
                }
                _ => Some(reservation.begin()),
            };
            if state == Answered {
                retry.iter_mut().for_each(Underway::on_answer);
            }
            match event {
                Begin => {}
                Answer => retry.iter_mut().for_each(Underway::on_answer),
                Success => retry.take().into_iter().for_each(Underway::on_success),
                Dropped => drop(retry.take()),
            }
            let reached = (shared.budget.available(), shared.cluster.in_use(Overflow::Retries));
            assert_eq!(reached, expected, "{state:?} on {event:?}");
        }
    }

    #[test]
    fn an_empty_budget_refuses_and_keeps_no_place() {
        let shared = Shared::default();
        (0..10).for_each(|_| drop(shared.reserve().unwrap().begin()));
        assert_eq!(shared.reserve().unwrap_err(), GiveUp::Budget);
        assert_eq!(shared.cluster.in_use(Overflow::Retries), 0);
    }

    #[test]
    fn a_full_retry_breaker_refuses_and_keeps_no_token() {
        let shared = Shared { limits: Limits { retries_max: 1, ..Limits::default() }, ..Shared::default() };
        let _first = shared.reserve().unwrap();
        assert_eq!(shared.reserve().unwrap_err(), GiveUp::Overflow);
        assert_eq!(shared.budget.available(), 9);
    }

    // spec: envoy config/cluster/v3/circuit_breaker.proto: the retry budget overrides the retry circuit breaker
    #[test]
    fn a_written_budget_replaces_the_limit_and_the_budget_that_is_always_on() {
        let written = Some(RetryBudget { percent: 20.0, retries_min: 2, recent: None });
        let limits = Limits { retries_max: 0, ..Limits::default() };
        let shared = Shared { written, limits, ..Shared::default() };
        (0..20).for_each(|_| drop(shared.reserve().unwrap().begin()));
        assert_eq!(shared.budget.available(), 10, "nothing was borrowed");
        let _two = [shared.reserve().unwrap(), shared.reserve().unwrap()];
        assert_eq!(shared.reserve().unwrap_err(), GiveUp::Overflow);
        let _under_way: Vec<_> =
            (0..15).map(|_| shared.cluster.admit(Overflow::Requests, &Limits::default()).unwrap()).collect();
        let _third = shared.reserve().unwrap();
        assert_eq!(shared.reserve().unwrap_err(), GiveUp::Overflow, "3 are 20 % of 15");
    }

    #[derive(Default)]
    struct Shared {
        budget: Arc<Budget>,
        written: Option<RetryBudget>,
        cluster: Arc<ClusterState>,
        limits: Limits,
    }

    impl Shared {
        fn reserve(&self) -> Result<Reservation, GiveUp> {
            let Self { budget, written, cluster, limits } = self;
            Ceiling { budget: Some(budget), written: written.as_ref(), cluster, limits }.reserve(Time::ZERO)
        }
    }
}
