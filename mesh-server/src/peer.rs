//! Who sent a request.

use mesh_core::identity::SpiffeId;
use std::{net::SocketAddr, sync::Arc};

/// The verified peer of a request; in its extensions, and an axum extractor (feature `axum`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub(crate) id: Arc<SpiffeId>,
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// Returns the peer's SPIFFE ID.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Returns the address it called from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
