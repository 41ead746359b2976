//! The tables of consistent hashing behind one face: slots, and whose each is.
//!
//! They are built over all endpoints and never again while these stay: an ejection moves only the requests of who was
//! ejected, to whoever owns the next slots. Envoy builds them anew without it.

use super::{Endpoint, Policy, maglev, ring_hash};
use crate::registry::Address;

/// An endpoint and its part of the whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'a> {
    pub(super) address: &'a Address,
    /// Above 0; all of them add up to 1.
    pub(super) weight: f64,
    /// Its number in the set.
    pub(super) owner: u32,
}

/// A table of slots.
#[derive(Debug)]
pub(super) enum HashTable {
    Ring(ring_hash::Ring),
    Maglev(maglev::Table),
}

impl HashTable {
    /// Returns the table of `policy` for these shares, if the policy has one.
    pub(super) fn new<'a>(policy: Policy, shares: impl FnOnce() -> Vec<Share<'a>>) -> Option<Self> {
        match policy {
            Policy::RingHash { minimum_size } => {
                Some(Self::Ring(ring_hash::Ring::new(&shares(), minimum_size)))
            }
            Policy::Maglev { table_size } => Some(Self::Maglev(maglev::Table::new(&shares(), table_size))),
            Policy::LeastRequest | Policy::RoundRobin | Policy::Random | Policy::PeakEwma => None,
        }
    }

    /// Returns the owner of the slot that `hash` belongs to, then those of the slots after it, once around.
    pub(super) fn owners(&self, hash: u64, redraw: u32) -> impl Iterator<Item = usize> {
        let (owners, first) = match self {
            Self::Ring(ring) => (&ring.owners, ring.find(hash, redraw)),
            Self::Maglev(table) => (&table.owners, table.find(hash, redraw)),
        };
        let (before, from) = owners.split_at(first.min(owners.len()));
        from.iter().chain(before).map(|&owner| owner as usize)
    }
}

/// Returns the shares of `members`: each has of `part` what its weight is of the sum of theirs.
pub(super) fn shares<'a>(endpoints: &'a [Endpoint], members: &[u32], part: f64) -> Vec<Share<'a>> {
    let members = members.iter().filter_map(|&owner| Some((owner, endpoints.get(owner as usize)?)));
    let sum: u64 = members.clone().map(|(_, endpoint)| u64::from(endpoint.weight())).sum();
    // In Envoy's order of operations: the last bit may decide who owns a fraction of a point.
    let weight = |endpoint: &Endpoint| f64::from(endpoint.weight()) * part / sum as f64;
    members
        .map(|(owner, endpoint)| Share { address: &endpoint.address, weight: weight(endpoint), owner })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::ops::Range;

    #[test]
    fn owners_are_listed_once_around_from_the_slot_of_the_hash() {
        let addresses = addresses(90..96);
        let shares = shares(&addresses, &[1; 6]);
        let maglev = Policy::Maglev { table_size: maglev::TableSize::new(7).unwrap() };
        let table = HashTable::new(maglev, || shares.clone()).unwrap();
        assert_eq!(table.owners(10, 0).collect::<Vec<_>>(), [1, 5, 0, 3, 2, 4, 0]);
        let ring = HashTable::new(Policy::RingHash { minimum_size: 6 }, || shares.clone()).unwrap();
        assert_eq!(ring.owners(u64::MAX, 1).count(), 6);
    }

    #[test]
    fn a_table_of_nobody_lists_nobody() {
        for policy in
            [Policy::RingHash { minimum_size: 6 }, Policy::Maglev { table_size: Default::default() }]
        {
            assert_eq!(HashTable::new(policy, Vec::new).unwrap().owners(7, 2).count(), 0);
        }
    }

    /// Ports of one host.
    pub(in crate::balance) fn addresses(ports: Range<u16>) -> Vec<Address> {
        ports.map(|port| Address::Ip(([127, 0, 0, 1], port).into())).collect()
    }

    pub(in crate::balance) fn shares<'a>(addresses: &'a [Address], weights: &[u32]) -> Vec<Share<'a>> {
        let sum: u32 = weights.iter().sum();
        let weights: Vec<_> =
            weights.iter().map(|&weight| f64::from(weight) * 1.0 / f64::from(sum)).collect();
        shares_of(addresses, &weights)
    }

    /// Who has no weight has no share.
    pub(in crate::balance) fn shares_of<'a>(addresses: &'a [Address], weights: &[f64]) -> Vec<Share<'a>> {
        let all = (0..).zip(addresses.iter().zip(weights));
        let share =
            |(owner, (address, &weight)): (u32, (&'a Address, &f64))| Share { address, weight, owner };
        all.map(share).filter(|share| share.weight > 0.0).collect()
    }
}
