//! The calendar time that certificates are judged by, in one place, so that a test can turn it. Timers do not use it.

use rustls_pki_types::UnixTime;
use std::{fmt, sync::Arc, time::SystemTime};

/// A source of calendar time.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl WallClock {
    /// Returns a clock that shows what `now` returns.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the time.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }

    /// Returns the time as rustls and webpki take it; the epoch, should the clock stand before it.
    pub fn unix(&self) -> UnixTime {
        UnixTime::since_unix_epoch(self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }
}

/// The system's clock.
impl Default for WallClock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl rustls::time_provider::TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix())
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WallClock({:?})", self.now())
    }
}
