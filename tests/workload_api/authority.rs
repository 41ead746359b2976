//! The authority of a trust domain, and what its agents answer.

use crate::agent::{Answer, Entry};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

pub(crate) struct Authority {
    pub(crate) root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self { root: root.self_signed(&key).unwrap().der().to_vec(), issuer: Issuer::new(root, key) }
    }

    /// Returns an answer with a new SVID of `account`.
    pub(crate) fn answer(&self, account: &str) -> Answer {
        let id = format!("spiffe://spire.example/ns/default/sa/{account}");
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let chain = leaf.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        let svid =
            Entry { id, chain, key: key.serialize_der(), bundle: self.root.clone(), hint: String::new() };
        Answer { svids: vec![svid], ..Answer::default() }
    }
}
