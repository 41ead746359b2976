//! May this connection be served? A pure function of the mode and what the peer showed; whether an SVID verifies is not
//! asked here.
//!
//! | mode                    | plaintext | TLS, anonymous | SVID |
//! |-------------------------|-----------|----------------|------|
//! | `STRICT`, `UNSET`       | refused   | refused        | yes  |
//! | `PERMISSIVE`, `DISABLE` | yes       | yes            | yes  |
// spec: istio security/v1beta1/peer_authentication.proto MutualTLS.Mode

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

impl Refusal {
    /// Returns the metric label.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Returns the proof that a peer with this `evidence` may be served under `mode`.
///
/// `UNSET` is resolved before anybody asks; should it ever arrive here, it counts as `STRICT`. `DISABLE` takes the
/// demand for TLS away and does not turn a proven peer out: a client that has not yet heard of the policy keeps
/// working, and is known by its name.
///
/// # Errors
///
/// Returns why not.
pub fn admit(mode: MtlsMode, evidence: Evidence) -> Result<Admitted, Refusal> {
    use MtlsMode::{Disable, Permissive, Strict, Unset};
    match (mode, evidence) {
        (_, Evidence::Svid(peer)) => Ok(Admitted { peer: Some(peer) }),
        (Strict | Unset, Evidence::Plaintext) => Err(Refusal::Plaintext),
        (Strict | Unset, Evidence::Anonymous) => Err(Refusal::Anonymous),
        (Permissive | Disable, Evidence::Plaintext | Evidence::Anonymous) => Ok(Admitted { peer: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_served_exactly_where_the_table_says() {
        use Evidence::{Anonymous, Plaintext};
        use MtlsMode::{Disable, Permissive, Strict, Unset};
        for (mode, evidence, expected) in [
            (Strict, Plaintext, Err(Refusal::Plaintext)),
            (Strict, Anonymous, Err(Refusal::Anonymous)),
            (Strict, svid(), Ok(Some(peer()))),
            (Unset, Plaintext, Err(Refusal::Plaintext)),
            (Unset, Anonymous, Err(Refusal::Anonymous)),
            (Unset, svid(), Ok(Some(peer()))),
            (Permissive, Plaintext, Ok(None)),
            (Permissive, Anonymous, Ok(None)),
            (Permissive, svid(), Ok(Some(peer()))),
            (Disable, Plaintext, Ok(None)),
            (Disable, Anonymous, Ok(None)),
            (Disable, svid(), Ok(Some(peer()))),
        ] {
            let case = format!("{mode:?} {evidence:?}");
            assert_eq!(admit(mode, evidence).map(|admitted| admitted.peer().cloned()), expected, "{case}");
        }
    }

    fn peer() -> SpiffeId {
        "spiffe://cluster.local/ns/shop/sa/reviews".parse().unwrap()
    }

    fn svid() -> Evidence {
        Evidence::Svid(peer())
    }
}
