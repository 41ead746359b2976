//! A server over real sockets: who gets in, what the handler sees, who has to wait for whom, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod admission;
mod advisories;
mod answers;
mod callers;
mod drain;
mod exhaustion;
mod hostile;
mod overload;
mod policy_change;
mod record;
mod requests;
mod slow_clients;
mod support;
mod tokens;
