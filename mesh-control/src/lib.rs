//! The control endpoint: configuration from files, the registry of leases, the certificate authority, and the status.
//!
//! For one machine and for development; beyond that the answer is xDS, not a bigger control endpoint.

mod endpoint;
mod token;

pub use endpoint::{ControlEndpoint, ControlError, ControlSettings};
pub use token::{TokenAsk, mint_token};
