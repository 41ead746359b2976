//! By when an answer must be complete, and how it travels: `grpc-timeout` and `x-envoy-expected-rq-timeout-ms`.
//!
//! A deadline is a [`Time`]; [`Time::MAX`] is none. What arrives can only shorten it. A value that cannot be read is as
//! good as absent, since the peer that sent it may not be ours to refuse.

use crate::time::Time;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The header of gRPC: up to eight digits and a unit.
// spec: grpc doc/PROTOCOL-HTTP2.md, "Timeout"
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The header of Envoy: milliseconds.
// spec: envoy configuration/http/http_filters/router_filter#x-envoy-expected-rq-timeout-ms
pub const EXPECTED_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// Returns the deadline that `headers` set for a request that arrived at `now`: `grpc-timeout`, else
/// `x-envoy-expected-rq-timeout-ms`, else none.
pub fn of_headers(headers: &HeaderMap, now: Time) -> Time {
    let grpc = || headers.get(GRPC_TIMEOUT).and_then(parse_grpc_timeout);
    let expected = || headers.get(EXPECTED_TIMEOUT_MS).and_then(parse_expected_timeout_ms);
    after(now, grpc().or_else(expected))
}

/// Returns the point `timeout` after `now`; without a timeout, the end of time.
pub fn after(now: Time, timeout: Option<Duration>) -> Time {
    timeout.map_or(Time::MAX, |timeout| now + timeout)
}

/// Returns the earlier of the deadline that came in and the end of the route's timeout: neither can lengthen the other.
pub fn shorten(inbound: Time, now: Time, route_timeout: Option<Duration>) -> Time {
    inbound.min(after(now, route_timeout))
}

/// Returns the time left to tell the next hop: at least 1 ms, since 0 would mean "no timeout" there; `None` if there is
/// no deadline.
pub fn remaining(deadline: Time, now: Time) -> Option<Duration> {
    (deadline != Time::MAX).then(|| now.until(deadline).max(MS))
}

/// Reads the value of `grpc-timeout`: one to eight digits and one of `H M S m u n`.
pub fn parse_grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    let number = parse_digits(digits, 8)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Reads the value of `x-envoy-expected-rq-timeout-ms`; 0 is no timeout, as in Envoy.
pub fn parse_expected_timeout_ms(value: &HeaderValue) -> Option<Duration> {
    // 18 digits are 30 million years, and fit a u64.
    parse_digits(value.as_bytes(), 18).filter(|&ms| ms > 0).map(Duration::from_millis)
}

/// Writes `remaining` for `grpc-timeout`, rounded down to the finest unit from milliseconds that fits eight digits, but
/// never to 0.
// spec: envoy source/common/grpc/common.cc Common::toGrpcTimeout
pub fn grpc_timeout(remaining: Duration) -> HeaderValue {
    let ms = remaining.as_millis().max(1);
    let units = [(1, 'm'), (1_000, 'S'), (60_000, 'M'), (3_600_000, 'H')];
    let fitting = units.into_iter().map(|(size, unit)| (ms / size, unit)).find(|&(n, _)| n <= GRPC_MAX);
    let (number, unit) = fitting.unwrap_or((GRPC_MAX, 'H'));
    HeaderValue::try_from(format!("{number}{unit}")).unwrap_or(HeaderValue::from_static("1m"))
}

/// Writes `remaining` for `x-envoy-expected-rq-timeout-ms`, rounded down, but never to 0.
pub fn expected_timeout_ms(remaining: Duration) -> HeaderValue {
    let mut ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX).max(1);
    // One allocation, of the size it takes; `HeaderValue::from(u64)` makes two, and every request pays for them.
    let mut digits = [0; 20];
    let mut start = digits.len();
    while ms > 0 {
        start -= 1;
        digits[start] = b'0' + (ms % 10) as u8;
        ms /= 10;
    }
    HeaderValue::from_bytes(&digits[start..]).unwrap_or(HeaderValue::from_static("1"))
}

fn parse_digits(digits: &[u8], digits_max: usize) -> Option<u64> {
    if digits.is_empty() || digits.len() > digits_max {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

const MS: Duration = Duration::from_millis(1);
const GRPC_MAX: u128 = 99_999_999;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time::from_nanos(7_000_000_000);

    #[test]
    fn grpc_timeout_is_read_in_every_unit_and_nothing_else() {
        let seconds = Duration::from_secs;
        let table = [
            ("1H", Some(seconds(3_600))),
            ("2M", Some(seconds(120))),
            ("3S", Some(seconds(3))),
            ("4m", Some(4 * MS)),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("0S", Some(Duration::ZERO)),
            ("00000001S", Some(seconds(1))),
            ("99999999H", Some(seconds(359_999_996_400))),
            ("000000001S", None),
            ("100000000n", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("1h", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            (" 1S", None),
            ("1 S", None),
            ("1S ", None),
            ("1SS", None),
            ("0x1S", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_grpc_timeout(&value(text)), expected, "{text:?}");
        }
        assert_eq!(parse_grpc_timeout(&HeaderValue::from_bytes(b"1\xffS").unwrap()), None);
    }

    #[test]
    fn the_expected_timeout_is_whole_milliseconds_and_zero_is_none() {
        let table = [
            ("250", Some(250 * MS)),
            ("0", None),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("1m", None),
            ("999999999999999999", Some(Duration::from_millis(999_999_999_999_999_999))),
            ("99999999999999999999999", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_expected_timeout_ms(&value(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn grpc_timeout_goes_before_the_expected_timeout_unless_it_cannot_be_read() {
        let table = [
            (None, None, Time::MAX),
            (Some("1S"), None, NOW + 1_000 * MS),
            (None, Some("250"), NOW + 250 * MS),
            (Some("1S"), Some("250"), NOW + 1_000 * MS),
            (Some("soon"), Some("250"), NOW + 250 * MS),
            (Some("soon"), Some("later"), Time::MAX),
            (Some("99999999H"), None, Time::MAX),
        ];
        for (grpc, expected, deadline) in table {
            let mut headers = HeaderMap::new();
            grpc.map(|text| headers.insert(GRPC_TIMEOUT, value(text)));
            expected.map(|text| headers.insert(EXPECTED_TIMEOUT_MS, value(text)));
            assert_eq!(of_headers(&headers, NOW), deadline, "{grpc:?} {expected:?}");
        }
    }

    #[test]
    fn the_time_left_is_at_least_a_millisecond_even_if_it_is_over() {
        assert_eq!(remaining(NOW + 5 * MS, NOW), Some(5 * MS));
        assert_eq!(remaining(NOW, NOW), Some(MS));
        assert_eq!(remaining(NOW, NOW + 5 * MS), Some(MS));
        assert_eq!(remaining(Time::MAX, NOW), None);
    }

    #[test]
    fn the_time_left_is_written_in_the_finest_unit_that_fits() {
        let table = [
            (Duration::ZERO, "1m", "1"),
            (Duration::from_nanos(1_999_999), "1m", "1"),
            (Duration::from_secs(3), "3000m", "3000"),
            (Duration::from_millis(99_999_999), "99999999m", "99999999"),
            (Duration::from_millis(100_000_000), "100000S", "100000000"),
            (Duration::from_secs(100_000_000), "1666666M", "100000000000"),
            (Duration::from_secs(6_000_000_000), "1666666H", "6000000000000"),
            (Duration::MAX, "99999999H", "18446744073709551615"),
        ];
        for (remaining, grpc, expected) in table {
            assert_eq!(grpc_timeout(remaining), grpc, "{remaining:?}");
            assert_eq!(expected_timeout_ms(remaining), expected, "{remaining:?}");
        }
    }

    proptest! {
        #[test]
        fn no_timeout_ever_lengthens_a_deadline(
            inbound in any::<u64>(), now in any::<u64>(), route in prop::option::of(any::<Duration>()),
        ) {
            let (inbound, now) = (Time::from_nanos(inbound), Time::from_nanos(now));
            let shortened = shorten(inbound, now, route);
            prop_assert!(shortened <= inbound && shortened <= after(now, route));
            prop_assert!(shortened == inbound || shortened == after(now, route));
        }

        #[test]
        fn what_is_written_reads_back_as_no_more_than_was_left(left in any::<Duration>()) {
            let written = grpc_timeout(left);
            prop_assert!(written.len() <= 9);
            let read = parse_grpc_timeout(&written).unwrap();
            prop_assert!(read <= left.max(MS) && read >= MS, "{left:?} as {written:?}");
        }

        #[test]
        fn no_header_panics_or_reaches_before_now(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            for name in [GRPC_TIMEOUT, EXPECTED_TIMEOUT_MS] {
                let headers = HeaderMap::from_iter([(name, value.clone())]);
                prop_assert!(of_headers(&headers, NOW) >= NOW);
            }
        }
    }

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }
}
