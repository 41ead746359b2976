//! The workload's side of the control endpoint: `wire` is what is said, `token` the first contact's proof, `link` the
//! conversation (configuration, lease, certificates), `cache` what survives without it.

pub mod cache;
pub mod link;
pub mod token;
pub mod wire;

pub use token::{JoinToken, TokenError};
