//! Authorities and the SVIDs they sign, as files for both sides.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The trust domain of every SVID here.
pub(crate) const DOMAIN: &str = "cluster.local";

/// An authority that writes into a directory.
pub(crate) struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes an authority; `name` tells its files from those of others in `directory`.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let directory = directory.join(name);
        fs::create_dir(&directory).unwrap();
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::OrganizationName, DOMAIN);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        fs::write(directory.join("roots.pem"), root.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory, issuer: Issuer::new(root, key) }
    }

    /// Returns the file of its own certificate.
    pub(crate) fn roots(&self) -> PathBuf {
        self.directory.join("roots.pem")
    }

    /// Signs for `account` of the namespace `default`.
    pub(crate) fn issue(&self, account: &str) -> Files {
        self.issue_id(&id(account), account)
    }

    /// Signs for `id` as istiod does: no subject, one URI. The files are called `name`.
    pub(crate) fn issue_id(&self, id: &str, name: &str) -> Files {
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now();
        leaf.not_before = (now - Duration::from_secs(60)).into();
        leaf.not_after = (now + Duration::from_secs(3600)).into();
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.directory.join(format!("{name}.{end}"));
        let files = Files { certificate: path("pem"), key: path("key") };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        write_secret(&files.key, &key.serialize_pem());
        files
    }
}

/// Returns the ID of `account` in the namespace `default`.
pub(crate) fn id(account: &str) -> String {
    format!("spiffe://{DOMAIN}/ns/default/sa/{account}")
}

fn write_secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
