//! More requests than can be answered: how often they may come, and how many may run.
//!
//! `mesh_core::overload` decides; here is who is told, by which clock, and what the caller reads. A request is refused
//! before its body is read and before its handler is asked, so nothing of it has been executed.

mod layer;
mod limiter;
mod rate;

pub use layer::{Held, RequestsMaxFuture, RequestsMaxLayer, RequestsMaxService};
pub(crate) use limiter::{Entered, Limiter, Permit, Waiting};
pub use rate::RateLimiter;
