//! May this connection be served? A pure function of the mode and what the peer showed.

use super::SpiffeId;
use crate::config::istio::MtlsMode;

/// What a connection showed of its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// No TLS.
    Plaintext,
    /// TLS without a client certificate.
    Anonymous,
    /// A verified SVID.
    Svid(SpiffeId),
}

/// Proof that a connection may be served; only [`admit`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    peer: Option<SpiffeId>,
}

impl Admitted {
    /// Returns the verified identity of the peer, if it has one.
    pub fn peer(&self) -> Option<&SpiffeId> {
        self.peer.as_ref()
    }
}

/// Why a connection is not served. The names are metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Plaintext where mutual TLS is required.
    #[error("plaintext, and policy requires mutual TLS")]
    Plaintext,
    /// TLS without a client certificate where one is required.
    #[error("TLS without a client certificate, and policy requires mutual TLS")]
    Anonymous,
}

/// Returns the proof that a peer with this `evidence` may be served under `mode`.
///
/// # Errors
///
/// Returns why not.
pub fn admit(mode: MtlsMode, evidence: Evidence) -> Result<Admitted, Refusal> {
    match (mode, evidence) {
        (_, Evidence::Svid(peer)) => Ok(Admitted { peer: Some(peer) }),
        (MtlsMode::Strict, Evidence::Plaintext) => Err(Refusal::Plaintext),
        (MtlsMode::Strict, Evidence::Anonymous) => Err(Refusal::Anonymous),
        (
            MtlsMode::Permissive | MtlsMode::Disable | MtlsMode::Unset,
            Evidence::Plaintext | Evidence::Anonymous,
        ) => Ok(Admitted { peer: None }),
    }
}
