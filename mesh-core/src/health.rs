//! What is known of endpoints and clusters beyond one request: requests in flight, ejections, limits.
//!
//! The states here live in a table beside the snapshots and survive reloads.

mod breaker;
mod outlier;
mod states;

pub use breaker::{Limits, Overflow, Permit};
pub use outlier::{OutlierPolicy, Verdict};
pub use states::{ClusterState, EndpointState, InFlight, States};
