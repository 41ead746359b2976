//! Chance as an argument: whoever draws is handed the dice, so a seed replays every decision.

/// A source of random numbers.
pub trait Dice {
    /// Returns the next 64 random bits.
    fn roll(&mut self) -> u64;

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    ///
    /// Multiply-and-shift instead of a remainder: its bias is below `bound / 2^64`.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(bound)) >> 64) as u64
    }
}

impl<D: Dice + ?Sized> Dice for &mut D {
    fn roll(&mut self) -> u64 {
        (**self).roll()
    }
}

/// Dice that replay from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// Returns dice that always roll the same sequence for the same `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Dice for Seeded {
    // spec: Steele, Lea, Flood: Fast splittable pseudorandom number generators (OOPSLA 2014), SplitMix64
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Dice that always roll the lowest number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lowest;

impl Dice for Lowest {
    fn roll(&mut self) -> u64 {
        0
    }
}

/// Dice that always roll the highest number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Highest;

impl Dice for Highest {
    fn roll(&mut self) -> u64 {
        u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_below_a_bound_is_below_it_and_reaches_both_ends() {
        assert_eq!(Lowest.below(100), 0);
        assert_eq!(Highest.below(100), 99);
        assert_eq!(Highest.below(1), 0);
        assert_eq!(Highest.below(0), 0);
    }

    #[test]
    fn the_same_seed_rolls_the_same_sequence() {
        let (mut a, mut b) = (Seeded::new(7), Seeded::new(7));
        assert!((0..100).all(|_| a.roll() == b.roll()));
        assert_ne!(Seeded::new(7).roll(), Seeded::new(8).roll());
    }

    #[test]
    fn below_is_even_over_its_range() {
        let mut dice = Seeded::new(1);
        let mut seen = [0_u32; 10];
        (0..100_000).for_each(|_| seen[dice.below(10) as usize] += 1);
        assert!(seen.iter().all(|&n| (9_500..10_500).contains(&n)), "{seen:?}");
    }
}
