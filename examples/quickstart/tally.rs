//! What came of the calls: counted from the start for the summary, kept for a moment for the screen.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// The calls of the last moments are kept one by one; 200 calls a second fit eight times.
const RECENT_MAX: usize = 4096;

/// How one call ended.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When it began: it belongs to the configuration of that moment.
    pub(crate) begun: Instant,
    /// How long it took.
    pub(crate) took: Duration,
    /// The version that answered and whom it was called by, or why nobody answered.
    pub(crate) end: Result<Answer, String>,
}

/// An answer of payment.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) version: String,
    pub(crate) caller: String,
}

/// Everything counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) versions: BTreeMap<String, u64>,
    pub(crate) callers: BTreeMap<String, BTreeSet<String>>,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
    /// The calls of the last moments, in the order in which they ended.
    recent: VecDeque<Call>,
    /// How long every call took, in microseconds: 20 s of calls are 16 KiB.
    micros: Vec<u32>,
}

/// What the screen shows: a copy small enough to be made while the callers wait.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    pub(crate) versions: BTreeMap<String, u64>,
    pub(crate) callers: BTreeMap<String, BTreeSet<String>>,
    pub(crate) success: f64,
    pub(crate) failed: u64,
    pub(crate) recent: Stretch,
}

/// What was counted of the calls that began in one stretch of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stretch {
    pub(crate) calls: u64,
    pub(crate) versions: BTreeMap<String, u64>,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Tally {
    /// Counts `call`.
    pub(crate) fn add(&mut self, call: Call) {
        match &call.end {
            Ok(answer) => {
                self.answered += 1;
                *self.versions.entry(answer.version.clone()).or_default() += 1;
                self.callers.entry(answer.version.clone()).or_default().insert(answer.caller.clone());
            }
            Err(why) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| why.clone());
            }
        }
        if self.micros.len() < 1_000_000 {
            self.micros.push(u32::try_from(call.took.as_micros()).unwrap_or(u32::MAX));
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(call);
    }

    /// Returns the calls that began at or after `since`.
    pub(crate) fn since(&self, since: Instant) -> Stretch {
        let mut stretch = Stretch::default();
        let mut micros = Vec::new();
        for call in self.recent.iter().filter(|call| call.begun >= since) {
            stretch.calls += 1;
            micros.push(u32::try_from(call.took.as_micros()).unwrap_or(u32::MAX));
            if let Ok(answer) = &call.end {
                *stretch.versions.entry(answer.version.clone()).or_default() += 1;
            }
        }
        micros.sort_unstable();
        (stretch.p50, stretch.p99) = (quantile(&micros, 50), quantile(&micros, 99));
        stretch
    }

    /// Returns what there is to see, looking back to `since`.
    pub(crate) fn glance(&self, since: Instant) -> Glance {
        Glance {
            versions: self.versions.clone(),
            callers: self.callers.clone(),
            success: self.success(),
            failed: self.failed,
            recent: self.since(since),
        }
    }

    /// Returns the median and the 99th percentile of all calls.
    pub(crate) fn latency(&self) -> (Duration, Duration) {
        let mut micros = self.micros.clone();
        micros.sort_unstable();
        (quantile(&micros, 50), quantile(&micros, 99))
    }

    /// Returns the share of answers among all calls, in percent.
    fn success(&self) -> f64 {
        100.0 * self.answered as f64 / (self.answered + self.failed).max(1) as f64
    }
}

impl Stretch {
    /// Returns the share of `version`, in percent.
    pub(crate) fn share(&self, version: &str) -> f64 {
        100.0 * self.count(version) as f64 / self.versions.values().sum::<u64>().max(1) as f64
    }

    /// Returns how many calls `version` answered.
    pub(crate) fn count(&self, version: &str) -> u64 {
        self.versions.get(version).copied().unwrap_or_default()
    }
}

/// Returns the value below which `percent` of the sorted values lie.
fn quantile(sorted: &[u32], percent: usize) -> Duration {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    Duration::from_micros(sorted.get(index).copied().unwrap_or_default().into())
}
