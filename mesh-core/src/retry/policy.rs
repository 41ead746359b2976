//! Which failures are retried, how often, and how an attempt's outcome is classified.

use super::Backoff;
use http::StatusCode;
use std::time::Duration;

/// One condition of `retryOn`.
// spec: envoy configuration/http/http_filters/router_filter#x-envoy-retry-on, #x-envoy-retry-grpc-on
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Condition {
    /// `5xx`: any 5xx, or no answer at all.
    ServerError = 1 << 0,
    /// `gateway-error`: 502, 503, 504, or no answer at all.
    GatewayError = 1 << 1,
    /// `reset`: the stream ended without an answer.
    Reset = 1 << 2,
    /// `reset-before-request`: the same, before a byte was sent.
    ResetBeforeRequest = 1 << 3,
    /// `connect-failure`.
    ConnectFailure = 1 << 4,
    /// `retriable-4xx`: 409.
    Retriable4xx = 1 << 5,
    /// `refused-stream`: HTTP/2 REFUSED_STREAM.
    RefusedStream = 1 << 6,
    /// `retriable-status-codes`: those listed.
    RetriableStatusCodes = 1 << 7,
    /// `retriable-headers`.
    RetriableHeaders = 1 << 8,
    /// `envoy-ratelimited`.
    EnvoyRatelimited = 1 << 9,
    /// gRPC `cancelled`, in response headers.
    Cancelled = 1 << 10,
    /// gRPC `deadline-exceeded`.
    DeadlineExceeded = 1 << 11,
    /// gRPC `internal`.
    Internal = 1 << 12,
    /// gRPC `resource-exhausted`.
    ResourceExhausted = 1 << 13,
    /// gRPC `unavailable`.
    Unavailable = 1 << 14,
}

/// The conditions of a `retryOn`, with the status codes among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    conditions: u16,
    statuses: Vec<StatusCode>,
}

/// A word of `retryOn` that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not a valid retryOn policy")]
pub struct UnknownCondition {
    /// The word.
    pub word: String,
}

impl RetryOn {
    /// Reads a comma-separated `retryOn`. Integers that are HTTP status codes join `retriable-status-codes`.
    ///
    /// # Errors
    ///
    /// Returns the first word that is no condition.
    pub fn parse(text: &str) -> Result<Self, UnknownCondition> {
        let _ = text;
        todo!()
    }

    /// Returns whether `condition` is in the list.
    pub const fn has(&self, condition: Condition) -> bool {
        self.conditions & condition as u16 != 0
    }

    /// Returns the status codes listed.
    pub fn statuses(&self) -> &[StatusCode] {
        &self.statuses
    }
}

/// Current Istio's default list: `connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes`, the
/// last with no codes.
impl Default for RetryOn {
    fn default() -> Self {
        Self {
            conditions: Condition::ConnectFailure as u16
                | Condition::RefusedStream as u16
                | Condition::Unavailable as u16
                | Condition::Cancelled as u16
                | Condition::RetriableStatusCodes as u16,
            statuses: Vec::new(),
        }
    }
}

/// The retry policy of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first try. Default 2.
    pub retries_max: u32,
    /// Which failures.
    pub on: RetryOn,
    /// Whether the user wrote `retryOn`: only then may something be repeated that may have been executed.
    pub explicit: bool,
    /// Bound of each try, the first included; `None` is unbounded.
    pub per_try_timeout: Option<Duration>,
    /// Waiting between tries.
    pub backoff: Backoff,
    /// Whether hosts already tried are avoided. Default true.
    pub avoid_previous_hosts: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries_max: 2,
            on: RetryOn::default(),
            explicit: false,
            per_try_timeout: None,
            backoff: Backoff::default(),
            avoid_previous_hosts: true,
        }
    }
}
