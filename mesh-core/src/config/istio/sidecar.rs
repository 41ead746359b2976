//! Sidecar: which hosts a workload sees, and what becomes of hosts that nobody knows.
// spec: istio networking/v1alpha3/sidecar.proto

mod read;

use super::{common::WorkloadSelector, destination_rule::ConnectionPool, namespaced_host::NamespacedHost};

/// `spec` of a Sidecar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sidecar {
    /// `workloadSelector`; `None` is every workload of the namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// `egress`; empty is `*/*`.
    pub egress: Vec<EgressListener>,
    /// `outboundTrafficPolicy.mode`: true is ALLOW_ANY, false REGISTRY_ONLY; `None` is the mesh's.
    pub allow_any: Option<bool>,
    /// `inboundConnectionPool`.
    pub inbound_connection_pool: Option<ConnectionPool>,
}

/// One entry of `egress`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EgressListener {
    /// `hosts`; at least one.
    pub hosts: Vec<NamespacedHost>,
}
