//! The retry ceiling that is always on: requests deposit, retries borrow, a retry that succeeds gives back.

use std::sync::Arc;

/// The tokens of one destination host, shared by every request of the process to it.
#[derive(Debug, Default)]
pub struct Budget {}

/// A token borrowed for a retry. Dropping it spends the token; [`Loan::on_success`] gives it back.
#[derive(Debug)]
pub struct Loan(#[allow(dead_code)] Arc<Budget>);
