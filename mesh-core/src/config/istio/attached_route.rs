//! HTTPRoute and GRPCRoute of the Gateway API, as far as they are attached to a Service.
//!
//! Both read into one type: to a mesh, a gRPC method is a path.
// spec: gateway-api v1 HTTPRoute, GRPCRoute; GAMMA (gep-1426)

mod filters;
mod matches;
mod read;

use super::{
    common::{Headers, StringMatch},
    virtual_service::HttpRetry,
};
use crate::{
    config::resource::{At, Mark},
    registry::full_host,
};
use http::HeaderName;
use std::{sync::Arc, time::Duration};

/// `spec` of an HTTPRoute or GRPCRoute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttachedRoute {
    /// `parentRefs`: what it is attached to.
    pub parents: Vec<Parent>,
    /// `rules`, in order.
    pub rules: Vec<AttachedRule>,
}

/// One entry of `parentRefs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Where it starts.
    pub at: Mark,
    /// Whether it is a Service; anything else concerns the edge of the mesh, and no call inside it.
    pub is_service: bool,
    /// Its namespace, if it is not that of the route.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The service port to which the route is attached; `None` is every port.
    pub port: Option<u16>,
}

/// One entry of `rules`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttachedRule {
    /// Where it starts.
    pub at: Mark,
    /// `name`.
    pub name: Option<String>,
    /// `matches`: alternatives, at least one.
    pub matches: Vec<AttachedMatch>,
    /// `filters`.
    pub filters: Filters,
    /// `backendRefs`; empty answers 500, unless a filter redirects.
    pub backends: Vec<Backend>,
    /// `timeouts.request`; zero disables it.
    pub timeout: Option<Duration>,
    /// `timeouts.backendRequest`; zero disables it.
    pub backend_timeout: Option<Duration>,
    /// `retry`; `None` means the mesh's default policy.
    pub retry: Option<HttpRetry>,
}

/// One alternative of `matches`: every condition must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttachedMatch {
    /// Where it starts.
    pub at: Mark,
    /// The path; `None` only where a GRPCRoute names no method.
    pub path: Option<PathMatch>,
    /// The method.
    pub method: Option<&'static str>,
    /// Conditions on headers; no name twice.
    pub headers: Vec<(HeaderName, StringMatch)>,
    /// Conditions on query parameters; no name twice.
    pub query_params: Vec<(String, StringMatch)>,
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    /// `PathPrefix`, without the `/` at its end: begins with these segments. Empty is every path.
    Segments(String),
    /// `Exact` or `RegularExpression`.
    Whole(StringMatch),
}

/// `filters` of a rule or a backend. Each kind occurs once, but for mirrors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    /// `RequestHeaderModifier` and `ResponseHeaderModifier`.
    pub headers: Headers,
    /// `RequestRedirect`.
    pub redirect: Option<RouteRedirect>,
    /// `URLRewrite`.
    pub rewrite: Option<RouteRewrite>,
    /// `RequestMirror`.
    pub mirrors: Vec<RouteMirror>,
    /// The type of a filter that is not supported here: what it would have processed is answered with 500.
    pub unsupported: Option<At<&'static str>>,
}

/// `requestRedirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRedirect {
    /// Replaces the scheme; with it, the port becomes the default one of that scheme.
    pub scheme: Option<&'static str>,
    /// Replaces the host.
    pub hostname: Option<String>,
    /// Replaces the path or its matched prefix.
    pub path: Option<PathModifier>,
    /// Replaces the port.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308. Default 302.
    pub code: u16,
}

/// `urlRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteRewrite {
    /// Replaces the authority.
    pub hostname: Option<String>,
    /// Replaces the path or its matched prefix.
    pub path: Option<PathModifier>,
}

/// `path` of a redirect or a rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// `ReplaceFullPath`.
    Full(String),
    /// `ReplacePrefixMatch`, without the `/` at its end. The rule has one match, and its path is segments.
    Prefix(String),
}

/// `requestMirror`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMirror {
    /// Where copies go.
    pub to: BackendRef,
    /// `percent` or `fraction`, as a percentage from 0 to 100. Default 100.
    pub percent: f64,
}

/// One entry of `backendRefs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Where it sends.
    pub to: BackendRef,
    /// `weight`. Default 1.
    pub weight: u32,
    /// `filters` of the backend.
    pub filters: Filters,
}

/// What a backend refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendRef {
    /// Where it starts.
    pub at: Mark,
    /// The kind of object.
    pub kind: BackendKind,
    /// Its namespace, if it is not that of the route.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The service port; a kind that is sent to has one.
    pub port: Option<u16>,
}

/// The kind of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// A Service.
    Service,
    /// Istio's `Hostname`: the host of a ServiceEntry.
    Hostname,
    /// Anything else, which nothing is sent to: `group/kind`.
    Other(String),
}

impl Parent {
    /// Returns the full host of the Service, for a route of `namespace`; `None` if it is no Service.
    pub fn host(&self, namespace: &str, domain: &str) -> Option<Arc<str>> {
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        self.is_service.then(|| full_host(&self.name, namespace, domain))
    }
}

impl BackendRef {
    /// Returns the full host that is sent to, for a route of `namespace`; `None` if nothing is sent to that kind.
    pub fn host(&self, namespace: &str, domain: &str) -> Option<Arc<str>> {
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        match self.kind {
            BackendKind::Service => Some(full_host(&self.name, namespace, domain)),
            BackendKind::Hostname => Some(self.name.to_ascii_lowercase().into()),
            BackendKind::Other(_) => None,
        }
    }
}
