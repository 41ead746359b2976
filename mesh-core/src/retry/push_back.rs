//! What an answer says of when to try again.
//!
//! Envoy heeds such headers where it is told to (`rate_limited_retry_back_off`), which Istio never does; gRPC's own
//! clients heed theirs always.
// spec: rfc9110 10.2.3 Retry-After; grpc proposal A6 client retries, pushback

use http::{HeaderMap, HeaderValue};
use std::time::{Duration, UNIX_EPOCH};

/// What the server says of when to try again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PushBack {
    /// Nothing.
    #[default]
    None,
    /// Not before so long.
    After(Duration),
    /// Not at all.
    Never,
}

impl PushBack {
    /// The longest wait that is kept to; who asks for a longer one gets no retry.
    ///
    /// Servers that limit by the minute ask for a minute at most. Who asks for more limits by the hour or is down, and a
    /// call without a timeout, as Istio's are by default, must not hang for as long as a stranger says. Envoy's bound is
    /// 300 s; beyond it Envoy tries again as if it had not been asked.
    // spec: envoy config/route/v3/route_components.proto RetryPolicy.RateLimitedRetryBackOff.max_interval
    pub const LONGEST: Duration = Duration::from_secs(60);

    /// Reads what `headers` say: `grpc-retry-pushback-ms`, else `retry-after`. A date is counted from the answer's own
    /// `date`, so that it does not matter whose clock is right; without one from `now`, the time since the Unix epoch.
    pub fn of_headers(headers: &HeaderMap, now: impl FnOnce() -> Duration) -> Self {
        if let Some(written) = headers.get("grpc-retry-pushback-ms") {
            return of_grpc(written).map_or(Self::Never, Self::After);
        }
        let after = headers.get("retry-after").and_then(|written| {
            seconds(written).or_else(|| {
                let at = date(written)?;
                Some(at.saturating_sub(headers.get("date").and_then(date).unwrap_or_else(now)))
            })
        });
        after.map_or(Self::None, Self::After)
    }
}

/// Reads milliseconds. What is negative, beyond 32 bits or no number at all asks for no retry.
// spec: grpc proposal A6 client retries, pushback: "ASCII encoded signed 32-bit integer with no unnecessary leading zeros"
fn of_grpc(written: &HeaderValue) -> Option<Duration> {
    let text = written.to_str().ok()?;
    let ms: u32 = text.parse().ok().filter(|&ms| ms <= i32::MAX.unsigned_abs())?;
    (ms.to_string() == text).then(|| Duration::from_millis(ms.into()))
}

/// Reads `delay-seconds`; more than 64 bits of them are for ever.
fn seconds(written: &HeaderValue) -> Option<Duration> {
    let text = written.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

/// Reads a date in any of HTTP's three forms, as the time since the Unix epoch.
// spec: rfc9110 5.6.7
fn date(written: &HeaderValue) -> Option<Duration> {
    let date = httpdate::parse_http_date(written.to_str().ok()?.trim()).ok()?;
    date.duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use PushBack::{After, Never, None};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn retry_after_is_seconds_or_a_date_and_nonsense_says_nothing() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (retry_after, expected) in [
            ("0", After(Duration::ZERO)),
            ("3", After(3 * SECOND)),
            (" 120 ", After(120 * SECOND)),
            ("99999999999999999999", After(Duration::from_secs(u64::MAX))),
            ("Sun, 06 Nov 1994 08:49:40 GMT", After(3 * SECOND)),
            ("Sunday, 06-Nov-94 08:49:40 GMT", After(3 * SECOND)),
            ("Sun Nov  6 08:49:40 1994", After(3 * SECOND)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", After(Duration::ZERO)),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("Sun, 06 Nov 1994", None),
        ] {
            assert_eq!(said(&[("retry-after", retry_after), date]), expected, "{retry_after:?}");
        }
        assert_eq!(said(&[date]), None);
    }

    #[test]
    fn a_date_in_an_answer_without_a_date_of_its_own_is_counted_from_now() {
        let at = [("retry-after", "Thu, 01 Jan 1970 00:16:47 GMT")];
        assert_eq!(said(&at), After(7 * SECOND));
    }

    // spec: grpc proposal A6 client retries, pushback
    #[test]
    fn grpc_says_in_milliseconds_when_and_otherwise_never() {
        for (pushback, expected) in [
            ("0", After(Duration::ZERO)),
            ("1500", After(Duration::from_millis(1500))),
            ("2147483647", After(Duration::from_millis(2_147_483_647))),
            ("2147483648", Never),
            ("-1", Never),
            ("+1", Never),
            ("01", Never),
            ("1.5", Never),
            ("", Never),
            ("soon", Never),
        ] {
            let headers = [("grpc-retry-pushback-ms", pushback), ("retry-after", "9")];
            assert_eq!(said(&headers), expected, "{pushback:?}");
        }
    }

    fn said(headers: &[(&'static str, &'static str)]) -> PushBack {
        let headers =
            headers.iter().map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        PushBack::of_headers(&headers.collect(), || 1_000 * SECOND)
    }
}
