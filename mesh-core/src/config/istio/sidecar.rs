//! Sidecar: what a workload sees of the mesh.
// spec: istio networking/v1alpha3/sidecar.proto

use crate::config::{decode::Decoder, tree::Node};

/// `spec` of a Sidecar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sidecar {}

impl Sidecar {
    pub(crate) fn read<'n>(_decoder: &mut Decoder<'n>, _node: &'n Node) -> Option<Self> {
        Some(Self {})
    }
}
