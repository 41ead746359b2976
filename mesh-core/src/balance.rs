//! Which endpoint gets the next attempt.
//!
//! A pick reads an immutable set and a few atomics; it takes no lock and remembers no index over a set that changed.

mod endpoint;

pub use endpoint::{Endpoint, EndpointSet, Mutual, Security};

use crate::{dice::Dice, time::Time};

/// How endpoints are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Two random endpoints, the one with fewer requests in flight; weighted where weights differ.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
}

/// The endpoints a request has been sent to already, to be avoided by its retries.
#[derive(Clone, Debug, Default)]
pub struct Tried(Vec<u32>);

impl Tried {
    /// Notes that endpoint number `index` was tried.
    pub fn on_attempt(&mut self, index: usize) {
        self.0.push(u32::try_from(index).unwrap_or(u32::MAX));
    }

    /// Returns whether endpoint number `index` was tried.
    pub fn contains(&self, index: usize) -> bool {
        self.0.iter().any(|&tried| tried as usize == index)
    }
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
    let _ = (set, policy, tried, now, dice);
    todo!()
}
