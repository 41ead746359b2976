//! Is this chain an SVID of a peer that may be talked to? Trust domain first, its bundle next, the chain last.
// spec: spiffe standards/X509-SVID.md sections 2 to 5

use super::Bundles;
use mesh_core::identity::SpiffeId;
use rustls_pki_types::{CertificateDer, UnixTime};

/// Why a chain is no SVID that may be talked to. The variant names are metric labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SvidError {
    /// To be refined.
    #[error("{0}")]
    Malformed(String),
}

/// Which side the peer is on; decides the extended key usage asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer calls us.
    Client,
    /// The peer serves us.
    Server,
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
    let _ = (leaf, intermediates, bundles, side, now);
    todo!()
}
