//! What is known of one endpoint: requests in flight, and whether it is ejected.
//!
//! When it is ejected is the business of `outlier`.

use super::{
    interval::Tally,
    outlier::{Cause, Failures},
};
use crate::{
    balance::peak_ewma::PeakEwma,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Time,
};

/// What is known of one endpoint of one cluster.
#[derive(Debug, Default)]
pub struct EndpointState {
    in_flight: AtomicU32,
    standing: AtomicU64,
    /// How often in a row it failed.
    pub(super) failures: Failures,
    /// What it answered in this interval, for the rules that go by it.
    pub(super) tally: Tally,
    /// For people to read.
    last_ejection: Mutex<Option<Ejection>>,
    /// By how much the next ejection is longer than the first: Envoy's `ejectTimeBackoff`. Written under the lock that
    /// judges ejections.
    pub(super) growth: AtomicU32,
    /// When it joined a set whose endpoints warm up; 0 is never.
    joined: AtomicU64,
    latency: PeakEwma,
}

/// Until when an endpoint is ejected, and how often it has been: one word, so that both change at once.
///
/// An ejection ends by the clock alone; nobody has to sweep, and nothing changes when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing(u64);

/// An ejection, as it is shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Which rule ejected it.
    pub cause: Cause,
    /// From when on it got no requests.
    pub since: Time,
    /// When it is back, or was.
    pub until: Time,
    /// How often it has been ejected, this time included.
    pub count: u32,
}

/// A request in flight to an endpoint; dropping it ends the count.
#[derive(Debug)]
#[must_use = "dropping it ends the count"]
pub struct InFlight {
    state: Arc<EndpointState>,
    begun: Time,
    /// The standing when it began; `None` if the endpoint was ejected then, and got the request nevertheless.
    admitted: Option<Standing>,
}

impl EndpointState {
    /// Returns how many requests it is answering for this process.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Counts a request until the returned value is dropped.
    pub fn begin(self: &Arc<Self>, now: Time) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        let standing = self.standing();
        let admitted = (!standing.is_ejected(now)).then_some(standing);
        InFlight { state: Arc::clone(self), begun: now, admitted }
    }

    /// It joins a set whose endpoints warm up, unless it has before; returns when it joined.
    pub(crate) fn on_join(&self, now: Time) -> Time {
        let joined = self.joined.compare_exchange(0, now.as_nanos().max(1), Relaxed, Relaxed);
        joined.map_or_else(Time::from_nanos, |_| now)
    }

    /// Returns when it joined a set whose endpoints warm up, now if never.
    pub(crate) fn joined(&self, now: Time) -> Time {
        match self.joined.load(Relaxed) {
            0 => now,
            joined => Time::from_nanos(joined),
        }
    }

    /// Returns what one more request to it would cost, in any unit: what its answers take, times those in flight.
    pub(crate) fn cost(&self, now: Time) -> f64 {
        self.latency.cost(self.in_flight(), now)
    }

    /// Returns until when it is ejected, if it is.
    pub fn ejected_until(&self, now: Time) -> Option<Time> {
        let standing = self.standing();
        standing.is_ejected(now).then(|| standing.until())
    }

    /// Returns whether it is ejected.
    pub fn is_ejected(&self, now: Time) -> bool {
        self.standing().is_ejected(now)
    }

    /// Returns its last ejection, which may be over.
    pub fn last_ejection(&self) -> Option<Ejection> {
        *self.lock_last_ejection()
    }

    /// Notes that `cause` has ejected it.
    pub(super) fn on_ejected(&self, cause: Cause, since: Time, until: Time) {
        let mut last = self.lock_last_ejection();
        let count = last.map_or(0, |last| last.count).saturating_add(1);
        *last = Some(Ejection { cause, since, until, count });
    }

    fn lock_last_ejection(&self) -> MutexGuard<'_, Option<Ejection>> {
        self.last_ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn standing(&self) -> Standing {
        Standing(self.standing.load(Relaxed))
    }

    /// Ejects it until `until`, unless its standing is no longer `seen`.
    pub(super) fn eject(&self, seen: Standing, until: Time) -> Option<Time> {
        let next = seen.next(until);
        let swapped = self.standing.compare_exchange(seen.0, next.0, Relaxed, Relaxed);
        swapped.ok().map(|_| next.until())
    }
}

impl Standing {
    pub(super) const fn until(self) -> Time {
        Time::from_nanos((self.0 >> GENERATION_BITS).saturating_mul(NANOS_PER_MS))
    }

    pub(super) fn is_ejected(self, now: Time) -> bool {
        now < self.until()
    }

    /// Returns which it is of those that the endpoint has had: each ejection begins the next.
    pub(super) const fn generation(self) -> u64 {
        self.0 & GENERATION_MAX
    }

    /// Rounds the end up to a millisecond: 40 bits of them reach 34 years after the start of the process.
    fn next(self, until: Time) -> Self {
        let ms = until.as_nanos().div_ceil(NANOS_PER_MS).min(MS_MAX);
        let generation = (self.0 + 1) & GENERATION_MAX;
        Self(ms << GENERATION_BITS | generation)
    }
}

impl InFlight {
    /// Returns the endpoint that answers it.
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.state
    }

    /// The head of its answer has come: notes how long that took, for the policies that go by it.
    pub fn on_head(&self, now: Time) {
        self.state.latency.on_latency(now.since(self.begun), now);
    }

    /// Returns the standing it was admitted under, if its answer still says something: an answer to a request from
    /// before an ejection, or from within one, is no verdict on the endpoint that is back.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.admitted.filter(|&admitted| admitted == self.state.standing())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Relaxed);
    }
}

const GENERATION_BITS: u32 = 24;
const GENERATION_MAX: u64 = (1 << GENERATION_BITS) - 1;
const MS_MAX: u64 = u64::MAX >> GENERATION_BITS;
const NANOS_PER_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_flight_are_counted_until_they_are_dropped() {
        let state = Arc::new(EndpointState::default());
        let (one, two) = (state.begin(Time::ZERO), state.begin(Time::ZERO));
        assert_eq!(state.in_flight(), 2);
        drop((one, two));
        assert_eq!(state.in_flight(), 0);
    }

    #[test]
    fn an_endpoint_joins_once() {
        let state = EndpointState::default();
        let second = |second: u64| Time::from_nanos(second * 1_000_000_000);
        assert_eq!(state.joined(second(5)), second(5));
        assert_eq!(state.on_join(second(5)), second(5));
        assert_eq!(state.on_join(second(9)), second(5));
        assert_eq!(state.joined(second(9)), second(5));
    }

    #[test]
    fn the_head_of_an_answer_says_how_long_it_took() {
        let state = Arc::new(EndpointState::default());
        let request = state.begin(Time::from_nanos(1_000));
        request.on_head(Time::from_nanos(5_000));
        drop(request);
        assert_eq!(state.cost(Time::from_nanos(5_000)), 4_000.0);
    }

    #[test]
    fn an_ejection_ends_by_the_clock_and_never_early() {
        let state = EndpointState::default();
        let until = Time::from_nanos(1_500_001);
        let rounded = state.eject(state.standing(), until).unwrap();
        assert_eq!(rounded, Time::from_nanos(2_000_000));
        assert!(state.is_ejected(until));
        assert_eq!(state.ejected_until(Time::from_nanos(1_999_999)), Some(rounded));
        assert_eq!(state.ejected_until(rounded), None);
    }

    #[test]
    fn an_ejection_to_the_end_of_time_does_not_overflow() {
        let state = EndpointState::default();
        assert!(state.eject(state.standing(), Time::MAX).is_some());
        assert!(state.is_ejected(Time::from_nanos(u64::MAX / 1_000)));
    }

    #[test]
    fn of_two_ejections_that_saw_the_same_standing_one_happens() {
        let state = EndpointState::default();
        let seen = state.standing();
        assert!(state.eject(seen, Time::from_nanos(5_000_000)).is_some());
        assert!(state.eject(seen, Time::from_nanos(9_000_000)).is_none());
        assert_eq!(state.standing().until(), Time::from_nanos(5_000_000));
    }
}
