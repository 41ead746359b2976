//! The mesh from outside: processes, sockets and files, as a user drives them.
//!
//! Nothing here looks into a crate. Every test starts its own control endpoint and its own services, on ports that the
//! system picks, and ends them whatever happens.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed, helpers included"
)]

mod bad_input;
mod control_loss;
mod drain;
mod echo;
mod edits;
mod files;
mod first_contact;
mod gateway;
mod harness;
mod identity;
mod intruder;
mod quickstart;
mod strangers;
mod strict;
mod tiers;
