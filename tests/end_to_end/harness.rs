//! What the tests stand on: child processes that never outlive a test, plain HTTP, and waiting for a condition.

mod caller;
mod echo;
mod http;
mod meshctl;
mod process;
mod town;

pub(crate) use caller::Caller;
pub(crate) use echo::Echo;
pub(crate) use http::{Reply, get};
pub(crate) use meshctl::{Control, Refused, meshctl};
pub(crate) use process::{Process, command};
pub(crate) use town::{ARTICLE, Town, weights};

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
