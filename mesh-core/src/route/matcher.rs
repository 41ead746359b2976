//! Whether a route applies to a request, and if not, which condition failed first.

/// The alternatives of a route; empty matches everything.
#[derive(Clone, Debug, Default)]
pub struct RouteMatch {}

/// The first condition that did not hold, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(pub String);
