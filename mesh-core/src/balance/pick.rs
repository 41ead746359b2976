//! The choice of one endpoint.
// spec: envoy intro/arch_overview/upstream/load_balancing/load_balancers

use super::{
    Endpoint, EndpointSet, TableSize, Tried,
    group::Group,
    priority::{Choice, NONE_LEFT, Priorities},
    set::Order,
};
use crate::{dice::Dice, time::Time};

/// How endpoints are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Two random endpoints, the one with fewer requests in flight; weighted where weights differ.
    #[default]
    LeastRequest,
    /// One after the other; weighted where weights differ.
    RoundRobin,
    /// Any, whatever its weight.
    Random,
    /// The next one on a ring after the request's hash; any if it has none.
    RingHash {
        /// How many points the ring has at least. Istio's default is 1,024.
        minimum_size: u64,
    },
    /// The owner of the slot of the request's hash; any if it has none.
    Maglev {
        /// How many slots there are.
        table_size: TableSize,
    },
    /// Two random endpoints, the one that answers sooner for what it has in flight. Not Istio's: by the
    /// annotation `mesh/loadBalancer`. Who calls tells how long answers take ([`InFlight::on_head`](crate::health::InFlight::on_head)).
    PeakEwma,
}

/// What a request asks of its pick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// The hash that keeps it together with others, for the policies that go by it.
    pub hash: Option<u64>,
    /// The endpoints to be avoided, if it can be done (`retryIgnorePreviousHosts`).
    pub avoid: Option<&'a Tried>,
    /// The attempts whose priorities are left behind after every second of them (`retryRemoteLocalities`). Policies that
    /// go by the hash do not leave any.
    pub leave: Option<&'a Tried>,
}

/// Returns the index of the endpoint for the next attempt, or `None` if none can take it.
///
/// Endpoints to be avoided are drawn again: up to five times, then the last one drawn is taken.
// spec: envoy upstream host_selection_retry_max_attempts, as Istio sets it to 5
pub fn pick(set: &EndpointSet, wish: &Wish<'_>, now: Time, dice: &mut impl Dice) -> Option<usize> {
    if let Some(slow_start) = set.slow_start() {
        slow_start.on_pick(set.as_slice(), now);
    }
    let pick = Pick { set, wish, now };
    let first = pick.choose(0, dice)?;
    match wish.avoid {
        Some(tried) if tried.contains(first) => pick.another(tried, dice),
        _ => Some(first),
    }
}

impl Policy {
    /// Returns whether it goes by the hash of a request.
    pub const fn is_hash(self) -> bool {
        matches!(self, Self::RingHash { .. } | Self::Maglev { .. })
    }

    /// Whether endpoints may warm up under it.
    // spec: envoy intro/arch_overview/upstream/load_balancing/slow_start
    pub(super) const fn warms_up(self) -> bool {
        matches!(self, Self::LeastRequest | Self::RoundRobin)
    }
}

/// One pick, of one or several draws.
#[derive(Clone, Copy)]
struct Pick<'a> {
    set: &'a EndpointSet,
    wish: &'a Wish<'a>,
    now: Time,
}

impl Pick<'_> {
    #[inline]
    fn choose(&self, redraw: u32, dice: &mut impl Dice) -> Option<usize> {
        match self.set.order() {
            Order::Alike(group) => self.draw(group, None).run(self.wish.hash, redraw, dice),
            Order::Priorities(priorities) => self.by_priority(priorities, redraw, dice),
        }
    }

    #[cold]
    fn another(&self, tried: &Tried, dice: &mut impl Dice) -> Option<usize> {
        let mut index = self.choose(1, dice)?;
        for redraw in 2..=REDRAWS_MAX {
            if !tried.contains(index) {
                break;
            }
            index = self.choose(redraw, dice)?;
        }
        Some(index)
    }

    /// Where nobody is left in the priority that was chosen, the count is out of date: once more, with a new one.
    // Out of line: it would make every pick from a set without priorities longer by some 20 instructions.
    #[inline(never)]
    fn by_priority(&self, priorities: &Priorities, redraw: u32, dice: &mut impl Dice) -> Option<usize> {
        let is_hash = self.set.policy().is_hash();
        let hash = is_hash.then(|| self.wish.hash.unwrap_or_else(|| dice.roll()));
        priorities.count_if_due(self.set.as_slice(), self.now);
        self.by_count(priorities, hash, redraw, dice).or_else(|| {
            priorities.count(self.set.as_slice(), self.now);
            self.by_count(priorities, hash, redraw, dice)
        })
    }

    /// A hash decides on the priority too.
    fn by_count(
        &self,
        priorities: &Priorities,
        hash: Option<u64>,
        redraw: u32,
        dice: &mut impl Dice,
    ) -> Option<usize> {
        let left = self.wish.leave.filter(|_| hash.is_none());
        let left = left.map_or(NONE_LEFT, |tried| priorities.left_behind(tried));
        let point = hash.map_or_else(|| dice.below(100), |hash| hash % 100) as u32 + 1;
        let Choice { group, is_panic } = priorities.choose(point, left, self.set.min_health_percent())?;
        self.draw(group, Some(is_panic)).run(hash, redraw, dice)
    }

    fn draw<'a>(&'a self, group: &'a Group, is_panic: Option<bool>) -> Draw<'a> {
        Draw { set: self.set, group, is_panic, now: self.now }
    }
}

/// One draw from one group.
#[derive(Clone, Copy)]
struct Draw<'a> {
    set: &'a EndpointSet,
    group: &'a Group,
    /// Whether ejections are ignored, if that is known.
    is_panic: Option<bool>,
    now: Time,
}

impl Draw<'_> {
    #[inline]
    fn run(&self, hash: Option<u64>, redraw: u32, dice: &mut impl Dice) -> Option<usize> {
        if self.group.len() == 0 {
            return None;
        }
        match self.set.policy() {
            Policy::LeastRequest => self.least_request(dice),
            Policy::RoundRobin => self.usable(dice, Group::next),
            Policy::Random => self.usable(dice, Group::draw_unweighted),
            Policy::RingHash { .. } | Policy::Maglev { .. } => {
                self.by_hash(hash.unwrap_or_else(|| dice.roll()), redraw)
            }
            Policy::PeakEwma => self.better_of_two(dice, |a, b| self.cost(a) < self.cost(b)),
        }
    }

    /// Draws two, with replacement, and takes the one with less to do for its weight; of equals, the first.
    ///
    /// With equal weights this is Envoy's rule to the letter. Where weights differ, Envoy walks a schedule (EDF) under a
    /// lock; here both are drawn by weight and compared by requests in flight per weight. An idle cluster is then used
    /// exactly in proportion to the weights, as by the schedule, and a busy one until each has its share in flight.
    fn least_request(&self, dice: &mut impl Dice) -> Option<usize> {
        let in_flight = |index: usize| self.endpoint(index).state.in_flight();
        match self.set.slow_start() {
            None if self.group.is_even() => self.better_of_two(dice, |a, b| in_flight(a) < in_flight(b)),
            None => self.better_of_two(dice, |a, b| is_freer(self.endpoint(a), self.endpoint(b))),
            Some(_) => self.better_of_two(dice, |a, b| {
                let load = |of, other| f64::from(in_flight(of)) * self.warm_weight(other);
                load(a, b) < load(b, a)
            }),
        }
    }

    fn better_of_two(&self, dice: &mut impl Dice, is_better: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let first = self.usable(dice, Group::draw)?;
        if self.group.len() == 1 {
            return Some(first);
        }
        let second = self.usable(dice, Group::draw)?;
        Some(if is_better(second, first) { second } else { first })
    }

    /// Draws until an endpoint is found that is not ejected, and warm enough; or, in a panic, whatever is drawn.
    #[inline]
    fn usable<D: Dice>(&self, dice: &mut D, draw: impl Fn(&Group, &mut D) -> usize) -> Option<usize> {
        let first = draw(self.group, dice);
        if self.takes(first, dice) { Some(first) } else { self.usable_but(first, dice, draw) }
    }

    /// Whether there is a panic matters only once an ejected endpoint is drawn, so a healthy cluster never counts.
    #[cold]
    fn usable_but<D: Dice>(
        &self,
        first: usize,
        dice: &mut D,
        draw: impl Fn(&Group, &mut D) -> usize,
    ) -> Option<usize> {
        if self.is_ejected(first) && self.is_panic() {
            return Some(first);
        }
        for _ in 1..DRAWS_MAX {
            let index = draw(self.group, dice);
            if self.takes(index, dice) {
                return Some(index);
            }
        }
        self.any_healthy(dice)
    }

    fn takes(&self, index: usize, dice: &mut impl Dice) -> bool {
        let is_warm = |dice| {
            let slow_start = self.set.slow_start();
            slow_start.is_none_or(|it| it.takes(self.endpoint(index), self.now, dice))
        };
        !self.is_ejected(index) && is_warm(dice)
    }

    /// Where almost all are ejected: any of the rest, by weight. One pass, so that it cannot miss the last healthy one.
    fn any_healthy(&self, dice: &mut impl Dice) -> Option<usize> {
        let (mut chosen, mut total) = (None, 0.0);
        for index in self.group.members().filter(|&index| !self.is_ejected(index)) {
            let weight = self.warm_weight(index);
            total += weight;
            if dice.roll() as f64 * total <= weight * u64::MAX as f64 {
                chosen = Some(index);
            }
        }
        chosen
    }

    /// The first owner that is not ejected; or, in a panic, the first.
    fn by_hash(&self, hash: u64, redraw: u32) -> Option<usize> {
        let mut owners = self.group.owners(hash, redraw);
        let first = owners.next()?;
        if !self.is_ejected(first) || self.is_panic() {
            return Some(first);
        }
        let is_usable = |&index: &usize| !self.is_ejected(index);
        let near = owners.by_ref().take(DRAWS_MAX as usize).find(is_usable);
        // A table has many slots: it is not walked to its end where nobody can be found.
        near.or_else(|| {
            self.group.members().any(|index| is_usable(&index)).then(|| owners.find(is_usable))?
        })
    }

    fn is_panic(&self) -> bool {
        self.is_panic.unwrap_or_else(|| self.set.is_panic(self.now))
    }

    fn is_ejected(&self, index: usize) -> bool {
        self.endpoint(index).state.is_ejected(self.now)
    }

    fn endpoint(&self, index: usize) -> &Endpoint {
        &self.set.as_slice()[index]
    }

    /// What it weighs at its age.
    fn warm_weight(&self, index: usize) -> f64 {
        let endpoint = self.endpoint(index);
        let factor = self.set.slow_start().map_or(1.0, |slow_start| slow_start.factor(endpoint, self.now));
        f64::from(endpoint.weight()) * factor
    }

    fn cost(&self, index: usize) -> f64 {
        let endpoint = self.endpoint(index);
        endpoint.state.cost(self.now) / f64::from(endpoint.weight())
    }
}

/// Whether `a` has fewer requests in flight per weight than `b`.
fn is_freer(a: &Endpoint, b: &Endpoint) -> bool {
    let load = |of: &Endpoint, other: &Endpoint| u64::from(of.state.in_flight()) * u64::from(other.weight());
    load(a, b) < load(b, a)
}

const REDRAWS_MAX: u32 = 5;
/// Even with half of the endpoints ejected, sixteen draws in vain happen once in 65,000 picks.
const DRAWS_MAX: u32 = 16;

#[cfg(test)]
mod tests;
