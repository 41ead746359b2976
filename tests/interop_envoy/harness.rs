//! Child processes and waiting, as the end-to-end tests have them.

#[path = "../end_to_end/harness/echo.rs"]
#[allow(dead_code, reason = "shared with tests that use all of it")]
mod echo;
#[path = "../end_to_end/harness/http.rs"]
#[allow(dead_code, reason = "shared with tests that use all of it")]
mod http;
#[path = "../end_to_end/harness/process.rs"]
#[allow(dead_code, reason = "shared with tests that use all of it")]
mod process;

pub(crate) use echo::{Echo, Outcome};
pub(crate) use http::Reply;
use http::get;
pub(crate) use process::{Process, command};

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
