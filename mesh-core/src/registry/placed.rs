//! Things found by the address they are at or name.

use std::{collections::HashMap, net::IpAddr};

/// Things filed under addresses.
#[derive(Clone, Debug)]
pub(super) struct Placed<T>(HashMap<IpAddr, Vec<T>>);

impl<T> Default for Placed<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: PartialEq> Placed<T> {
    pub(super) fn insert(&mut self, ip: IpAddr, thing: T) {
        self.0.entry(ip).or_default().push(thing);
    }

    /// Removes a thing that was inserted, once; an address that nothing is filed under any more is forgotten.
    pub(super) fn remove(&mut self, ip: IpAddr, thing: &T) {
        let Some(things) = self.0.get_mut(&ip) else { return };
        if let Some(at) = things.iter().position(|known| known == thing) {
            things.swap_remove(at);
        }
        if things.is_empty() {
            self.0.remove(&ip);
        }
    }

    /// Returns what is filed under an address, in no order.
    pub(super) fn at(&self, ip: IpAddr) -> &[T] {
        self.0.get(&ip).map_or(&[], Vec::as_slice)
    }
}
