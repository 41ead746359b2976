//! A limit that is measured: as many requests at a time as do not slow each other down.
//!
//! ```text
//! Probing --50 answers--> Settled --10 s passed and slowed down, or 5 windows at its minimum--> Probing
//!   few run                 every window: limit = limit * gradient + room for a burst
//!   what it takes: base     gradient = base * 1.25 / what it takes
//! ```
//!
//! The rule is that of Envoy's gradient controller. Three things differ:
//!
//! - While it measures what a request takes alone, Envoy lets no more than three run. Here it is half of those that would
//!   run if none slowed another down (how many come in a second, times what one takes), as in BBR's second version: the
//!   queue within the handlers is gone by then, and half of the capacity is not.
//! - There is no such probe while requests take no longer than they did in the last one: it could only confirm that.
//! - As in Netflix's controller, a limit does not grow that half of would do: it would be no limit when it is needed.
//!
//! A fleet does not probe at once (each wait is up to 15 % longer), and the places that a probe held back are handed out
//! one by one to who waits, of whom a standing queue holds few.
// spec: envoy configuration/http/http_filters/adaptive_concurrency_filter
// spec: draft-cardwell-iccrg-bbr-congestion-control-02 4.3.4.3, BBRProbeRTTCwndGain
// spec: Netflix concurrency-limits, Gradient2Limit

use super::{AdaptiveLimit, durations::Durations};
use crate::{
    dice::Dice,
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Time,
};
use std::time::Duration;

/// A limit that follows what requests take.
///
/// Counting an answer is a handful of atomic additions; the lock is tried by one request in a window, and never waited
/// for.
#[derive(Debug)]
pub struct Gradient {
    bounds: AdaptiveLimit,
    limit: AtomicU32,
    /// What a request takes if it is not slowed down, in nanoseconds; 0 before that is known.
    base: AtomicU64,
    window: Window,
    phase: Mutex<Phase>,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// A probe begins, under this limit.
    Probing {
        /// The limit for as long.
        limit: u32,
    },
    /// A probe or a window is over.
    Settled {
        /// The limit from now on.
        limit: u32,
        /// What a request takes alone.
        base: Duration,
    },
}

/// What was seen since the limit was set.
#[derive(Debug)]
struct Window {
    durations: Durations,
    /// The most requests that ran at one time.
    running_max: AtomicU32,
    /// Only what began since then counts: what began before was slowed down by others than those allowed now.
    counts_since: AtomicU64,
    ends: AtomicU64,
    samples_min: AtomicU32,
}

#[derive(Debug)]
enum Phase {
    Probing { began: Time, restore: u32 },
    Settled { began: Time, probe_at: Time, at_minimum: u32 },
}

impl Gradient {
    /// Returns a limit that begins at its minimum, and with a probe.
    pub fn new(bounds: AdaptiveLimit, now: Time) -> Self {
        let phase = Phase::Probing { began: now, restore: bounds.limit_min };
        let window = Window::new(now);
        let limit = AtomicU32::new(bounds.limit_min);
        Self { bounds, limit, base: AtomicU64::new(0), window, phase: Mutex::new(phase) }
    }

    /// Returns how many requests may run at one time.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Returns what a request takes if it is not slowed down; zero before that is known.
    pub fn base(&self) -> Duration {
        Duration::from_nanos(self.base.load(Relaxed))
    }

    /// Counts a request that ran from `since` to `now`, when `running` did, itself included. `complete` says whether its
    /// answer is out: what was given up before that took that long at the least, which is worth knowing only if it is
    /// long.
    pub fn on_answer(
        &self,
        since: Time,
        now: Time,
        complete: bool,
        running: u32,
        dice: &mut impl Dice,
    ) -> Change {
        let took = now.since(since);
        if self.window.excludes(since) || !(complete || self.is_slowed_down(took)) {
            return Change::None;
        }
        self.window.on_answer(took, running);
        if !self.window.is_over(now) {
            return Change::None;
        }
        let Ok(mut phase) = self.phase.try_lock() else { return Change::None };
        // Somebody else may have ended it in between.
        if self.window.is_over(now) { self.on_window(&mut phase, now, dice) } else { Change::None }
    }

    fn on_window(&self, phase: &mut Phase, now: Time, dice: &mut impl Dice) -> Change {
        let (count, running_max) = (self.window.durations.count(), self.window.running_max.load(Relaxed));
        let Some(took) = self.window.durations.take_median() else { return Change::None };
        match *phase {
            Phase::Probing { began, restore } => {
                self.base.store(nanos(took), Relaxed);
                let probe_at = self.next_probe(began, now, dice);
                *phase = Phase::Settled { began: now, probe_at, at_minimum: 0 };
                self.settle(restore, now)
            }
            Phase::Settled { began, probe_at, at_minimum } => {
                let limit = self.next_limit(took, running_max);
                let at_minimum = if limit <= self.bounds.limit_min { at_minimum + 1 } else { 0 };
                let due = now >= probe_at && self.is_slowed_down(took);
                if due || at_minimum >= AT_MINIMUM_MAX {
                    *phase = Phase::Probing { began: now, restore: limit };
                    return self.probe(self.running_alone(count, now.since(began)) / 2, now);
                }
                *phase = Phase::Settled { began: now, probe_at, at_minimum };
                self.settle(limit, now)
            }
        }
    }

    /// Returns how many run at a time if `count` come within `window` and none slows another down.
    // spec: Little's law
    fn running_alone(&self, count: u32, window: Duration) -> u32 {
        let share = self.base().as_secs_f64() / window.as_secs_f64().max(1e-9);
        (f64::from(count) * share).ceil() as u32
    }

    fn probe(&self, limit: u32, now: Time) -> Change {
        let limit = self.set(limit);
        self.window.begin(now, PROBE_SAMPLES_MIN);
        self.window.counts_since.store(now.as_nanos(), Relaxed);
        Change::Probing { limit }
    }

    fn settle(&self, limit: u32, now: Time) -> Change {
        let limit = self.set(limit);
        self.window.begin(now + self.bounds.window, WINDOW_SAMPLES_MIN);
        Change::Settled { limit, base: self.base() }
    }

    fn set(&self, limit: u32) -> u32 {
        // Not `clamp`, which panics where the bounds contradict each other.
        let limit = limit.min(self.bounds.limit_max).max(self.bounds.limit_min);
        self.limit.store(limit, Relaxed);
        limit
    }

    /// Returns the limit after a window in which a request took so long, and so many ran at the most.
    fn next_limit(&self, took: Duration, running_max: u32) -> u32 {
        let limit = self.limit();
        let gradient = (self.buffered_base().as_secs_f64() / took.as_secs_f64().max(1e-9)).clamp(0.5, 2.0);
        let scaled = f64::from(limit) * gradient;
        let next = (scaled + scaled.sqrt()) as u32;
        if running_max < limit / 2 { next.min(limit) } else { next }
    }

    fn is_slowed_down(&self, took: Duration) -> bool {
        !self.base().is_zero() && took > self.buffered_base()
    }

    /// Returns what a request may take without counting as slowed down.
    fn buffered_base(&self) -> Duration {
        self.base() * 5 / 4
    }

    /// A probe costs half of the capacity while it lasts, so the time between two is a multiple of that.
    fn next_probe(&self, began: Time, now: Time, dice: &mut impl Dice) -> Time {
        let rest = self.bounds.probe_interval.max(now.since(began).saturating_mul(PROBE_SHARE));
        now + rest + Duration::from_nanos(dice.below(nanos(rest) / 100 * JITTER_PERCENT))
    }
}

impl Window {
    /// Returns the window of the first probe.
    fn new(now: Time) -> Self {
        Self {
            durations: Durations::default(),
            running_max: AtomicU32::new(0),
            counts_since: AtomicU64::new(now.as_nanos()),
            ends: AtomicU64::new(now.as_nanos()),
            samples_min: AtomicU32::new(PROBE_SAMPLES_MIN),
        }
    }

    fn begin(&self, ends: Time, samples_min: u32) {
        self.running_max.store(0, Relaxed);
        self.ends.store(ends.as_nanos(), Relaxed);
        self.samples_min.store(samples_min, Relaxed);
    }

    fn excludes(&self, since: Time) -> bool {
        since.as_nanos() < self.counts_since.load(Relaxed)
    }

    fn on_answer(&self, took: Duration, running: u32) {
        self.durations.on_duration(took);
        self.running_max.fetch_max(running, Relaxed);
    }

    fn is_over(&self, now: Time) -> bool {
        now.as_nanos() >= self.ends.load(Relaxed) && self.durations.count() >= self.samples_min.load(Relaxed)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Envoy's `request_count`.
// spec: envoy api GradientControllerConfig.MinimumRTTCalculationParams
const PROBE_SAMPLES_MIN: u32 = 50;
/// Netflix's: a median of fewer is chance.
// spec: Netflix concurrency-limits, WindowedLimit.DEFAULT_WINDOW_SIZE
const WINDOW_SAMPLES_MIN: u32 = 10;
/// Envoy's: a limit that stays at its minimum is one whose base is wrong.
// spec: envoy source/extensions/filters/http/adaptive_concurrency/controller/gradient_controller.cc
const AT_MINIMUM_MAX: u32 = 5;
/// Envoy's `jitter`.
const JITTER_PERCENT: u64 = 15;
/// Half of the capacity for a twentieth of the time is a fortieth of it.
const PROBE_SHARE: u32 = 20;

#[cfg(test)]
mod tests;
