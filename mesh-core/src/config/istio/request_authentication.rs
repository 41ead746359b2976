//! RequestAuthentication: which tokens of end users are good.
// spec: istio security/v1beta1/request_authentication.proto

use crate::config::{decode::Decoder, tree::Node};

/// `spec` of a RequestAuthentication.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestAuthentication {}

impl RequestAuthentication {
    pub(crate) fn read<'n>(_decoder: &mut Decoder<'n>, _node: &'n Node) -> Option<Self> {
        Some(Self {})
    }
}
