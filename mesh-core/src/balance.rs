//! Which endpoint gets the next attempt.
//!
//! A pick reads an immutable set and a few atomics; it takes no lock and remembers no index over a set that changed.

mod endpoint;
mod group;
mod hash;
mod locality;
mod maglev;
pub(crate) mod peak_ewma;
mod pick;
mod priority;
mod ring_hash;
mod schedule;
mod set;
mod slow_start;
mod table;
mod tried;

pub use endpoint::{ClientFiles, Endpoint, Mutual, Security, TlsOrigination};
pub use hash::{Cookie, HashInput, HashSource, Hashed};
pub use locality::{
    Distribution, Failover, LocalityPattern, LocalityPatternError, LocalityPolicy, Nearness, PriorityLabel,
};
pub use maglev::TableSize;
pub use pick::{Policy, Wish, pick};
pub use set::{EndpointSet, SetPolicy};
pub use slow_start::WarmUp;
pub use tried::Tried;
