//! Gateway: what the edge of the mesh listens to.
// spec: istio networking/v1alpha3/gateway.proto

use crate::config::{decode::Decoder, tree::Node};

/// `spec` of a Gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gateway {}

impl Gateway {
    pub(crate) fn read<'n>(_decoder: &mut Decoder<'n>, _node: &'n Node) -> Option<Self> {
        Some(Self {})
    }
}
