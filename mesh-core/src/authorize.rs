//! May this request be made? ALLOW and DENY rules over peer, method, host, path and port.
// spec: istio security/v1beta1/authorization_policy.proto; order: DENY, then ALLOW

use crate::{
    config::{Resource, ResourceKey},
    identity::SpiffeId,
};
use http::Method;
use std::{net::IpAddr, sync::Arc};

/// What is known of a request when it is judged: the very bytes that the handler will see.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The verified peer.
    pub peer: Option<&'a SpiffeId>,
    /// The address of the direct peer.
    pub source: Option<IpAddr>,
    /// The method.
    pub method: &'a Method,
    /// The host, normalised, without port.
    pub host: &'a str,
    /// The path, normalised, without query.
    pub path: &'a str,
    /// The port of the workload that the request came in on.
    pub port: u16,
}

/// The outcome, with the rule that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let through; `None` if there is no ALLOW policy at all.
    Allowed(Option<ResourceKey>),
    /// Denied by this policy.
    Denied(ResourceKey),
    /// There are ALLOW policies, and none matches.
    NotAllowed,
}

/// The policies of one workload, compiled.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {}

impl Authorizer {
    /// Compiles the policies that select a workload: AuthorizationPolicy objects already filtered by namespace and
    /// selector. A malformed one fails closed: as an ALLOW it matches nothing, as a DENY it denies everything.
    pub fn new<'a>(policies: impl IntoIterator<Item = &'a Arc<Resource>>) -> Self {
        let _ = policies.into_iter().count();
        todo!()
    }

    /// Returns whether `request` may be made.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let _ = request;
        todo!()
    }
}
