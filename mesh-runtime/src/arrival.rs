//! How a request came to the edge of the mesh, for the call that takes it further in.

use std::net::IpAddr;

/// Where and how a request arrived from outside; in the extensions of a request that an edge has taken.
///
/// A mesh client that is handed such a request routes it as a Gateway's: by the server port it arrived at, with the
/// scheme it arrived in, on behalf of who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The port of the Gateway's server, whatever the port it is published as.
    pub port: u16,
    /// Whether it came over TLS.
    pub https: bool,
    /// The address of who connected.
    pub remote: IpAddr,
}
