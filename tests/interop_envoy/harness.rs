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
#[path = "../end_to_end/harness/waiting.rs"]
mod waiting;

pub(crate) use echo::{Echo, Outcome};
pub(crate) use http::Reply;
use http::get;
pub(crate) use process::{Process, command};
pub(crate) use waiting::{PATIENCE, eventually, within};
