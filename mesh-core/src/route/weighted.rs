//! A choice by weight that cannot be empty or all zero.

use crate::dice::Dice;

/// Items with weights; at least one, and their sum is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted<T> {
    /// (exclusive upper bound of the item's slots, item)
    items: Box<[(u64, T)]>,
}

/// Why weights are no distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// There is no item.
    #[error("no destination")]
    Empty,
    /// Every weight is zero.
    #[error("total destination weight = 0")]
    AllZero,
}

impl<T> Weighted<T> {
    /// Returns the distribution of `items`. A single item needs no weight; items of weight 0 among others are dropped.
    ///
    /// # Errors
    ///
    /// Returns why the weights are no distribution.
    // spec: envoy config.route.v3.WeightedCluster; istio pilot/pkg/networking/core/route/route.go
    pub fn new(items: impl IntoIterator<Item = (T, u32)>) -> Result<Self, WeightsError> {
        let items: Vec<_> = items.into_iter().collect();
        let only = items.len() == 1;
        if items.is_empty() {
            return Err(WeightsError::Empty);
        }
        let mut total = 0;
        let items: Box<[_]> = items
            .into_iter()
            .map(|(item, weight)| (item, if only { 1 } else { u64::from(weight) }))
            .filter(|&(_, weight)| weight > 0)
            .map(|(item, weight)| {
                total += weight;
                (total, item)
            })
            .collect();
        if items.is_empty() { Err(WeightsError::AllZero) } else { Ok(Self { items }) }
    }

    /// Returns the distribution of a single item.
    pub fn one(item: T) -> Self {
        Self { items: Box::new([(1, item)]) }
    }

    /// Returns the sum of the weights, at least 1.
    pub fn total(&self) -> u64 {
        self.items.last().map_or(1, |(bound, _)| *bound)
    }

    /// Returns the item that owns slot `slot` of `0..total()`; slots beyond the end belong to the last item.
    pub fn at(&self, slot: u64) -> &T {
        let index = self.items.partition_point(|(bound, _)| *bound <= slot).min(self.items.len() - 1);
        &self.items[index].1
    }

    /// Returns an item drawn by weight.
    pub fn draw(&self, dice: &mut impl Dice) -> &T {
        match &self.items[..] {
            [(_, only)] => only,
            _ => self.at(dice.below(self.total())),
        }
    }

    /// Returns the items with their weights.
    pub fn iter(&self) -> impl Iterator<Item = (&T, u64)> {
        let mut before = 0;
        self.items.iter().map(move |(bound, item)| {
            let weight = bound - before;
            before = *bound;
            (item, weight)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_slot_belongs_to_the_item_whose_weight_covers_it() {
        let split = Weighted::new([("v1", 90), ("v2", 10)]).unwrap();
        assert_eq!(split.total(), 100);
        assert_eq!((0..100).filter(|&slot| *split.at(slot) == "v1").count(), 90);
        assert_eq!(split.at(u64::MAX), &"v2");
    }

    #[test]
    fn a_single_item_ignores_its_weight() {
        assert_eq!(Weighted::new([("v1", 0)]).unwrap().at(0), &"v1");
    }

    #[test]
    fn a_weight_of_zero_among_others_is_never_drawn() {
        let split = Weighted::new([("v1", 0), ("v2", 100)]).unwrap();
        assert!((0..split.total()).all(|slot| *split.at(slot) == "v2"));
        assert_eq!(split.iter().collect::<Vec<_>>(), [(&"v2", 100)]);
    }

    #[test]
    fn weights_that_are_no_distribution_are_refused() {
        assert_eq!(Weighted::<&str>::new([]), Err(WeightsError::Empty));
        assert_eq!(Weighted::new([("v1", 0), ("v2", 0)]), Err(WeightsError::AllZero));
    }

    proptest! {
        /// The model writes every slot down.
        #[test]
        fn any_weights_give_each_item_as_many_slots_as_it_weighs(weights in prop::collection::vec(0..20_u32, 2..8)) {
            let slots: Vec<_> =
                weights.iter().enumerate().flat_map(|(item, &weight)| vec![item; weight as usize]).collect();
            match Weighted::new(weights.into_iter().enumerate()) {
                Ok(split) => {
                    prop_assert_eq!(split.total(), slots.len() as u64);
                    let owners: Vec<_> = (0..split.total()).map(|slot| *split.at(slot)).collect();
                    prop_assert_eq!(owners, slots);
                }
                Err(error) => prop_assert!(error == WeightsError::AllZero && slots.is_empty()),
            }
        }
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let split = Weighted::new((0..10).map(|i| (i, u32::MAX))).unwrap();
        assert_eq!(split.total(), 10 * u64::from(u32::MAX));
    }
}
