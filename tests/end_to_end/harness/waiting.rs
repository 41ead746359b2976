//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long a condition may take on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks every 20 ms until there is an answer.
///
/// # Panics
///
/// If there is none within [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, ask).unwrap_or_else(|| panic!("within {PATIENCE:?} it did not happen that {what}"))
}

/// Asks every 20 ms until there is an answer or `time` is up.
pub(crate) fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + time;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
