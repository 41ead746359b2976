//! Slow start: an endpoint that has just joined gets its share little by little.
//!
//! It weighs less by a factor that grows with its age. A draw by full weight that is then taken with the probability of
//! that factor has the same effect, and needs no schedule that changes with time.
// spec: envoy intro/arch_overview/upstream/load_balancing/slow_start

use super::Endpoint;
use crate::{
    dice::Dice,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Time,
};
use std::time::Duration;

/// How an endpoint warms up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    /// How long it takes.
    pub duration: Duration,
    /// With how many per cent of its weight it begins. Default 10, Envoy's.
    pub minimum_percent: f64,
    /// How steeply its weight grows: 1 is evenly, more is faster in the beginning. Default 1.
    pub aggression: f64,
}

impl WarmUp {
    /// Returns a warm-up over `duration` that grows evenly from a tenth.
    pub const fn new(duration: Duration) -> Self {
        Self { duration, minimum_percent: 10.0, aggression: 1.0 }
    }

    /// Returns by how much an endpoint of this age weighs less than it will: above 0, and 1 when it is warm.
    // spec: envoy source/extensions/load_balancing_policies/common/load_balancer_impl.cc applySlowStartFactor
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.duration {
            return 1.0;
        }
        let part = age.as_millis().max(1) as f64 / self.duration.as_millis().max(1) as f64;
        let grown =
            if self.aggression == 1.0 { part } else { part.powf(self.aggression.max(STEEP_MIN).recip()) };
        grown.max(self.minimum_percent / 100.0).clamp(FACTOR_MIN, 1.0)
    }
}

/// The warm-up of the endpoints of one set.
#[derive(Debug)]
pub(super) struct SlowStart {
    warm_up: WarmUp,
    /// When the first of them joined; 0 before the first pick.
    first_joined: AtomicU64,
}

impl SlowStart {
    pub(super) fn new(warm_up: WarmUp) -> Self {
        Self { warm_up, first_joined: AtomicU64::new(0) }
    }

    /// At the first pick of a set, every endpoint that no set before it had joins.
    ///
    /// Who compiles a set is not told the time; who picks from it is.
    pub(super) fn on_pick(&self, endpoints: &[Endpoint], now: Time) {
        if self.first_joined.load(Relaxed) == 0 {
            let first = endpoints.iter().map(|endpoint| endpoint.state.on_join(now)).min().unwrap_or(now);
            self.first_joined.store(first.as_nanos().max(1), Relaxed);
        }
    }

    /// Returns the factor of the weight of `endpoint`.
    pub(super) fn factor(&self, endpoint: &Endpoint, now: Time) -> f64 {
        self.warm_up.factor(now.since(endpoint.state.joined(now)))
    }

    /// Decides whether `endpoint`, drawn by its full weight, is taken.
    ///
    /// Only its share of the others' counts. So it is held against the oldest, which is the warmest: where all have just
    /// joined, as at the start of a process, nobody is refused.
    pub(super) fn takes(&self, endpoint: &Endpoint, now: Time, dice: &mut impl Dice) -> bool {
        let factor = self.factor(endpoint, now);
        factor >= 1.0 || dice.roll() as f64 <= factor / self.highest(now) * u64::MAX as f64
    }

    fn highest(&self, now: Time) -> f64 {
        self.warm_up.factor(now.since(Time::from_nanos(self.first_joined.load(Relaxed))))
    }
}

/// A factor of 0 would keep an endpoint from ever being picked.
const FACTOR_MIN: f64 = 1e-6;
const STEEP_MIN: f64 = 1e-3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_envoys() {
        let over = |duration, minimum_percent, aggression| WarmUp {
            duration: Duration::from_millis(duration),
            minimum_percent,
            aggression,
        };
        for (warm_up, age, expected) in [
            (over(10_000, 10.0, 1.0), 0, 0.1),
            (over(10_000, 10.0, 1.0), 1_000, 0.1),
            (over(10_000, 10.0, 1.0), 2_500, 0.25),
            (over(10_000, 10.0, 1.0), 9_999, 0.9999),
            (over(10_000, 10.0, 1.0), 10_000, 1.0),
            (over(10_000, 10.0, 1.0), 99_999, 1.0),
            (over(10_000, 0.0, 1.0), 0, 0.0001),
            (over(10_000, 10.0, 2.0), 2_500, 0.5),
            (over(10_000, 10.0, 0.5), 5_000, 0.25),
            (over(10_000, 100.0, 1.0), 0, 1.0),
            (over(0, 10.0, 1.0), 0, 1.0),
        ] {
            let factor = warm_up.factor(Duration::from_millis(age));
            assert!((factor - expected).abs() < 1e-9, "{warm_up:?} at {age} ms: {factor}");
        }
    }

    #[test]
    fn no_setting_makes_a_factor_of_nothing_or_more_than_all() {
        for aggression in [-1.0, 0.0, 1e-9, 1.0, 1e9, f64::NAN, f64::INFINITY] {
            for minimum_percent in [-5.0, 0.0, 500.0, f64::NAN] {
                for duration in
                    [Duration::ZERO, Duration::from_nanos(5), Duration::from_secs(60), Duration::MAX]
                {
                    let warm_up = WarmUp { duration, minimum_percent, aggression };
                    for age in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(30)] {
                        let factor = warm_up.factor(age);
                        assert!(factor > 0.0 && factor <= 1.0, "{warm_up:?} at {age:?}: {factor}");
                    }
                }
            }
        }
    }
}
