//! Rewrites of path and authority.

/// A rewrite, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The new authority.
    pub authority: Option<http::HeaderValue>,
}
