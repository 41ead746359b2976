//! A real Envoy as the other side: as the sidecar of a caller, as that of a callee, and as a second judge of requests.
//!
//! Needs an Envoy, so nothing here runs with the other tests: `interop/envoy/run` fetches one and runs these.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed, helpers included"
)]

mod certificates;
mod envoy;
mod harness;
mod inbound;
mod judges;
mod outbound;
mod sidecar;
mod upstream;
mod wire;
