//! Is this chain an SVID? Its ID first, then the leaf rules, then the bundle of the ID's trust domain and no other, then
//! the chain. Whether this SVID's owner may be talked to is the [`mesh_core::identity::PeerRule`]'s to say.
// spec: spiffe standards/X509-SVID.md sections 2 to 5

use super::{Bundles, Leaf, LeafError, bundles::Bundle};
use crate::crypto;
use mesh_core::identity::{Excerpt, PeerRule, SpiffeId, SpiffeIdError};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::{Duration, SystemTime};
use webpki::{EndEntityCert, VerifiedPath};

/// Which side the peer is on; decides the extended key usage asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer calls us.
    Client,
    /// The peer serves us.
    Server,
}

/// Why a chain is no SVID that may be talked to. [`SvidError::reason`] is the metric label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SvidError {
    /// No certificate was shown where one is needed.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// The leaf does not read.
    #[error("the certificate does not read: {0}")]
    Malformed(#[from] LeafError),
    /// The leaf has no URI SAN.
    #[error("the certificate has no URI SAN, and so no SPIFFE ID")]
    NoUri,
    /// The leaf has more than one URI SAN.
    #[error("the certificate has {0} URI SANs; an SVID has exactly one")]
    SeveralUris(usize),
    /// The URI SAN is no SPIFFE ID.
    #[error("the certificate is no SVID: {0}")]
    NotSpiffe(#[from] SpiffeIdError),
    /// The leaf is an authority's certificate.
    #[error("the certificate of {0} is that of an authority (cA is set), not of a workload")]
    Authority(Excerpt),
    /// The key usage is not that of a workload.
    #[error("the certificate of {id} has the wrong key usage: {why}")]
    KeyUsage {
        /// The ID it claims.
        id: Excerpt,
        /// What is wrong.
        why: &'static str,
    },
    /// The extended key usage does not let it stand on its side of a connection.
    #[error("the extended key usage of the certificate of {id} lacks {missing}")]
    ExtendedKeyUsage {
        /// The ID it claims.
        id: Excerpt,
        /// The purpose that is missing.
        missing: &'static str,
    },
    /// The key is too short to prove anything.
    #[error("the RSA key of {id} has {bits} bits; {RSA_BITS_MIN} at least are believed")]
    WeakKey {
        /// The ID it claims.
        id: Excerpt,
        /// The length of its modulus.
        bits: usize,
    },
    /// The leaf, or an authority above it, is not valid yet.
    #[error("the certificate of {id} is valid in {seconds} s at the earliest; check the clocks")]
    NotYetValid {
        /// The ID it claims.
        id: Excerpt,
        /// Seconds until then.
        seconds: u64,
    },
    /// The leaf has expired.
    #[error("the certificate of {id} expired {seconds} s ago")]
    Expired {
        /// The ID it claims.
        id: Excerpt,
        /// Seconds since then.
        seconds: u64,
    },
    /// There is no bundle for the ID's trust domain.
    #[error("{id} is of a trust domain we have no bundle for; we have {known}")]
    UnknownTrustDomain {
        /// The ID it claims.
        id: Excerpt,
        /// The trust domains with a bundle.
        known: String,
    },
    /// More intermediates than anybody needs.
    #[error("{id} showed {count} intermediate certificates; at most {INTERMEDIATES_MAX} are looked at")]
    ChainTooLong {
        /// The ID it claims.
        id: Excerpt,
        /// How many there are.
        count: usize,
    },
    /// No authority of the ID's trust domain vouches for it.
    #[error("the certificate of {id} leads to no authority in the bundle of its own trust domain: {why}")]
    Untrusted {
        /// The ID it claims.
        id: Excerpt,
        /// What the chain broke on.
        why: String,
    },
    /// It is an SVID, but not of anybody expected here.
    #[error("peer is {id}, expected {expected}")]
    Unexpected {
        /// The verified ID.
        id: SpiffeId,
        /// Who was expected.
        expected: String,
    },
}

impl SvidError {
    /// Returns the metric label: one of a closed list.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Malformed(_) => "malformed",
            Self::NoUri => "no_uri",
            Self::SeveralUris(_) => "several_uris",
            Self::NotSpiffe(_) => "not_spiffe",
            Self::Authority(_) => "authority",
            Self::KeyUsage { .. } => "key_usage",
            Self::ExtendedKeyUsage { .. } => "extended_key_usage",
            Self::WeakKey { .. } => "weak_key",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Expired { .. } => "expired",
            Self::UnknownTrustDomain { .. } => "unknown_trust_domain",
            Self::ChainTooLong { .. } => "chain_too_long",
            Self::Untrusted { .. } => "untrusted",
            Self::Unexpected { .. } => "unexpected",
        }
    }
}

/// Returns the SPIFFE ID of a verified chain.
///
/// # Errors
///
/// Returns which rule it breaks.
pub fn verify_svid(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundles: &Bundles,
    side: Side,
    now: UnixTime,
) -> Result<SpiffeId, SvidError> {
    let facts = Leaf::parse(leaf)?;
    let id = spiffe_id(&facts)?;
    check_leaf(&id, &facts)?;
    check_extended_key_usage(&id, &facts, side)?;
    check_validity(&id, &facts, now)?;
    let bundle = bundles.of(id.trust_domain()).ok_or_else(|| SvidError::UnknownTrustDomain {
        id: excerpt(&id),
        known: format!("{:?}", bundles.trust_domains().take(TRUST_DOMAINS_SHOWN_MAX).collect::<Vec<_>>()),
    })?;
    check_chain(&id, leaf, intermediates, bundle, side, now)?;
    Ok(id)
}

/// Returns an error if `rule` does not admit the owner of a verified SVID.
pub(super) fn check_expected(id: SpiffeId, rule: &PeerRule) -> Result<SpiffeId, SvidError> {
    match rule.admits(&id) {
        true => Ok(id),
        false => Err(SvidError::Unexpected { id, expected: rule.to_string() }),
    }
}

// spec: spiffe standards/X509-SVID.md section 2
pub(super) fn spiffe_id(leaf: &Leaf) -> Result<SpiffeId, SvidError> {
    match &*leaf.uris {
        [uri] => Ok(uri.parse()?),
        [] => Err(SvidError::NoUri),
        several => Err(SvidError::SeveralUris(several.len())),
    }
}

/// Checks what holds of a leaf on either side. A leaf without key usage is refused: the standard demands the extension,
/// and Envoy refuses it too.
// spec: spiffe standards/X509-SVID.md sections 4.1, 4.3, 5.2
pub(super) fn check_leaf(id: &SpiffeId, leaf: &Leaf) -> Result<(), SvidError> {
    if leaf.is_ca {
        return Err(SvidError::Authority(excerpt(id)));
    }
    if let Some(bits) = leaf.rsa_bits.filter(|&bits| bits < RSA_BITS_MIN) {
        return Err(SvidError::WeakKey { id: excerpt(id), bits });
    }
    let why = match leaf.key_usage {
        None => "the extension is missing, and digitalSignature must be set",
        Some(usage) if usage.cert_sign => "keyCertSign is set",
        Some(usage) if usage.crl_sign => "cRLSign is set",
        Some(usage) if !usage.digital_signature => "digitalSignature is not set",
        Some(_) => return Ok(()),
    };
    Err(SvidError::KeyUsage { id: excerpt(id), why })
}

// spec: spiffe standards/X509-SVID.md section 4.4: if the extension is there, it names both sides; we ask for ours
fn check_extended_key_usage(id: &SpiffeId, leaf: &Leaf, side: Side) -> Result<(), SvidError> {
    let missing = match (leaf.extended_key_usage, side) {
        (Some(usage), Side::Client) if !usage.client_auth => "clientAuth",
        (Some(usage), Side::Server) if !usage.server_auth => "serverAuth",
        _ => return Ok(()),
    };
    Err(SvidError::ExtendedKeyUsage { id: excerpt(id), missing })
}

fn check_validity(id: &SpiffeId, leaf: &Leaf, now: UnixTime) -> Result<(), SvidError> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    if let Ok(wait) = leaf.not_before.duration_since(now)
        && !wait.is_zero()
    {
        return Err(SvidError::NotYetValid { id: excerpt(id), seconds: wait.as_secs() });
    }
    match now.duration_since(leaf.not_after) {
        Ok(ago) if !ago.is_zero() => Err(SvidError::Expired { id: excerpt(id), seconds: ago.as_secs() }),
        _ => Ok(()),
    }
}

fn check_chain(
    id: &SpiffeId,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &Bundle,
    side: Side,
    now: UnixTime,
) -> Result<(), SvidError> {
    if intermediates.len() > INTERMEDIATES_MAX {
        return Err(SvidError::ChainTooLong { id: excerpt(id), count: intermediates.len() });
    }
    let untrusted = |why: webpki::Error| SvidError::Untrusted { id: excerpt(id), why: why.to_string() };
    let usage = match side {
        Side::Client => webpki::KeyUsage::client_auth(),
        Side::Server => webpki::KeyUsage::server_auth(),
    };
    let algorithms = crypto::provider().signature_verification_algorithms;
    let leaf = EndEntityCert::try_from(leaf).map_err(untrusted)?;
    leaf.verify_for_usage(
        algorithms.all,
        &bundle.anchors,
        intermediates,
        now,
        usage,
        None,
        Some(&|path| check_authorities(path, bundle, now)),
    )
    .map_err(untrusted)?;
    Ok(())
}

/// Checks what webpki leaves out because it takes a root for a bare key: the root's validity and path length; and the
/// key usage of every authority on the way.
// spec: RFC 5280 sections 4.2.1.3, 4.2.1.9; spiffe standards/X509-SVID.md section 4.3
fn check_authorities(path: &VerifiedPath<'_>, bundle: &Bundle, now: UnixTime) -> Result<(), webpki::Error> {
    let root = bundle.facts(path.anchor()).ok_or(webpki::Error::UnknownIssuer)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    if time < root.not_before {
        return Err(webpki::Error::CertNotValidYet { time: now, not_before: unix(root.not_before) });
    }
    if time > root.not_after {
        return Err(webpki::Error::CertExpired { time: now, not_after: unix(root.not_after) });
    }
    let mut intermediates = 0;
    for intermediate in path.intermediate_certificates() {
        let facts = Leaf::parse(&intermediate.der()).map_err(|_| webpki::Error::BadDer)?;
        if facts.key_usage.is_some_and(|usage| !usage.cert_sign) {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
        intermediates += 1;
    }
    match root.path_len {
        Some(path_len) if intermediates > path_len => Err(webpki::Error::PathLenConstraintViolated),
        _ => Ok(()),
    }
}

fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn excerpt(id: &SpiffeId) -> Excerpt {
    Excerpt::of(id.as_str())
}

// What the TLS providers verify signatures of at least. Without the rule the same peers fail a message later, and the
// reason is that a signature is bad.
// spec: NIST SP 800-131A revision 2, section 3
const RSA_BITS_MIN: usize = 2048;

// What webpki searches at most. A workload's authority is one or two levels below the root.
const INTERMEDIATES_MAX: usize = 6;

// A federation of more is rare, and the message is for a log line.
const TRUST_DOMAINS_SHOWN_MAX: usize = 8;
