//! The endpoint as a whole: state, listener, tasks.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The settings of a control endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ControlSettings {
    /// Files and directories of Istio YAML.
    pub config: Vec<PathBuf>,
    /// Where to listen. Default `127.0.0.1:15010`.
    pub listen: SocketAddr,
    /// CA key, leases, last good objects; a temporary one that ends with the process if `None`.
    pub data: Option<PathBuf>,
    /// Plain HTTP; loopback only. Default false.
    pub insecure_http: bool,
    /// Default `cluster.local`.
    pub trust_domain: String,
    /// Life of an issued certificate. Default 24 h, as Istio's.
    pub certificate_ttl: Duration,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            config: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 15010)),
            data: None,
            insecure_http: false,
            trust_domain: "cluster.local".to_owned(),
            certificate_ttl: Duration::from_secs(24 * 3600),
        }
    }
}

/// A running control endpoint; ends when dropped.
#[derive(Debug)]
pub struct ControlEndpoint {
    address: SocketAddr,
    insecure_http: bool,
}

/// Why a control endpoint does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Plain HTTP was asked for on an address that others reach.
    #[error("--insecure-http is for loopback only, and {0} is not")]
    NotLoopback(SocketAddr),
    /// A file or listener failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path or address.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The data directory holds something that does not read.
    #[error("{0}")]
    Data(String),
}

impl ControlEndpoint {
    /// Starts an endpoint; it answers when this returns.
    ///
    /// # Errors
    ///
    /// Returns why it cannot run.
    pub async fn start(settings: ControlSettings) -> Result<Self, ControlError> {
        let _ = settings;
        todo!()
    }

    /// Returns its URL, e.g. `https://127.0.0.1:15010`.
    pub fn url(&self) -> String {
        format!("http{}://{}", if self.insecure_http { "" } else { "s" }, self.address)
    }

    /// Stops it and waits until its port is free and its state is on disk.
    pub async fn stop(self) {
        todo!()
    }
}
