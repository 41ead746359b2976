//! A token bucket: so many requests at once, and so many more as time passes.
//!
//! Tokens are not poured but counted: how many there have ever been is a function of the time alone, rounded down once,
//! and all that is kept is how many of them are gone. So nothing drifts, however long it runs and however often it is
//! asked.
// spec: envoy configuration/http/http_filters/local_rate_limit_filter

use crate::{
    config::duration,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Time,
};
use std::{str::FromStr, time::Duration};

/// How many requests may come, and how many more as time passes.
///
/// As text: `100/s`, `5/100ms`, `30/m burst 10`. Without a burst it is the number itself.
///
/// ```
/// use mesh_core::overload::RateLimit;
/// use std::time::Duration;
///
/// let limit: RateLimit = "30/m burst 10".parse()?;
/// assert_eq!(limit, RateLimit::new(10, 30, Duration::from_secs(60))?);
/// # Ok::<(), mesh_core::overload::RateLimitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    tokens_max: u32,
    tokens_per_fill: u32,
    fill_interval: Duration,
}

/// Why this is no rate limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitError {
    /// No request could ever come.
    #[error("{0} is 0: no request could ever come; write at least 1")]
    Zero(&'static str),
    /// The text does not read.
    #[error("`{0}` is no rate; write a number, a slash and a time: `100/s`, `5/100ms`, `30/m burst 10`")]
    Text(String),
}

impl RateLimit {
    /// Returns the limit of `tokens_max` requests at once and `tokens_per_fill` more in each `fill_interval`, evenly
    /// spread over it. The names are Envoy's.
    ///
    /// # Errors
    ///
    /// Returns which of them is 0.
    pub fn new(
        tokens_max: u32,
        tokens_per_fill: u32,
        fill_interval: Duration,
    ) -> Result<Self, RateLimitError> {
        match () {
            () if tokens_max == 0 => Err(RateLimitError::Zero("the burst")),
            () if tokens_per_fill == 0 => Err(RateLimitError::Zero("the number of requests")),
            () if fill_interval.is_zero() => Err(RateLimitError::Zero("the time")),
            () => Ok(Self { tokens_max, tokens_per_fill, fill_interval }),
        }
    }

    /// Returns the limit of `requests` in a second, and at once.
    ///
    /// # Errors
    ///
    /// Returns that `requests` is 0.
    pub fn per_second(requests: u32) -> Result<Self, RateLimitError> {
        Self::new(requests, requests, Duration::from_secs(1))
    }

    /// Returns how many tokens there have been after `passed`, beside those of the beginning.
    fn produced(&self, passed: Duration) -> u64 {
        let tokens = passed.as_nanos().saturating_mul(self.tokens_per_fill.into());
        u64::try_from(tokens / self.fill_interval.as_nanos().max(1)).unwrap_or(u64::MAX)
    }
}

impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<Self, RateLimitError> {
        let wrong = || RateLimitError::Text(text.to_owned());
        let (rate, burst) = match text.split_once(" burst ") {
            Some((rate, burst)) => (rate, Some(burst.trim().parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let (requests, interval) = rate.trim().split_once('/').ok_or_else(wrong)?;
        let requests = requests.trim_end().parse().map_err(|_| wrong())?;
        let interval = read_interval(interval.trim()).ok_or_else(wrong)?;
        Self::new(burst.unwrap_or(requests), requests, interval)
    }
}

/// Reads a duration, or the unit of one: `s`, `10s`, `100ms`.
fn read_interval(text: &str) -> Option<Duration> {
    let one = if text.starts_with(|first: char| first.is_ascii_digit()) { "" } else { "1" };
    duration::parse(&format!("{one}{text}")).ok()
}

/// The tokens of one [`RateLimit`]. One word and no lock; it begins full.
#[derive(Debug)]
pub struct TokenBucket {
    limit: RateLimit,
    since: Time,
    /// Tokens that are gone, taken or never fetched because the bucket was full.
    gone: AtomicU64,
}

impl TokenBucket {
    /// Returns a full bucket.
    pub fn new(limit: RateLimit, now: Time) -> Self {
        Self { limit, since: now, gone: AtomicU64::new(0) }
    }

    /// Takes a token; returns whether there was one.
    pub fn take(&self, now: Time) -> bool {
        let (spilt, ever) = self.ever(now);
        let taken = |gone: u64| (gone.max(spilt) < ever).then(|| gone.max(spilt) + 1);
        self.gone.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }

    /// Returns how many tokens there are.
    pub fn available(&self, now: Time) -> u64 {
        let (spilt, ever) = self.ever(now);
        ever.saturating_sub(self.gone.load(Relaxed).max(spilt))
    }

    /// Returns how many tokens are gone at the least, because a bucket holds no more, and how many there have ever been.
    fn ever(&self, now: Time) -> (u64, u64) {
        let produced = self.limit.produced(now.since(self.since));
        (produced, produced.saturating_add(self.limit.tokens_max.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::{Dice, Seeded};
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_bucket_begins_full_and_fills_evenly_up_to_its_brim() {
        let bucket = bucket("5/s burst 2");
        assert_eq!(taken(&bucket, Time::ZERO), 2);
        // A token every 200 ms, at the very nanosecond.
        let almost = Time::from_nanos(199_999_999);
        assert_eq!((taken(&bucket, almost), taken(&bucket, Time::ZERO + 200 * MS)), (0, 1));
        assert_eq!(taken(&bucket, Time::ZERO + 10_000 * MS), 2);
    }

    /// At a rate that no power of two or ten divides, so that whatever rounds would show.
    #[test]
    fn no_token_is_lost_or_invented_in_ten_years() {
        let year = 365 * 24 * Duration::from_secs(3_600);
        let (per_fill, interval) = (3, Duration::from_nanos(9_999_999_999_971));
        let bucket = TokenBucket::new(RateLimit::new(1_000, per_fill, interval).unwrap(), Time::ZERO);
        assert_eq!(taken(&bucket, Time::ZERO), 1_000);
        let (mut now, mut total, mut dice) = (Time::ZERO, 0_u128, Seeded::new(3));
        while now < Time::ZERO + 10 * year {
            now = now + Duration::from_nanos(dice.below(2 * 3_600_000_000_000));
            total += u128::from(taken(&bucket, now));
            let due = u128::from(now.as_nanos()) * u128::from(per_fill) / interval.as_nanos();
            assert_eq!(total, due, "at {now:?}");
        }
    }

    /// Asks as steps of (nanoseconds, how often), against a bucket that remembers every token it ever gave.
    fn asks() -> impl Strategy<Value = Vec<(u64, u8)>> {
        prop::collection::vec((0..3_000_000_000_u64, 0..10_u8), 0..50)
    }

    proptest! {
        #[test]
        fn between_any_two_moments_no_more_pass_than_a_full_bucket_and_what_was_filled(
            burst in 1..50_u32, per_fill in 1..50_u32, millis in 1..5_000_u32, asks in asks(),
        ) {
            let limit = RateLimit::new(burst, per_fill, millis * MS).unwrap();
            let bucket = TokenBucket::new(limit, Time::ZERO);
            let (mut now, mut passed) = (Time::ZERO, Vec::new());
            for (wait, times) in asks {
                now = now + Duration::from_nanos(wait);
                passed.extend((0..times).filter(|_| bucket.take(now)).map(|_| now));
            }
            for (index, from) in passed.iter().enumerate() {
                for (count, until) in passed[index..].iter().enumerate() {
                    let filled = limit.produced(until.since(Time::ZERO)) - limit.produced(from.since(Time::ZERO));
                    prop_assert!((count as u64) < u64::from(burst) + filled, "{from:?} to {until:?}");
                }
            }
        }

        #[test]
        fn a_bucket_gives_exactly_what_one_that_is_poured_token_by_token_gives(
            burst in 1..50_u64, millis in 1..500_u64, asks in asks(),
        ) {
            let interval = u32::try_from(millis).unwrap() * MS;
            let bucket = TokenBucket::new(RateLimit::new(burst as u32, 1, interval).unwrap(), Time::ZERO);
            let (mut now, mut poured, mut level) = (0_u64, 0_u64, burst);
            for (wait, times) in asks {
                now += wait;
                while (poured + 1) * millis * 1_000_000 <= now {
                    (poured, level) = (poured + 1, (level + 1).min(burst));
                }
                for _ in 0..times {
                    prop_assert_eq!(bucket.available(Time::from_nanos(now)), level);
                    prop_assert_eq!(bucket.take(Time::from_nanos(now)), level > 0);
                    level = level.saturating_sub(1);
                }
            }
        }
    }

    #[test]
    fn threads_that_take_at_once_share_the_tokens() {
        let bucket = TokenBucket::new(RateLimit::per_second(1_000).unwrap(), Time::ZERO);
        let total: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..500).filter(|_| bucket.take(Time::ZERO)).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap() as u64).sum()
        });
        assert_eq!(total, 1_000);
    }

    #[test]
    fn a_clock_that_is_read_late_takes_nothing_back() {
        let bucket = bucket("10/s");
        assert_eq!(taken(&bucket, Time::ZERO + 500 * MS), 10);
        assert!(!bucket.take(Time::ZERO));
        assert_eq!(taken(&bucket, Time::ZERO + 600 * MS), 1);
        assert_eq!(taken(&bucket, Time::MAX), 10);
    }

    #[test]
    fn a_rate_is_read_as_it_is_written_and_nothing_else_is_one() {
        let rate = |max, per_fill, interval| RateLimit::new(max, per_fill, interval).unwrap();
        for (text, expected) in [
            ("100/s", rate(100, 100, 1_000 * MS)),
            ("1/10s", rate(1, 1, 10_000 * MS)),
            ("5/100ms", rate(5, 5, 100 * MS)),
            ("30/m burst 10", rate(10, 30, 60_000 * MS)),
            ("7/2h", rate(7, 7, 7_200_000 * MS)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "100",
            "/s",
            "100/",
            "100/d",
            "-1/s",
            "1.5/s",
            "100/s burst",
            "100/s burst x",
            "4294967296/s",
        ] {
            assert!(matches!(text.parse::<RateLimit>(), Err(RateLimitError::Text(_))), "{text}");
        }
        for text in ["0/s", "10/0s", "10/s burst 0"] {
            assert!(matches!(text.parse::<RateLimit>(), Err(RateLimitError::Zero(_))), "{text}");
        }
    }

    fn bucket(text: &str) -> TokenBucket {
        TokenBucket::new(text.parse().unwrap(), Time::ZERO)
    }

    fn taken(bucket: &TokenBucket, now: Time) -> u64 {
        let before = bucket.available(now);
        let taken = (0..).take_while(|_| bucket.take(now)).count() as u64;
        assert_eq!(before, taken);
        taken
    }
}
