//! Whether a failed attempt is made again, and when.

mod backoff;
mod budget;
mod policy;

pub use backoff::Backoff;
pub use budget::{Budget, Loan};
pub use policy::{Condition, RetryOn, RetryPolicy, UnknownCondition};
