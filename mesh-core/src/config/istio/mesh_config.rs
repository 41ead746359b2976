//! MeshConfig: the settings of the whole mesh.
// spec: istio mesh/v1alpha1/config.proto

use crate::config::{decode::Decoder, tree::Node};

/// `spec` of a MeshConfig.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshConfig {}

impl MeshConfig {
    pub(crate) fn read_config_map<'n>(_decoder: &mut Decoder<'n>, _node: &'n Node) -> Option<Self> {
        Some(Self {})
    }
}
