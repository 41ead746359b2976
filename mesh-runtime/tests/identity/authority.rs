//! Authorities that sign whatever they are asked to, the wrong things too.

use mesh_runtime::identity::{Bundles, Identity, Svid};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm, SigningKey as _,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

pub(crate) const ID: &str = "spiffe://a/ns/x/sa/y";
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// The issuer's key once more: it does not show its own.
    key: KeyPair,
}

/// A certificate to be: an SVID of [`ID`] with nothing wrong, unless something is changed.
pub(crate) struct Order {
    pub(crate) params: CertificateParams,
    pub(crate) names: Vec<Name>,
    pub(crate) key: Key,
}

/// The key that a certificate is to be for.
pub(crate) enum Key {
    /// A new one.
    New(&'static SignatureAlgorithm),
    /// This one, in PEM: ring makes no RSA keys. They were made for the tests and guard nothing.
    Given(&'static str),
    /// This public key, in PEM, which the provider cannot sign with: what is signed is signed by a key of P-256.
    Foreign(&'static str),
}

/// A subject alternative name: tag and content.
pub(crate) type Name = (u8, Vec<u8>);

pub(crate) struct Issued {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The names it was ordered with.
    pub(crate) names: Vec<Name>,
    key: KeyPair,
}

pub(crate) fn uri(text: &str) -> Name {
    (0x86, text.as_bytes().to_vec())
}

pub(crate) fn dns(text: &str) -> Name {
    (0x82, text.as_bytes().to_vec())
}

pub(crate) fn order() -> Order {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY).into();
    Order { params, names: vec![uri(ID)], key: Key::New(&PKCS_ECDSA_P256_SHA256) }
}

impl Order {
    pub(crate) fn names(mut self, names: impl IntoIterator<Item = Name>) -> Self {
        self.names = names.into_iter().collect();
        self
    }

    pub(crate) fn id(self, text: &str) -> Self {
        self.names([uri(text)])
    }

    pub(crate) fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    pub(crate) fn extension(self, oid: &[u64], content: &[u8]) -> Self {
        self.with(|p| p.custom_extensions.push(CustomExtension::from_oid_content(oid, content.to_vec())))
    }
}

pub(crate) const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];

pub(crate) fn san(names: &[Name]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|(tag, content)| der(*tag, content)).collect();
    der(0x30, &names)
}

pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut der = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    der.extend_from_slice(content);
    der
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::root(name, |_| {})
    }

    pub(crate) fn root(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = authority_params(name, change);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self::of(certificate, params, key)
    }

    pub(crate) fn intermediate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = authority_params(name, change);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self::of(certificate, params, key)
    }

    fn of(certificate: CertificateDer<'static>, params: CertificateParams, key: KeyPair) -> Self {
        let again = KeyPair::from_pem(&key.serialize_pem()).unwrap();
        Self { certificate, issuer: Issuer::new(params, key), key: again }
    }

    pub(crate) fn issue(&self, mut order: Order) -> Issued {
        let key = match order.key {
            Key::New(algorithm) => KeyPair::generate_for(algorithm).unwrap(),
            Key::Given(pem) => KeyPair::from_pem(pem).unwrap(),
            Key::Foreign(_) => KeyPair::generate().unwrap(),
        };
        if !order.names.is_empty() {
            let mut names = CustomExtension::from_oid_content(SUBJECT_ALT_NAME, san(&order.names));
            names.set_criticality(true);
            order.params.custom_extensions.push(names);
        }
        let mut certificate = order.params.signed_by(&key, &self.issuer).unwrap().der().clone();
        if let Key::Foreign(public) = order.key {
            certificate = self.sign_for(&certificate, public);
        }
        Issued { chain: vec![certificate], names: order.names, key }
    }

    /// Returns `certificate` made out to the key `public` instead.
    fn sign_for(&self, certificate: &[u8], public: &str) -> CertificateDer<'static> {
        use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
        let public = SubjectPublicKeyInfoDer::from_pem_slice(public.as_bytes()).unwrap();
        let parts = values(content(certificate));
        let mut tbs: Vec<Vec<u8>> = values(content(&parts[0]));
        tbs[KEY_AT] = public.to_vec();
        let tbs = der(0x30, &tbs.concat());
        let signature = der(0x03, &[&[0][..], &self.key.sign(&tbs).unwrap()].concat());
        der(0x30, &[tbs, parts[1].clone(), signature].concat()).into()
    }

    /// Returns its own certificate, to be shown as if it were a workload's.
    pub(crate) fn shown(&self) -> Issued {
        let key = KeyPair::from_pem(&self.key.serialize_pem()).unwrap();
        Issued { chain: vec![self.certificate.clone()], names: vec![uri(ID)], key }
    }

    pub(crate) fn certify(&self, request: &rcgen::CertificateSigningRequestParams) -> String {
        request.signed_by(&self.issuer).unwrap().pem()
    }

    pub(crate) fn pem(&self) -> String {
        pem(&self.certificate)
    }
}

/// The place of the public key among the fields of a certificate of version 3.
const KEY_AT: usize = 6;

/// Returns the content of the one value in `bytes`.
fn content(bytes: &[u8]) -> &[u8] {
    match bytes[1] {
        short @ 0..=0x7f => &bytes[2..2 + usize::from(short)],
        long => &bytes[2 + usize::from(long & 0x7f)..],
    }
}

/// Returns the values that stand one after the other in `bytes`.
fn values(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let length = match bytes[1] {
            short @ 0..=0x7f => 2 + usize::from(short),
            0x81 => 3 + usize::from(bytes[2]),
            _ => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        };
        let (value, rest) = bytes.split_at(length);
        values.push(value.to_vec());
        bytes = rest;
    }
    values
}

impl Issued {
    pub(crate) fn via(mut self, intermediates: &[&Authority]) -> Self {
        self.chain.extend(intermediates.iter().map(|authority| authority.certificate.clone()));
        self
    }

    pub(crate) fn chain_pem(&self) -> String {
        self.chain.iter().map(pem).collect()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(crate) fn svid(&self) -> Svid {
        Svid::from_pem(&self.chain_pem(), &self.key_pem()).unwrap()
    }

    /// What rustls shows, without the checks of [`Svid`].
    pub(crate) fn certified(&self) -> CertifiedKey {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let key = mesh_runtime::crypto::provider().key_provider.load_private_key(key).unwrap();
        CertifiedKey::new(self.chain.clone(), key)
    }
}

pub(crate) fn identity(svid: Svid, bundles: &[(&str, &Authority)]) -> Identity {
    Identity { svid, bundles: self::bundles(bundles) }
}

pub(crate) fn bundles(bundles: &[(&str, &Authority)]) -> Bundles {
    let pems: Vec<_> = bundles.iter().map(|(domain, authority)| (*domain, authority.pem())).collect();
    Bundles::from_pem(pems.iter().map(|(domain, pem)| (*domain, pem.as_str()))).unwrap()
}

fn authority_params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // Two authorities of one name would be taken for each other while a chain is built.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    params.distinguished_name.push(DnType::CommonName, format!("{name} {number}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    params.not_before = (now - 10 * DAY).into();
    params.not_after = (now + 10 * DAY).into();
    change(&mut params);
    params
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
}
