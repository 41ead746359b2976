//! Who holds how many connections, so that nobody takes all of them.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// The connections of each peer. It holds an entry for each that has one, so it is bounded by the connections.
#[derive(Debug)]
pub(crate) struct Crowd {
    each_max: usize,
    present: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections of one peer, free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    peer: IpAddr,
}

impl Crowd {
    /// Returns a crowd in which nobody has more than `each_max` places.
    pub(crate) fn new(each_max: usize) -> Arc<Self> {
        Arc::new(Self { each_max, present: Mutex::default() })
    }

    /// Returns a place for `address`, unless it has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let peer = peer(address);
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let count = present.get(&peer).copied().unwrap_or_default();
        if count >= self.each_max {
            return None;
        }
        present.insert(peer, count + 1);
        drop(present);
        Some(Place { crowd: Arc::clone(self), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut present = self.crowd.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = present.entry(self.peer) {
            match entry.get().checked_sub(1) {
                None | Some(0) => drop(entry.remove()),
                Some(left) => *entry.get_mut() = left,
            }
        }
    }
}

/// Returns who has `address`: whoever is given one of IPv6 is given 2^64 of them.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_places_than_allowed_and_a_place_that_is_left_is_free() {
        let crowd = Crowd::new(2);
        let enter = |address: &str| crowd.enter(address.parse().unwrap());
        let (first, second) = (enter("10.0.0.1").unwrap(), enter("::ffff:10.0.0.1").unwrap());
        assert!(enter("10.0.0.1").is_none());
        assert!(enter("10.0.0.2").is_some());
        drop(first);
        assert!(enter("10.0.0.1").is_some());
        drop(second);
        let (near, same_network) = (enter("2001:db8::1").unwrap(), enter("2001:db8::ffff:1").unwrap());
        assert!(enter("2001:db8::2").is_none() && enter("2001:db8:0:1::1").is_some());
        drop((near, same_network));
        assert!(crowd.present.lock().unwrap().is_empty());
    }
}
