//! What is known of endpoints and clusters beyond one request: requests in flight, ejections, limits.
//!
//! The states here live in a table beside the snapshots and survive reloads.

mod breaker;
mod endpoint;
mod interval;
mod outlier;
mod states;
mod statuses;

pub use breaker::{ClusterState, Limits, Overflow, Permit};
pub use endpoint::{Ejection, EndpointState, InFlight};
pub use interval::{FailurePercentage, SuccessRate, Volume};
pub use outlier::{Cause, Change, Ejections, OutlierPolicy, Verdict, is_panic};
pub use states::States;
pub use statuses::Statuses;
