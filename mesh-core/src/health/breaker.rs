//! Limits on what one cluster may have under way. An admission is a value; dropping it gives the place back.
// spec: envoy intro/arch_overview/upstream/circuit_breaking

use super::ClusterState;
use std::sync::Arc;

/// The limits of a cluster. Istio's default for each is 2^32-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections over all endpoints.
    pub connections_max: u32,
    /// Requests waiting for a connection.
    pub pending_max: u32,
    /// Requests under way.
    pub requests_max: u32,
    /// Retries under way.
    pub retries_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: u32::MAX,
            pending_max: u32::MAX,
            requests_max: u32::MAX,
            retries_max: u32::MAX,
        }
    }
}

/// Which limit refused. Answered as 503 with flag UO; never counted against a host, never retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// `connections_max`.
    Connections,
    /// `pending_max`.
    Pending,
    /// `requests_max`.
    Requests,
    /// `retries_max`.
    Retries,
}

/// A place within a limit, given back on drop.
#[derive(Debug)]
pub struct Permit {
    pub(super) state: Arc<ClusterState>,
    pub(super) limit: Overflow,
}

impl ClusterState {
    /// Takes a place within the limit that `which` names.
    ///
    /// # Errors
    ///
    /// Returns `which` if the limit is reached.
    pub fn admit(self: &Arc<Self>, which: Overflow, limits: &Limits) -> Result<Permit, Overflow> {
        let _ = (limits, Permit { state: Arc::clone(self), limit: which });
        todo!()
    }
}
