//! HTTPRoute and GRPCRoute of the Gateway API, as far as they are attached to a Service.
// spec: gateway-api v1 HTTPRoute, GRPCRoute; GAMMA (gep-1426)

use crate::config::{decode::Decoder, tree::Node};

/// `spec` of a AttachedRoute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttachedRoute {}

impl AttachedRoute {
    pub(crate) fn read_http<'n>(_decoder: &mut Decoder<'n>, _node: &'n Node) -> Option<Self> {
        Some(Self {})
    }
    pub(crate) fn read_grpc<'n>(_decoder: &mut Decoder<'n>, _node: &'n Node) -> Option<Self> {
        Some(Self {})
    }
}
