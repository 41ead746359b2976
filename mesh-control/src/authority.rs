//! The certificate authority: one key, one self-signed root, and certificates that say what a SPIFFE verifier asks for.
//!
//! It certifies whatever it is told to; who may have which identity is decided in `api`, and how one authority follows
//! another in `rotation`.
// spec: spiffe standards/X509-SVID.md sections 2 to 4

use crate::{ControlError, data::DataDir, hex, sha256_hex};
use mesh_core::identity::{SpiffeId, TrustDomain};
use mesh_runtime::identity::Leaf;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use zeroize::Zeroizing;

/// The authority of a trust domain.
pub(crate) struct Authority {
    trust_domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    root_pem: String,
    root_not_after: SystemTime,
    pin: String,
    ttl: Duration,
}

/// A certificate that was just made.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) leaf: CertificateDer<'static>,
    /// Leaf and root: the root is in it so that a workload can compare it with the pin of its token.
    pub(crate) chain_pem: String,
    pub(crate) serial: String,
    pub(crate) not_after: SystemTime,
}

/// Returns the SHA-256 of the public key of the authority in `data`, which is created if it is not there.
pub(crate) fn pin(data: &DataDir) -> Result<String, ControlError> {
    Ok(sha256_hex(&open_key(data, KEY_FILE)?.subject_public_key_info()))
}

/// The names of an authority's files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files {
    pub(crate) key: &'static str,
    pub(crate) root: &'static str,
}

impl Files {
    /// Those of the authority whose key join tokens pin.
    pub(crate) const CURRENT: Self = Self { key: KEY_FILE, root: "ca.crt" };
    /// Those of the one that takes over.
    pub(crate) const NEXT: Self = Self { key: "ca.next.key", root: "ca.next.crt" };
}

/// Returns whether there is an authority in `data`.
pub(crate) fn exists(data: &std::path::Path) -> bool {
    data.join(KEY_FILE).exists()
}

impl Authority {
    /// Opens the authority in `data`, or founds it.
    ///
    /// The root is made from the key: if only the certificate is lost, a new one serves, and every pin stays good.
    pub(crate) fn open(
        data: &DataDir,
        files: Files,
        trust_domain: &TrustDomain,
        ttl: Duration,
    ) -> Result<Self, ControlError> {
        let key = open_key(data, files.key)?;
        let pin = sha256_hex(&key.subject_public_key_info());
        let params = root_params(trust_domain, &pin)?;
        let path = data.path(files.root);
        let refused = |why: String| ControlError::Data(format!("{}: {why}", path.display()));
        let pem = match data.read(files.root)? {
            Some(pem) => pem,
            None => {
                let root = params.self_signed(&key).map_err(|error| refused(error.to_string()))?;
                data.create_secret(files.root, root.pem().as_bytes())?.to_vec()
            }
        };
        let root_pem = String::from_utf8(pem).map_err(|error| refused(error.to_string()))?;
        let (root, root_not_after) = read_root(&root_pem, &key, trust_domain).map_err(refused)?;
        let issuer = Issuer::new(params, key);
        Ok(Self { trust_domain: trust_domain.clone(), issuer, root, root_pem, root_not_after, pin, ttl })
    }

    /// Certifies that `key` belongs to `id`, from now on and for the authority's TTL or what is left of it.
    ///
    /// `also` are names beside the one URI; only the endpoint's own certificate has any.
    pub(crate) fn issue(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        also: &[SanType],
        now: SystemTime,
    ) -> Result<Issued, ControlError> {
        let failed = |error: rcgen::Error| ControlError::Data(format!("certificate of {id}: {error}"));
        let serial = positive(crate::random::<16>()?);
        // Clocks differ by seconds; a life shorter than ten minutes is a test's and keeps its half-life ahead.
        let not_before = now - SKEW.min(self.ttl / 10);
        let not_after = (now + self.ttl).min(self.root_not_after);

        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        set_validity(&mut params, not_before, not_after);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.subject_alt_names = std::iter::once(Ok(SanType::URI(id.as_str().try_into().map_err(failed)?)))
            .chain(also.iter().cloned().map(Ok))
            .collect::<Result<_, ControlError>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;

        let leaf = params.signed_by(key, &self.issuer).map_err(failed)?;
        Ok(Issued {
            chain_pem: format!("{}{}", leaf.pem(), self.root_pem),
            leaf: leaf.der().clone(),
            serial: hex(&serial),
            // As the certificate has it.
            not_after: UNIX_EPOCH + Duration::from_secs(crate::token::unix(not_after)),
        })
    }

    /// Returns the PEM bundles by trust domain.
    pub(crate) fn bundles(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(self.trust_domain.to_string(), self.root_pem.clone())])
    }

    /// Returns the root.
    pub(crate) fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Returns the SHA-256 of its public key, in hex.
    pub(crate) fn pin(&self) -> &str {
        &self.pin
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).field("pin", &self.pin).finish()
    }
}

fn open_key(data: &DataDir, file: &str) -> Result<KeyPair, ControlError> {
    let pem = match data.read_secret(file)? {
        Some(pem) => pem,
        None => {
            let key = KeyPair::generate()
                .map_err(|error| ControlError::Data(format!("making a CA key: {error}")))?;
            data.create_secret(file, Zeroizing::new(key.serialize_pem()).as_bytes())?
        }
    };
    let unreadable = |why: String| {
        ControlError::Data(format!(
            "{}: {why}; put back the key, or delete it: then every token and certificate must be made anew",
            data.path(file).display()
        ))
    };
    let pem = std::str::from_utf8(&pem).map_err(|error| unreadable(error.to_string()))?;
    KeyPair::from_pem(pem).map_err(|error| unreadable(error.to_string()))
}

fn root_params(trust_domain: &TrustDomain, pin: &str) -> Result<CertificateParams, ControlError> {
    let uri = format!("spiffe://{trust_domain}");
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
    // The name tells two roots of one trust domain apart, so that a chain is built to the right one at once.
    params.distinguished_name.push(DnType::CommonName, format!("mesh CA {}", &pin[..16]));
    set_validity(&mut params, now - SKEW, now + ROOT_TTL);
    params.serial_number = Some(SerialNumber::from_slice(&positive(crate::random::<16>()?)));
    params.subject_alt_names = vec![SanType::URI(
        uri.as_str().try_into().map_err(|error: rcgen::Error| ControlError::Invalid(error.to_string()))?,
    )];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Returns the root in `pem` and its end, if it is that of `key` and `trust_domain` and still valid.
fn read_root(
    pem: &str,
    key: &KeyPair,
    trust_domain: &TrustDomain,
) -> Result<(CertificateDer<'static>, SystemTime), String> {
    let unreadable =
        |error: &dyn std::fmt::Display| format!("{error}; delete it: it is made again from {KEY_FILE}");
    let root = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unreadable(&error))?;
    let facts = Leaf::parse(&root).map_err(|error| unreadable(&error))?;
    let certificate = webpki::EndEntityCert::try_from(&root).map_err(|error| unreadable(&error))?;
    if *certificate.subject_public_key_info() != *key.subject_public_key_info() {
        return Err(format!(
            "it does not belong to the key in {KEY_FILE}; put back the key, or delete this file: it is made again from \
             the key"
        ));
    }
    if facts.uris != [format!("spiffe://{trust_domain}")] {
        return Err(format!(
            "it is the root of {:?}, and the trust domain asked for is {trust_domain}; give another --data or \
             --trust-domain",
            facts.uris
        ));
    }
    if facts.not_after <= SystemTime::now() {
        return Err(format!("it has expired; delete it: a new one is made from {KEY_FILE}"));
    }
    Ok((root, facts.not_after))
}

/// Returns random bytes as a serial number: positive, and of full length whatever the dice say.
// spec: rfc5280 section 4.1.2.2
fn positive(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[0] = bytes[0] & 0x7f | 0x40;
    bytes
}

fn set_validity(params: &mut CertificateParams, from: SystemTime, until: SystemTime) {
    let moment = |time| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(crate::token::unix(time));
    params.not_before = moment(from);
    params.not_after = moment(until);
}

const KEY_FILE: &str = "ca.key";
/// How far the clock of a workload may be behind.
pub(crate) const SKEW: Duration = Duration::from_secs(60);
/// Ten years, as Istio's self-signed root.
const ROOT_TTL: Duration = Duration::from_secs(10 * 365 * 86400);

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_runtime::identity::{Bundles, Side, verify_svid};
    use rustls_pki_types::UnixTime;

    #[test]
    fn the_root_may_sign_and_is_the_trust_domain_and_nobody_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Leaf::parse(open(&dir, DAY).unwrap().root()).unwrap();
        let usage = root.key_usage.unwrap();
        assert_eq!((root.is_ca, root.path_len), (true, Some(0)));
        assert_eq!((usage.cert_sign, usage.crl_sign, usage.digital_signature), (true, true, false));
        assert_eq!(root.uris, ["spiffe://td"]);
    }

    #[test]
    fn a_certificate_is_an_svid_that_says_nothing_but_who() {
        let dir = tempfile::tempdir().unwrap();
        let authority = open(&dir, DAY).unwrap();
        let issued = issue(&authority, SystemTime::now());
        let leaf = Leaf::parse(&issued.leaf).unwrap();
        let (usage, extended) = (leaf.key_usage.unwrap(), leaf.extended_key_usage.unwrap());
        assert!(!leaf.is_ca && usage.digital_signature && !usage.cert_sign && !usage.crl_sign);
        assert!(extended.client_auth && extended.server_auth);
        assert_eq!(
            (leaf.uris.as_slice(), leaf.serial.as_str()),
            (&[ID.to_owned()][..], issued.serial.as_str())
        );
        assert_eq!(leaf.not_after, issued.not_after);
        assert_ne!(issued.serial, issue(&authority, SystemTime::now()).serial);
    }

    #[test]
    fn no_certificate_outlives_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let authority = open(&dir, ROOT_TTL * 2).unwrap();
        assert_eq!(issue(&authority, SystemTime::now()).not_after, authority.root_not_after);
    }

    #[test]
    fn a_root_that_is_lost_is_made_again_and_what_it_signed_stays_good() {
        let dir = tempfile::tempdir().unwrap();
        let before = open(&dir, DAY).unwrap();
        let issued = issue(&before, SystemTime::now());
        std::fs::remove_file(dir.path().join(Files::CURRENT.root)).unwrap();
        let after = open(&dir, DAY).unwrap();
        assert_eq!(before.pin(), after.pin());
        assert_ne!(before.root(), after.root());
        let bundles = after.bundles();
        let bundles =
            Bundles::from_pem(bundles.iter().map(|(domain, pem)| (domain.as_str(), pem.as_str()))).unwrap();
        let id = verify_svid(&issued.leaf, &[], &bundles, Side::Server, UnixTime::now()).unwrap();
        assert_eq!(id.as_str(), ID);
    }

    const DAY: Duration = Duration::from_secs(86_400);
    const ID: &str = "spiffe://td/ns/shop/sa/cart";

    fn open(dir: &tempfile::TempDir, ttl: Duration) -> Result<Authority, ControlError> {
        Authority::open(&DataDir::open(dir.path())?, Files::CURRENT, &"td".parse().unwrap(), ttl)
    }

    fn issue(authority: &Authority, now: SystemTime) -> Issued {
        authority.issue(&KeyPair::generate().unwrap(), &ID.parse().unwrap(), &[], now).unwrap()
    }
}
