//! The called side of the mesh: [`Server`] accepts mutual TLS, proves who calls, and serves any Tower service.

mod peer;
mod server;

pub use hyper::body::Incoming;
pub use peer::Peer;
pub use server::{ServeError, Server, shutdown_signal};
