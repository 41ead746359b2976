//! PeerAuthentication: which callers a workload accepts.
// spec: istio security/v1beta1/peer_authentication.proto

use super::common::WorkloadSelector;
use std::collections::BTreeMap;

/// `mtls.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MtlsMode {
    /// Inherits from the wider scope.
    #[default]
    Unset,
    /// Plaintext only.
    Disable,
    /// Both.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// `spec` of a PeerAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// `selector`; `None` means the namespace, or the mesh if it stands in the root namespace.
    pub selector: Option<WorkloadSelector>,
    /// `mtls.mode`.
    pub mode: MtlsMode,
    /// `portLevelMtls`: by workload port.
    pub ports: BTreeMap<u16, MtlsMode>,
}
