//! Asks the policies in force whether a request may be made.
//!
//! The rules are `mesh_core::authorize`'s; this hands them the bytes that the handler will see.

use crate::{normalise, peer::Peer, reply::Reply, step::Step, trusted_hops::FirstCaller};
use http::request::Parts;
use mesh_core::authorize::{Decision, Request};
use mesh_runtime::{
    callers::{Caller, Callers, Seen},
    config::ConfigStore,
};
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
    destination: Option<IpAddr>,
    port: u16,
    sni: Option<Arc<str>>,
    record: Option<Record>,
}

/// Where it is recorded who calls, and who does here.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) callers: Arc<Callers>,
    pub(crate) caller: Arc<Caller>,
}

impl Authorize {
    /// Returns the step for requests that come in on workload port `port` from `source`, the direct peer.
    pub fn new(config: Arc<ConfigStore>, source: Option<SocketAddr>, port: u16) -> Self {
        let source = source.map(|address| address.ip().to_canonical());
        Self { config, source, destination: None, port, sni: None, record: None }
    }

    /// Adds the address that the requests come in on, and the server name that the peer asked for in its handshake.
    ///
    /// A rule about an address that is not known does not allow, and denies.
    #[must_use]
    pub fn reached_at(self, destination: Option<SocketAddr>, sni: Option<Arc<str>>) -> Self {
        Self { destination: destination.map(|address| address.ip().to_canonical()), sni, ..self }
    }

    /// Records what is let through, and what policies on trial would have denied.
    #[must_use]
    pub(crate) fn recording(self, record: Record) -> Self {
        Self { record: Some(record), ..self }
    }

    fn request<'a>(&'a self, head: &'a Parts) -> Request<'a> {
        Request {
            peer: head.extensions.get::<Peer>().map(Peer::id),
            source: self.source,
            // Where no trusted proxy tells of another one, the first caller known is the direct peer.
            remote: head.extensions.get::<FirstCaller>().map_or(self.source, |caller| caller.0),
            destination: self.destination,
            port: self.port,
            sni: self.sni.as_deref(),
            method: &head.method,
            host: normalise::host(head),
            path: head.uri.path(),
            headers: &head.headers,
            // Nobody verifies tokens.
            claims: None,
        }
    }
}

impl Record {
    /// What is denied already is nothing that a policy on trial could break.
    fn on_allowed(&self, request: &Request<'_>, on_trial: Option<&Decision>) {
        let seen = Seen { method: request.method, host: request.host, path: request.path };
        self.caller.on_request(seen);
        if let Some(decision) = on_trial.filter(|decision| !decision.is_allowed()) {
            self.callers.on_denied_on_trial(decision.grounds(), &self.caller, seen);
        }
    }
}

impl Step for Authorize {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        let snapshot = self.config.current();
        let authorizer = &snapshot.inbound().authorizer;
        let request = self.request(head);
        if let Some(grounds) = authorizer.audit(&request) {
            tracing::debug!(%grounds, method = %head.method, path = request.path, "audited");
        }
        let on_trial = authorizer.decide_on_trial(&request);
        if let Some(decision) = &on_trial {
            tracing::debug!(?decision, method = %head.method, path = request.path, "on trial");
        }
        match authorizer.decide(&request) {
            Decision::Allowed(_) => {
                if let Some(record) = &self.record {
                    record.on_allowed(&request, on_trial.as_ref());
                }
                Ok(())
            }
            refused @ (Decision::Denied(_) | Decision::NotAllowed) => {
                tracing::debug!(?refused, method = %head.method, path = request.path, "RBAC: access denied");
                Err(Reply::Denied)
            }
        }
    }
}
