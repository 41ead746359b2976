//! Which version of each object is in force: the new one if it is good, else the last good one.
//!
//! A file with an unreadable document keeps every object last read from it that its readable documents lack; only a
//! file that reads whole, or is gone, deletes. References are judged over the whole set: the edit that makes one
//! dangle is refused.

use super::{diagnostic::Diagnostic, load::Options, resource::Resource};
use std::sync::Arc;

/// A file as it stands on disk now.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its name, as it will appear in diagnostics.
    pub name: String,
    /// Its content, or why it could not be read (which keeps what it held).
    pub text: Result<String, String>,
}

/// The objects in force, and what is wrong with the files as they stand.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// The objects in force, sorted by key.
    pub resources: Vec<Arc<Resource>>,
    /// Every finding about the files as they stand; those about refused objects say what was kept.
    pub diagnostics: Vec<Diagnostic>,
}

impl Accepted {
    /// Returns what is in force once `files` (all of them, not only the changed ones) replace what `self` was read from.
    #[must_use]
    pub fn update(&self, files: &[SourceFile], options: &Options) -> Self {
        let _ = (files, options);
        todo!()
    }
}
