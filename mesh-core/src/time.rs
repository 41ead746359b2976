//! Points on the monotonic clock as plain numbers. The shell owns the clock; the core is told the time.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

/// A point in time, in nanoseconds since an origin that the shell chose once per process.
///
/// It fits an `AtomicU64`, so shared state can hold it without a lock. Arithmetic saturates: a deadline beyond the end
/// of time is [`Time::MAX`], never a panic.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// The end of time: a deadline that never passes.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the point `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns how long ago `earlier` was, or zero if it lies in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns how long it is until `later`, or zero if it has passed.
    pub const fn until(self, later: Self) -> Duration {
        later.since(self)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(nanos(wait)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(age)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MAX => f.write_str("Time::MAX"),
            Self(nanos) => write!(f, "{:?}", Duration::from_nanos(nanos)),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_beyond_the_ends_of_time_saturates() {
        assert_eq!(Time::MAX + Duration::from_secs(1), Time::MAX);
        assert_eq!(Time::ZERO - Duration::from_secs(1), Time::ZERO);
        assert_eq!(Time::ZERO + Duration::MAX, Time::MAX);
    }

    #[test]
    fn an_elapsed_time_is_never_negative() {
        let later = Time::ZERO + Duration::from_secs(3);
        assert_eq!(later.since(Time::ZERO), Duration::from_secs(3));
        assert_eq!(Time::ZERO.since(later), Duration::ZERO);
        assert_eq!(Time::ZERO.until(later), Duration::from_secs(3));
    }
}
