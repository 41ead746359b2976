//! Whether a failed attempt is made again, and when.

mod backoff;
mod budget;
mod condition;
mod policy;

pub use backoff::Backoff;
pub use budget::{Budget, Loan};
pub use condition::{Condition, RetryOn, UnknownCondition};
pub use policy::RetryPolicy;
