//! Why a control endpoint does not run, or a token is not made.

use std::{io, net::SocketAddr, path::Path};

/// Why a control endpoint does not run, or a token is not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Plain HTTP was asked for on an address that others reach.
    #[error("--insecure-http is for loopback only, and {0} is not; leave it out to serve HTTPS there")]
    NotLoopback(SocketAddr),
    /// A file or listener failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path or address.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The data directory holds something that cannot be used.
    #[error("{0}")]
    Data(String),
    /// A name or duration that was asked for is not valid.
    #[error("{0}")]
    Invalid(String),
}

impl ControlError {
    pub(crate) fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        Self::Io { what: format!("{doing} {}", path.display()), source }
    }
}
