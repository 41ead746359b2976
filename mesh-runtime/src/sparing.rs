//! Log lines about what strangers do: one a second at most, with the number of those left out, so that nobody fills a
//! disk.

use crate::clock::Clock;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Says when a line may be written.
#[derive(Debug)]
pub struct Sparing {
    clock: Clock,
    /// From when the next line may be written, in nanoseconds of `clock`.
    next_nanos: AtomicU64,
    unlogged: AtomicU64,
}

impl Sparing {
    /// Returns one by which a line may be written at once.
    pub fn new(clock: Clock) -> Self {
        Self { clock, next_nanos: AtomicU64::new(0), unlogged: AtomicU64::new(0) }
    }

    /// Returns how many lines were left out since the last one, if one may be written.
    pub fn line(&self) -> Option<u64> {
        let now = self.clock.now();
        let next = self.next_nanos.load(Relaxed);
        let due = now.as_nanos() >= next;
        let then = (now + LINE_EVERY).as_nanos();
        if due && self.next_nanos.compare_exchange(next, then, Relaxed, Relaxed).is_ok() {
            return Some(self.unlogged.swap(0, Relaxed));
        }
        self.unlogged.fetch_add(1, Relaxed);
        None
    }
}

/// Often enough to see at once what is wrong, and 86,400 lines a day at most.
const LINE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_says_how_many_it_stands_for() {
        let sparing = Sparing::new(Clock::start());
        let lines: Vec<_> = (0..4).map(|_| sparing.line()).collect();
        assert_eq!(lines, [Some(0), None, None, None]);
        tokio::time::advance(LINE_EVERY).await;
        assert_eq!((sparing.line(), sparing.line()), (Some(3), None));
    }
}
