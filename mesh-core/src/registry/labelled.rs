//! Things found by one label, and workloads found by several.

use crate::config::{Resource, ResourceKey};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Labels of a workload, or of who selects workloads.
pub(super) type Labels = BTreeMap<String, String>;

/// Things filed under labels: by the label's name, then by its value.
#[derive(Clone, Debug)]
pub(super) struct Labelled<T>(HashMap<String, HashMap<String, Vec<T>>>);

/// Pods and WorkloadEntries, each under every label it carries.
#[derive(Clone, Debug, Default)]
pub(super) struct Workloads {
    numbers: HashMap<ResourceKey, u32>,
    /// By number; what is vacant is in `free`.
    known: Vec<Option<Arc<Resource>>>,
    free: Vec<u32>,
    by_label: Labelled<u32>,
}

impl<T> Default for Labelled<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: PartialEq> Labelled<T> {
    pub(super) fn insert(&mut self, name: &str, value: &str, thing: T) {
        // Looked up first: most labels are known, and need no copy then.
        let values = match self.0.get_mut(name) {
            Some(values) => values,
            None => self.0.entry(name.to_owned()).or_default(),
        };
        match values.get_mut(value) {
            Some(things) => things.push(thing),
            None => values.entry(value.to_owned()).or_default().push(thing),
        }
    }

    /// Removes a thing; a label that nothing is filed under any more is forgotten.
    pub(super) fn remove(&mut self, name: &str, value: &str, thing: &T) {
        let Some(values) = self.0.get_mut(name) else { return };
        if let Some(things) = values.get_mut(value) {
            if let Some(at) = things.iter().position(|known| known == thing) {
                things.swap_remove(at);
            }
            if things.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.0.remove(name);
        }
    }

    /// Returns what is filed under a label, in no order.
    pub(super) fn under(&self, name: &str, value: &str) -> &[T] {
        self.0.get(name).and_then(|values| values.get(value)).map_or(&[], Vec::as_slice)
    }
}

impl Workloads {
    pub(super) fn insert(&mut self, workload: &Arc<Resource>, labels: &Labels) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.known.push(None);
            u32::try_from(self.known.len() - 1).unwrap_or(u32::MAX)
        });
        let Some(place) = self.known.get_mut(number as usize) else { return };
        *place = Some(Arc::clone(workload));
        self.numbers.insert(workload.key.clone(), number);
        for (name, value) in labels {
            self.by_label.insert(name, value, number);
        }
    }

    /// Removes a workload that was inserted with these labels.
    pub(super) fn remove(&mut self, key: &ResourceKey, labels: &Labels) {
        let Some(number) = self.numbers.remove(key) else { return };
        if let Some(place) = self.known.get_mut(number as usize) {
            *place = None;
            self.free.push(number);
        }
        for (name, value) in labels {
            self.by_label.remove(name, value, &number);
        }
    }

    /// Returns those that carry the one of these labels that the fewest carry, in no order; everybody, if there is none.
    pub(super) fn near(&self, selector: &Labels) -> impl Iterator<Item = &Arc<Resource>> {
        let under = |(name, value): (&String, &String)| self.by_label.under(name, value);
        let fewest = selector.iter().map(under).min_by_key(|numbers| numbers.len());
        let everybody = fewest.is_none().then(|| self.known.iter().flatten()).into_iter().flatten();
        let numbered = fewest.unwrap_or_default().iter();
        numbered.filter_map(|number| self.known.get(*number as usize)?.as_ref()).chain(everybody)
    }
}
