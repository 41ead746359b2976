//! The immutable set a cluster balances over.

use super::Endpoint;
use crate::{dice::Dice, health::is_panic, time::Time};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The endpoints of one cluster; never changes once built.
#[derive(Debug, Default)]
pub struct EndpointSet {
    endpoints: Box<[Endpoint]>,
    /// (exclusive) upper bounds of each endpoint's slots among `0..total weight`; empty if all weights are equal.
    bounds: Box<[u64]>,
    min_health_percent: u8,
    /// Where round robin stands; 0 is nowhere yet.
    cursor: AtomicU64,
}

impl EndpointSet {
    /// Returns the set of `endpoints`. It never panics: if all are ejected, none is picked.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        let bounds = if is_even(&endpoints) { Box::default() } else { bounds(&endpoints) };
        Self {
            endpoints: endpoints.into_boxed_slice(),
            bounds,
            min_health_percent: 0,
            cursor: AtomicU64::new(0),
        }
    }

    /// Returns the set with a bound below which ejections are ignored (`minHealthPercent`).
    #[must_use]
    pub fn with_min_health_percent(self, min_health_percent: u8) -> Self {
        Self { min_health_percent, ..self }
    }

    /// Returns the endpoints in order.
    pub fn as_slice(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Returns how many are not ejected.
    pub fn healthy(&self, now: Time) -> usize {
        self.endpoints.iter().filter(|endpoint| !endpoint.state.is_ejected(now)).count()
    }

    /// Returns whether so few are healthy that ejections are ignored.
    pub fn is_panic(&self, now: Time) -> bool {
        self.min_health_percent > 0 && is_panic(self.healthy(now), self.len(), self.min_health_percent)
    }

    /// Returns whether every endpoint has the same weight.
    pub(super) fn is_even(&self) -> bool {
        self.bounds.is_empty()
    }

    /// Draws any endpoint, by weight unless all are equal, ejected or not. The set must not be empty.
    pub(super) fn draw(&self, dice: &mut impl Dice) -> usize {
        self.at(dice.roll())
    }

    /// Draws any endpoint, whatever its weight.
    pub(super) fn draw_unweighted(&self, dice: &mut impl Dice) -> usize {
        dice.below(self.len() as u64) as usize
    }

    /// Returns the next endpoint in turn, by weight unless all are equal, ejected or not.
    pub(super) fn next(&self, dice: &mut impl Dice) -> usize {
        let turn = self.turn(dice);
        match self.is_even() {
            true => (turn % self.len() as u64) as usize,
            // Steps of the golden ratio around a circle visit every arc in proportion to its length, and as evenly
            // spread as any fixed step can: what Envoy's schedule (EDF) does with a heap and a lock.
            false => self.at(turn.wrapping_mul(GOLDEN_RATIO)),
        }
    }

    /// Returns the endpoint whose share of the circle holds `point`.
    fn at(&self, point: u64) -> usize {
        let scale = |size: u64| ((u128::from(point) * u128::from(size)) >> 64) as u64;
        match self.bounds.last() {
            None => scale(self.len() as u64) as usize,
            Some(&total) => {
                let slot = scale(total);
                self.bounds.partition_point(|&bound| bound <= slot)
            }
        }
    }

    /// Returns a turn that nobody else has; the first one is drawn, so that many processes do not start in step.
    fn turn(&self, dice: &mut impl Dice) -> u64 {
        if self.cursor.load(Relaxed) == 0 {
            let start = (dice.roll() >> 1).max(1);
            let _ = self.cursor.compare_exchange(0, start, Relaxed, Relaxed);
        }
        self.cursor.fetch_add(1, Relaxed)
    }
}

fn is_even(endpoints: &[Endpoint]) -> bool {
    endpoints.windows(2).all(|pair| pair[0].weight.max(1) == pair[1].weight.max(1))
}

fn bounds(endpoints: &[Endpoint]) -> Box<[u64]> {
    let sum = |total: &mut u64, endpoint: &Endpoint| {
        *total += u64::from(endpoint.weight.max(1));
        Some(*total)
    };
    endpoints.iter().scan(0, sum).collect()
}

/// 2^64 divided by the golden ratio.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
