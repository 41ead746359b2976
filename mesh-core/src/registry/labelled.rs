//! Things found by one label.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Labels of a workload, or of who selects workloads.
pub(super) type Labels = BTreeMap<String, String>;

/// Things filed under labels: by the label's name, then by its value.
#[derive(Clone, Debug)]
pub(super) struct Labelled<K, V>(HashMap<String, HashMap<String, HashMap<K, V>>>);

impl<K, V> Default for Labelled<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq, V> Labelled<K, V> {
    pub(super) fn insert(&mut self, (name, value): (&str, &str), key: K, thing: V) {
        // Looked up first: most labels are known, and need no copy then.
        let values = match self.0.get_mut(name) {
            Some(values) => values,
            None => self.0.entry(name.to_owned()).or_default(),
        };
        match values.get_mut(value) {
            Some(things) => things.insert(key, thing),
            None => values.entry(value.to_owned()).or_default().insert(key, thing),
        };
    }

    /// Removes what is filed as `key`; a label that nobody carries any more is forgotten.
    pub(super) fn remove(&mut self, (name, value): (&str, &str), key: &K) {
        let Some(values) = self.0.get_mut(name) else { return };
        if let Some(things) = values.get_mut(value) {
            things.remove(key);
            if things.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.0.remove(name);
        }
    }

    /// Returns what is filed under a label, in no order.
    pub(super) fn under(&self, (name, value): (&str, &str)) -> Option<&HashMap<K, V>> {
        self.0.get(name)?.get(value)
    }
}
