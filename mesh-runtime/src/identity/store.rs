//! The identity in force, and the TLS configurations that follow from it: one per generation and rule, built on first
//! use, each with its own session cache, never one per connection.

use super::{Identity, IdentityError};
use arc_swap::ArcSwapOption;
use mesh_core::identity::PeerRule;
use std::{fmt, sync::Arc};
use tokio::sync::watch;

/// The identity in force.
pub struct IdentityStore {
    current: ArcSwapOption<Identity>,
    changed: watch::Sender<u64>,
}

/// The protocols offered to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `h2`, then `http/1.1`.
    #[default]
    Any,
    /// `http/1.1` only.
    Http1,
    /// `h2` only.
    Http2,
}

impl IdentityStore {
    /// Returns a store without an identity.
    pub fn empty() -> Self {
        Self { current: ArcSwapOption::empty(), changed: watch::channel(0).0 }
    }

    /// Returns the identity in force.
    pub fn current(&self) -> Option<Arc<Identity>> {
        self.current.load_full()
    }

    /// Puts `identity` in force for new handshakes; connections that stand are left alone.
    pub fn publish(&self, identity: Identity) {
        self.current.store(Some(Arc::new(identity)));
        self.changed.send_modify(|n| *n += 1);
    }

    /// Returns a receiver that sees every publication.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Returns the configuration for connecting to a peer that satisfies `peers`.
    ///
    /// # Errors
    ///
    /// Returns why there is no usable identity: missing or expired.
    pub fn client_config(
        &self,
        peers: &PeerRule,
        alpn: Alpn,
    ) -> Result<Arc<rustls::ClientConfig>, IdentityError> {
        let _ = (peers, alpn);
        todo!()
    }

    /// Returns the configuration for accepting peers; a peer without a certificate passes the handshake only if
    /// `anonymous` says so (PERMISSIVE), and is then [`mesh_core::identity::Evidence::Anonymous`].
    ///
    /// # Errors
    ///
    /// Returns why there is no usable identity: missing or expired.
    pub fn server_config(&self, anonymous: bool) -> Result<Arc<rustls::ServerConfig>, IdentityError> {
        let _ = anonymous;
        todo!()
    }
}

impl fmt::Debug for IdentityStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityStore").field("current", &*self.current.load()).finish_non_exhaustive()
    }
}
