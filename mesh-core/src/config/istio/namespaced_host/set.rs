//! Many hosts with their namespaces, made for thousands of questions.

use super::{NamespacedHost, Namespaces};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Hosts, by the namespace in which they are meant.
#[derive(Clone, Debug, Default)]
pub struct NamespacedHosts {
    anywhere: Hosts,
    by_namespace: HashMap<Box<str>, Hosts>,
}

impl NamespacedHosts {
    /// Returns the set of `hosts`, where `own` is the namespace that `.` means.
    pub fn of<'a>(hosts: impl IntoIterator<Item = &'a NamespacedHost>, own: &str) -> Self {
        let mut set = Self::default();
        for host in hosts {
            let namespace = match &host.namespaces {
                Namespaces::Any => {
                    set.anywhere.add(&host.host);
                    continue;
                }
                Namespaces::Nowhere => continue,
                Namespaces::Own => own,
                Namespaces::Named(name) => name,
            };
            set.by_namespace.entry(namespace.into()).or_default().add(&host.host);
        }
        set
    }

    /// Returns whether `host` of `namespace`, all of it if it is a wildcard, is among them.
    pub fn cover(&self, namespace: &str, host: &str) -> bool {
        self.any(namespace, |hosts| hosts.cover(host))
    }

    /// Returns whether `host` of `namespace`, which may be a wildcard, has a host in common with them.
    pub fn meet(&self, namespace: &str, host: &str) -> bool {
        self.any(namespace, |hosts| hosts.meet(host))
    }

    fn any(&self, namespace: &str, holds: impl Fn(&Hosts) -> bool) -> bool {
        self.by_namespace.get(namespace).is_some_and(&holds) || holds(&self.anywhere)
    }
}

/// Names and wildcards.
#[derive(Clone, Debug, Default)]
struct Hosts {
    all: bool,
    exact: HashSet<Box<str>>,
    /// With the leading dot: `.example.com` for `*.example.com`.
    suffixes: HashSet<Box<str>>,
    /// Every name and suffix spelled backwards, so that those below a suffix stand side by side.
    backwards: BTreeSet<String>,
}

impl Hosts {
    fn add(&mut self, host: &str) {
        let wildcard = host.strip_prefix('*');
        match wildcard {
            Some("") => self.all = true,
            Some(suffix) => drop(self.suffixes.insert(suffix.into())),
            None => drop(self.exact.insert(host.into())),
        }
        self.backwards.insert(backwards(wildcard.unwrap_or(host)));
    }

    fn cover(&self, host: &str) -> bool {
        let name = host.strip_prefix('*').unwrap_or(host);
        let mut suffixes = name.match_indices('.').map(|(dot, _)| &name[dot..]);
        self.all || self.exact.contains(host) || suffixes.any(|suffix| self.suffixes.contains(suffix))
    }

    fn meet(&self, host: &str) -> bool {
        let below = |suffix: &str| {
            let start = backwards(suffix);
            self.backwards.range(start.clone()..).next().is_some_and(|name| name.starts_with(&start))
        };
        self.cover(host) || host.strip_prefix('*').is_some_and(below)
    }
}

/// Returns `text` spelled backwards.
pub(crate) fn backwards(text: &str) -> String {
    text.chars().rev().collect()
}
