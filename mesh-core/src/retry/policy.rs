//! How often and when a failed attempt is made again.

use super::{Backoff, RetryOn};
use std::time::Duration;

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
