//! Identity from PEM files, polled for change (ConfigMap-style symlink swaps included).

use std::path::PathBuf;

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The PKCS#8 key.
    pub key: PathBuf,
    /// Bundles by trust domain.
    pub bundles: Vec<(String, PathBuf)>,
}
