//! `retryBudget` of a DestinationRule: how many retries may be under way is a share of the requests, never below a
//! minimum. It replaces the budget that is always on, and `maxRetries`.
// spec: envoy config/cluster/v3/circuit_breaker.proto CircuitBreakers.Thresholds.RetryBudget

use crate::{
    health::{ClusterState, Overflow},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Time,
};
use std::time::Duration;

/// The retries that a cluster may have under way.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    /// How many per cent of the requests, 0 to 100.
    pub percent: f64,
    /// As many are always allowed.
    pub retries_min: u32,
    /// Where the requests of some time are counted, not those under way.
    pub recent: Option<Recent>,
}

/// The requests that began within the last `interval`.
#[derive(Clone, Debug)]
pub struct Recent {
    /// At least a millisecond.
    pub interval: Duration,
    /// Where they are counted.
    pub counts: Arc<Counts>,
}

impl RetryBudget {
    /// Returns how many retries may be under way. Envoy cuts the fraction off, and so do we.
    // spec: envoy source/common/upstream/resource_manager_impl.h RetryBudgetImpl::max
    pub(super) fn retries_max(&self, cluster: &ClusterState, now: Time) -> u32 {
        let requests = match &self.recent {
            Some(recent) => recent.requests(now),
            // Those that wait for a connection are among them: Envoy counts the two apart and adds them.
            None => u64::from(cluster.in_use(Overflow::Requests)),
        };
        // A conversion of a float saturates.
        ((self.percent / 100.0 * requests as f64) as u32).max(self.retries_min)
    }

    /// Counts a request, or a retry, that begins.
    pub(super) fn on_request(&self, now: Time) {
        if let Some(recent) = &self.recent {
            recent.on_request(now);
        }
    }
}

impl Recent {
    fn on_request(&self, now: Time) {
        self.counts.add(self.slot(now));
    }

    fn requests(&self, now: Time) -> u64 {
        self.counts.sum(self.slot(now))
    }

    /// Returns the number of the tenth of an interval that runs.
    fn slot(&self, now: Time) -> u64 {
        let tenth = (self.interval / SLOTS as u32).as_nanos().max(1);
        (u128::from(now.as_nanos()) / tenth) as u64 & NUMBER_MAX
    }
}

/// How many requests began in each tenth of an interval; the oldest tenth makes room for the one that runs.
///
/// One exchange per request and no lock. With another interval after a reload the tenths have other numbers, and what was
/// counted before is forgotten.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; SLOTS]);

impl Counts {
    fn add(&self, number: u64) {
        let slot = &self.0[(number % SLOTS as u64) as usize];
        let _ = slot.fetch_update(Relaxed, Relaxed, |word| {
            let (known, count) = unpack(word);
            // A thread that read its clock a little late counts in the tenth that runs.
            let late = count > 0 && number.wrapping_sub(known) & NUMBER_MAX > NUMBER_MAX / 2;
            let (number, count) = if known == number || late { (known, count) } else { (number, 0) };
            Some(number << COUNT_BITS | (count + 1).min(COUNT_MAX))
        });
    }

    fn sum(&self, number: u64) -> u64 {
        let slots = self.0.iter().map(|slot| unpack(slot.load(Relaxed)));
        slots
            .filter(|(known, _)| number.wrapping_sub(*known) & NUMBER_MAX < SLOTS as u64)
            .map(|(_, n)| n)
            .sum()
    }
}

fn unpack(word: u64) -> (u64, u64) {
    (word >> COUNT_BITS, word & COUNT_MAX)
}

/// As many as Envoy has.
const SLOTS: usize = 10;
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// 40 bits of tenths of a millisecond are three years.
const NUMBER_MAX: u64 = u64::MAX >> COUNT_BITS;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dice::{Dice, Seeded},
        health::{Limits, Permit},
    };

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_share_of_the_requests_under_way_is_cut_off_and_never_below_the_minimum() {
        for (percent, min, requests, max) in [
            (20.0, 3, 0, 3),
            (20.0, 3, 15, 3),
            (20.0, 3, 19, 3),
            (20.0, 3, 20, 4),
            (20.0, 0, 4, 0),
            (20.0, 0, 5, 1),
            (12.5, 0, 16, 2),
            (100.0, 0, 7, 7),
            (0.0, 2, 100, 2),
        ] {
            let cluster = Arc::new(ClusterState::default());
            let _under_way: Vec<Permit> = (0..requests)
                .map(|_| cluster.admit(Overflow::Requests, &Limits::default()).unwrap())
                .collect();
            let budget = RetryBudget { percent, retries_min: min, recent: None };
            assert_eq!(budget.retries_max(&cluster, Time::ZERO), max, "{percent} % of {requests}");
        }
    }

    #[test]
    fn with_an_interval_the_requests_that_began_within_it_count_though_they_have_ended() {
        let budget = RetryBudget { percent: 10.0, retries_min: 0, recent: Some(recent(1_000)) };
        let max = |ms: u32| budget.retries_max(&ClusterState::default(), Time::ZERO + ms * MS);
        (0..100).for_each(|n| budget.on_request(Time::ZERO + n * 10 * MS));
        assert_eq!(max(999), 10);
        assert_eq!(max(1_499), 5, "the first half is out of the interval");
        assert_eq!(max(2_000), 0);
    }

    #[test]
    fn a_clock_read_a_little_late_is_counted_and_forgets_nothing() {
        let recent = recent(1_000);
        let now = Time::ZERO + Duration::from_secs(100);
        (0..50).for_each(|_| recent.on_request(now));
        recent.on_request(now - 5 * MS);
        recent.on_request(now - Duration::from_secs(1));
        assert_eq!(recent.requests(now), 52);
    }

    #[test]
    fn counts_saturate_and_numbers_wrap_without_spilling() {
        let counts = Counts::default();
        counts.0[0].store(COUNT_MAX, Relaxed);
        counts.add(0);
        assert_eq!(counts.sum(0), COUNT_MAX);
        let far = recent(1);
        far.on_request(Time::MAX);
        assert_eq!(far.requests(Time::MAX), 1);
    }

    #[test]
    fn no_percentage_over_issues_retries() {
        let cluster = Arc::new(ClusterState::default());
        let mut under_way: Vec<Permit> = Vec::new();
        for requests in 0..=200_u32 {
            for percent in 0..=100 {
                let budget = RetryBudget { percent: f64::from(percent), retries_min: 0, recent: None };
                let max = budget.retries_max(&cluster, Time::ZERO);
                assert!(100 * max <= percent * requests, "{max} at {percent} % of {requests}");
                // Envoy's own arithmetic loses one where 0.29 times 100 is a little less than 29.
                assert!(100 * (max + 1) >= percent * requests, "{max} at {percent} % of {requests}");
            }
            under_way.push(cluster.admit(Overflow::Requests, &Limits::default()).unwrap());
        }
    }

    /// The model keeps every request, and counts those of the last ten tenths.
    #[test]
    fn over_random_times_the_requests_of_an_interval_are_those_of_a_model_that_keeps_them_all() {
        for seed in 0..50 {
            let mut dice = Seeded::new(seed);
            let recent = recent(10 + dice.below(2_000) as u32);
            let (mut now, mut kept) = (Time::ZERO, Vec::new());
            for step in 0..500 {
                let longest = dice.below(400_000);
                now = now + Duration::from_micros(dice.below(1 + longest));
                let tenth = |at: Time| at.as_nanos() / (recent.interval / 10).as_nanos() as u64;
                if dice.below(3) > 0 {
                    recent.on_request(now);
                    kept.push(tenth(now));
                }
                let expected = kept.iter().filter(|&&number| number + 10 > tenth(now)).count() as u64;
                assert_eq!(recent.requests(now), expected, "seed {seed}, step {step}");
            }
        }
    }

    fn recent(ms: u32) -> Recent {
        Recent { interval: ms * MS, counts: Arc::default() }
    }
}
