//! Priorities: the endpoints of the first take the load as long as enough of them are healthy; what they cannot take
//! spills over to the next.
//!
//! How many are healthy is counted at most every 10 ms, by whoever picks then; every other pick reads the count.
// spec: envoy intro/arch_overview/upstream/load_balancing/priority

use super::{
    Endpoint, Policy, Tried,
    group::{GOLDEN_RATIO, Group},
    locality::Part,
    table::{self, HashTable},
};
use crate::{
    health::is_panic,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Time,
};
use std::time::Duration;

/// The priorities of a set; the first comes first.
#[derive(Debug)]
pub(super) struct Priorities {
    priorities: Box<[Priority]>,
    /// The priority of each endpoint.
    of_endpoint: Box<[u32]>,
    /// When the healthy were counted; 0 is never.
    counted_at: AtomicU64,
}

/// The endpoints of one priority, in parts.
#[derive(Debug)]
pub(super) struct Priority {
    parts: Box<[Weighted]>,
    size: u32,
    healthy: AtomicU32,
    /// Where the round over the parts stands.
    cursor: AtomicU64,
}

/// A part and its weight among the others.
#[derive(Debug)]
struct Weighted {
    group: Group,
    weight: u32,
    size: u32,
    healthy: AtomicU32,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub(super) group: &'a Group,
    /// Whether so few of its priority are healthy that ejections are ignored.
    pub(super) is_panic: bool,
}

impl Priorities {
    pub(super) fn new(endpoints: &[Endpoint], arranged: Vec<Vec<Part>>, policy: Policy) -> Self {
        let mut of_endpoint = vec![0; endpoints.len()];
        for (priority, parts) in (0..).zip(&arranged) {
            for &member in parts.iter().flat_map(|part| &part.members) {
                if let Some(place) = of_endpoint.get_mut(member as usize) {
                    *place = priority;
                }
            }
        }
        let priorities = arranged.into_iter().map(|parts| Priority::new(endpoints, parts, policy)).collect();
        Self { priorities, of_endpoint: of_endpoint.into(), counted_at: AtomicU64::new(0) }
    }

    /// Returns the priority of endpoint number `index`.
    pub(super) fn of(&self, index: usize) -> u32 {
        self.of_endpoint.get(index).copied().unwrap_or(0)
    }

    /// Counts the healthy endpoints if that was long ago.
    pub(super) fn count_if_due(&self, endpoints: &[Endpoint], now: Time) {
        let counted_at = self.counted_at.load(Relaxed);
        if counted_at == 0 || now.since(Time::from_nanos(counted_at)) >= COUNT_INTERVAL {
            let swapped =
                self.counted_at.compare_exchange(counted_at, now.as_nanos().max(1), Relaxed, Relaxed);
            if swapped.is_ok() {
                self.count(endpoints, now);
            }
        }
    }

    /// Counts the healthy endpoints.
    pub(super) fn count(&self, endpoints: &[Endpoint], now: Time) {
        for priority in &self.priorities {
            priority.count(endpoints, now);
        }
    }

    /// Returns the priorities that a request which was sent to `tried` leaves behind, one bit each: after every second
    /// attempt those of all attempts so far. Where none that could take a request would be left, it starts over.
    // spec: envoy source/extensions/retry/priority/previous_priorities, update_frequency 2 as Istio sets it
    pub(super) fn left_behind(&self, tried: &Tried) -> u64 {
        let mut tried = tried.iter();
        let mut left = NONE_LEFT;
        while let (Some(first), Some(second)) = (tried.next(), tried.next()) {
            left |= bit(self.of(first)) | bit(self.of(second));
            if self.availability(left) == 0 {
                left = NONE_LEFT;
            }
        }
        left
    }

    /// Chooses a priority for the per cent `point` of 1 to 100, none of those `left` behind.
    pub(super) fn choose(&self, point: u32, left: u64, min_health_percent: u8) -> Option<Choice<'_>> {
        let is_scarce = min_health_percent > 0 && self.availability(NONE_LEFT) < 100;
        let is_panic = |priority: &Priority| is_scarce && priority.is_below(min_health_percent);
        if left == NONE_LEFT && self.priorities.iter().all(is_panic) {
            return self.choose_by_size(point);
        }
        let available = self.availability(left);
        let shares = self.healths(left).map(|health| (health * 100).checked_div(available).unwrap_or(0));
        let priority = self.priorities.get(share_at(point, shares)?)?;
        let is_panic = is_panic(priority);
        Some(Choice { group: priority.part(is_panic)?, is_panic })
    }

    /// Where all priorities panic, each gets as much as it has endpoints, healthy or not.
    // spec: envoy source/extensions/load_balancing_policies/common/load_balancer_impl.cc recalculateLoadInTotalPanic
    fn choose_by_size(&self, point: u32) -> Option<Choice<'_>> {
        let total: u64 = self.priorities.iter().map(|priority| u64::from(priority.size)).sum();
        let share =
            |priority: &Priority| (100 * u64::from(priority.size)).checked_div(total).unwrap_or(0) as u32;
        let priority = self.priorities.get(share_at(point, self.priorities.iter().map(share))?)?;
        Some(Choice { group: priority.part(true)?, is_panic: true })
    }

    /// How healthy they are together, 100 at most.
    fn availability(&self, left: u64) -> u32 {
        self.healths(left).fold(0, |sum, health| (sum + health).min(100))
    }

    fn healths(&self, left: u64) -> impl Iterator<Item = u32> + Clone {
        let health = move |(number, priority): (u32, &Priority)| match left & bit(number) {
            0 => priority.health(),
            _ => 0,
        };
        (0..).zip(&self.priorities).map(health)
    }
}

impl Priority {
    /// A hash has one table for the whole priority, in which the parts have their shares.
    fn new(endpoints: &[Endpoint], parts: Vec<Part>, policy: Policy) -> Self {
        let parts: Box<[_]> = match HashTable::new(policy, || shares(endpoints, &parts)) {
            Some(table) => [Weighted::hashed(parts, table)].into(),
            None => parts.into_iter().map(|part| Weighted::new(endpoints, part, policy)).collect(),
        };
        let size = parts.iter().map(|part| part.size).sum();
        Self { parts, size, healthy: AtomicU32::new(size), cursor: AtomicU64::new(0) }
    }

    fn count(&self, endpoints: &[Endpoint], now: Time) {
        let mut sum = 0;
        for part in &self.parts {
            let is_healthy =
                |&index: &usize| endpoints.get(index).is_some_and(|it| !it.state.is_ejected(now));
            let healthy = part.group.members().filter(is_healthy).count() as u32;
            part.healthy.store(healthy, Relaxed);
            sum += healthy;
        }
        self.healthy.store(sum, Relaxed);
    }

    /// From 0 to 100; 100 while at least five sevenths are healthy.
    fn health(&self) -> u32 {
        health_percent(self.healthy.load(Relaxed), self.size).min(100)
    }

    fn is_below(&self, min_health_percent: u8) -> bool {
        is_panic(self.healthy.load(Relaxed) as usize, self.size as usize, min_health_percent)
    }

    /// Returns the part whose turn it is, by weight and health; in a panic by what its endpoints weigh.
    ///
    /// Steps of the golden ratio visit the parts as evenly as weights that change from one pick to the next allow.
    fn part(&self, in_panic: bool) -> Option<&Group> {
        if let [only] = &*self.parts {
            return Some(&only.group);
        }
        let weight = |part: &Weighted| if in_panic { part.group.weight() } else { part.effective_weight() };
        let total: u64 = self.parts.iter().map(weight).sum();
        let turn = self.cursor.fetch_add(1, Relaxed).wrapping_mul(GOLDEN_RATIO);
        let mut point = ((u128::from(turn) * u128::from(total)) >> 64) as u64;
        let part = self.parts.iter().find(|part| match point.checked_sub(weight(part)) {
            Some(rest) => {
                point = rest;
                false
            }
            None => true,
        });
        part.map(|part| &part.group)
    }
}

impl Weighted {
    fn new(endpoints: &[Endpoint], part: Part, policy: Policy) -> Self {
        let size = part.members.len() as u32;
        let group = Group::new(endpoints, Some(part.members.into()), policy);
        Self { group, weight: part.weight, size, healthy: AtomicU32::new(size) }
    }

    fn hashed(parts: Vec<Part>, table: HashTable) -> Self {
        let members: Box<[u32]> = parts.into_iter().flat_map(|part| part.members).collect();
        let size = members.len() as u32;
        Self { group: Group::hashed(members, table), weight: 1, size, healthy: AtomicU32::new(size) }
    }

    /// Less than its weight where fewer than five sevenths are healthy.
    // spec: envoy intro/arch_overview/upstream/load_balancing/locality_weight
    fn effective_weight(&self) -> u64 {
        let health = health_percent(self.healthy.load(Relaxed), self.size).min(100);
        u64::from(self.weight) * u64::from(health)
    }
}

/// Each part has its weight's share of the priority, and of that each endpoint its own.
// spec: envoy source/extensions/load_balancing_policies/common/thread_aware_lb_impl.cc normalizeLocalityWeights
fn shares<'a>(endpoints: &'a [Endpoint], parts: &[Part]) -> Vec<table::Share<'a>> {
    let total: u64 = parts.iter().map(|part| u64::from(part.weight)).sum();
    let shares = |part: &Part| table::shares(endpoints, &part.members, f64::from(part.weight) / total as f64);
    parts.iter().flat_map(shares).collect()
}

/// Returns which of `shares` holds the per cent `point`. What they lack of 100 goes to the first that is not 0.
fn share_at(point: u32, shares: impl Iterator<Item = u32> + Clone) -> Option<usize> {
    let sum: u32 = shares.clone().sum();
    let mut lacking = 100_u32.saturating_sub(sum);
    let mut reached = 0;
    shares.into_iter().position(|share| {
        reached += if share > 0 { share + std::mem::take(&mut lacking) } else { 0 };
        reached >= point
    })
}

/// How healthy so many of so many are, with two fifths to spare: may exceed 100.
// spec: envoy config.endpoint.v3.ClusterLoadAssignment.Policy.overprovisioning_factor, 140
fn health_percent(healthy: u32, size: u32) -> u32 {
    (140 * u64::from(healthy)).checked_div(u64::from(size)).unwrap_or(0) as u32
}

fn bit(priority: u32) -> u64 {
    1_u64.checked_shl(priority).unwrap_or(0)
}

/// No priority is left behind.
pub(super) const NONE_LEFT: u64 = 0;
/// Counting 10,000 endpoints takes some 20 µs; an ejection that is seen 10 ms late is nothing beside the interval of 10 s
/// in which Envoy looks.
const COUNT_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
