//! The clock and the dice of the real world, in the forms the core takes.

use mesh_core::{dice::Dice, time::Time};
use tokio::time::Instant;

/// The process's monotonic clock. Follows tokio's, so that a paused runtime pauses it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Returns a clock whose origin is now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Returns the time.
    pub fn now(&self) -> Time {
        self.time(Instant::now())
    }

    /// Returns `instant` as the core's time.
    pub fn time(&self, instant: Instant) -> Time {
        Time::ZERO + instant.saturating_duration_since(self.origin)
    }

    /// Returns `time` as an instant to sleep until; times beyond what the platform can hold are a year away.
    pub fn instant(&self, time: Time) -> Instant {
        const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);
        let wait = time.since(self.now()).min(YEAR);
        let past = self.now().since(time);
        if wait.is_zero() {
            Instant::now().checked_sub(past).unwrap_or(self.origin)
        } else {
            Instant::now() + wait
        }
    }
}

/// The thread's own random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadDice;

impl Dice for ThreadDice {
    fn roll(&mut self) -> u64 {
        fastrand::u64(..)
    }
}
