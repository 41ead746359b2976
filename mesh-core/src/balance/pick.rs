//! The choice of one endpoint.
// spec: envoy intro/arch_overview/upstream/load_balancing/load_balancers

use super::{Endpoint, EndpointSet, Tried};
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
}

/// Returns the index of the endpoint for the next attempt, or `None` if none can take it.
///
/// Endpoints in `tried` are avoided: up to five more draws, then the last one drawn is taken.
// spec: envoy upstream host_selection_retry_max_attempts, as Istio sets it to 5
pub fn pick(
    set: &EndpointSet,
    policy: Policy,
    tried: &Tried,
    now: Time,
    dice: &mut impl Dice,
) -> Option<usize> {
    let mut index = choose(set, policy, now, dice)?;
    for _ in 0..REDRAWS_MAX {
        if !tried.contains(index) {
            break;
        }
        index = choose(set, policy, now, dice)?;
    }
    Some(index)
}

fn choose(set: &EndpointSet, policy: Policy, now: Time, dice: &mut impl Dice) -> Option<usize> {
    match policy {
        Policy::LeastRequest => least_request(set, now, dice),
        Policy::RoundRobin => usable(set, now, dice, EndpointSet::next),
        Policy::Random => usable(set, now, dice, EndpointSet::draw_unweighted),
    }
}

/// Draws two, with replacement, and takes the one with less to do for its weight; of equals, the first.
///
/// With equal weights this is Envoy's rule to the letter. Where weights differ, Envoy walks a schedule (EDF) under a
/// lock; here both are drawn by weight and compared by requests in flight per weight. An idle cluster is then used
/// exactly in proportion to the weights, as by the schedule, and a busy one until each has its share in flight.
fn least_request(set: &EndpointSet, now: Time, dice: &mut impl Dice) -> Option<usize> {
    let first = usable(set, now, dice, EndpointSet::draw)?;
    if set.len() == 1 {
        return Some(first);
    }
    let second = usable(set, now, dice, EndpointSet::draw)?;
    let endpoints = set.as_slice();
    let second_is_freer = match set.is_even() {
        true => endpoints[second].state.in_flight() < endpoints[first].state.in_flight(),
        false => is_freer(&endpoints[second], &endpoints[first]),
    };
    Some(if second_is_freer { second } else { first })
}

/// Whether `a` has fewer requests in flight per weight than `b`.
fn is_freer(a: &Endpoint, b: &Endpoint) -> bool {
    let load =
        |of: &Endpoint, other: &Endpoint| u64::from(of.state.in_flight()) * u64::from(other.weight.max(1));
    load(a, b) < load(b, a)
}

/// Draws until an endpoint is found that is not ejected; or, in a panic, whatever is drawn.
///
/// Whether there is a panic matters only once an ejected endpoint is drawn, so a healthy cluster never counts.
fn usable<D: Dice>(
    set: &EndpointSet,
    now: Time,
    dice: &mut D,
    draw: impl Fn(&EndpointSet, &mut D) -> usize,
) -> Option<usize> {
    if set.is_empty() {
        return None;
    }
    let is_usable = |&index: &usize| !set.as_slice()[index].state.is_ejected(now);
    let first = draw(set, dice);
    if is_usable(&first) || set.is_panic(now) {
        return Some(first);
    }
    (1..DRAWS_MAX).map(|_| draw(set, dice)).find(is_usable).or_else(|| any_healthy(set, now, dice))
}

/// Where almost all are ejected: any of the rest, by weight. One pass, so that it cannot miss the last healthy one.
fn any_healthy(set: &EndpointSet, now: Time, dice: &mut impl Dice) -> Option<usize> {
    let (mut chosen, mut total) = (None, 0);
    for (index, endpoint) in set.as_slice().iter().enumerate() {
        if !endpoint.state.is_ejected(now) {
            let weight = u64::from(endpoint.weight.max(1));
            total += weight;
            if dice.below(total) < weight {
                chosen = Some(index);
            }
        }
    }
    chosen
}

const REDRAWS_MAX: u32 = 5;
/// Even with half of the endpoints ejected, sixteen draws in vain happen once in 65,000 picks.
const DRAWS_MAX: u32 = 16;

#[cfg(test)]
mod tests;
