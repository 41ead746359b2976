//! When an endpoint is ejected: consecutive failures, with Envoy's growth and percentage rules. What it answered in a
//! whole interval is the business of `interval`.
//!
//! ```text
//!           answer, fewer failures in a row than the limit
//!           limit reached, but too many are ejected already: counting starts anew
//!            ┌───┐
//!            ▼   │       limit reached, percentage allows it
//!          Admitted ───────────────────────────────────────────► Ejected ──┐
//!            ▲                                                     │  ▲    │ any answer: no verdict
//!            └──────────── now >= until, counting starts anew ─────┘  └────┘
//! ```
//!
//! Nothing sweeps. Envoy looks every `interval` whether an ejection has ended; here it has ended when its time has
//! passed. Only picks and answers can see the difference: an endpoint is back up to one `interval` sooner than in
//! Envoy. What else a sweep does is computed when it matters: the growth falls by one for each `interval` that passed
//! between the end of an ejection and the next one.
// spec: envoy intro/arch_overview/upstream/outlier

use super::{
    ClusterState, EndpointState, FailurePercentage, InFlight, Statuses, SuccessRate, endpoint::Standing,
};
use crate::{
    balance::EndpointSet,
    sync::{
        MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Time,
};
use std::time::Duration;

/// The settings of outlier detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierPolicy {
    /// Consecutive 5xx (and local failures unless split) that eject; 0 is off. Default 5.
    pub consecutive_5xx: u32,
    /// Consecutive 502, 503, 504 that eject; 0 is off, the default.
    pub consecutive_gateway: u32,
    /// Consecutive failures to connect that eject when split. Default 5.
    pub consecutive_local_origin: u32,
    /// Whether failures to connect are counted apart.
    pub split_local_origin: bool,
    /// Time between sweeps. Default 10 s.
    pub interval: Duration,
    /// First ejection time; grows with each ejection. Default 30 s.
    pub base_ejection_time: Duration,
    /// Upper bound of the ejection time, which no first ejection is cut to. Default 300 s.
    pub max_ejection_time: Duration,
    /// How many per cent of the endpoints may be ejected. Default 10.
    pub max_ejection_percent: u8,
    /// Whether one endpoint may be ejected however few there are. Default false.
    pub always_eject_one: bool,
    /// Below this percentage of healthy endpoints all are used. Default 0: never.
    pub min_health_percent: u8,
    /// The statuses that are failures; empty, the default, is every 5xx.
    pub error_codes: Statuses,
    /// Ejection by the success rate of an interval. Default none.
    pub success_rate: Option<SuccessRate>,
    /// Ejection by the percentage of failures in an interval. Default none.
    pub failure_percentage: Option<FailurePercentage>,
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            consecutive_local_origin: 5,
            split_local_origin: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 10,
            always_eject_one: false,
            min_health_percent: 0,
            error_codes: Statuses::default(),
            success_rate: None,
            failure_percentage: None,
        }
    }
}

/// What one attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered with this status (of gRPC: mapped to HTTP).
    Status(u16),
    /// It could not be reached, or broke off.
    LocalFailure,
    /// It did not answer in time.
    Timeout,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The endpoint is ejected.
    Ejected {
        /// When it is back.
        until: Time,
        /// Why.
        cause: Cause,
    },
    /// The endpoint would have been ejected, but too many are.
    Spared {
        /// Why it would have been.
        cause: Cause,
    },
}

/// Which rule ejects: which row of failures was too long, or what was wrong with a whole interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// 5xx; unless split also failures to connect and timeouts.
    Consecutive5xx,
    /// 502, 503 and 504; unless split also failures to connect and timeouts.
    ConsecutiveGateway,
    /// Failures to connect and timeouts, split from the others.
    ConsecutiveLocalOrigin,
    /// The success rate of an interval was far below that of the others.
    SuccessRate,
    /// Too many answers of an interval were failures.
    FailurePercentage,
}

/// How often endpoints of a cluster were ejected, by cause, and how often one was spared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejections {
    made: [u64; 5],
    spared: u64,
}

impl Ejections {
    /// Returns how often `cause` ejected.
    pub fn made(&self, cause: Cause) -> u64 {
        self.made[cause as usize]
    }

    /// Returns how often an endpoint would have been ejected, had not too many been.
    pub fn spared(&self) -> u64 {
        self.spared
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::None => {}
            Change::Ejected { cause, .. } => self.made[cause as usize] += 1,
            Change::Spared { .. } => self.spared += 1,
        }
    }
}

impl ClusterState {
    /// Returns how often endpoints were ejected.
    pub fn ejections(&self) -> Ejections {
        *self.ejecting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what an attempt says of its endpoint. The percentage is judged over `set`, the endpoints of this cluster.
    pub fn on_answer(
        &self,
        answered: &InFlight,
        verdict: Verdict,
        policy: &OutlierPolicy,
        set: &EndpointSet,
        now: Time,
    ) -> Change {
        let Some(standing) = answered.standing() else { return Change::None };
        let endpoint = answered.endpoint();
        if policy.judges_intervals()
            && let Some(failed) = policy.is_failure(verdict)
        {
            endpoint.tally.on_answer(self.interval.number(), failed);
        }
        match endpoint.failures.on_verdict(standing, verdict, policy) {
            Some(cause) => self.judge(policy, set, now).eject(endpoint, standing, cause, now),
            None => Change::None,
        }
    }

    /// Returns who judges the ejections of this cluster, when it is the only one that does.
    pub(super) fn judge<'a>(
        &'a self,
        policy: &'a OutlierPolicy,
        set: &'a EndpointSet,
        now: Time,
    ) -> Judge<'a> {
        let alone = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let ejected = set.as_slice().iter().filter(|endpoint| endpoint.state.is_ejected(now)).count();
        Judge { policy, set, now, ejected, alone }
    }
}

/// Judges whether an endpoint may be ejected; there is one for a cluster at a time.
pub(super) struct Judge<'a> {
    pub(super) policy: &'a OutlierPolicy,
    pub(super) set: &'a EndpointSet,
    pub(super) now: Time,
    ejected: usize,
    /// Nobody else judges as long as this is held.
    alone: MutexGuard<'a, Ejections>,
}

impl Judge<'_> {
    /// Ejects `endpoint` from `since` on, unless its standing is no longer `seen`, too many are ejected already, or the
    /// ejection would be over.
    pub(super) fn eject(
        &mut self,
        endpoint: &EndpointState,
        seen: Standing,
        cause: Cause,
        since: Time,
    ) -> Change {
        let change = self.decide(endpoint, seen, cause, since);
        self.alone.on_change(change);
        change
    }

    fn decide(&mut self, endpoint: &EndpointState, seen: Standing, cause: Cause, since: Time) -> Change {
        let policy = self.policy;
        let growth = policy.grow(endpoint.growth.load(Relaxed), seen.until(), since);
        let until = since + policy.ejection_time(growth);
        if endpoint.standing() != seen || until <= self.now {
            return Change::None;
        }
        if !policy.may_eject(self.ejected, self.set.len()) {
            return Change::Spared { cause };
        }
        let Some(until) = endpoint.eject(seen, until) else { return Change::None };
        self.ejected += 1;
        endpoint.growth.store(growth, Relaxed);
        endpoint.on_ejected(cause, since, until);
        Change::Ejected { until, cause }
    }
}

impl OutlierPolicy {
    /// One more than `ejected` must stay within the percentage: with 10 %, a cluster of fewer than ten ejects nobody.
    // spec: envoy source/common/upstream/outlier_detection_impl.cc ejectHost
    const fn may_eject(&self, ejected: usize, total: usize) -> bool {
        let is_within = 100 * (ejected as u128 + 1) <= self.max_ejection_percent as u128 * total as u128;
        is_within || self.always_eject_one && ejected == 0
    }

    /// Returns the growth after one more ejection: one less for each interval spent admitted, then one more, until the
    /// longest ejection is reached.
    fn grow(&self, growth: u32, back_since: Time, now: Time) -> u32 {
        let intervals = now.since(back_since).as_nanos().checked_div(self.interval.as_nanos()).unwrap_or(0);
        let growth = growth.saturating_sub(u32::try_from(intervals).unwrap_or(u32::MAX));
        let longest = self.longest_ejection().saturating_add(self.base_ejection_time);
        growth + u32::from(self.base_ejection_time.saturating_mul(growth) < longest)
    }

    /// Returns what a status counts as: itself, unless the rule lists which are failures. Of those, one below 500 counts
    /// as 500.
    // spec: envoy config/upstreams/http/v3/http_protocol_options.proto OutlierDetection.error_matcher
    fn counted(&self, status: u16) -> u16 {
        match self.error_codes.contains(status) {
            _ if self.error_codes.is_empty() => status,
            true => status.max(500),
            false => 200,
        }
    }

    /// Returns whether `verdict` is a failure of an interval; `None` if it is not counted there: failures to connect that
    /// are split from the others have their own row.
    fn is_failure(&self, verdict: Verdict) -> Option<bool> {
        match verdict {
            Verdict::Status(status) => Some(self.counted(status) >= 500),
            Verdict::LocalFailure | Verdict::Timeout => (!self.split_local_origin).then_some(true),
        }
    }

    fn ejection_time(&self, growth: u32) -> Duration {
        self.base_ejection_time.saturating_mul(growth).min(self.longest_ejection())
    }

    /// Returns the bound in force. Istio has a field for the first ejection only, which may be longer than Envoy's default.
    // spec: envoy config/cluster/v3/outlier_detection.proto max_ejection_time: the default or the base, whichever is larger
    fn longest_ejection(&self) -> Duration {
        self.max_ejection_time.max(self.base_ejection_time)
    }
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 5] = [
        Self::Consecutive5xx,
        Self::ConsecutiveGateway,
        Self::ConsecutiveLocalOrigin,
        Self::SuccessRate,
        Self::FailurePercentage,
    ];

    /// Returns Envoy's name for it, for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGateway => "consecutive_gateway_failure",
            Self::ConsecutiveLocalOrigin => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
        }
    }
}

/// Returns whether so few endpoints are healthy that all of them are used: better the ejected ones than overload the
/// rest. A minimum of 0 is never.
// spec: envoy intro/arch_overview/upstream/load_balancing/panic_threshold
pub const fn is_panic(healthy: usize, total: usize, min_health_percent: u8) -> bool {
    100 * (healthy as u128) < min_health_percent as u128 * total as u128
}

/// How often in a row an endpoint failed, by kind of failure.
#[derive(Debug, Default)]
pub(super) struct Failures {
    http: Row,
    gateway: Row,
    local: Row,
}

impl Failures {
    /// Counts what `verdict` says of an endpoint whose standing is `of`, and returns the row that is too long by it. That
    /// row starts anew, ejected or not.
    fn on_verdict(&self, of: Standing, verdict: Verdict, policy: &OutlierPolicy) -> Option<Cause> {
        match verdict {
            Verdict::Status(status) => {
                self.local.end();
                self.on_status(of, policy.counted(status), policy)
            }
            Verdict::LocalFailure | Verdict::Timeout if policy.split_local_origin => {
                let reached = self.local.lengthen(of, policy.consecutive_local_origin);
                reached.then_some(Cause::ConsecutiveLocalOrigin)
            }
            Verdict::LocalFailure => self.on_status(of, 503, policy),
            Verdict::Timeout => self.on_status(of, 504, policy),
        }
    }

    fn on_status(&self, of: Standing, status: u16, policy: &OutlierPolicy) -> Option<Cause> {
        let gateway = matches!(status, 502..=504) && self.gateway.lengthen(of, policy.consecutive_gateway);
        let http = status >= 500 && self.http.lengthen(of, policy.consecutive_5xx);
        match status {
            502..=504 => {}
            500.. => self.gateway.end(),
            _ => {
                self.gateway.end();
                self.http.end();
            }
        }
        if gateway { Some(Cause::ConsecutiveGateway) } else { http.then_some(Cause::Consecutive5xx) }
    }
}

/// Failures in a row, and under which standing: one word. An ejection ends the row, even for a failure that is counted
/// while it happens.
#[derive(Debug, Default)]
struct Row(AtomicU64);

impl Row {
    /// Adds a failure; returns whether `limit` is reached, in which case the row starts anew.
    fn lengthen(&self, of: Standing, limit: u32) -> bool {
        let empty = of.generation() << COUNT_BITS;
        let count = |row: u64| 1 + if row & !COUNT_MAX == empty { row & COUNT_MAX } else { 0 };
        let is_reached = |row| count(row) >= u64::from(limit);
        let longer = |row| (limit != 0).then(|| if is_reached(row) { empty } else { empty | count(row) });
        self.0.fetch_update(Relaxed, Relaxed, longer).is_ok_and(is_reached)
    }

    fn end(&self) {
        // Most answers are successes after successes: read before writing, so that they share the cache line.
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }
}

const COUNT_BITS: u32 = 32;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

#[cfg(test)]
mod tests;
