//! Telemetry: metrics, traces and access logs.
// spec: istio telemetry/v1alpha1/telemetry.proto

use crate::config::{decode::Decoder, tree::Node};

/// `spec` of a Telemetry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {}

impl Telemetry {
    pub(crate) fn read<'n>(_decoder: &mut Decoder<'n>, _node: &'n Node) -> Option<Self> {
        Some(Self {})
    }
}
