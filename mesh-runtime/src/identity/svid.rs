//! An SVID, and the SVID together with the bundles: one generation of identity. Whom the bundles make trustworthy is
//! decided in `verify`.

use super::{Bundles, Leaf, pem, verify};
use crate::crypto;
use mesh_core::identity::SpiffeId;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::{fmt, sync::Arc, time::SystemTime};

/// A workload's certificate chain and key. Its `Debug` shows nothing of the key.
#[derive(Clone)]
pub struct Svid {
    id: SpiffeId,
    certified: Arc<CertifiedKey>,
    leaf: Arc<Leaf>,
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
    /// The provider could not make or use a key.
    #[error("the cryptography provider cannot {0}")]
    Crypto(&'static str),
}

impl Svid {
    /// Reads a PEM chain (leaf first) and a PEM private key (PKCS#8, SEC 1 or PKCS#1), and checks that they belong
    /// together and that a peer could accept the leaf as an SVID. Its validity is not looked at.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with either, never a byte of the key.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, IdentityError> {
        let chain = pem::certificates(chain).map_err(|why| unreadable(CERTIFICATE, why))?;
        let key = pem::private_key(key).map_err(|why| unreadable(KEY, why))?;
        Self::new(chain, key)
    }

    /// As [`Svid::from_pem`], from DER.
    ///
    /// # Errors
    ///
    /// As [`Svid::from_pem`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let leaf = chain.first().ok_or_else(|| unreadable(CERTIFICATE, "the chain is empty"))?;
        let leaf = Leaf::parse(leaf).map_err(|why| unreadable(CERTIFICATE, why))?;
        let id = verify::spiffe_id(&leaf).map_err(|why| unreadable(CERTIFICATE, why))?;
        verify::check_leaf(&id, &leaf).map_err(|why| unreadable(CERTIFICATE, why))?;
        let key = crypto::provider()
            .key_provider
            .load_private_key(key)
            .map_err(|_| unreadable(KEY, "it is no key that the TLS provider can use"))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(Self { id, certified: Arc::new(certified), leaf: Arc::new(leaf) }),
            Err(_) => Err(IdentityError::KeyMismatch { id: id.to_string() }),
        }
    }

    /// Returns the SPIFFE ID.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Returns the serial number in hex.
    pub fn serial(&self) -> &str {
        &self.leaf.serial
    }

    /// Returns from when it is valid.
    pub fn not_before(&self) -> SystemTime {
        self.leaf.not_before
    }

    /// Returns until when it is valid.
    pub fn not_after(&self) -> SystemTime {
        self.leaf.not_after
    }

    /// Returns the chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Returns the PEM of the chain, leaf first. The key is not in it.
    pub fn to_pem(&self) -> String {
        self.chain().iter().map(|certificate| pem::encode("CERTIFICATE", certificate)).collect()
    }

    /// Returns an error if it has expired at `now`.
    ///
    /// # Errors
    ///
    /// Returns [`IdentityError::Expired`].
    pub fn check_expiry(&self, now: SystemTime) -> Result<(), IdentityError> {
        match now.duration_since(self.not_after()) {
            Ok(ago) if !ago.is_zero() => {
                Err(IdentityError::Expired { id: self.id.to_string(), ago: ago.as_secs() })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).field("serial", &self.serial()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Returns whether `other` shows and trusts the same certificates.
    pub fn is_same(&self, other: &Self) -> bool {
        self.svid.chain() == other.svid.chain() && self.bundles == other.bundles
    }
}

pub(super) fn unreadable(what: impl Into<String>, why: impl fmt::Display) -> IdentityError {
    IdentityError::Unreadable { what: what.into(), why: why.to_string() }
}

/// What does not read, in the words of [`IdentityError::Unreadable`].
pub(super) const CERTIFICATE: &str = "certificate";
/// Likewise.
pub(super) const KEY: &str = "private key";
