//! Weighted turns, written down: the order in which a scheduler that always takes the earliest deadline (EDF) would
//! pick.
//!
//! Envoy keeps the deadlines in a heap that every pick changes. With weights that do not change the order repeats, so one
//! round of it can be computed once and walked by a counter, without a lock.
// spec: envoy source/common/upstream/edf_scheduler.h

use std::cmp::Ordering;

/// Returns whose turn it is, for one round in which number `i` has `weights[i]` turns (less what all have in common);
/// `None` if a round is longer than is worth writing down.
pub(super) fn schedule(weights: &[u32]) -> Option<Box<[u32]>> {
    let common = weights.iter().copied().fold(0, common_divisor).max(1);
    let length: u64 = weights.iter().map(|weight| u64::from(weight / common)).sum();
    if length > TURNS_MAX.max(TURNS_PER_ENDPOINT * weights.len() as u64) {
        return None;
    }
    let turns_of = |(number, weight): (u32, &u32)| {
        let weight = weight / common;
        (1..=weight).map(move |turn| Turn { turn, weight, number })
    };
    let mut turns: Vec<_> = (0..).zip(weights).flat_map(turns_of).collect();
    turns.sort_unstable_by(Turn::order);
    Some(turns.into_iter().map(|turn| turn.number).collect())
}

/// A turn falls due `turn / weight` into the round.
struct Turn {
    turn: u32,
    weight: u32,
    number: u32,
}

impl Turn {
    /// First in, first out among equal deadlines: the lighter of two has waited longer, and of equals the first in order
    /// has.
    fn order(&self, other: &Self) -> Ordering {
        let deadline = u64::from(self.turn) * u64::from(other.weight);
        let others = u64::from(other.turn) * u64::from(self.weight);
        deadline.cmp(&others).then(self.weight.cmp(&other.weight)).then(self.number.cmp(&other.number))
    }
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// 4 KiB: percentages fit, and as many clusters as a mesh has do not add up to much.
const TURNS_MAX: u64 = 1_024;
const TURNS_PER_ENDPOINT: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::{Dice, Seeded};
    use std::{cmp::Reverse, collections::BinaryHeap};

    #[test]
    fn turns_are_spread_by_weight() {
        for (weights, expected) in [
            (&[1, 1, 1][..], &[0, 1, 2][..]),
            (&[1, 2], &[1, 0, 1]),
            (&[5, 1], &[0, 0, 0, 0, 1, 0]),
            (&[10, 20, 30], &[2, 1, 2, 0, 1, 2]),
            (&[7], &[0]),
            (&[], &[]),
        ] {
            assert_eq!(*schedule(weights).unwrap(), *expected, "{weights:?}");
        }
    }

    /// Three rounds of a heap of deadlines, as a scheduler would keep it.
    #[test]
    fn a_round_is_what_the_earliest_deadline_first_scheduler_picks_again_and_again() {
        for seed in 0..200 {
            let mut dice = Seeded::new(seed);
            let bound = [2, 10, 100][seed as usize % 3];
            let weights: Vec<_> = (0..1 + dice.below(9)).map(|_| 1 + dice.below(bound) as u32).collect();
            let round = schedule(&weights).unwrap();
            let mut model = Model::new(&weights);
            for (turn, &number) in (0..).zip([&round; 3].into_iter().flatten()) {
                assert_eq!(model.pick(), number, "seed {seed}: turn {turn} of {weights:?}");
            }
        }
    }

    #[test]
    fn nobody_waits_longer_than_one_turn_more_than_the_weights_say() {
        for seed in 0..50 {
            let mut dice = Seeded::new(seed);
            let weights: Vec<_> = (0..2 + dice.below(9)).map(|_| 1 + dice.below(60) as u32).collect();
            let round = schedule(&weights).unwrap();
            for (number, weight) in (0..).zip(&weights) {
                let gap = longest_gap(&round, number) as f64;
                let sum = f64::from(weights.iter().sum::<u32>());
                // Between two turns of one, each other can have as many as fit, and one at either end.
                let bound = sum / f64::from(*weight) + weights.len() as f64;
                assert!(gap <= bound, "seed {seed}: {number} of {weights:?} waits {gap} turns");
            }
        }
    }

    #[test]
    fn a_round_that_is_too_long_is_not_written_down() {
        assert!(schedule(&[1, 1_022]).is_some() && schedule(&[1, 1_024]).is_none());
        assert!(schedule(&[u32::MAX, u32::MAX - 1, 1]).is_none());
        assert!(schedule(&[u32::MAX, u32::MAX]).is_some());
        assert!(schedule(&vec![7; 10_000]).is_some());
    }

    fn longest_gap(round: &[u32], number: u32) -> usize {
        let places: Vec<_> = (0..2 * round.len()).filter(|&at| round[at % round.len()] == number).collect();
        places.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
    }

    /// Envoy's scheduler, with fractions in place of floating point numbers.
    struct Model {
        weights: Vec<u32>,
        heap: BinaryHeap<Reverse<Entry>>,
        added: u64,
    }

    #[derive(PartialEq, Eq)]
    struct Entry {
        turn: u64,
        weight: u64,
        added: u64,
        number: u32,
    }

    impl Model {
        fn new(weights: &[u32]) -> Self {
            let mut model = Self { weights: weights.to_vec(), heap: BinaryHeap::new(), added: 0 };
            (0..weights.len() as u32).for_each(|number| model.add(1, number));
            model
        }

        fn pick(&mut self) -> u32 {
            let Reverse(entry) = self.heap.pop().unwrap();
            self.add(entry.turn + 1, entry.number);
            entry.number
        }

        fn add(&mut self, turn: u64, number: u32) {
            self.added += 1;
            let weight = u64::from(self.weights[number as usize]);
            self.heap.push(Reverse(Entry { turn, weight, added: self.added, number }));
        }
    }

    impl Ord for Entry {
        fn cmp(&self, other: &Self) -> Ordering {
            let deadlines = (self.turn * other.weight).cmp(&(other.turn * self.weight));
            deadlines.then(self.added.cmp(&other.added))
        }
    }

    impl PartialOrd for Entry {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }
}
