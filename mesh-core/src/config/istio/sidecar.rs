//! Sidecar: which hosts a workload sees, and what becomes of hosts that nobody knows.
// spec: istio networking/v1alpha3/sidecar.proto

mod pool;
mod read;

pub use pool::InboundPool;

use super::{common::WorkloadSelector, namespaced_host::NamespacedHost};

/// `spec` of a Sidecar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sidecar {
    /// `workloadSelector`; `None` is every workload of the namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// `egress`; empty is `*/*`.
    pub egress: Vec<EgressListener>,
    /// `outboundTrafficPolicy.mode`: true is ALLOW_ANY, false REGISTRY_ONLY; `None` is the mesh's.
    pub allow_any: Option<bool>,
    /// `inboundConnectionPool`: of every port whose entry in `ingress` has none of its own.
    pub inbound_pool: Option<InboundPool>,
    /// `ingress`.
    pub ingress: Vec<IngressListener>,
}

/// One entry of `egress`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EgressListener {
    /// `hosts`; at least one.
    pub hosts: Vec<NamespacedHost>,
}

/// One entry of `ingress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngressListener {
    /// `port.number`: the workload's own.
    pub port: u16,
    /// `connectionPool`; `None` is the Sidecar's.
    pub pool: Option<InboundPool>,
}
