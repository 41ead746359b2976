//! Ejections by what an endpoint answered in a whole interval: its success rate beside the others', its percentage of
//! failures.
//!
//! Nothing sweeps here either. Answers are counted in one word per endpoint, with the number of the interval in it; who
//! gets the first answer after an interval's end judges that interval. An ejection begins when its interval ended, not
//! when it was noticed: of a cluster that nobody called for an hour nobody is ejected for what was an hour ago.
// spec: envoy intro/arch_overview/upstream/outlier, success rate and failure percentage

use super::{
    ClusterState, EndpointState,
    endpoint::Standing,
    outlier::{Cause, Change, Judge, OutlierPolicy},
};
use crate::{
    balance::EndpointSet,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Time,
};
use std::time::Duration;

/// Ejects endpoints whose success rate is far below that of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// How far below the mean: in thousandths of the standard deviation. Default 1900.
    pub stdev_factor: u32,
    /// How much there must be to judge. Default 5 endpoints with 100 answers.
    pub volume: Volume,
}

/// Ejects endpoints of whose answers too many are failures, whatever the others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// From how many per cent on. Default 85.
    pub threshold: u8,
    /// How much there must be to judge. Default 5 endpoints with 50 answers.
    pub volume: Volume,
}

/// How much must have been answered in an interval to say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Endpoints with enough answers.
    pub endpoints_min: u32,
    /// Answers of an endpoint.
    pub answers_min: u32,
}

// spec: envoy config/cluster/v3/outlier_detection.proto success_rate_*
impl Default for SuccessRate {
    fn default() -> Self {
        Self { stdev_factor: 1900, volume: Volume { endpoints_min: 5, answers_min: 100 } }
    }
}

// spec: envoy config/cluster/v3/outlier_detection.proto failure_percentage_*
impl Default for FailurePercentage {
    fn default() -> Self {
        Self { threshold: 85, volume: Volume { endpoints_min: 5, answers_min: 50 } }
    }
}

impl ClusterState {
    /// The clock has moved: if an interval has ended since, judges what the endpoints of `set` answered in it. Returns
    /// what that changed, by index; the worst come first.
    pub fn on_time(&self, policy: &OutlierPolicy, set: &EndpointSet, now: Time) -> Vec<(usize, Change)> {
        if !policy.judges_intervals() || !self.interval.has_ended(now) {
            return Vec::new();
        }
        let mut judge = self.judge(policy, set, now);
        match self.interval.next(policy.interval, now) {
            Some((number, ended)) => judge.judge_interval(number, ended),
            None => Vec::new(),
        }
    }
}

impl OutlierPolicy {
    /// Returns whether anything is ejected for what it answered in an interval.
    pub(super) const fn judges_intervals(&self) -> bool {
        self.success_rate.is_some() || self.failure_percentage.is_some()
    }
}

/// What an endpoint answered in the interval that is judged.
#[derive(Clone, Copy, Debug)]
struct Record {
    index: usize,
    seen: Standing,
    answers: u32,
    /// In per cent.
    success: f64,
}

impl Judge<'_> {
    fn judge_interval(&mut self, number: u32, ended: Time) -> Vec<(usize, Change)> {
        let records = self.records(number);
        let by_rate = self.policy.success_rate.map(|rule| rule.outliers(&records)).unwrap_or_default();
        let by_percentage =
            self.policy.failure_percentage.map(|rule| rule.outliers(&records)).unwrap_or_default();
        let by_rate = by_rate.into_iter().map(|record| (record, Cause::SuccessRate));
        let by_percentage = by_percentage.into_iter().map(|record| (record, Cause::FailurePercentage));
        let changes = by_rate.chain(by_percentage).filter_map(|(record, cause)| {
            let endpoint = self.set.as_slice().get(record.index)?;
            let change = self.eject(&endpoint.state, record.seen, cause, ended);
            (change != Change::None).then_some((record.index, change))
        });
        changes.collect()
    }

    /// Returns the records of those that are admitted and have answered, the worst first.
    fn records(&self, number: u32) -> Vec<Record> {
        let record = |(index, state): (usize, &EndpointState)| {
            let seen = state.standing();
            let (answers, failures) = state.tally.of(number);
            let is_judged = answers > 0 && !seen.is_ejected(self.now);
            let success = 100.0 * f64::from(answers.saturating_sub(failures)) / f64::from(answers);
            is_judged.then_some(Record { index, seen, answers, success })
        };
        let states = self.set.as_slice().iter().map(|endpoint| &*endpoint.state);
        let mut records: Vec<_> = states.enumerate().filter_map(record).collect();
        records.sort_by(|a, b| a.success.total_cmp(&b.success));
        records
    }
}

impl SuccessRate {
    fn outliers(&self, records: &[Record]) -> Vec<Record> {
        let mut judged = self.volume.enough_of(records);
        let least = self.least(&judged);
        judged.retain(|record| record.success < least);
        judged
    }

    /// Returns the rate below which an endpoint is ejected: the mean, less so many standard deviations.
    // spec: envoy source/common/upstream/outlier_detection_impl.cc successRateEjectionThreshold
    fn least(&self, judged: &[Record]) -> f64 {
        let count = judged.len() as f64;
        let mean = judged.iter().map(|record| record.success).sum::<f64>() / count;
        let variance = judged.iter().map(|record| (record.success - mean).powi(2)).sum::<f64>() / count;
        mean - variance.sqrt() * f64::from(self.stdev_factor) / 1000.0
    }
}

impl FailurePercentage {
    fn outliers(&self, records: &[Record]) -> Vec<Record> {
        let mut judged = self.volume.enough_of(records);
        judged.retain(|record| 100.0 - record.success >= f64::from(self.threshold));
        judged
    }
}

impl Volume {
    /// Returns the records with enough answers; none, if there are not enough of those.
    fn enough_of(self, records: &[Record]) -> Vec<Record> {
        let enough = records.iter().copied().filter(|record| record.answers >= self.answers_min);
        let enough: Vec<_> = enough.collect();
        if enough.len() < self.endpoints_min as usize { Vec::new() } else { enough }
    }
}

/// The interval that is counted: its number and its end in one word, so that both change at once.
#[derive(Debug, Default)]
pub(super) struct Interval(AtomicU64);

impl Interval {
    pub(super) fn number(&self) -> u32 {
        (self.0.load(Relaxed) & NUMBER_MAX) as u32
    }

    fn has_ended(&self, now: Time) -> bool {
        self.end() <= now
    }

    fn end(&self) -> Time {
        Time::from_nanos((self.0.load(Relaxed) >> NUMBER_BITS).saturating_mul(NANOS_PER_MS))
    }

    /// Begins the interval that `now` lies in, if the last one has ended; returns the number and the end of that one.
    /// One thread at a time.
    fn next(&self, length: Duration, now: Time) -> Option<(u32, Time)> {
        let (number, ended) = (self.number(), self.end());
        if ended > now {
            return None;
        }
        let length = u64::try_from(length.as_millis()).unwrap_or(MS_MAX).max(1);
        let begun = if ended == Time::ZERO { now } else { ended };
        let passed = (now.since(begun).as_millis() as u64) / length;
        let begun = (begun.as_nanos() / NANOS_PER_MS).saturating_add(passed.saturating_mul(length));
        let end = begun.saturating_add(length).min(MS_MAX);
        self.0.store(end << NUMBER_BITS | (u64::from(number) + 1) & NUMBER_MAX, Relaxed);
        Some((number, ended))
    }
}

/// How many answers an endpoint gave in one interval, and how many of them were failures: one word with the interval's
/// number, which empties it when the next one begins.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Tally {
    /// Counts an answer of the interval `number`. After a million of them it has seen enough.
    pub(super) fn on_answer(&self, number: u32, failed: bool) {
        let count = |word: u64| {
            let (answers, failures) = counts(word, number);
            let full = answers == COUNT_MAX;
            let (answers, failures) = (answers + 1, failures + u64::from(failed));
            (!full).then_some(u64::from(number) << (2 * COUNT_BITS) | answers << COUNT_BITS | failures)
        };
        let _unless_full = self.0.fetch_update(Relaxed, Relaxed, count);
    }

    /// Returns the answers and the failures among them in the interval `number`.
    fn of(&self, number: u32) -> (u32, u32) {
        let (answers, failures) = counts(self.0.load(Relaxed), number);
        (answers as u32, failures as u32)
    }
}

fn counts(word: u64, number: u32) -> (u64, u64) {
    let is_of_it = word >> (2 * COUNT_BITS) == u64::from(number);
    if is_of_it { (word >> COUNT_BITS & COUNT_MAX, word & COUNT_MAX) } else { (0, 0) }
}

const NUMBER_BITS: u32 = 24;
const NUMBER_MAX: u64 = (1 << NUMBER_BITS) - 1;
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const MS_MAX: u64 = u64::MAX >> NUMBER_BITS;
const NANOS_PER_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests;
