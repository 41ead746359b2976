//! What the mesh port has handled, counted. Bounded: callers choose paths and methods.

use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Keys beyond this many are counted under [`REST`].
const KEYS_MAX: usize = 1000;
const REST: &str = "(other)";

/// The requests whose handler ran, since the start or the last reset.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Counts>);

/// The counts as `/mesh/seen` shows them.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    total: u64,
    by_method: BTreeMap<String, u64>,
    by_path: BTreeMap<String, u64>,
    by_peer: BTreeMap<String, u64>,
}

impl Seen {
    /// Counts one request; `peer` is its SPIFFE ID, or `none`.
    pub(crate) fn add(&self, method: &str, path: &str, peer: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total += 1;
        count(&mut counts.by_method, method);
        count(&mut counts.by_path, path);
        count(&mut counts.by_peer, peer);
    }

    /// Returns the counts.
    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Counts::default();
    }
}

fn count(map: &mut BTreeMap<String, u64>, key: &str) {
    let is_known = map.contains_key(key) || map.len() < KEYS_MAX;
    *map.entry(if is_known { key } else { REST }.to_owned()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_paths_than_the_bound_share_one_counter() {
        let seen = Seen::default();
        for n in 0..2 * KEYS_MAX {
            seen.add("GET", &format!("/{n}"), "none");
        }
        let counts = seen.counts();
        assert_eq!(counts.total, 2 * KEYS_MAX as u64);
        assert_eq!(counts.by_path.len(), KEYS_MAX + 1);
        assert_eq!(counts.by_path.get(REST), Some(&(KEYS_MAX as u64)));
    }
}
