//! Endpoints among which a policy chooses: all of a set, or those that belong together by priority and locality.

use super::{
    Endpoint, Policy,
    schedule::schedule,
    table::{self, HashTable},
};
use crate::{
    dice::Dice,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Some endpoints of a set, in order. It speaks of them by their numbers in the set.
#[derive(Debug)]
pub(super) struct Group {
    /// Which they are; `None` if they are all of the set.
    members: Option<Box<[u32]>>,
    size: usize,
    weight: u64,
    /// (exclusive) upper bounds of each member's slots among `0..weight`; empty if all weights are equal.
    bounds: Box<[u64]>,
    /// Whose turn it is in a round; empty if all weights are equal, or a round would be too long.
    schedule: Box<[u32]>,
    /// Consistent hashing's table, if the policy has one.
    table: Option<HashTable>,
    /// Where round robin stands; 0 is nowhere yet.
    cursor: AtomicU64,
}

impl Group {
    /// Returns the group of `members` of `endpoints`, of all if `None`, with what `policy` needs.
    pub(super) fn new(endpoints: &[Endpoint], members: Option<Box<[u32]>>, policy: Policy) -> Self {
        let everybody = || (0..).zip(endpoints).map(|(number, _)| number).collect();
        let numbers: Box<[u32]> = members.clone().unwrap_or_else(everybody);
        let weights: Vec<_> = numbers
            .iter()
            .filter_map(|&number| endpoints.get(number as usize))
            .map(Endpoint::weight)
            .collect();
        let is_even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let table = HashTable::new(policy, || table::shares(endpoints, &numbers, 1.0));
        Self {
            bounds: if is_even { Box::default() } else { bounds(&weights) },
            schedule: match policy {
                Policy::RoundRobin if !is_even => schedule(&weights).unwrap_or_default(),
                _ => Box::default(),
            },
            ..Self::of(members, &weights, table)
        }
    }

    /// Returns the group of `members` that are chosen by `table`.
    pub(super) fn hashed(members: Box<[u32]>, table: HashTable) -> Self {
        let weights = vec![1; members.len()];
        Self::of(Some(members), &weights, Some(table))
    }

    fn of(members: Option<Box<[u32]>>, weights: &[u32], table: Option<HashTable>) -> Self {
        Self {
            members,
            size: weights.len(),
            weight: weights.iter().map(|&weight| u64::from(weight)).sum(),
            bounds: Box::default(),
            schedule: Box::default(),
            table,
            cursor: AtomicU64::new(0),
        }
    }

    /// Returns how many they are.
    pub(super) fn len(&self) -> usize {
        self.size
    }

    /// Returns how much they weigh together.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Returns whether every member has the same weight.
    pub(super) fn is_even(&self) -> bool {
        self.bounds.is_empty()
    }

    /// Returns the members in order.
    pub(super) fn members(&self) -> impl Iterator<Item = usize> {
        (0..self.size).map(|slot| self.number(slot))
    }

    /// Returns the members in the order in which `hash` prefers them; none without a table.
    pub(super) fn owners(&self, hash: u64, redraw: u32) -> impl Iterator<Item = usize> {
        self.table.iter().flat_map(move |table| table.owners(hash, redraw))
    }

    /// Draws any member, by weight unless all are equal, ejected or not. The group must not be empty.
    pub(super) fn draw(&self, dice: &mut impl Dice) -> usize {
        self.number(self.at(dice.roll()))
    }

    /// Draws any member, whatever its weight.
    pub(super) fn draw_unweighted(&self, dice: &mut impl Dice) -> usize {
        self.number(dice.below(self.size as u64) as usize)
    }

    /// Returns the next member in turn, by weight unless all are equal, ejected or not.
    pub(super) fn next(&self, dice: &mut impl Dice) -> usize {
        let turn = self.turn(dice);
        self.number(match (self.is_even(), self.schedule.len() as u64) {
            (true, _) => (turn % self.size as u64) as usize,
            // Steps of the golden ratio around a circle visit every arc in proportion to its length, and as evenly
            // spread as any fixed step can.
            (false, 0) => self.at(turn.wrapping_mul(GOLDEN_RATIO)),
            (false, round) => self.schedule[(turn % round) as usize] as usize,
        })
    }

    fn number(&self, slot: usize) -> usize {
        match &self.members {
            None => slot,
            Some(members) => members.get(slot).map_or(0, |&number| number as usize),
        }
    }

    /// Returns the slot whose share of the circle holds `point`.
    fn at(&self, point: u64) -> usize {
        let scale = |size: u64| ((u128::from(point) * u128::from(size)) >> 64) as u64;
        match self.is_even() {
            true => scale(self.size as u64) as usize,
            false => {
                let slot = scale(self.weight);
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

fn bounds(weights: &[u32]) -> Box<[u64]> {
    let sum = |total: &mut u64, &weight: &u32| {
        *total += u64::from(weight);
        Some(*total)
    };
    weights.iter().scan(0, sum).collect()
}

/// 2^64 divided by the golden ratio.
pub(super) const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
