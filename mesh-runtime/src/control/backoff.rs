//! When to try again: full jitter below a bound that doubles with each failure, until an answer resets it.
// spec: envoy source/common/common/backoff_strategy.cc JitteredExponentialBackOffStrategy

use mesh_core::dice::Dice;
use std::time::Duration;

/// The waits of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    bound: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { bound: FIRST }
    }

    /// Returns how long to wait after one more failure: anything up to the bound, so that a thousand workloads that
    /// failed at once do not come back at once; and at most `most`.
    pub(crate) fn on_failure(&mut self, most: Duration, dice: &mut impl Dice) -> Duration {
        let bound = self.bound.min(most.max(LEAST));
        self.bound = self.bound.saturating_mul(2).min(LONGEST);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(dice.below(nanos.saturating_add(1))).max(LEAST)
    }

    /// Takes note of a good answer; a connection alone is none.
    pub(crate) fn on_answer(&mut self) {
        self.bound = FIRST;
    }
}

/// No bound of a wait: [`LONGEST`] applies.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);
const FIRST: Duration = Duration::from_millis(100);
/// A roll of zero must not make a loop.
const LEAST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::dice::Dice;

    #[test]
    fn the_bound_doubles_from_100_ms_to_30_s_and_an_answer_resets_it() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..11).map(|_| backoff.on_failure(LONGEST, &mut Most).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        backoff.on_answer();
        assert_eq!(backoff.on_failure(LONGEST, &mut Most).as_millis(), 100);
    }

    #[test]
    fn the_wait_is_anything_below_the_bound_but_never_nothing() {
        let mut backoff = Backoff { bound: LONGEST };
        assert_eq!(backoff.on_failure(LONGEST, &mut Least), LEAST);
        assert!(backoff.on_failure(LONGEST, &mut Half) < Duration::from_millis(15_001));
    }

    #[test]
    fn a_deadline_bounds_the_wait() {
        let mut backoff = Backoff { bound: LONGEST };
        assert_eq!(backoff.on_failure(Duration::from_secs(2), &mut Most), Duration::from_secs(2));
        assert_eq!(backoff.on_failure(Duration::ZERO, &mut Most), LEAST);
    }

    struct Most;
    struct Half;
    struct Least;

    impl Dice for Most {
        fn roll(&mut self) -> u64 {
            u64::MAX
        }
    }

    impl Dice for Half {
        fn roll(&mut self) -> u64 {
            u64::MAX / 2
        }
    }

    impl Dice for Least {
        fn roll(&mut self) -> u64 {
            0
        }
    }
}
