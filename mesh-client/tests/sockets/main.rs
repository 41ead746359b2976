//! The client over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod balancing;
mod calls;
mod connections;
mod destination_rule;
mod faults;
mod limits;
mod origination;
mod reload;
mod retries;
mod support;
mod timeouts;
