//! MeshPolicy and Policy of Istio 1.3 (`authentication.istio.io/v1alpha1`), as far as mutual TLS goes.

use super::peer_authentication::MtlsMode;

/// `spec` of a MeshPolicy or Policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyPolicy {
    /// `peers: [mtls: {}]` is STRICT, `mode: PERMISSIVE` or `allowTls` PERMISSIVE, no peers DISABLE.
    pub mode: MtlsMode,
    /// `targets`; empty means the whole mesh or namespace.
    pub targets: Vec<LegacyTarget>,
}

/// One entry of `targets`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyTarget {
    /// The service.
    pub name: String,
    /// SERVICE ports; empty means all.
    pub ports: Vec<u16>,
}
