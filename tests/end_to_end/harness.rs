//! What the tests stand on: child processes that never outlive a test, plain HTTP, and waiting for a condition.

mod caller;
mod echo;
mod http;
mod meshctl;
mod process;
mod town;
mod waiting;

pub(crate) use caller::Caller;
pub(crate) use echo::Echo;
pub(crate) use http::{Reply, get};
pub(crate) use meshctl::{Control, Refused, meshctl};
pub(crate) use process::{Process, command};
pub(crate) use town::{ARTICLE, Town, weights};
pub(crate) use waiting::{PATIENCE, eventually, within};
