//! A new key pair and the request to have it certified (PKCS#10).

use super::IdentityError;
use mesh_core::identity::SpiffeId;
use std::fmt;

/// A fresh P-256 key pair. Its `Debug` shows nothing of it.
pub struct KeyPair {
    pkcs8: rustls_pki_types::PrivatePkcs8KeyDer<'static>,
}

/// A certificate request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// PEM.
    pub pem: String,
}

impl KeyPair {
    /// Returns a new key pair.
    ///
    /// # Errors
    ///
    /// Returns that the provider could not make one.
    pub fn generate() -> Result<Self, IdentityError> {
        todo!()
    }

    /// Returns the PEM of the PKCS#8 private key, for the cache (0600) only.
    pub fn to_pem(&self) -> String {
        let _ = &self.pkcs8;
        todo!()
    }

    /// Returns a request, signed by this key, for the single URI SAN `id`.
    ///
    /// # Errors
    ///
    /// Returns that the key could not sign.
    pub fn request(&self, id: &SpiffeId) -> Result<CertificateRequest, IdentityError> {
        let _ = id;
        todo!()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(..)")
    }
}
