//! Core Endpoints and EndpointSlice, and Pods: where the endpoints of a Service are.
// spec: kubernetes core/v1 Endpoints, Pod; discovery/v1 EndpointSlice

use crate::config::{decode::Decoder, tree::Node};

/// `spec` of a EndpointList.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointList {}

impl EndpointList {
    pub(crate) fn read_endpoints<'n>(_decoder: &mut Decoder<'n>, _node: &'n Node) -> Option<Self> {
        Some(Self {})
    }
    pub(crate) fn read_slice<'n>(_decoder: &mut Decoder<'n>, _node: &'n Node) -> Option<Self> {
        Some(Self {})
    }
}

/// `spec` of a Pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {}

impl Pod {
    pub(crate) fn read<'n>(_decoder: &mut Decoder<'n>, _node: &'n Node) -> Option<Self> {
        Some(Self {})
    }
}
