//! How long to wait before the next try: full jitter below a doubling bound.
// spec: envoy source/common/common/backoff_strategy.cc JitteredExponentialBackOffStrategy

use std::time::Duration;

/// The bounds of the waiting time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait. Default 25 ms.
    pub base: Duration,
    /// The bound of any wait. Default ten times the base.
    pub max: Duration,
}

impl Backoff {
    /// Returns the bounds that follow from a base interval.
    pub const fn from_base(base: Duration) -> Self {
        Self { base, max: base.saturating_mul(10) }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::from_base(Duration::from_millis(25))
    }
}
