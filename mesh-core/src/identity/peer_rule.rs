//! Which identities may stand at the other end of a connection. Says nothing of how an identity was proven.

use super::{SpiffeId, TrustDomain};
use std::{fmt, sync::Arc};

/// Who is expected. Its `Display` completes the sentence "the peer is X, expected …".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerRule {
    /// One of these, exactly; nobody, if there are none.
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

impl fmt::Display for PeerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyOf(expected) => {
                let shown = expected.len().min(SHOWN_MAX);
                let more = expected.len() - shown;
                write!(f, "one of {:?}", &expected[..shown])?;
                if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
            Self::TrustDomain(domain) => write!(f, "anybody of the trust domain {domain}"),
            Self::Verified => f.write_str("anybody with a verified SVID"),
        }
    }
}

// What fits in a log line; a service with more accounts than this is rare.
const SHOWN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_admitted_exactly_where_the_rule_says() {
        let id = |text: &str| text.parse::<SpiffeId>().unwrap();
        let any_of = |ids: &[&str]| PeerRule::AnyOf(ids.iter().copied().map(id).collect());
        let domain = |text: &str| PeerRule::TrustDomain(text.parse().unwrap());
        for (rule, peer, admitted) in [
            (any_of(&["spiffe://a/x", "spiffe://a/y"]), "spiffe://a/y", true),
            (any_of(&["spiffe://a/x"]), "spiffe://a/x/y", false),
            (any_of(&["spiffe://a/x"]), "spiffe://a/X", false),
            (any_of(&["spiffe://a/x"]), "spiffe://b/x", false),
            (any_of(&[]), "spiffe://a/x", false),
            (domain("a"), "spiffe://a/x", true),
            (domain("a"), "spiffe://a.b/x", false),
            (domain("a.b"), "spiffe://a/x", false),
            (PeerRule::Verified, "spiffe://b/x", true),
        ] {
            assert_eq!(rule.admits(&id(peer)), admitted, "{peer}, expected {rule}");
        }
    }

    #[test]
    fn a_long_list_is_cut_in_the_message() {
        let ids = (0..20).map(|i| format!("spiffe://a/{i}").parse().unwrap()).collect();
        let text = PeerRule::AnyOf(ids).to_string();
        assert!(text.starts_with("one of [spiffe://a/0, ") && text.ends_with("] and 12 more"), "{text}");
    }
}
