//! An SVID, the bundles of the trust domains, and the two together.

use mesh_core::identity::{SpiffeId, TrustDomain};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

/// A workload's certificate chain and key.
#[derive(Clone)]
pub struct Svid {
    pub(crate) id: SpiffeId,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Arc<PrivateKeyDer<'static>>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) serial: String,
}

impl Svid {
    /// Reads a PEM chain (leaf first) and a PEM PKCS#8 key, and checks that they belong together.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with either, never a byte of the key.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, IdentityError> {
        let _ = (chain, key);
        todo!()
    }

    /// Returns the SPIFFE ID.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Returns the serial number in hex.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Returns from when it is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Returns until when it is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// The root certificates of each trust domain; never merged.
#[derive(Clone, Default)]
pub struct Bundles(pub(crate) BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>);

impl Bundles {
    /// Reads PEM bundles by trust domain.
    ///
    /// # Errors
    ///
    /// Returns which trust domain's bundle does not read, and why.
    pub fn from_pem<'a>(
        bundles: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, IdentityError> {
        let _ = bundles.into_iter().count();
        todo!()
    }

    /// Returns the trust domains with a bundle.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.0.keys()
    }
}

impl fmt::Debug for Bundles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(domain, roots)| (domain, roots.len()))).finish()
    }
}

/// One generation of identity: what the workload shows and whom it trusts.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The own SVID.
    pub svid: Svid,
    /// The bundles.
    pub bundles: Bundles,
}

/// Why there is no usable identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A certificate or bundle does not read.
    #[error("{what}: {why}")]
    Unreadable {
        /// Which file or field.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not belong together.
    #[error("the private key does not belong to the certificate of {id}")]
    KeyMismatch {
        /// The certificate's ID.
        id: String,
    },
    /// No identity has arrived yet, or none is configured.
    #[error("this workload has no identity: {0}")]
    Missing(String),
    /// The certificate has expired and no new one could be had.
    #[error("the certificate of {id} expired {ago} s ago and could not be renewed")]
    Expired {
        /// The certificate's ID.
        id: String,
        /// Seconds since then.
        ago: u64,
    },
    /// rustls refused the configuration.
    #[error("TLS configuration: {0}")]
    Tls(String),
}
