//! The ring: every endpoint owns points on a circle of hashes, and a request belongs to the next point after its own.
//!
//! It is Envoy's ring point by point, so that a request with the same key goes where a sidecar would send it.
// spec: envoy source/extensions/load_balancing_policies/ring_hash/ring_hash_lb.cc

use super::{hash, table::Share};
use std::fmt::Write;

/// The points of all endpoints, in order.
#[derive(Debug)]
pub(super) struct Ring {
    points: Box<[u64]>,
    /// Whose the point of the same number is.
    pub(super) owners: Box<[u32]>,
}

impl Ring {
    /// Returns a ring of at least `minimum_size` points unless that is more than [`SIZE_MAX`]: as many as it takes for
    /// the lightest endpoint to own a whole number of them.
    pub(super) fn new(shares: &[Share<'_>], minimum_size: u64) -> Self {
        let mut points = points(shares, scale(shares, minimum_size.max(1) as f64));
        points.sort_unstable();
        let (points, owners): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        Self { points: points.into(), owners: owners.into() }
    }

    /// Returns the number of the point that `hash` belongs to; each redraw moves on by one.
    pub(super) fn find(&self, hash: u64, redraw: u32) -> usize {
        let point = self.points.partition_point(|&point| point < hash) + redraw as usize;
        point.checked_rem(self.points.len()).unwrap_or(0)
    }
}

/// How many points a share of 1 would own.
fn scale(shares: &[Share<'_>], minimum_size: f64) -> f64 {
    let lightest = shares.iter().map(|share| share.weight).fold(1.0, f64::min);
    ((lightest * minimum_size).ceil() / lightest).min(SIZE_MAX)
}

/// Where shares are no whole numbers of points, the sum of the points keeps up with the sum of the shares.
fn points(shares: &[Share<'_>], scale: f64) -> Vec<(u64, u32)> {
    let mut points = Vec::with_capacity(scale.ceil() as usize);
    let (mut due, mut key) = (0.0, String::new());
    for share in shares {
        due += scale * share.weight;
        for number in 0_u32.. {
            if points.len() as f64 >= due {
                break;
            }
            key.clear();
            let _ = write!(key, "{}_{number}", share.address);
            points.push((hash::of_text(key.as_bytes()), share.owner));
        }
    }
    points
}

// spec: envoy extensions.load_balancing_policies.ring_hash.v3.RingHash.maximum_ring_size
const SIZE_MAX: f64 = 8_388_608.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        balance::table::tests::{addresses, shares},
        dice::{Dice, Seeded},
        registry::Address,
    };
    use std::collections::BTreeMap;

    /// The points of Envoy's own test, by port of 127.0.0.1; twelve at least.
    // spec: envoy test/extensions/load_balancing_policies/ring_hash/ring_hash_lb_test.cc Basic
    #[test]
    fn the_points_are_envoys() {
        let expected = [
            (833_437_586_790_550_860, 94),
            (928_266_305_478_181_108, 92),
            (1_033_482_794_131_418_490, 90),
            (3_551_244_743_356_806_947, 95),
            (3_851_675_632_748_031_481, 93),
            (5_583_722_120_771_150_861, 91),
            (6_311_230_543_546_372_928, 91),
            (7_700_377_290_971_790_572, 93),
            (13_144_177_310_400_110_813, 95),
            (13_444_792_449_719_432_967, 92),
            (15_516_499_411_664_133_160, 94),
            (16_117_243_373_044_804_889, 90),
        ];
        let ring = Ring::new(&shares(&addresses(90..96), &[1; 6]), 12);
        let points: Vec<_> = ring.points.iter().copied().zip(ring.owners.iter().map(|it| it + 90)).collect();
        assert_eq!(points, expected);
    }

    // spec: envoy test/extensions/load_balancing_policies/ring_hash/ring_hash_lb_test.cc Basic
    #[test]
    fn the_picks_are_envoys() {
        let ring = Ring::new(&shares(&addresses(90..96), &[1; 6]), 12);
        for (hash, port) in [
            (0, 94),
            (u64::MAX, 94),
            (3_551_244_743_356_806_947, 95),
            (3_551_244_743_356_806_948, 93),
            (16_117_243_373_044_804_880, 90),
        ] {
            assert_eq!(ring.owners[ring.find(hash, 0)] + 90, port, "{hash}");
        }
    }

    /// Keys that are names, as Envoy has them where it hashes by host name: the port of each is its name.
    // spec: envoy test/extensions/load_balancing_policies/ring_hash/ring_hash_lb_test.cc BasicWithHostname
    #[test]
    fn points_and_picks_by_name_are_envoys() {
        let expected = [
            (1_975_508_444_536_362_413, 95),
            (2_376_063_919_839_173_711, 95),
            (2_386_806_903_309_390_596, 93),
            (6_749_904_478_991_551_885, 94),
            (6_803_900_775_736_438_537, 93),
            (7_225_015_537_174_310_577, 92),
            (8_787_465_352_164_086_522, 90),
            (11_282_020_843_382_717_940, 92),
            (13_723_418_369_486_627_818, 91),
            (13_776_502_110_861_797_421, 90),
            (14_338_313_586_354_474_791, 91),
            (15_364_271_037_087_512_980, 94),
        ];
        let keyed = |name: u32| (0..2).map(move |n| (hash::of_text(format!("{name}_{n}").as_bytes()), name));
        let mut points: Vec<_> = (90..96).flat_map(keyed).collect();
        points.sort_unstable();
        assert_eq!(points, expected);
        let (points, owners): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        let ring = Ring { points: points.into(), owners: owners.into() };
        let picks = [0, u64::MAX, 7_225_015_537_174_310_577, 6_803_900_775_736_438_537]
            .map(|hash| ring.owners[ring.find(hash, 0)]);
        assert_eq!(picks, [95, 95, 92, 93]);
    }

    // spec: envoy test/extensions/load_balancing_policies/ring_hash/ring_hash_lb_test.cc HostWeightedTinyRing
    #[test]
    fn a_weighted_ring_is_envoys() {
        let ring = Ring::new(&shares(&addresses(90..93), &[1, 2, 3]), 6);
        let points: Vec<_> = ring.points.iter().copied().zip(ring.owners.iter().map(|it| it + 90)).collect();
        assert_eq!(points.len(), 6);
        assert_eq!(
            points[..4],
            [
                (928_266_305_478_181_108, 92),
                (4_443_673_547_860_492_590, 92),
                (5_583_722_120_771_150_861, 91),
                (6_311_230_543_546_372_928, 91)
            ]
        );
    }

    #[test]
    fn a_redraw_moves_on_by_one_point_and_around() {
        let ring = Ring::new(&shares(&addresses(90..96), &[1; 6]), 12);
        let owners: Vec<_> =
            (0..13).map(|redraw| ring.owners[ring.find(u64::MAX - 9, redraw)] + 90).collect();
        assert_eq!(owners, [94, 92, 90, 95, 93, 91, 91, 93, 95, 92, 94, 90, 94]);
    }

    #[test]
    fn every_weight_has_its_part_of_the_points_and_the_lightest_at_least_one() {
        for (weights, minimum_size, expected) in [
            (&[1][..], 1_024, &[1_024][..]),
            (&[1, 1], 1_024, &[512, 512]),
            (&[1, 1, 1], 1_024, &[342, 342, 342]),
            (&[1, 2, 3], 1, &[1, 2, 3]),
            (&[1, 10_000], 1_024, &[1, 10_000]),
            (&[1, 1], 0, &[1, 1]),
        ] {
            let ring = Ring::new(&shares(&addresses(1..1 + weights.len() as u16), weights), minimum_size);
            let mut owned = vec![0; weights.len()];
            ring.owners.iter().for_each(|&owner| owned[owner as usize] += 1);
            assert_eq!(owned, expected, "{weights:?} of {minimum_size}");
        }
    }

    /// Against a ring kept in a tree, whose points are asked for one by one.
    #[test]
    fn a_hash_belongs_to_the_next_point() {
        for seed in 0..20 {
            let mut dice = Seeded::new(seed);
            let addresses = addresses(1..1 + 1 + dice.below(40) as u16);
            let weights: Vec<u32> = addresses.iter().map(|_| 1 + dice.below(9) as u32).collect();
            let ring = Ring::new(&shares(&addresses, &weights), 100);
            let model = model(&addresses, &weights, 100.0);
            for _ in 0..1_000 {
                let hash = dice.roll();
                let (_, expected) = model.range(hash..).next().or(model.iter().next()).unwrap();
                assert_eq!(ring.owners[ring.find(hash, 0)], *expected, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_ring_of_nobody_has_no_points() {
        let ring = Ring::new(&[], 1_024);
        assert_eq!((ring.owners.len(), ring.find(7, 3)), (0, 0));
    }

    fn model(addresses: &[Address], weights: &[u32], minimum_size: f64) -> BTreeMap<u64, u32> {
        let sum = f64::from(weights.iter().sum::<u32>());
        let lightest = f64::from(*weights.iter().min().unwrap()) / sum;
        let scale = (lightest * minimum_size).ceil() / lightest;
        let (mut ring, mut due) = (BTreeMap::new(), 0.0);
        for (owner, (address, weight)) in (0..).zip(addresses.iter().zip(weights)) {
            due += scale * (f64::from(*weight) / sum);
            let mut number = 0;
            while (ring.len() as f64) < due {
                ring.insert(hash::of_text(format!("{address}_{number}").as_bytes()), owner);
                number += 1;
            }
        }
        ring
    }
}
