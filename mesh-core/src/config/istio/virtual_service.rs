//! VirtualService: hosts, and per host the ordered HTTP routes.
// spec: istio networking/v1alpha3/virtual_service.proto

mod read;

use super::common::{Destination, Headers, StringMatch};
use crate::config::resource::{At, Mark};
use std::{collections::BTreeMap, time::Duration};

/// `spec` of a VirtualService.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VirtualService {
    /// The hosts it routes, as written; at least one.
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
    /// `route`: weighted destinations. Empty exactly if `redirect` or `direct_response` is set.
    pub route: Vec<RouteDestination>,
    /// `redirect`.
    pub redirect: Option<Redirect>,
    /// `directResponse`.
    pub direct_response: Option<DirectResponse>,
    /// `rewrite`.
    pub rewrite: Option<Rewrite>,
    /// `timeout`; `None` or zero disables it.
    pub timeout: Option<At<Duration>>,
    /// `retries`; `None` means the mesh's default policy.
    pub retries: Option<HttpRetry>,
    /// `headers` of the route.
    pub headers: Headers,
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
    /// `retryIgnorePreviousHosts`; `None` means true.
    pub ignore_previous_hosts: Option<bool>,
}

/// `redirect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// Replaces the whole path.
    pub uri: Option<String>,
    /// Replaces the authority.
    pub authority: Option<String>,
    /// Replaces the port.
    pub port: Option<u16>,
    /// Replaces the scheme.
    pub scheme: Option<String>,
    /// 301, 302, 303, 307 or 308.
    pub code: u16,
}

/// `directResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectResponse {
    /// 100 to 599.
    pub status: u16,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

/// `rewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Replaces the matched prefix, or the whole path after an exact or regex match.
    pub uri: Option<String>,
    /// Replaces the authority.
    pub authority: Option<String>,
}
