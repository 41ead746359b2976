//! The words of `retryOn`.

use http::StatusCode;
use std::fmt;

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
    /// `retriable-headers`: accepted; Istio has no field that would name the headers.
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
    /// `http3-post-connect-failure`: accepted without effect, since HTTP/3 is not spoken.
    Http3PostConnectFailure = 1 << 15,
}

impl Condition {
    /// Every condition, in the order in which a list of them is written.
    pub const ALL: [Self; 16] = [
        Self::ServerError,
        Self::GatewayError,
        Self::Reset,
        Self::ResetBeforeRequest,
        Self::ConnectFailure,
        Self::Retriable4xx,
        Self::RefusedStream,
        Self::RetriableStatusCodes,
        Self::RetriableHeaders,
        Self::EnvoyRatelimited,
        Self::Http3PostConnectFailure,
        Self::Cancelled,
        Self::DeadlineExceeded,
        Self::Internal,
        Self::ResourceExhausted,
        Self::Unavailable,
    ];

    /// Returns the word by which `retryOn` names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServerError => "5xx",
            Self::GatewayError => "gateway-error",
            Self::Reset => "reset",
            Self::ResetBeforeRequest => "reset-before-request",
            Self::ConnectFailure => "connect-failure",
            Self::Retriable4xx => "retriable-4xx",
            Self::RefusedStream => "refused-stream",
            Self::RetriableStatusCodes => "retriable-status-codes",
            Self::RetriableHeaders => "retriable-headers",
            Self::EnvoyRatelimited => "envoy-ratelimited",
            Self::Http3PostConnectFailure => "http3-post-connect-failure",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Internal => "internal",
            Self::ResourceExhausted => "resource-exhausted",
            Self::Unavailable => "unavailable",
        }
    }

    /// Returns whether it is a status of gRPC.
    const fn is_grpc(self) -> bool {
        matches!(
            self,
            Self::Cancelled
                | Self::DeadlineExceeded
                | Self::Internal
                | Self::ResourceExhausted
                | Self::Unavailable
        )
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The conditions of a `retryOn`, with the status codes among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    conditions: u16,
    // Boxed, not a list that grows: every route has one of these.
    statuses: Box<[StatusCode]>,
}

/// A word of `retryOn` that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not a valid retryOn policy")]
pub struct UnknownCondition {
    /// The word.
    pub word: String,
}

impl RetryOn {
    /// Reads a comma-separated `retryOn`. Integers that are HTTP status codes join `retriable-status-codes`; an empty
    /// text is the default list, since Istio cannot tell it from an absent one. Spaces around words are ignored.
    ///
    /// # Errors
    ///
    /// Returns the first word that is no condition.
    // spec: istio pkg/config/validation validateHTTPRetry, pilot/pkg/networking/core/route/retry parseRetryOn
    pub fn parse(text: &str) -> Result<Self, UnknownCondition> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (mut on, mut statuses) = (Self::none(), Vec::new());
        for word in text.split(',').map(str::trim) {
            if let Some(condition) = Condition::ALL.into_iter().find(|it| it.as_str() == word) {
                on.conditions |= condition as u16;
            } else if let Some(status) = status(word) {
                on.conditions |= Condition::RetriableStatusCodes as u16;
                statuses.push(status);
            } else {
                return Err(UnknownCondition { word: word.to_owned() });
            }
        }
        Ok(Self { statuses: statuses.into(), ..on })
    }

    /// Returns the list of no condition.
    pub fn none() -> Self {
        Self { conditions: 0, statuses: Box::default() }
    }

    /// Adds the conditions and status codes of `other`.
    pub fn add(&mut self, other: &Self) {
        self.conditions |= other.conditions;
        self.extend(other.statuses.iter().copied());
    }

    /// Adds the words of `text` that are conditions, but those of gRPC; others are passed over, as Envoy does in
    /// `x-envoy-retry-on`.
    // spec: envoy source/common/router/retry_state_impl.cc parseRetryOn
    pub fn add_words(&mut self, text: &str) {
        self.add_named(text, |condition| !condition.is_grpc());
    }

    /// Adds the words of `text` that are conditions of gRPC; others are passed over, as Envoy does in
    /// `x-envoy-retry-grpc-on`.
    // spec: envoy source/common/router/retry_state_impl.cc parseRetryGrpcOn
    pub fn add_grpc_words(&mut self, text: &str) {
        self.add_named(text, Condition::is_grpc);
    }

    fn add_named(&mut self, text: &str, is_meant: fn(Condition) -> bool) {
        let named = |word: &str| Condition::ALL.into_iter().find(|it| it.as_str() == word && is_meant(*it));
        for condition in text.split(',').map(str::trim).filter_map(named) {
            self.conditions |= condition as u16;
        }
    }

    /// Adds the numbers of `text` that are status codes; they count if `retriable-status-codes` is in the list.
    // spec: envoy configuration/http/http_filters/router_filter#x-envoy-retriable-status-codes
    pub fn add_statuses(&mut self, text: &str) {
        self.extend(text.split(',').filter_map(|code| StatusCode::from_bytes(code.trim().as_bytes()).ok()));
    }

    fn extend(&mut self, statuses: impl Iterator<Item = StatusCode>) {
        self.statuses = self.statuses.iter().copied().chain(statuses).collect();
    }

    /// Returns whether `condition` is in the list.
    pub const fn has(&self, condition: Condition) -> bool {
        self.conditions & condition as u16 != 0
    }

    /// Returns the conditions listed, in the order of [`Condition::ALL`].
    pub fn conditions(&self) -> impl Iterator<Item = Condition> + '_ {
        Condition::ALL.into_iter().filter(|&condition| self.has(condition))
    }

    /// Returns the status codes listed.
    pub fn statuses(&self) -> &[StatusCode] {
        &self.statuses
    }
}

/// Current Istio's default list: `connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes`, the
/// last with no codes.
// spec: istio pilot/pkg/networking/core/route/retry/retry.go DefaultPolicy
impl Default for RetryOn {
    fn default() -> Self {
        Self {
            conditions: Condition::ConnectFailure as u16
                | Condition::RefusedStream as u16
                | Condition::Unavailable as u16
                | Condition::Cancelled as u16
                | Condition::RetriableStatusCodes as u16,
            statuses: Box::default(),
        }
    }
}

/// Writes the list as `retryOn` would be written; [`RetryOn::parse`] reads it back.
impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.conditions().map(|condition| condition.as_str().to_owned());
        let codes = self.statuses.iter().map(|status| status.as_str().to_owned());
        f.write_str(&words.chain(codes).collect::<Vec<_>>().join(","))
    }
}

/// Reads an integer that is a known HTTP status code, as Go's `http.StatusText` knows them.
fn status(word: &str) -> Option<StatusCode> {
    let number = word.parse().ok()?;
    StatusCode::from_u16(number).ok().filter(|status| status.canonical_reason().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_retry_on_is_read_as_its_condition_alone() {
        for condition in Condition::ALL {
            let on = RetryOn::parse(condition.as_str()).unwrap();
            assert_eq!(on.conditions().collect::<Vec<_>>(), [condition]);
            assert!(on.statuses().is_empty());
        }
    }

    #[test]
    fn integers_that_are_status_codes_join_retriable_status_codes() {
        let on = RetryOn::parse("connect-failure, 503,429").unwrap();
        assert!(on.has(Condition::ConnectFailure) && on.has(Condition::RetriableStatusCodes));
        assert!(!on.has(Condition::ServerError));
        assert_eq!(on.statuses(), [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS]);
    }

    #[test]
    fn a_word_that_is_no_condition_is_named_in_the_error() {
        for (text, word) in [
            ("5xx,nope", "nope"),
            ("5XX", "5XX"),
            ("599", "599"),
            ("99", "99"),
            ("70000", "70000"),
            ("-503", "-503"),
            ("5xx,", ""),
            (" ", ""),
        ] {
            assert_eq!(RetryOn::parse(text).unwrap_err().word, word, "{text:?}");
        }
        let message = RetryOn::parse("gateway_error").unwrap_err().to_string();
        assert_eq!(message, r#""gateway_error" is not a valid retryOn policy"#);
    }

    #[test]
    fn what_a_request_asks_for_is_added_and_what_is_no_condition_is_passed_over() {
        let mut on = RetryOn::parse("reset").unwrap();
        on.add_words("5xx, nope,cancelled,503");
        on.add_grpc_words("unavailable, nope,gateway-error");
        assert_eq!(on.to_string(), "5xx,reset,unavailable");
        on.add_statuses("429, soon,1000");
        assert_eq!(on.statuses(), [StatusCode::TOO_MANY_REQUESTS]);
        assert!(!on.has(Condition::RetriableStatusCodes));
    }

    #[test]
    fn an_empty_retry_on_is_the_default_list() {
        assert_eq!(RetryOn::parse("").unwrap(), RetryOn::default());
    }

    #[test]
    fn a_list_is_written_as_it_can_be_read_again() {
        for text in ["5xx,gateway-error,reset", "retriable-status-codes,503,504", "cancelled,unavailable"] {
            let on = RetryOn::parse(text).unwrap();
            assert_eq!(on.to_string(), text);
            assert_eq!(RetryOn::parse(&on.to_string()).unwrap(), on);
        }
    }
}
