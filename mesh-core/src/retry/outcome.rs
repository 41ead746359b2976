//! What became of one attempt, and which condition of a `retryOn` names it.

use super::{Condition, Provenance, RetryOn};
use crate::health;
use http::{HeaderMap, StatusCode};

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The head of an answer came.
    Answer {
        /// Its status.
        status: StatusCode,
        /// Its `grpc-status`, if that stands in the headers; one in the trailers comes too late for a retry.
        grpc: Option<u32>,
        /// Whether it carries `x-envoy-ratelimited`.
        ratelimited: bool,
        /// What it says of retries a hop deeper, if a verified peer says it.
        provenance: Provenance,
    },
    /// No connection: refused, unreachable, handshake failed, or not made in time. Nothing was sent.
    ConnectFailure,
    /// HTTP/2 REFUSED_STREAM, or a stream beyond the last one a GOAWAY names: the server says it did nothing.
    RefusedStream,
    /// The connection or stream ended before an answer.
    Reset {
        /// Whether a byte of the request may have been sent.
        sent: bool,
    },
    /// The peer is gone without a word: it acknowledged nothing for as long as its connection is believed. The request was
    /// sent.
    Vanished,
    /// The answer broke the protocol; the request was sent.
    Protocol,
    /// The per-try timeout passed.
    PerTryTimeout {
        /// Whether a byte of the request may have been sent.
        sent: bool,
    },
    /// The timeout of the whole call passed, or the caller's deadline. Never retried.
    Timeout,
    /// A limit of this process refused the attempt. Never retried, no fault of the endpoint.
    Overflow,
    /// There is nothing to send to, or policy forbids it: the next try would find the same.
    Refused,
    /// The caller's own request body failed.
    Body,
}

impl Outcome {
    /// Reads the head of an answer, from which a [`Provenance`] that nobody verified was stripped.
    pub fn of_head(status: StatusCode, headers: &HeaderMap) -> Self {
        Self::Answer {
            status,
            grpc: grpc_status(headers),
            ratelimited: headers.contains_key("x-envoy-ratelimited"),
            provenance: Provenance::of_headers(headers),
        }
    }

    /// Returns the first condition of `on` that names this outcome, if one does.
    // spec: envoy source/common/router/retry_state_impl.cc wouldRetryFromHeaders, wouldRetryFromReset
    pub fn named_by(&self, on: &RetryOn) -> Option<Condition> {
        use Condition::{
            ConnectFailure, GatewayError, RefusedStream, Reset, ResetBeforeRequest, ServerError,
        };
        let first = |conditions: &[Condition]| conditions.iter().copied().find(|&it| on.has(it));
        match *self {
            Self::Answer { status, grpc, ratelimited, .. } => answer_named_by(on, status, grpc, ratelimited),
            // What ended without an answer is a reset in Envoy's words, and a 5xx and a gateway error too.
            Self::ConnectFailure => {
                first(&[ConnectFailure, Reset, ResetBeforeRequest, ServerError, GatewayError])
            }
            Self::RefusedStream => first(&[RefusedStream, Reset, ServerError, GatewayError]),
            Self::Reset { sent: false } | Self::PerTryTimeout { sent: false } => {
                first(&[ResetBeforeRequest, Reset, ServerError, GatewayError])
            }
            Self::Reset { sent: true }
            | Self::PerTryTimeout { sent: true }
            | Self::Vanished
            | Self::Protocol => first(&[Reset, ServerError, GatewayError]),
            Self::Timeout | Self::Overflow | Self::Refused | Self::Body => None,
        }
    }

    /// Returns whether its cause lies a hop deeper, and was retried there or refused a retry.
    pub const fn is_settled_deeper(&self) -> bool {
        matches!(self, Self::Answer { provenance, .. } if !provenance.is_none())
    }

    /// Returns whether the server may have acted on the request.
    pub const fn may_have_been_executed(&self) -> bool {
        match self {
            Self::Answer { .. } | Self::Vanished | Self::Protocol | Self::Timeout | Self::Body => true,
            Self::Reset { sent } | Self::PerTryTimeout { sent } => *sent,
            Self::ConnectFailure | Self::RefusedStream | Self::Overflow | Self::Refused => false,
        }
    }

    /// Returns whether a retry that ends so helped, and so is free: it was answered, by no failure of the server, whether
    /// HTTP says so or gRPC, and not by being told to slow down.
    pub fn is_help(&self) -> bool {
        matches!(self.verdict(), Some(health::Verdict::Status(status)) if status < 500 && status != 429)
    }

    /// Returns what it says of the endpoint's health; `None` if it says nothing.
    // spec: envoy source/common/router/router.cc updateOutlierDetection, onUpstreamReset, onPerTryTimeoutCommon
    pub fn verdict(&self) -> Option<health::Verdict> {
        Some(match *self {
            Self::Answer { grpc: Some(code), .. } => health::Verdict::Status(http_of_grpc(code)),
            Self::Answer { status, .. } => health::Verdict::Status(status.as_u16()),
            Self::ConnectFailure
            | Self::RefusedStream
            | Self::Reset { .. }
            | Self::Vanished
            | Self::Protocol => health::Verdict::LocalFailure,
            Self::PerTryTimeout { .. } | Self::Timeout => health::Verdict::Timeout,
            Self::Overflow | Self::Refused | Self::Body => return None,
        })
    }
}

fn answer_named_by(
    on: &RetryOn,
    status: StatusCode,
    grpc: Option<u32>,
    ratelimited: bool,
) -> Option<Condition> {
    // Who is told to slow down does not press on, unless the user says so.
    if ratelimited {
        return on.has(Condition::EnvoyRatelimited).then_some(Condition::EnvoyRatelimited);
    }
    let grpc = grpc.and_then(condition_of_grpc);
    [
        (Condition::ServerError, status.is_server_error()),
        (Condition::GatewayError, matches!(status.as_u16(), 502..=504)),
        (Condition::Retriable4xx, status == StatusCode::CONFLICT),
        (Condition::RetriableStatusCodes, on.statuses().contains(&status)),
    ]
    .into_iter()
    .find_map(|(condition, applies)| (applies && on.has(condition)).then_some(condition))
    .or_else(|| grpc.filter(|&condition| on.has(condition)))
}

/// Returns the `grpc-status` among `headers`, if it is a number.
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.trim().parse().ok()
}

fn condition_of_grpc(code: u32) -> Option<Condition> {
    Some(match code {
        1 => Condition::Cancelled,
        4 => Condition::DeadlineExceeded,
        8 => Condition::ResourceExhausted,
        13 => Condition::Internal,
        14 => Condition::Unavailable,
        _ => return None,
    })
}

// spec: envoy source/common/grpc/status.cc grpcToHttpStatus
fn http_of_grpc(code: u32) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Verdict::{LocalFailure, Status, Timeout};
    use Condition::*;

    #[test]
    fn a_retry_that_ends_in_any_failure_of_the_server_did_not_help() {
        let helped = [answer(200), answer(404), answer(409), grpc(0), grpc(5), grpc(1)];
        let futile = [answer(429), answer(500), answer(503), grpc(2), grpc(4), grpc(8), grpc(13), grpc(14)];
        let unanswered = [Outcome::ConnectFailure, Outcome::Reset { sent: true }, Outcome::Timeout];
        assert!(helped.iter().all(Outcome::is_help));
        assert!(!futile.iter().chain(&unanswered).any(Outcome::is_help));
    }

    /// Rows: outcome, every condition that names it, whether it may have been executed, what it says of the endpoint.
    #[test]
    fn every_outcome_is_classified_as_by_envoy() {
        let any_answerless = [Reset, ServerError, GatewayError];
        let unsent = [Reset, ResetBeforeRequest, ServerError, GatewayError];
        let table: &[(Outcome, &[Condition], bool, Option<health::Verdict>)] = &[
            (answer(200), &[], true, Some(Status(200))),
            (answer(404), &[], true, Some(Status(404))),
            (answer(409), &[Retriable4xx], true, Some(Status(409))),
            (answer(418), &[RetriableStatusCodes], true, Some(Status(418))),
            (answer(500), &[ServerError], true, Some(Status(500))),
            (answer(501), &[ServerError], true, Some(Status(501))),
            (answer(502), &[ServerError, GatewayError], true, Some(Status(502))),
            (answer(503), &[ServerError, GatewayError], true, Some(Status(503))),
            (answer(504), &[ServerError, GatewayError], true, Some(Status(504))),
            (answer(505), &[ServerError], true, Some(Status(505))),
            (ratelimited(429), &[EnvoyRatelimited], true, Some(Status(429))),
            (ratelimited(503), &[EnvoyRatelimited], true, Some(Status(503))),
            (grpc(0), &[], true, Some(Status(200))),
            (grpc(1), &[Cancelled], true, Some(Status(499))),
            (grpc(2), &[], true, Some(Status(500))),
            (grpc(4), &[DeadlineExceeded], true, Some(Status(504))),
            (grpc(7), &[], true, Some(Status(403))),
            (grpc(8), &[ResourceExhausted], true, Some(Status(429))),
            (grpc(13), &[Internal], true, Some(Status(500))),
            (grpc(14), &[Unavailable], true, Some(Status(503))),
            (grpc(99), &[], true, Some(Status(500))),
            (
                Outcome::ConnectFailure,
                &[ConnectFailure, Reset, ResetBeforeRequest, ServerError, GatewayError],
                false,
                Some(LocalFailure),
            ),
            (
                Outcome::RefusedStream,
                &[RefusedStream, Reset, ServerError, GatewayError],
                false,
                Some(LocalFailure),
            ),
            (Outcome::Reset { sent: false }, &unsent, false, Some(LocalFailure)),
            (Outcome::Reset { sent: true }, &any_answerless, true, Some(LocalFailure)),
            (Outcome::Vanished, &any_answerless, true, Some(LocalFailure)),
            (Outcome::Protocol, &any_answerless, true, Some(LocalFailure)),
            (Outcome::PerTryTimeout { sent: false }, &unsent, false, Some(Timeout)),
            (Outcome::PerTryTimeout { sent: true }, &any_answerless, true, Some(Timeout)),
            (Outcome::Timeout, &[], true, Some(Timeout)),
            (Outcome::Overflow, &[], false, None),
            (Outcome::Refused, &[], false, None),
            (Outcome::Body, &[], true, None),
        ];
        for (outcome, named_by, executed, verdict) in table {
            for condition in Condition::ALL {
                let on = on(condition);
                let expected = named_by.contains(&condition).then_some(condition);
                assert_eq!(outcome.named_by(&on), expected, "{outcome:?} by {on}");
            }
            assert_eq!(outcome.may_have_been_executed(), *executed, "{outcome:?}");
            assert_eq!(outcome.verdict(), *verdict, "{outcome:?}");
        }
    }

    #[test]
    fn retriable_status_codes_without_codes_names_nothing() {
        let on = RetryOn::parse("retriable-status-codes").unwrap();
        assert!((100..600).all(|status| answer(status).named_by(&on).is_none()));
    }

    #[test]
    fn the_default_list_names_failures_to_connect_and_not_a_503() {
        let on = RetryOn::default();
        assert_eq!(Outcome::ConnectFailure.named_by(&on), Some(ConnectFailure));
        assert_eq!(answer(503).named_by(&on), None);
        assert_eq!(Outcome::Reset { sent: true }.named_by(&on), None);
    }

    #[test]
    fn an_answers_head_is_read_for_grpc_status_and_rate_limits() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", "14".parse().unwrap());
        assert_eq!(Outcome::of_head(StatusCode::OK, &headers), grpc(14));
        headers.insert("grpc-status", "unavailable".parse().unwrap());
        assert_eq!(Outcome::of_head(StatusCode::OK, &headers), answer(200));
        headers.insert("x-envoy-ratelimited", "true".parse().unwrap());
        assert_eq!(Outcome::of_head(StatusCode::TOO_MANY_REQUESTS, &headers), ratelimited(429));
    }

    /// The list with `condition` alone; among status codes, 418 is retriable.
    fn on(condition: Condition) -> RetryOn {
        let word = if condition == RetriableStatusCodes { "418" } else { condition.as_str() };
        RetryOn::parse(word).unwrap()
    }

    fn answer(status: u16) -> Outcome {
        Outcome::Answer {
            status: StatusCode::from_u16(status).unwrap(),
            grpc: None,
            ratelimited: false,
            provenance: Provenance::NONE,
        }
    }

    fn ratelimited(status: u16) -> Outcome {
        Outcome::Answer {
            status: StatusCode::from_u16(status).unwrap(),
            grpc: None,
            ratelimited: true,
            provenance: Provenance::NONE,
        }
    }

    fn grpc(code: u32) -> Outcome {
        Outcome::Answer {
            status: StatusCode::OK,
            grpc: Some(code),
            ratelimited: false,
            provenance: Provenance::NONE,
        }
    }
}
