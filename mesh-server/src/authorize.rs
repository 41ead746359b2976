//! Asks the policies in force whether a request may be made.
//!
//! The rules are `mesh_core::authorize`'s; this hands them the bytes that the handler will see.

use crate::{normalise, peer::Peer, reply::Reply, step::Step};
use http::request::Parts;
use mesh_core::authorize::{Decision, Request};
use mesh_runtime::config::ConfigStore;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The step that answers 403 `RBAC: access denied` to what policy forbids.
///
/// It judges the request as it finds it, so [`crate::Normalise`] stands before it, and [`Peer`] is in the extensions.
#[derive(Clone, Debug)]
pub struct Authorize {
    config: Arc<ConfigStore>,
    source: Option<IpAddr>,
    port: u16,
}

impl Authorize {
    /// Returns the step for requests that come in on workload port `port` from `source`, the direct peer.
    pub fn new(config: Arc<ConfigStore>, source: Option<SocketAddr>, port: u16) -> Self {
        Self { config, source: source.map(|address| address.ip().to_canonical()), port }
    }
}

impl Step for Authorize {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        let snapshot = self.config.current();
        let decision = snapshot.inbound().authorizer.decide(&Request {
            peer: head.extensions.get::<Peer>().map(Peer::id),
            source: self.source,
            method: &head.method,
            host: normalise::host(head),
            path: head.uri.path(),
            port: self.port,
        });
        match decision {
            Decision::Allowed(_) => Ok(()),
            refused @ (Decision::Denied(_) | Decision::NotAllowed) => {
                tracing::debug!(?refused, method = %head.method, path = head.uri.path(), "RBAC: access denied");
                Err(Reply::Denied)
            }
        }
    }
}
