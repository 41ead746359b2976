//! Which identities may stand at the other end of a connection.

use super::{SpiffeId, TrustDomain};
use std::sync::Arc;

/// Who is expected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerRule {
    /// One of these, exactly.
    AnyOf(Arc<[SpiffeId]>),
    /// Anybody of this trust domain: no account is known for the endpoint.
    TrustDomain(TrustDomain),
    /// Anybody whose SVID verifies against a bundle we hold.
    Verified,
}

impl PeerRule {
    /// Returns whether `peer` is expected.
    pub fn admits(&self, peer: &SpiffeId) -> bool {
        match self {
            Self::AnyOf(expected) => expected.contains(peer),
            Self::TrustDomain(domain) => peer.trust_domain() == domain.as_str(),
            Self::Verified => true,
        }
    }
}
