//! VirtualService: hosts, and per host the ordered HTTP routes.
// spec: istio networking/v1alpha3/virtual_service.proto

mod annotations;
mod answer;
mod cors;
mod fault;
mod lint;
mod matches;
mod reach;
mod read;

use super::common::{Destination, Headers, StringMatch};
use crate::{
    config::resource::{At, Mark, Origin},
    retry::Hedge,
    route::{Chance, Fault, Substitution},
};
use std::{collections::BTreeMap, time::Duration};

/// `spec` of a VirtualService.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VirtualService {
    /// The hosts it routes, as written; none makes it a delegate, which other objects send their routes through.
    pub hosts: Vec<At<String>>,
    /// `gateways`; empty means `[mesh]`.
    pub gateways: Vec<String>,
    /// `exportTo`; empty means `["*"]`.
    pub export_to: Vec<String>,
    /// The routes in order.
    pub http: Vec<HttpRoute>,
}

/// One entry of `http`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRoute {
    /// Where the entry starts.
    pub at: Mark,
    /// `name`.
    pub name: Option<String>,
    /// `match`: alternatives; empty matches everything.
    pub matches: Vec<HttpMatch>,
    /// `route`: weighted destinations. Empty exactly if `redirect`, `direct_response` or `delegate` is set.
    pub route: Vec<RouteDestination>,
    /// `redirect`.
    pub redirect: Option<Redirect>,
    /// `directResponse`.
    pub direct_response: Option<DirectResponse>,
    /// `delegate`: the object whose routes stand in the place of this one.
    pub delegate: Option<Delegate>,
    /// `rewrite`.
    pub rewrite: Option<Rewrite>,
    /// `timeout`; `None` or zero disables it.
    pub timeout: Option<At<Duration>>,
    /// `retries`; `None` means the mesh's default policy.
    pub retries: Option<HttpRetry>,
    /// The annotations `mesh/hedge…` of the object.
    pub hedge: Option<Hedge>,
    /// `fault`.
    pub fault: Option<Fault>,
    /// `mirror`.
    pub mirror: Option<Destination>,
    /// `mirrorPercentage` (and the deprecated `mirrorPercent`); `None` is every request.
    pub mirror_percentage: Option<Chance>,
    /// `mirrors`; empty if `mirror` is set.
    pub mirrors: Vec<HttpMirror>,
    /// `corsPolicy`, which only the edge obeys.
    pub cors: Option<CorsPolicy>,
    /// `headers` of the route.
    pub headers: Headers,
    /// Where the entry was written, if that is a delegate of the object it stands in.
    pub delegated: Option<Delegated>,
}

/// `delegate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    /// Where it starts.
    pub at: Mark,
    /// `name`.
    pub name: String,
    /// `namespace`; `None` is the object's own.
    pub namespace: Option<String>,
}

/// Where a route of a delegate was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegated {
    /// The delegate, and the place of the entry in it.
    pub origin: Origin,
    /// Its index in the delegate's `http`.
    pub index: usize,
}

/// One entry of `mirrors`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpMirror {
    /// Where copies go.
    pub destination: Destination,
    /// `percentage`; `None` is every request.
    pub percentage: Option<Chance>,
}

/// `corsPolicy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CorsPolicy {
    /// `allowOrigins` (and the deprecated `allowOrigin`, which is exact).
    pub allow_origins: Vec<StringMatch>,
    /// `allowMethods`.
    pub allow_methods: Vec<String>,
    /// `allowHeaders`.
    pub allow_headers: Vec<String>,
    /// `exposeHeaders`.
    pub expose_headers: Vec<String>,
    /// `maxAge`, in whole seconds.
    pub max_age: Option<Duration>,
    /// `allowCredentials`.
    pub allow_credentials: Option<bool>,
    /// `unmatchedPreflights: IGNORE`: a preflight of another origin is answered without CORS headers instead of being
    /// sent on.
    pub ignore_unmatched_preflights: bool,
}

/// One alternative of `match`: every condition must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpMatch {
    /// Where it starts.
    pub at: Mark,
    /// `name`.
    pub name: Option<String>,
    /// The path without query.
    pub uri: Option<StringMatch>,
    /// `ignoreUriCase`: for exact and prefix.
    pub ignore_uri_case: bool,
    /// `scheme`.
    pub scheme: Option<StringMatch>,
    /// `method`.
    pub method: Option<StringMatch>,
    /// `authority`, with any port as sent.
    pub authority: Option<StringMatch>,
    /// `headers`: lower-case name and condition.
    pub headers: Vec<(String, StringMatch)>,
    /// `withoutHeaders`.
    pub without_headers: Vec<(String, StringMatch)>,
    /// Keys of `headers` and `withoutHeaders` that name a claim of a token instead.
    pub claims: Vec<ClaimMatch>,
    /// `queryParams`.
    pub query_params: Vec<(String, StringMatch)>,
    /// `port`: the service port of the request.
    pub port: Option<u16>,
    /// `sourceLabels`: a filter on the calling workload, judged when the snapshot is compiled.
    pub source_labels: BTreeMap<String, String>,
    /// `sourceNamespace`: likewise.
    pub source_namespace: Option<String>,
    /// `gateways`: likewise; non-empty must contain `mesh`.
    pub gateways: Vec<String>,
}

/// A condition on a claim, written `@request.auth.claims.group.id` or `@request.auth.claims[group][id]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimMatch {
    /// The names that lead to the claim, outermost first.
    pub claim: Vec<String>,
    /// How it is compared.
    pub pattern: StringMatch,
    /// Whether it must not match: it stood in `withoutHeaders`.
    pub absent: bool,
}

/// One entry of `route`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteDestination {
    /// Where it sends.
    pub destination: Destination,
    /// `weight`, not negative; 0 where it is absent (a single destination ignores it).
    pub weight: At<u32>,
    /// `headers` of the destination.
    pub headers: Headers,
}

/// `retries`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRetry {
    /// `attempts`: retries, not tries; `None` means the default of 2.
    pub attempts: Option<u32>,
    /// `perTryTimeout`.
    pub per_try_timeout: Option<Duration>,
    /// `retryOn`; `None` keeps the default list.
    pub retry_on: Option<crate::retry::RetryOn>,
    /// `backoff`: the base interval.
    pub backoff: Option<Duration>,
    /// `retryIgnorePreviousHosts`; `None` means true, or false for a destination that hashes requests to endpoints.
    pub ignore_previous_hosts: Option<bool>,
    /// `retryRemoteLocalities`.
    pub remote_localities: Option<bool>,
}

/// `redirect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// Replaces the whole path.
    pub uri: Option<String>,
    /// `prefixRewrite`: replaces the matched prefix, or the whole path after an exact or regex match. Excludes `uri`.
    pub prefix_rewrite: Option<String>,
    /// Replaces the authority.
    pub authority: Option<String>,
    /// Replaces the port.
    pub port: Option<u16>,
    /// `derivePort: FROM_REQUEST_PORT`: the port is the one the request was for. Excludes `port`.
    pub request_port: bool,
    /// Replaces the scheme.
    pub scheme: Option<String>,
    /// 301, 302, 303, 307 or 308.
    pub code: u16,
}

/// `directResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

/// `rewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Replaces the matched prefix, or the whole path after an exact or regex match.
    pub uri: Option<String>,
    /// `uriRegexRewrite`: replaces every match in the path. Excludes `uri`.
    pub regex: Option<Substitution>,
    /// Replaces the authority.
    pub authority: Option<String>,
}
