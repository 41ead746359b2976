//! The client over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod calls;
mod connections;
mod faults;
mod limits;
mod origination;
mod reload;
mod retries;
mod support;
mod timeouts;
