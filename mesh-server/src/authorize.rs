//! Asks the policies in force whether a request may be made, once the token that it brings, if any, is verified.
//!
//! The rules are `mesh_core::authenticate`'s and `mesh_core::authorize`'s; this hands them the bytes that the handler
//! will see, and tells what came of it.

mod record;
mod token;

pub(crate) use record::{Calls, Record};

use crate::{normalise, peer::Peer, reply::Reply, step::Step, trusted_hops::FirstCaller};
use http::request::Parts;
use mesh_core::{
    authorize::{Claims, Request},
    snapshot::Inbound,
};
use mesh_runtime::{config::ConfigStore, crypto::TokenSignatures, identity::WallClock};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The step that answers 401 to a token that is not good, and 403 `RBAC: access denied` to what policy forbids.
///
/// It judges the request as it finds it, so [`crate::Normalise`] stands before it, and [`Peer`] is in the extensions.
/// What a good token says is in the extensions afterwards, as [`Claims`]; the token itself is taken out of the request,
/// unless its rule forwards it.
///
/// As a layer of its own it does not wait for keys: while those of an issuer are fetched for the first time, its tokens
/// are refused. A [`crate::Server`] waits.
#[derive(Clone, Debug)]
pub struct Authorize {
    config: Arc<ConfigStore>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    port: u16,
    sni: Option<Arc<str>>,
    clock: WallClock,
    record: Option<Arc<Record>>,
    calls: Option<Calls>,
}

impl Authorize {
    /// Returns the step for requests that come in on workload port `port` from `source`, the direct peer.
    pub fn new(config: Arc<ConfigStore>, source: Option<SocketAddr>, port: u16) -> Self {
        let source = source.map(|address| address.ip().to_canonical());
        let clock = WallClock::default();
        Self { config, source, destination: None, port, sni: None, clock, record: None, calls: None }
    }

    /// Adds the address that the requests come in on, and the server name that the peer asked for in its handshake.
    ///
    /// A rule about an address that is not known does not allow, and denies.
    #[must_use]
    pub fn reached_at(self, destination: Option<SocketAddr>, sni: Option<Arc<str>>) -> Self {
        Self { destination: destination.map(|address| address.ip().to_canonical()), sni, ..self }
    }

    /// Sets the clock by which tokens are valid. Default the system's.
    #[must_use]
    pub fn clock(self, clock: WallClock) -> Self {
        Self { clock, ..self }
    }

    /// Tells of decisions there.
    pub(crate) fn recorded(self, record: Arc<Record>) -> Self {
        Self { record: Some(record), ..self }
    }

    /// Notes there what is let through, and what policies on trial would have denied.
    pub(crate) fn noted(self, calls: Calls) -> Self {
        Self { calls: Some(calls), ..self }
    }

    /// Verifies the token of a request and takes it out.
    fn authenticate(&self, inbound: &Inbound, head: &mut Parts) -> Result<Claims, Reply> {
        let now_seconds = self.clock.unix().as_secs();
        let judged = inbound.authenticator.judge(head, self.port, &TokenSignatures, now_seconds);
        judged.map_err(|fault| {
            if let Some(record) = &self.record {
                record.on_token_refused(fault, head);
            }
            Reply::BadToken { fault, challenge: token::challenge(head) }
        })
    }

    fn authorize(&self, inbound: &Inbound, head: &Parts, claims: &Claims) -> Result<(), Reply> {
        let authorizer = &inbound.authorizer;
        let request = self.request(head, claims);
        let decision = authorizer.decide(&request);
        let on_trial = authorizer.decide_on_trial(&request);
        if let Some(record) = &self.record {
            record.on_audit(authorizer.audit(&request).as_ref(), &request);
            record.on_trial(on_trial.as_ref(), &request);
            record.on_decision(&decision, &request);
        }
        if !decision.is_allowed() {
            return Err(Reply::Denied);
        }
        if let Some(calls) = &self.calls {
            calls.on_allowed(&request, on_trial.as_ref());
        }
        Ok(())
    }

    fn request<'a>(&'a self, head: &'a Parts, claims: &'a Claims) -> Request<'a> {
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
            claims: Some(claims),
        }
    }
}

impl Step for Authorize {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        let snapshot = self.config.current();
        let inbound = snapshot.inbound();
        let claims = self.authenticate(inbound, head)?;
        self.authorize(inbound, head, &claims)?;
        if !claims.is_empty() {
            head.extensions.insert(claims);
        }
        Ok(())
    }
}
