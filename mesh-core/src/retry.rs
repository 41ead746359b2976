//! Whether a failed attempt is made again, and when.
//!
//! It does not wait, send or buffer: [`RetryPolicy::decide`] answers with a point in time and the admission to use then.

mod backoff;
mod budget;
mod ceiling;
mod condition;
mod hedge;
mod outcome;
mod policy;
mod provenance;
mod push_back;
mod retry_budget;

pub use backoff::Backoff;
pub use budget::{Budget, Loan};
pub use ceiling::{Ceiling, Reservation, Underway};
pub use condition::{Condition, RetryOn, UnknownCondition};
pub use hedge::Hedge;
pub use outcome::{Outcome, grpc_status};
pub use policy::{Attempt, GiveUp, RetryPolicy, Verdict};
pub use provenance::Provenance;
pub use push_back::PushBack;
pub use retry_budget::{Counts, Recent, RetryBudget};
