//! Keys that must be fetched: where they are, and what is known of them. They outlive reloads, beside the snapshots; who
//! fetches them is the shell.
//!
//! ```text
//! unanswered --on_keys--> known --on_keys--> known
//!     \--on_failure--> none --on_keys--> known --on_failure--> known
//! ```

use super::KeySet;
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// Where keys are fetched from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyLocation {
    /// From this URI.
    Uri(Arc<str>),
    /// From where this issuer's discovery document says.
    Issuer(Arc<str>),
}

impl KeyLocation {
    /// Returns the URI to fetch first: of the keys, or of the document that says where they are.
    // spec: openid-connect-discovery 4; istio pilot/pkg/model/jwks_resolver.go
    pub fn uri(&self) -> String {
        match self {
            Self::Uri(uri) => uri.to_string(),
            Self::Issuer(issuer) => {
                let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
                format!("{issuer}/.well-known/openid-configuration")
            }
        }
    }
}

/// Without what may be a secret: a user before the host, and the query.
impl fmt::Display for KeyLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.uri();
        let (scheme, rest) = uri.split_once("://").unwrap_or(("", &uri));
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let mark = if scheme.is_empty() { "" } else { "://" };
        write!(f, "{scheme}{mark}{host}{path}")
    }
}

/// What is known of keys that must be fetched.
#[derive(Debug, Default)]
pub struct FetchedKeys(RwLock<State>);

#[derive(Clone, Debug, Default)]
enum State {
    /// The first fetch has not ended yet.
    #[default]
    Unanswered,
    /// No fetch has ever succeeded. There is no key to fall back to.
    // spec: CVE-2026-31837
    NoKeys,
    Known(Arc<KeySet>),
}

impl FetchedKeys {
    /// Takes keys that were fetched.
    pub fn on_keys(&self, keys: KeySet) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = State::Known(Arc::new(keys));
    }

    /// Takes note of a fetch that failed: the last good keys stay.
    pub fn on_failure(&self) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Unanswered) {
            *state = State::NoKeys;
        }
    }

    /// Returns whether the first fetch has not ended yet.
    pub fn is_unanswered(&self) -> bool {
        matches!(*self.0.read().unwrap_or_else(PoisonError::into_inner), State::Unanswered)
    }

    /// Returns the last good keys.
    pub fn known(&self) -> Option<Arc<KeySet>> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            State::Known(keys) => Some(Arc::clone(keys)),
            State::Unanswered | State::NoKeys => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_takes_no_keys_away_and_makes_none() {
        let keys = FetchedKeys::default();
        assert!(keys.is_unanswered() && keys.known().is_none());
        keys.on_failure();
        assert!(!keys.is_unanswered() && keys.known().is_none());
        keys.on_keys(KeySet::default());
        keys.on_failure();
        assert!(!keys.is_unanswered() && keys.known().is_some());
    }

    #[test]
    fn a_line_about_a_location_shows_no_secret_of_it() {
        for (uri, shown) in [
            ("https://login.example/keys", "https://login.example/keys"),
            ("https://ann:secret@login.example:8443/keys?key=secret", "https://login.example:8443/keys"),
            ("https://login.example?key=secret", "https://login.example"),
            ("https://a@secret@login.example/a@b", "https://login.example/a@b"),
            ("no uri", "no uri"),
        ] {
            assert_eq!(KeyLocation::Uri(uri.into()).to_string(), shown);
        }
    }

    #[test]
    fn an_issuer_is_asked_for_its_discovery_document() {
        for issuer in ["https://login.example/realm", "https://login.example/realm/"] {
            let expected = "https://login.example/realm/.well-known/openid-configuration";
            assert_eq!(KeyLocation::Issuer(issuer.into()).uri(), expected);
        }
    }
}
