//! A certificate request: whose public key it is, and which identity it claims. Everything else in it is ignored, for
//! what a certificate says is the authority's to decide.
// spec: rfc2986 section 4, rfc2985 section 5.4.2 (extensionRequest), rfc5280 section 4.2.1.6 (subjectAltName)

use crate::der::{self, Der, DerError};
use rustls_pki_types::{CertificateSigningRequestDer, SignatureVerificationAlgorithm, pem::PemObject};
use std::fmt;

/// A request whose signature proved that its sender holds the key.
#[derive(Debug)]
pub(crate) struct Csr {
    /// The key to certify.
    pub(crate) key: RequestedKey,
    /// Every URI among the names it asks for.
    pub(crate) uris: Vec<String>,
}

/// A public key from a request, in the form the certificate takes.
pub(crate) struct RequestedKey {
    bits: Vec<u8>,
    algorithm: &'static rcgen::SignatureAlgorithm,
}

/// Why a request is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CsrError {
    #[error("no PEM block `CERTIFICATE REQUEST`: {0}")]
    Pem(String),
    #[error("not a PKCS#10 request: {0}")]
    Der(#[from] DerError),
    #[error("not a PKCS#10 request: version {0:02x?} instead of 0")]
    Version(Vec<u8>),
    #[error(
        "its key or signature is of a kind that is not taken; use ECDSA P-256, P-384, Ed25519 or RSA with SHA-256"
    )]
    Algorithm,
    #[error("its signature was not made by the key in it")]
    Signature,
    #[error("a URI among its names is not ASCII")]
    Uri,
}

impl Csr {
    /// Reads the PEM of a request and checks its signature.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, CsrError> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| CsrError::Pem(error.to_string()))?;
        Self::from_der(&der)
    }

    /// Reads the DER of a request and checks its signature.
    pub(crate) fn from_der(bytes: &[u8]) -> Result<Self, CsrError> {
        let mut outer = Der::new(bytes);
        let mut request = outer.open(der::SEQUENCE, "the request")?;
        outer.end("the request")?;
        let info = request.read_whole(der::SEQUENCE, "the request's info")?;
        let signature_algorithm = request.read(der::SEQUENCE, "the signature algorithm")?;
        let signature = bit_string(&mut request, "the signature")?;
        request.end("the signature")?;

        let Info { key_algorithm, key_bits, uris } = Info::read(info.content)?;
        let (verifier, algorithm) = ALGORITHMS
            .into_iter()
            .find(|(verifier, _)| {
                verifier.public_key_alg_id().as_ref() == key_algorithm
                    && verifier.signature_alg_id().as_ref() == signature_algorithm
            })
            .ok_or(CsrError::Algorithm)?;
        verifier.verify_signature(key_bits, info.whole, signature).map_err(|_| CsrError::Signature)?;
        Ok(Self { key: RequestedKey { bits: key_bits.to_owned(), algorithm }, uris })
    }
}

/// What of a request is signed, as far as it is looked at.
struct Info<'a> {
    key_algorithm: &'a [u8],
    key_bits: &'a [u8],
    uris: Vec<String>,
}

impl<'a> Info<'a> {
    fn read(content: &'a [u8]) -> Result<Self, CsrError> {
        let mut body = Der::new(content);
        let version = body.read(der::INTEGER, "the version")?;
        if version != [0] {
            return Err(CsrError::Version(version.iter().copied().take(8).collect()));
        }
        body.read(der::SEQUENCE, "the subject")?;
        let mut key = body.open(der::SEQUENCE, "the public key")?;
        let key_algorithm = key.read(der::SEQUENCE, "the key's algorithm")?;
        let key_bits = bit_string(&mut key, "the key's bits")?;
        key.end("the public key")?;
        Ok(Self { key_algorithm, key_bits, uris: requested_uris(body)? })
    }
}

impl rcgen::PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

impl fmt::Debug for RequestedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestedKey").field(&self.algorithm).finish()
    }
}

/// Reads a bit string of whole bytes.
fn bit_string<'a>(der: &mut Der<'a>, what: &'static str) -> Result<&'a [u8], DerError> {
    match der.read(der::BIT_STRING, what)? {
        [0, bytes @ ..] => Ok(bytes),
        _ => Err(DerError::Truncated(what)),
    }
}

/// Reads the URIs from the attributes that end a request's info. There may be none.
fn requested_uris(mut body: Der<'_>) -> Result<Vec<String>, CsrError> {
    let mut uris = Vec::new();
    if body.is_empty() {
        return Ok(uris);
    }
    let mut attributes = body.open(ATTRIBUTES, "the attributes")?;
    body.end("the attributes")?;
    while !attributes.is_empty() {
        let mut attribute = attributes.open(der::SEQUENCE, "an attribute")?;
        let oid = attribute.read(der::OID, "an attribute's type")?;
        let mut values = attribute.open(der::SET, "an attribute's values")?;
        attribute.end("an attribute")?;
        while oid == EXTENSION_REQUEST && !values.is_empty() {
            names_of_extensions(values.open(der::SEQUENCE, "the extensions")?, &mut uris)?;
        }
    }
    Ok(uris)
}

fn names_of_extensions(mut extensions: Der<'_>, uris: &mut Vec<String>) -> Result<(), CsrError> {
    while !extensions.is_empty() {
        let mut extension = extensions.open(der::SEQUENCE, "an extension")?;
        let oid = extension.read(der::OID, "an extension's type")?;
        if extension.peek() == Some(der::BOOLEAN) {
            extension.read(der::BOOLEAN, "an extension's critical flag")?;
        }
        let mut value = extension.open(der::OCTET_STRING, "an extension's value")?;
        extension.end("an extension")?;
        if oid == SUBJECT_ALT_NAME {
            let mut names = value.open(der::SEQUENCE, "the alternative names")?;
            value.end("the alternative names")?;
            while !names.is_empty() {
                let name = names.any("an alternative name")?;
                if name.tag == URI {
                    uris.push(ascii(name.content)?);
                }
            }
        }
    }
    Ok(())
}

fn ascii(bytes: &[u8]) -> Result<String, CsrError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Ok(text.to_owned()),
        _ => Err(CsrError::Uri),
    }
}

/// What may be certified: how its signature is checked, and how its key is written.
const ALGORITHMS: [(&dyn SignatureVerificationAlgorithm, &rcgen::SignatureAlgorithm); 4] = [
    (webpki::ring::ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256),
    (webpki::ring::ECDSA_P384_SHA384, &rcgen::PKCS_ECDSA_P384_SHA384),
    (webpki::ring::ED25519, &rcgen::PKCS_ED25519),
    (webpki::ring::RSA_PKCS1_2048_8192_SHA256, &rcgen::PKCS_RSA_SHA256),
];

/// `[0]`, constructed.
const ATTRIBUTES: u8 = 0xa0;
/// `uniformResourceIdentifier [6]`, primitive.
const URI: u8 = 0x86;
/// 1.2.840.113549.1.9.14
const EXTENSION_REQUEST: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// 2.5.29.17
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData, SanType};

    #[test]
    fn the_key_and_every_uri_of_a_request_are_read_and_nothing_else() {
        for algorithm in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let csr = Csr::from_pem(&pem(&key, &["spiffe://a/b", "https://c"])).unwrap();
            assert_eq!(csr.uris, ["spiffe://a/b", "https://c"]);
            assert_eq!(csr.key.subject_public_key_info(), key.subject_public_key_info());
        }
    }

    #[test]
    fn a_request_without_names_is_read() {
        assert_eq!(Csr::from_pem(&pem(&KeyPair::generate().unwrap(), &[])).unwrap().uris, [""; 0]);
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let der = der(&KeyPair::generate().unwrap(), &["spiffe://a/b"]);
        let uri = der.windows(12).position(|bytes| bytes == b"spiffe://a/b").unwrap();
        let mut forged = der.clone();
        forged[uri + 11] = b'c';
        assert_eq!(Csr::from_der(&forged).unwrap_err(), CsrError::Signature);
    }

    #[test]
    fn a_request_is_refused_at_whatever_byte_it_ends() {
        let der = der(&KeyPair::generate().unwrap(), &["spiffe://a/b"]);
        for end in 0..der.len() {
            assert!(matches!(Csr::from_der(&der[..end]), Err(CsrError::Der(_))), "{end}");
        }
        assert_eq!(
            Csr::from_der(&[&der[..], &[0]].concat()).unwrap_err(),
            CsrError::Der(DerError::Trailing("the request"))
        );
    }

    #[test]
    fn a_text_that_is_no_pem_is_refused_with_what_was_expected() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let error = Csr::from_pem(text).unwrap_err().to_string();
            assert!(error.contains("CERTIFICATE REQUEST"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_flipped_byte_is_accepted_and_none_panics(at in 0usize..300, flip in 1u8..) {
            let mut der = der(&KeyPair::generate().unwrap(), &["spiffe://a/b"]);
            let at = at % der.len();
            der[at] ^= flip;
            prop_assert!(Csr::from_der(&der).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Csr::from_der(&bytes).is_err());
        }
    }

    fn pem(key: &KeyPair, uris: &[&str]) -> String {
        params(uris).serialize_request(key).unwrap().pem().unwrap()
    }

    fn der(key: &KeyPair, uris: &[&str]) -> Vec<u8> {
        params(uris).serialize_request(key).unwrap().der().to_vec()
    }

    fn params(uris: &[&str]) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params
    }
}
