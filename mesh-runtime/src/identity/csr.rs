//! A new key pair and the request to have it certified (PKCS#10). The key stays in this process; only the request leaves.
// spec: RFC 2986 section 4; spiffe standards/X509-SVID.md section 2

use super::{
    IdentityError, Svid,
    der::{tag, value},
    pem,
    svid::{self, unreadable},
};
use crate::crypto::{self, backend};
use backend::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use mesh_core::identity::SpiffeId;
use rustls::{SignatureScheme, sign::SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// A fresh P-256 key pair. Its `Debug` shows nothing of it.
pub struct KeyPair {
    pkcs8: Zeroizing<PrivatePkcs8KeyDer<'static>>,
    signer: Arc<dyn SigningKey>,
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
        let random = backend::rand::SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| IdentityError::Crypto("make a P-256 key pair"))?;
        Self::from_pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()))
    }

    /// Reads what [`KeyPair::to_pem`] wrote.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it, never a byte of it.
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        match pem::private_key(text).map_err(|why| unreadable(svid::KEY, why))? {
            PrivateKeyDer::Pkcs8(pkcs8) => Self::from_pkcs8(pkcs8),
            _ => Err(unreadable(svid::KEY, "it is not PKCS#8 (`-----BEGIN PRIVATE KEY-----`)")),
        }
    }

    fn from_pkcs8(pkcs8: PrivatePkcs8KeyDer<'static>) -> Result<Self, IdentityError> {
        let signer = crypto::provider()
            .key_provider
            .load_private_key(PrivateKeyDer::Pkcs8(pkcs8.clone_key()))
            .map_err(|_| unreadable(svid::KEY, "it is no key that the TLS provider can use"))?;
        Ok(Self { pkcs8: Zeroizing::new(pkcs8), signer })
    }

    /// Returns the PEM of the PKCS#8 private key, for the cache (0600) only.
    pub fn to_pem(&self) -> String {
        pem::encode("PRIVATE KEY", self.pkcs8.secret_pkcs8_der())
    }

    /// Returns a request, signed by this key, for the single URI SAN `id`.
    ///
    /// # Errors
    ///
    /// Returns that the key could not sign.
    pub fn request(&self, id: &SpiffeId) -> Result<CertificateRequest, IdentityError> {
        let spki = self.signer.public_key().ok_or(IdentityError::Crypto("show the public key"))?;
        let asked = value(
            tag::SEQUENCE,
            &[
                &value(tag::INTEGER, &[&[0]]), // version 1
                &value(tag::SEQUENCE, &[]),    // subject: none, the SAN says it all
                &spki,
                &value(tag::context_constructed(0), &[&extension_request(id)]),
            ],
        );
        let signature = self
            .signer
            .choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])
            .and_then(|signer| signer.sign(&asked).ok())
            .ok_or(IdentityError::Crypto("sign a certificate request with ECDSA P-256"))?;
        let algorithm = value(tag::SEQUENCE, &[&value(tag::OID, &[ECDSA_WITH_SHA256])]);
        let signature = value(tag::BIT_STRING, &[&[0], &signature]);
        let der = value(tag::SEQUENCE, &[&asked, &algorithm, &signature]);
        Ok(CertificateRequest { pem: pem::encode("CERTIFICATE REQUEST", &der) })
    }

    /// Returns the SVID of this key and the PEM chain it was certified with.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the chain, or that it is of another key.
    pub fn certified(&self, chain: &str) -> Result<Svid, IdentityError> {
        let chain = pem::certificates(chain).map_err(|why| unreadable(svid::CERTIFICATE, why))?;
        Svid::new(chain, PrivateKeyDer::Pkcs8(self.pkcs8.clone_key()))
    }
}

/// Returns the attribute that asks for the URI SAN, critical because the subject is empty.
// spec: RFC 2985 section 5.4.2, RFC 5280 section 4.2.1.6
fn extension_request(id: &SpiffeId) -> Vec<u8> {
    let names = value(tag::SEQUENCE, &[&value(tag::context(6), &[id.as_str().as_bytes()])]);
    let extension = value(
        tag::SEQUENCE,
        &[
            &value(tag::OID, &[SUBJECT_ALT_NAME]),
            &value(tag::BOOLEAN, &[&[0xff]]),
            &value(tag::OCTET_STRING, &[&names]),
        ],
    );
    let extensions = value(tag::SEQUENCE, &[&extension]);
    value(tag::SEQUENCE, &[&value(tag::OID, &[EXTENSION_REQUEST]), &value(tag::SET, &[&extensions])])
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

// 1.2.840.10045.4.3.2
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

// 1.2.840.113549.1.9.14
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
