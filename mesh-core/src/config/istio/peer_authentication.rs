//! PeerAuthentication: which callers a workload accepts.
// spec: istio security/v1beta1/peer_authentication.proto

use super::common::WorkloadSelector;
use crate::config::{
    decode::{Decoder, choice, shortened},
    tree::{Key, Node},
};
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

impl PeerAuthentication {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let selector = fields.get("selector", WorkloadSelector::reader("matchLabels"));
        let mode = fields.get("mtls", MtlsMode::read).unwrap_or_default();
        let ports = fields.get("portLevelMtls", |decoder, node| Some(decoder.entries(node, port_and_mode)));
        let ports: BTreeMap<_, _> = ports.unwrap_or_default().into_iter().collect();
        if !ports.is_empty() && selector.as_ref().is_none_or(|selector| selector.labels.is_empty()) {
            // spec: istio pkg/config/validation validatePeerAuthentication
            fields.refuse(
                "portLevelMtls",
                "ports are workload ports: `selector.matchLabels` must say of which",
            );
        }
        if fields.has("portLevelMtls") && ports.is_empty() {
            fields.refuse("portLevelMtls", "name at least one port, or leave it out");
        }
        fields.finish();
        Some(Self { selector, mode, ports })
    }
}

impl MtlsMode {
    /// Reads `{mode: ...}`.
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mode = fields.get("mode", |decoder, node| choice(decoder, node, MODES));
        fields.finish();
        Some(mode.unwrap_or_default())
    }
}

fn port_and_mode<'n>(decoder: &mut Decoder<'n>, key: &'n Key, node: &'n Node) -> Option<(u16, MtlsMode)> {
    let mode = MtlsMode::read(decoder, node);
    match key.text.parse() {
        Ok(port) if port > 0 => Some((port, mode?)),
        _ => {
            decoder.refuse(
                key.at,
                format!("`{}` is not a port; write a number from 1 to 65535", shortened(&key.text)),
            );
            None
        }
    }
}

const MODES: &[(&str, MtlsMode)] = &[
    ("UNSET", MtlsMode::Unset),
    ("DISABLE", MtlsMode::Disable),
    ("PERMISSIVE", MtlsMode::Permissive),
    ("STRICT", MtlsMode::Strict),
];
