//! Where a request goes: host → virtual host → first matching route → one weighted destination.
//!
//! Everything here is compiled: matchers are built, weights validated, clusters resolved to numbers.

mod fault;
mod headers;
mod host;
mod matcher;
mod rewrite;
mod weighted;

pub use fault::{Abort, AbortAnswer, Chance, Delay, Fault};
pub use headers::{Caller, Cited, CitedValues, HeaderOpError, HeaderOps, authority_of, check_header_value};
pub(crate) use host::Ports;
pub use host::{Authority, HostTable};
pub use matcher::{Condition, Mismatch, RouteMatch};
pub use rewrite::{PathRewrite, Rewrite, Substitution, SubstitutionError};
pub use weighted::{Weighted, WeightsError};

use crate::{authorize::Claims, config::Origin, dice::Dice, retry::RetryPolicy};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::{sync::Arc, time::Duration};

/// What routing reads of a request.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The authority as sent, with any port.
    pub authority: &'a str,
    /// Path and query as sent.
    pub path_and_query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// The number of a cluster within its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u32);

/// The routes of one host and port.
#[derive(Debug)]
pub struct VirtualHost {
    /// `host:port`.
    pub name: Arc<str>,
    /// The routes, in order; the first match wins.
    pub routes: Vec<Route>,
    /// The object the routes come from; `None` where the service itself is the route.
    pub source: Option<Origin>,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// The user's name for it, else `Kind namespace/name#index`.
    pub name: Arc<str>,
    /// The entry it comes from; `None` for a service that is its own route.
    pub source: Option<Origin>,
    /// When it applies.
    pub matches: RouteMatch,
    /// What it does.
    pub action: RouteAction,
    /// `headers.response` of the route.
    pub response_headers: HeaderOps,
}

/// What a route does.
#[derive(Debug)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every route forwards, and a box would be one more way for each call"
)]
pub enum RouteAction {
    /// Sends the request to one of its destinations.
    Forward(Forward),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Answers by itself.
    Direct {
        /// The status.
        status: StatusCode,
        /// The body.
        body: bytes::Bytes,
        /// Faults injected before it is given.
        fault: Option<Fault>,
    },
    /// Lets the request pass to the host that it names, with no policy.
    PassThrough,
}

/// How a route forwards.
#[derive(Debug)]
pub struct Forward {
    /// The destinations with their weights.
    pub destinations: Weighted<Target>,
    /// Whether several destinations are written, even if only one of them has a weight.
    pub several: bool,
    /// Bound of the whole call; `None` is unbounded.
    pub timeout: Option<Duration>,
    /// Retries.
    pub retry: RetryPolicy,
    /// Rewrites of path and authority.
    pub rewrite: Option<Rewrite>,
    /// `headers.request` of the route.
    pub request_headers: HeaderOps,
    /// Faults injected before anything is sent.
    pub fault: Option<Fault>,
    /// Where copies of the request go.
    pub mirrors: Vec<Mirror>,
}

/// A destination that gets copies of requests; what it answers is thrown away.
#[derive(Debug)]
pub struct Mirror {
    /// Where to.
    pub target: Target,
    /// How often.
    pub chance: Chance,
}

/// One destination of a route.
#[derive(Debug)]
pub struct Target {
    /// The host as written.
    pub host: Arc<str>,
    /// The subset as written; empty if none is named.
    pub subset: Arc<str>,
    /// The service port.
    pub port: u16,
    /// Its cluster; `None` if host or subset do not exist: answered with `unknown_status`, flag NC.
    pub cluster: Option<ClusterId>,
    /// The status where there is no such cluster: 503, but 500 for a route of the Gateway API.
    // spec: istio pilot/pkg/networking/core/route/route.go applyHTTPRouteDestination; envoy config.route.v3.RouteAction.cluster_not_found_response_code
    pub unknown_status: StatusCode,
    /// The name the cluster has or would have.
    pub name: Arc<str>,
    /// The authority that requests to it have, unless the route rewrites it.
    pub authority: Option<HeaderValue>,
    /// `headers.request` of the destination.
    pub request_headers: HeaderOps,
    /// `headers.response` of the destination.
    pub response_headers: HeaderOps,
}

/// A redirect, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The status.
    pub status: StatusCode,
    /// Replaces the path, and the query if it has one itself.
    pub uri: Option<String>,
    /// Replaces a part of the path, or the whole; there is no `uri` then.
    pub path: Option<PathRewrite>,
    /// Replaces the authority.
    pub authority: Option<String>,
    /// Replaces the port.
    pub port: Option<u16>,
    /// Replaces the scheme.
    pub scheme: Option<String>,
    /// Faults injected before it is given.
    pub fault: Option<Fault>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// To a destination of a route.
    Forward {
        /// The virtual host.
        host: &'a VirtualHost,
        /// The route.
        route: &'a Route,
        /// How it forwards.
        forward: &'a Forward,
        /// The destination drawn; kept for all retries.
        target: &'a Target,
    },
    /// Answered by the route itself.
    Answer {
        /// The virtual host.
        host: &'a VirtualHost,
        /// The route, whose action is `Redirect` or `Direct`.
        route: &'a Route,
    },
    /// The host is known, and none of its routes matches: 404, flag NR.
    NoRoute {
        /// The virtual host.
        host: &'a VirtualHost,
    },
    /// The host is not known, or known to be outside and no more than that: on to the address it names, with no policy.
    Passthrough,
    /// The host is not known, and policy forbids passing through: 502.
    Blocked,
}

impl Forward {
    /// Returns the header operations of the route and of one destination in the order in which they are applied: with one
    /// destination written the route's come first, so that the destination's win; with several it is the other way round.
    // spec: envoy config.route.v3.RouteConfiguration.most_specific_header_mutations_wins; istio pilot/pkg/networking/core/route/route.go
    pub fn in_order<'a>(&self, route: &'a HeaderOps, target: &'a HeaderOps) -> [&'a HeaderOps; 2] {
        if self.several { [target, route] } else { [route, target] }
    }
}

impl Route {
    /// Returns the faults that it injects before it does anything else.
    pub fn fault(&self) -> Option<&Fault> {
        match &self.action {
            RouteAction::Forward(Forward { fault, .. })
            | RouteAction::Redirect(Redirect { fault, .. })
            | RouteAction::Direct { fault, .. } => fault.as_ref(),
            RouteAction::PassThrough => None,
        }
    }
}

impl VirtualHost {
    /// Returns where this host's routes send `head`: the first route that matches, and one of its destinations.
    pub fn decide<'a>(&'a self, head: &Head<'_>, dice: &mut impl Dice) -> Decision<'a> {
        self.decide_for(head, &Claims::default(), dice)
    }

    /// Returns likewise where they send `head` of a request whose verified token says `claims`.
    pub fn decide_for<'a>(&'a self, head: &Head<'_>, claims: &Claims, dice: &mut impl Dice) -> Decision<'a> {
        match self.routes.iter().find(|route| route.matches.matches_for(head, claims)) {
            None => Decision::NoRoute { host: self },
            Some(route) => match &route.action {
                RouteAction::Forward(forward) => {
                    let target = forward.destinations.draw(dice);
                    Decision::Forward { host: self, route, forward, target }
                }
                RouteAction::Redirect(_) | RouteAction::Direct { .. } => {
                    Decision::Answer { host: self, route }
                }
                RouteAction::PassThrough => Decision::Passthrough,
            },
        }
    }
}
