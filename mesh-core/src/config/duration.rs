//! Durations as Go, Kubernetes and protobuf write them: `1h`, `1m30s`, `250ms`, `0.5s`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// It is empty, or a unit has no number before it.
    #[error("`{text}` is not a duration; write a number and a unit, as in `1h`, `1m30s`, `2s` or `250ms`")]
    Malformed {
        /// What was written.
        text: String,
    },
    /// A number has no unit behind it.
    #[error("duration `{text}` has no unit; write `{text}s` for seconds or `{text}ms` for milliseconds")]
    NoUnit {
        /// What was written.
        text: String,
    },
    /// The unit is none of `h`, `m`, `s`, `ms`, `us`, `ns`.
    #[error("duration `{text}` has the unknown unit `{unit}`; the units are h, m, s, ms, us and ns")]
    UnknownUnit {
        /// What was written.
        text: String,
        /// The unit.
        unit: String,
    },
    /// It is less than zero.
    #[error("duration `{text}` is negative; leave the field out to have its default")]
    Negative {
        /// What was written.
        text: String,
    },
    /// It exceeds [`MAX`].
    #[error("duration `{text}` is too long; at most 87600h (10 years) are allowed")]
    TooLong {
        /// What was written.
        text: String,
    },
}

/// The longest duration: ten years. Sums of a few of them with the time of day stay far from any overflow.
pub const MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Reads a duration. `0` alone needs no unit.
///
/// # Errors
///
/// Returns what is wrong with `text` and what to write instead.
///
/// ```
/// # use mesh_core::config::duration::parse;
/// # use std::time::Duration;
/// assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
/// assert!(parse("30").unwrap_err().to_string().contains("`30s`"));
/// ```
// spec: go time.ParseDuration
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let owned = || text.to_owned();
    if text.starts_with('-') {
        return Err(DurationError::Negative { text: owned() });
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Malformed { text: owned() });
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (number, behind) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, behind) = split(behind, |c| !c.is_ascii_digit() && c != '.');
        let amount = decimal(number).ok_or_else(|| DurationError::Malformed { text: owned() })?;
        if unit.is_empty() {
            return Err(DurationError::NoUnit { text: owned() });
        }
        let scale = nanos_of(unit)
            .ok_or_else(|| DurationError::UnknownUnit { text: owned(), unit: unit.to_owned() })?;
        nanos += amount.scaled(scale).ok_or_else(|| DurationError::TooLong { text: owned() })?;
        rest = behind;
    }
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(u64::MAX);
    let duration = Duration::from_secs(seconds) + Duration::from_nanos((nanos % NANOS_PER_SECOND) as u64);
    if duration > MAX { Err(DurationError::TooLong { text: owned() }) } else { Ok(duration) }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// `whole.fraction`, the fraction in units of 10⁻⁹.
struct Decimal {
    whole: u128,
    fraction: u128,
}

fn decimal(text: &str) -> Option<Decimal> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    // Go takes `.5s` and `5.s` too, but not a lone point.
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().unwrap_or(u64::MAX) };
    // Digits beyond the ninth are less than the unit's billionth.
    let fraction = format!("{fraction:0<9.9}").parse().ok()?;
    Some(Decimal { whole: whole.into(), fraction })
}

impl Decimal {
    fn scaled(&self, nanos: u128) -> Option<u128> {
        self.whole.checked_mul(nanos)?.checked_add(self.fraction * nanos / 1_000_000_000)
    }
}

fn nanos_of(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        _ => return None,
    })
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_go_and_protobuf_is_read() {
        for (text, millis) in [
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("0.5s", 500),
            ("1.5h", 5_400_000),
            ("2s", 2_000),
            ("0", 0),
            ("0s", 0),
            ("+3s", 3_000),
            (".5s", 500),
            ("5.s", 5_000),
            ("1h2m3s4ms", 3_723_004),
            ("87600h", 315_360_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("1.000000001s"), Ok(Duration::new(1, 1)));
        assert_eq!(parse("7us3ns"), Ok(Duration::from_nanos(7_003)));
        assert_eq!(parse("7µs"), Ok(Duration::from_micros(7)));
    }

    #[test]
    fn what_is_no_duration_says_what_to_write() {
        for (text, part) in [
            ("", "write a number and a unit"),
            ("s", "write a number and a unit"),
            (".s", "write a number and a unit"),
            ("1.2.3s", "write a number and a unit"),
            ("5", "write `5s`"),
            ("1m30", "has no unit"),
            ("-1s", "is negative"),
            ("1d", "the units are"),
            ("1 s", "the units are"),
            ("2 minutes", "the units are"),
            ("87601h", "too long"),
            ("99999999999999999999999999999999999999999h", "too long"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
