//! Header operations, compiled: names and values are valid before a request comes.

/// `remove`, `set` and `add`, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOps {
    pub(super) remove: Vec<http::HeaderName>,
    pub(super) set: Vec<(http::HeaderName, http::HeaderValue)>,
    pub(super) add: Vec<(http::HeaderName, http::HeaderValue)>,
}

impl HeaderOps {
    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Applies the operations to `headers`.
    pub fn apply(&self, headers: &mut http::HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}
