//! The workload's side of the control endpoint: `wire` is what is said, `name` which names, `token` the first contact's proof, `trust` whom
//! to believe, `http` how it is said, `link` the conversations (configuration, lease, certificates), `carry` what of an
//! old answer outlives a new one, `cache` what survives without the endpoint.

pub(crate) mod backoff;
pub(crate) mod cache;
mod carry;
pub(crate) mod http;
pub(crate) mod link;
pub mod name;
mod status;
pub mod token;
mod trust;
pub mod wire;

pub use cache::lock::Lock;
pub use status::{StatusError, status};
pub use token::{JoinToken, TokenError};
