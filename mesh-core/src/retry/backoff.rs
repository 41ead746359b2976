//! How long to wait before the next try: full jitter below a doubling bound.
// spec: envoy source/common/common/backoff_strategy.cc JitteredExponentialBackOffStrategy

use crate::dice::Dice;
use std::time::Duration;

/// The bounds of the waiting time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait. Default 25 ms.
    pub base: Duration,
    /// The bound of any wait. Default ten times the base.
    pub max: Duration,
}

impl Backoff {
    /// Returns the bounds that follow from a base interval.
    pub const fn from_base(base: Duration) -> Self {
        Self { base, max: base.saturating_mul(10) }
    }

    /// Draws the wait before retry number `retry`, counted from 0: evenly from zero up to, not including, its bound.
    pub fn wait(&self, retry: u32, dice: &mut impl Dice) -> Duration {
        let bound = u64::try_from(self.bound(retry).as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(dice.below(bound))
    }

    /// Returns the bound of the wait before retry number `retry`: 25, 50, 100, 200, 250, 250 ms … by default.
    pub fn bound(&self, retry: u32) -> Duration {
        let factor = 1_u32.checked_shl(retry).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::from_base(Duration::from_millis(25))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::{Highest, Lowest, Seeded};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_bound_doubles_from_the_base_to_ten_times_the_base() {
        let bounds: Vec<_> = (0..7).map(|retry| Backoff::default().bound(retry).as_millis()).collect();
        assert_eq!(bounds, [25, 50, 100, 200, 250, 250, 250]);
    }

    /// Envoy's rule, written as Envoy runs it.
    #[test]
    fn the_bound_is_envoys_for_any_base_and_maximum() {
        for (base, max) in [(25, 250), (1, 10), (3, 7), (10, 10), (2, 1000), (7, 56)] {
            let backoff = Backoff { base: base * MS, max: max * MS };
            let mut next = base * MS;
            for retry in 0..40 {
                assert_eq!(backoff.bound(retry), next, "base {base}, max {max}, retry {retry}");
                next = if next < max * MS / 2 { next * 2 } else { max * MS };
            }
        }
    }

    #[test]
    fn a_wait_reaches_from_zero_to_just_below_its_bound() {
        let backoff = Backoff::default();
        assert_eq!(backoff.wait(2, &mut Lowest), Duration::ZERO);
        assert_eq!(backoff.wait(2, &mut Highest), 100 * MS - Duration::from_nanos(1));
        let mut dice = Seeded::new(3);
        let mean = (0..10_000).map(|_| backoff.wait(1, &mut dice)).sum::<Duration>() / 10_000;
        assert!((24 * MS..26 * MS).contains(&mean), "seed 3: {mean:?}");
    }

    #[test]
    fn no_base_and_no_number_of_retries_overflows() {
        assert_eq!(Backoff::from_base(Duration::ZERO).wait(u32::MAX, &mut Highest), Duration::ZERO);
        assert_eq!(Backoff::from_base(Duration::MAX).bound(u32::MAX), Duration::MAX);
        assert!(Backoff::from_base(Duration::MAX).wait(31, &mut Highest) > Duration::from_secs(1));
    }
}
