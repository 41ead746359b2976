//! What names stand for, and who wants to know.

use super::Hosts;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// The addresses that names were last resolved to.
///
/// ```
/// use mesh_core::registry::Answers;
///
/// let mut answers = Answers::default();
/// assert!(answers.insert(&"api.example.com".into(), &["10.0.0.1".parse()?]));
/// assert!(!answers.insert(&"api.example.com".into(), &[]), "no answer is none: the one before stays");
/// assert_eq!(answers.get("api.example.com").map(<[_]>::len), Some(1));
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers(BTreeMap<Arc<str>, Arc<[IpAddr]>>);

impl Answers {
    /// Takes the answer for `name`, in the order of the resolver, and returns whether it is another one than before.
    ///
    /// Without an address it is no answer.
    pub fn insert(&mut self, name: &Arc<str>, addresses: &[IpAddr]) -> bool {
        if addresses.is_empty() || self.get(name) == Some(addresses) {
            return false;
        }
        self.0.insert(Arc::clone(name), addresses.into());
        true
    }

    /// Forgets the answers for names that are not `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| wanted(name));
    }

    /// Returns the addresses of `name`, at least one, if it has been resolved.
    pub fn get(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(name).map(|addresses| &**addresses)
    }
}

/// Which hosts have endpoints by which names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    hosts: BTreeMap<Arc<str>, Hosts>,
    of_host: HashMap<Arc<str>, Vec<Arc<str>>>,
}

impl Names {
    /// Returns every name, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.hosts.keys()
    }

    /// Returns the hosts that have endpoints by `name`.
    pub(super) fn hosts(&self, name: &str) -> impl Iterator<Item = Arc<str>> {
        self.hosts.get(name).into_iter().flatten().cloned()
    }

    /// Notes that `host` has endpoints by exactly these names.
    pub(super) fn set(&mut self, host: &Arc<str>, names: Vec<Arc<str>>) {
        for name in self.of_host.remove(host).into_iter().flatten() {
            if let Some(hosts) = self.hosts.get_mut(&name)
                && hosts.remove(host)
                && hosts.is_empty()
            {
                self.hosts.remove(&name);
            }
        }
        for name in &names {
            self.hosts.entry(Arc::clone(name)).or_default().insert(Arc::clone(host));
        }
        if !names.is_empty() {
            self.of_host.insert(Arc::clone(host), names);
        }
    }
}
