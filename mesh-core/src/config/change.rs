//! What is different between two states of the configuration.

use super::resource::Resource;
use std::{cmp::Ordering, sync::Arc};

/// The objects that came, went or changed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Objects as they were: those that are gone, and the old form of those that changed.
    pub old: Vec<Arc<Resource>>,
    /// Objects as they are: those that are new, and the new form of those that changed.
    pub new: Vec<Arc<Resource>>,
}

impl Changes {
    /// Returns what makes `after` of `before`, both sorted by key, as [`super::Accepted`] keeps them.
    ///
    /// An object is unchanged if it is the same allocation: [`super::Accepted::update`] keeps those.
    pub fn between(before: &[Arc<Resource>], after: &[Arc<Resource>]) -> Self {
        let mut changes = Self::default();
        let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) if Arc::ptr_eq(old, new) => Ordering::Equal,
                (Some(old), Some(new)) => old.key.cmp(&new.key),
            };
            let gone = if order.is_le() { old.next() } else { None };
            let come = if order.is_ge() { new.next() } else { None };
            if let (Some(gone), Some(come)) = (gone, come)
                && Arc::ptr_eq(gone, come)
            {
                continue;
            }
            changes.old.extend(gone.cloned());
            changes.new.extend(come.cloned());
        }
    }

    /// Returns whether nothing is different.
    pub fn is_empty(&self) -> bool {
        self.old.is_empty() && self.new.is_empty()
    }

    /// Returns every object, as it was and as it is.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.old.iter().chain(&self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, load};

    #[test]
    fn only_what_is_another_allocation_is_a_change() {
        let [a, b, c] = ["a", "b", "c"].map(|name| object(name, "one"));
        let changed = object("b", "two");
        let names =
            |objects: &[Arc<Resource>]| objects.iter().map(|it| it.key.name.to_string()).collect::<Vec<_>>();
        let changes = Changes::between(&[Arc::clone(&a), Arc::clone(&b)], &[Arc::clone(&a), changed, c]);
        assert_eq!(
            (names(&changes.old), names(&changes.new)),
            (vec!["b".to_owned()], vec!["b".to_owned(), "c".to_owned()])
        );
        assert!(
            Changes::between(&[Arc::clone(&a), Arc::clone(&b)], &[Arc::clone(&a), Arc::clone(&b)]).is_empty()
        );
        assert_eq!(names(&Changes::between(&[a, b], &[]).old), ["a", "b"]);
    }

    fn object(name: &str, host: &str) -> Arc<Resource> {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {name}}}, spec: {{host: {host}}}}}"
        );
        Arc::new(load("f", &text, &Options::default()).resources.remove(0))
    }
}
