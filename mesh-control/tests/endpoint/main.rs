//! The control endpoint over real sockets, in this process and as `meshctl`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

mod bed;

mod bearers;
mod bounds;
mod callers;
mod certificates;
mod configuration;
mod leases;
mod meshctl;
mod restart;
