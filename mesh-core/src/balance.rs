//! Which endpoint gets the next attempt.
//!
//! A pick reads an immutable set and a few atomics; it takes no lock and remembers no index over a set that changed.

mod endpoint;
mod pick;
mod set;
mod tried;

pub use endpoint::{ClientFiles, Endpoint, Mutual, Security, TlsOrigination};
pub use pick::{Policy, pick};
pub use set::EndpointSet;
pub use tried::Tried;
