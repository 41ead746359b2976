//! Authorities that sign whatever they are asked to, the wrong things too.

use mesh_runtime::identity::{Bundles, Identity, Svid};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm,
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
}

/// A certificate to be: an SVID of [`ID`] with nothing wrong, unless something is changed.
pub(crate) struct Order {
    pub(crate) params: CertificateParams,
    pub(crate) names: Vec<Name>,
    pub(crate) algorithm: &'static SignatureAlgorithm,
}

/// A subject alternative name: tag and content.
pub(crate) type Name = (u8, Vec<u8>);

pub(crate) struct Issued {
    pub(crate) chain: Vec<CertificateDer<'static>>,
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
    Order { params, names: vec![uri(ID)], algorithm: &PKCS_ECDSA_P256_SHA256 }
}

impl Order {
    pub(crate) fn names(mut self, names: impl IntoIterator<Item = Name>) -> Self {
        self.names = names.into_iter().collect();
        self
    }

    pub(crate) fn id(self, text: &str) -> Self {
        self.names([uri(text)])
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
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn intermediate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = authority_params(name, change);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, mut order: Order) -> Issued {
        let key = match order.algorithm {
            rsa if *rsa == rcgen::PKCS_RSA_SHA256 => KeyPair::from_pem(RSA_KEY).unwrap(),
            algorithm => KeyPair::generate_for(algorithm).unwrap(),
        };
        if !order.names.is_empty() {
            let mut names = CustomExtension::from_oid_content(SUBJECT_ALT_NAME, san(&order.names));
            names.set_criticality(true);
            order.params.custom_extensions.push(names);
        }
        let certificate = order.params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Issued { chain: vec![certificate], key }
    }

    pub(crate) fn certify(&self, request: &rcgen::CertificateSigningRequestParams) -> String {
        request.signed_by(&self.issuer).unwrap().pem()
    }

    pub(crate) fn pem(&self) -> String {
        pem(&self.certificate)
    }
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

// ring makes no RSA keys. This one was made for the tests and guards nothing.
const RSA_KEY: &str = include_str!("rsa-test-key.pem");
