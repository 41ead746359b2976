//! What a server may be told about overload. Nothing is limited unless it says so.

use super::RateLimit;
use std::time::Duration;

/// How a server protects itself.
///
/// ```
/// use mesh_core::overload::{Overload, RateLimit, RequestsMax};
///
/// let mut overload = Overload::default();
/// overload.requests_max = Some(RequestsMax::Fixed(200));
/// overload.rate.server = Some(RateLimit::per_second(1_000)?);
/// overload.rate.prefixes.push(("/reports/".to_owned(), "5/s".parse()?));
/// # Ok::<(), mesh_core::overload::RateLimitError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overload {
    /// Requests whose handler runs, at one time. Default: as many as come.
    pub requests_max: Option<RequestsMax>,
    /// Who may wait when that many run.
    pub queue: QueueLimits,
    /// How often requests may come. Default: as often as they like.
    pub rate: RateLimits,
}

/// How many requests may run at one time. A request runs until the last byte of its answer is out, or it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestsMax {
    /// This many. 0 is a server that answers nobody.
    Fixed(u32),
    /// As many as do not slow each other down, found out by measuring.
    Adaptive(AdaptiveLimit),
}

/// Who may wait for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLimits {
    /// Requests that wait, at one time. Default 1,024, Envoy's own for pending requests: room for a burst. A queue that
    /// does not become empty again gets far less, see [`super::Gate`].
    // spec: envoy api CircuitBreakers.Thresholds.max_pending_requests
    pub waiting_max: u32,
    /// How long a request may wait, whatever its deadline. Default 1 s, linkerd's fail-fast for inbound requests: who
    /// has none waits no longer than a person does.
    // spec: linkerd2-proxy linkerd/app/src/env.rs, inbound dispatch timeout
    pub wait_max: Duration,
}

/// How often requests may come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimits {
    /// All requests whose path no prefix names.
    pub server: Option<RateLimit>,
    /// Requests whose path begins so, each prefix by itself. The longest one counts, and in place of the server's: a
    /// route's own limit does the same in Envoy. A prefix is one of text, as in a VirtualService: `/api` begins `/apis`.
    // spec: envoy configuration/http/http_filters/local_rate_limit_filter, "the most specific per filter config"
    pub prefixes: Vec<(String, RateLimit)>,
    /// Whether gRPC callers are told RESOURCE_EXHAUSTED instead of UNAVAILABLE. Default no, Envoy's.
    // spec: envoy api LocalRateLimit.rate_limited_as_resource_exhausted
    pub as_resource_exhausted: bool,
}

/// Between what a measured limit moves, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdaptiveLimit {
    /// Default 3, Envoy's.
    // spec: envoy api GradientControllerConfig.MinimumRTTCalculationParams.min_concurrency
    pub limit_min: u32,
    /// Default 1,000, Envoy's.
    // spec: envoy api GradientControllerConfig.ConcurrencyLimitCalculationParams.max_concurrency_limit
    pub limit_max: u32,
    /// How often the limit is set anew. Default 100 ms, as in Envoy's documentation.
    // spec: envoy configuration/http/http_filters/adaptive_concurrency_filter, example
    pub window: Duration,
    /// How often the handlers are measured without a crowd, at the most. Default 10 s, as BBR's; Envoy's documentation
    /// shows 60 s, but of a measurement that leaves three requests running where ours leaves half.
    // spec: draft-cardwell-iccrg-bbr-congestion-control-02 4.3.4, ProbeRTT
    pub probe_interval: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { waiting_max: 1_024, wait_max: Duration::from_secs(1) }
    }
}

impl Default for AdaptiveLimit {
    fn default() -> Self {
        Self {
            limit_min: 3,
            limit_max: 1_000,
            window: Duration::from_millis(100),
            probe_interval: Duration::from_secs(10),
        }
    }
}
