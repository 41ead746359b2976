//! A table of names in small groups, so that the next table shares every group in which nothing changed.
//!
//! One change of ten thousand names then costs a list of pointers and one group, and a look-up costs one hash, as with
//! any other table.

use super::Ports;
use std::{
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
};

/// What each name means.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// By the first bits of the hash; a power of two of them.
    groups: Vec<Arc<Vec<Named>>>,
    count: usize,
}

/// One name; a group is sorted by hash.
#[derive(Clone, Debug)]
struct Named {
    hash: u64,
    name: Arc<str>,
    ports: Ports,
}

impl Default for Names {
    fn default() -> Self {
        Self { groups: vec![Arc::default()], count: 0 }
    }
}

impl Names {
    /// Returns what `name` means.
    pub(super) fn get(&self, name: &str) -> Option<&Ports> {
        let hash = hash(name);
        let group = &*self.groups[self.group_of(hash)];
        let from = group.partition_point(|named| named.hash < hash);
        let alike = group[from..].iter().take_while(|named| named.hash == hash);
        alike.into_iter().find(|named| *named.name == *name).map(|named| &named.ports)
    }

    /// Makes `name` mean `ports`, or nothing.
    pub(super) fn set(&mut self, name: &str, ports: Option<Ports>) {
        if self.count >= self.groups.len() * NAMES_PER_GROUP_MAX {
            self.spread();
        }
        let hash = hash(name);
        let index = self.group_of(hash);
        let group = Arc::make_mut(&mut self.groups[index]);
        let from = group.partition_point(|named| named.hash < hash);
        let alike = group[from..].iter().take_while(|named| named.hash == hash);
        let known = alike.into_iter().position(|named| *named.name == *name).map(|offset| from + offset);
        match (known, ports) {
            (Some(at), Some(ports)) => group[at].ports = ports,
            (Some(at), None) => {
                group.remove(at);
                self.count -= 1;
            }
            (None, Some(ports)) => {
                group.insert(from, Named { hash, name: name.into(), ports });
                self.count += 1;
            }
            (None, None) => {}
        }
    }

    /// Returns what the names mean, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Ports> {
        self.groups.iter().flat_map(|group| group.iter()).map(|named| &named.ports)
    }

    /// Makes four times as many groups.
    fn spread(&mut self) {
        let groups = self.groups.len() * 4;
        let before = std::mem::replace(&mut self.groups, vec![Arc::default(); groups]);
        for named in before.into_iter().flat_map(Arc::unwrap_or_clone) {
            // Hashes come in order: each goes behind the one before.
            let index = self.group_of(named.hash);
            Arc::make_mut(&mut self.groups[index]).push(named);
        }
    }

    fn group_of(&self, hash: u64) -> usize {
        // Multiply and shift: below the number of groups, whatever the hash.
        ((u128::from(hash) * self.groups.len() as u128) >> 64) as usize
    }
}

/// The same in every process: names come from the configuration, and callers choose none of them.
fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// A group is copied when one of its names changes, and searched by halves: at 16 both cost little.
const NAMES_PER_GROUP_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::{Dice as _, Seeded};
    use std::collections::BTreeMap;

    #[test]
    fn every_name_means_what_was_said_of_it_last() {
        let (mut dice, mut names, mut model) = (Seeded::new(3), Names::default(), BTreeMap::new());
        for step in 0..20_000 {
            let name = format!("service-{}", dice.below(3_000));
            let port = u16::try_from(step % 60_000).unwrap();
            match dice.below(4) {
                0 => {
                    names.set(&name, None);
                    model.remove(&name);
                }
                _ => {
                    names.set(&name, Some(at(port)));
                    model.insert(name, port);
                }
            }
        }
        assert_eq!(names.count, model.len());
        assert_eq!(names.iter().count(), model.len());
        for index in 0..3_000 {
            let name = format!("service-{index}");
            assert_eq!(names.get(&name).map(port_of), model.get(&name).copied(), "{name}");
        }
    }

    #[test]
    fn a_change_leaves_the_table_it_was_cloned_from_as_it_was() {
        let mut names = Names::default();
        (0..1_000).for_each(|index| names.set(&index.to_string(), Some(at(1))));
        let before = names.clone();
        names.set("7", Some(at(2)));
        names.set("8", None);
        assert_eq!((before.get("7").map(port_of), before.get("8").map(port_of)), (Some(1), Some(1)));
        let shared = names.groups.iter().zip(&before.groups).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= names.groups.len() - 2, "{shared} of {} groups are shared", names.groups.len());
    }

    fn at(port: u16) -> Ports {
        Ports { by_port: vec![(port, Arc::new(virtual_host()))], any_port: None }
    }

    fn virtual_host() -> crate::route::VirtualHost {
        crate::route::VirtualHost { name: "a".into(), routes: Vec::new(), source: None }
    }

    fn port_of(ports: &Ports) -> u16 {
        ports.by_port[0].0
    }
}
