//! The client over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod balancing;
mod call_policy;
mod calls;
mod connections;
mod destination_rule;
mod endings;
mod faults;
mod hedging;
mod limits;
mod origination;
mod raw_http2;
mod reload;
mod retries;
mod support;
mod timeouts;
