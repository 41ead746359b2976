//! A certificate authority that signs whatever a test wants signed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    spki: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = params("spiffe://cluster.local", 10 * DAY, 10 * DAY);
        params.subject_alt_names.clear();
        params.distinguished_name.push(DnType::CommonName, format!("test {}", fastrand::u64(..)));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages.clear();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let spki = key.subject_public_key_info();
        Self { certificate, issuer: Issuer::new(params, key), spki }
    }

    /// The pin of a join token.
    pub(crate) fn pin(&self) -> String {
        let mut hex = String::new();
        for byte in mesh_runtime::crypto::sha256(&self.spki) {
            write!(hex, "{byte:02x}").unwrap();
        }
        hex
    }

    pub(crate) fn pem(&self) -> String {
        pem(&self.certificate)
    }

    /// Certifies the key of a certificate request, whatever name it asks for.
    pub(crate) fn certify(&self, csr: &str, id: &str, life: Duration) -> String {
        let key = PublicKey(public_key(csr));
        let leaf = params(id, Duration::from_secs(1), life).signed_by(&key, &self.issuer).unwrap();
        pem(leaf.der()) + &self.pem()
    }

    /// The chain and key of a server.
    pub(crate) fn server(&self, id: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let leaf = params(id, DAY, DAY).signed_by(&key, &self.issuer).unwrap();
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        (chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

fn params(id: &str, before: Duration, after: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (SystemTime::now() - before).into();
    params.not_after = (SystemTime::now() + after).into();
    params
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
}

struct PublicKey(Vec<u8>);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Returns the uncompressed P-256 point in a PKCS#10 request: version, subject, then the key.
fn public_key(csr: &str) -> Vec<u8> {
    let text: String = csr.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(text).unwrap();
    let info = content(content(&der).0).0;
    let (_, after_version) = content(info);
    let (_, after_subject) = content(after_version);
    let (spki, _) = content(after_subject);
    let point = &spki[spki.len() - 65..];
    assert_eq!(point[0], 4);
    point.to_vec()
}

/// Returns the content of the first DER element, and what follows it.
fn content(der: &[u8]) -> (&[u8], &[u8]) {
    let (start, length) = match der[1] {
        short @ ..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(der[2])),
        _ => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
    };
    (&der[start..start + length], &der[start + length..])
}

const DAY: Duration = Duration::from_secs(86_400);
