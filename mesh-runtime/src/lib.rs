//! What both sides of the mesh share of the outside world: the clock, where configuration comes from, TLS and SVIDs,
//! telemetry, and the context that travels with a request.
//!
//! What only one side uses lives on that side.

pub mod admin;
mod arrival;
pub mod callers;
pub mod clock;
pub mod config;
pub mod context;
pub mod control;
pub mod crypto;
pub mod edge;
pub mod identity;
mod progress;
pub mod room;
pub mod settings;
mod sparing;
mod task;
pub mod telemetry;
pub mod workload;

pub use arrival::Arrival;
pub use clock::{Clock, ThreadDice};
pub use context::Context;
pub use progress::{InForce, Readiness};
pub use settings::Settings;
pub use sparing::Sparing;
pub use workload::{StartError, Workload};
