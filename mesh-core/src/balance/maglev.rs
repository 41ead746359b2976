//! Maglev: a table whose slots the endpoints take in turn, each by its own permutation of them.
//!
//! It is Envoy's table slot by slot, so that a request with the same key goes where a sidecar would send it.
// spec: envoy source/extensions/load_balancing_policies/maglev/maglev_lb.cc

use super::{hash, table::Share};
use std::{cmp::Reverse, collections::BinaryHeap};

/// How many slots a table has: a prime number, so that every permutation visits all of them. Default 65,537, Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize(u32);

impl TableSize {
    /// Istio's and Envoy's.
    pub const DEFAULT: Self = Self(65_537);

    /// Returns the size, or `None` if it is no prime number or more than 5,000,011.
    // spec: envoy extensions.load_balancing_policies.maglev.v3.Maglev.table_size
    pub fn new(slots: u64) -> Option<Self> {
        let slots = u32::try_from(slots).ok().filter(|&slots| slots <= SLOTS_MAX && is_prime(slots))?;
        Some(Self(slots))
    }

    /// Returns the number of slots.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for TableSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Whose each slot is.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) owners: Box<[u32]>,
}

impl Table {
    pub(super) fn new(shares: &[Share<'_>], size: TableSize) -> Self {
        if shares.is_empty() {
            return Self { owners: Box::default() };
        }
        let mut slots = vec![None; size.0 as usize];
        let mut takers = takers(shares, size);
        let mut turns = turns(&takers);
        for _ in 0..slots.len() {
            let Some(Reverse((_, number))) = turns.pop() else { break };
            let Some(taker) = takers.get_mut(number) else { break };
            taker.take(&mut slots);
            turns.push(Reverse((taker.next_round(), number)));
        }
        Self { owners: slots.into_iter().flatten().collect() }
    }

    /// Returns the number of the slot that `hash` belongs to; each redraw changes the hash.
    pub(super) fn find(&self, hash: u64, redraw: u32) -> usize {
        let hash = if redraw == 0 { hash } else { hash ^ (u64::MAX - u64::from(redraw) + 1) };
        hash.checked_rem(self.owners.len() as u64).unwrap_or(0) as usize
    }
}

/// An endpoint that takes slots.
struct Taker {
    owner: u32,
    /// The slot it wants next, and how far on it looks if that is taken.
    wanted: u64,
    skip: u64,
    weight: f64,
    /// It takes a slot in every round in which `round * weight` has caught up with this.
    target: f64,
    /// The weight of the heaviest, who takes one in every round.
    heaviest: f64,
    round: u32,
}

/// In the order of their addresses' text: that of Envoy's table, whatever the order of the set.
fn takers(shares: &[Share<'_>], size: TableSize) -> Vec<Taker> {
    let heaviest = shares.iter().map(|share| share.weight).fold(0.0, f64::max);
    let mut keyed: Vec<_> = shares.iter().map(|share| (share.address.to_string(), share)).collect();
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    let slots = u64::from(size.0);
    let taker = |(key, share): (String, &Share<'_>)| Taker {
        owner: share.owner,
        wanted: hash::of_text(key.as_bytes()) % slots,
        skip: hash::of_text_from(key.as_bytes(), 1) % (slots - 1) + 1,
        weight: share.weight,
        target: 0.0,
        heaviest,
        round: 1,
    };
    keyed.into_iter().map(taker).collect()
}

/// Who takes a slot next: round by round, and within a round in order.
///
/// Envoy asks everybody in every round. With a heap, one heavy endpoint among many light ones costs no more than equals.
fn turns(takers: &[Taker]) -> BinaryHeap<Reverse<(u32, usize)>> {
    (0..takers.len()).map(|number| Reverse((1, number))).collect()
}

impl Taker {
    /// Takes the next free slot; there must be one.
    fn take(&mut self, slots: &mut [Option<u32>]) {
        loop {
            let wanted = self.wanted as usize;
            self.wanted = (self.wanted + self.skip) % slots.len() as u64;
            match slots.get_mut(wanted) {
                Some(Some(_)) => {}
                Some(slot) => return *slot = Some(self.owner),
                None => return,
            }
        }
    }

    /// Returns the next round in which it takes a slot. The division may be off by one; the comparison decides.
    fn next_round(&mut self) -> u32 {
        self.target += self.heaviest;
        let is_due = |round: u32| f64::from(round) * self.weight >= self.target;
        let mut round = ((self.target / self.weight) as u32).saturating_sub(1).max(self.round + 1);
        while round < u32::MAX && !is_due(round) {
            round += 1;
        }
        self.round = round;
        round
    }
}

fn is_prime(number: u32) -> bool {
    number > 1
        && (2..)
            .take_while(|&divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

// spec: istio pkg/config/validation validateLoadBalancer, table size
const SLOTS_MAX: u32 = 5_000_011;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        balance::table::tests::{addresses, shares, shares_of},
        dice::{Dice, Seeded},
    };

    // spec: envoy test/extensions/load_balancing_policies/maglev/maglev_lb_test.cc Basic, Weighted,
    // LocalityWeightedSameLocalityWeights
    #[test]
    fn the_tables_are_envoys() {
        for (weights, slots, expected) in [
            (&[1, 1, 1, 1, 1, 1][..], 7, &[2, 4, 0, 1, 5, 0, 3][..]),
            (&[1, 2], 17, &[1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]),
            (&[1, 1], 17, &[1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1]),
            (&[8, 2], 17, &[1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]),
            (&[7], 17, &[0; 17]),
        ] {
            let addresses = addresses(90..90 + weights.len() as u16);
            assert_eq!(*table(&shares(&addresses, weights), slots).owners, *expected, "{weights:?}");
        }
    }

    // spec: envoy test/extensions/load_balancing_policies/maglev/maglev_lb_test.cc BasicStability
    #[test]
    fn the_order_of_the_endpoints_does_not_matter() {
        let addresses = addresses(90..96);
        let mut shares = shares(&addresses, &[1; 6]);
        shares.reverse();
        assert_eq!(*table(&shares, 7).owners, [2, 4, 0, 1, 5, 0, 3]);
    }

    // spec: envoy test/extensions/load_balancing_policies/maglev/maglev_lb_test.cc BasicWithRetryHostPredicate
    #[test]
    fn the_redraws_are_envoys() {
        let table = table(&shares(&addresses(90..96), &[1; 6]), 7);
        let owners = [0, 1, 2].map(|redraw| table.owners[table.find(10, redraw)]);
        assert_eq!(owners, [1, 0, 5]);
    }

    /// Against Envoy's loop, which asks everybody in every round.
    #[test]
    fn the_heap_takes_turns_as_rounds_would() {
        for seed in 0..40 {
            let mut dice = Seeded::new(seed);
            let addresses = addresses(1..1 + 1 + dice.below(20) as u16);
            let bound = [2, 10, 1_000, 1_000_000][seed as usize % 4];
            let weights: Vec<u32> = addresses.iter().map(|_| 1 + dice.below(bound) as u32).collect();
            let shares = shares(&addresses, &weights);
            assert_eq!(*table(&shares, 997).owners, *model(&shares, 997), "seed {seed}: {weights:?}");
        }
    }

    #[test]
    fn slots_are_shared_by_weight() {
        let weights = [1, 2, 5];
        let owners = table(&shares(&addresses(1..4), &weights), 65_537).owners;
        for (owner, weight) in (0..).zip(weights) {
            let owned = owners.iter().filter(|&&it| it == owner).count();
            assert!(owned.abs_diff(65_537 * weight as usize / 8) <= 3, "{owner}: {owned}");
        }
    }

    #[test]
    fn who_stays_keeps_nearly_all_of_its_slots_when_another_leaves() {
        let addresses = addresses(1..11);
        let ten = table(&shares(&addresses, &[1; 10]), 65_537);
        let mut weights = vec![1.0 / 9.0; 10];
        weights[3] = 0.0;
        let nine = table(&shares_of(&addresses, &weights), 65_537);
        let moved = ten.owners.iter().zip(&nine.owners).filter(|(was, is)| **was != 3 && was != is).count();
        assert!(moved < 65_537 / 10, "{moved} slots moved");
    }

    #[test]
    fn a_table_of_nobody_has_no_slots() {
        let table = table(&[], 7);
        assert_eq!((table.owners.len(), table.find(9, 1)), (0, 0));
    }

    #[test]
    fn only_a_prime_number_is_a_size() {
        for (size, expected) in
            [(0, false), (1, false), (2, true), (65_537, true), (65_536, false), (5_000_011, true)]
        {
            assert_eq!(TableSize::new(size).is_some(), expected, "{size}");
        }
        assert!(TableSize::new(5_000_077).is_none() && TableSize::new(u64::MAX).is_none());
    }

    fn table(shares: &[Share<'_>], slots: u64) -> Table {
        Table::new(shares, TableSize::new(slots).unwrap())
    }

    fn model(shares: &[Share<'_>], slots: usize) -> Vec<u32> {
        let size = TableSize::new(slots as u64).unwrap();
        let (mut takers, mut table, mut free) = (takers(shares, size), vec![None; slots], slots);
        for round in 1_u32.. {
            for taker in &mut takers {
                if free > 0 && f64::from(round) * taker.weight >= taker.target {
                    taker.target += taker.heaviest;
                    taker.take(&mut table);
                    free -= 1;
                }
            }
            if free == 0 {
                break;
            }
        }
        table.into_iter().flatten().collect()
    }
}
