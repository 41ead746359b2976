//! MeshPolicy and Policy of Istio 1.3 (`authentication.istio.io/v1alpha1`), as far as mutual TLS goes.

use super::{common, peer_authentication::MtlsMode};
use crate::config::{
    decode::{Decoder, Fields, choice, flag, name_at, shortened},
    resource::Kind,
    tree::Node,
};

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

impl LegacyPolicy {
    /// Reads the `spec` of the MeshPolicy or Policy called `name`.
    // spec: istio 1.3.0 pkg/config/validation ValidateAuthenticationPolicy
    pub(crate) fn read<'n>(
        decoder: &mut Decoder<'n>,
        node: &'n Node,
        kind: Kind,
        name: &str,
    ) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let targets = fields.list("targets", LegacyTarget::read);
        let peers = fields.list("peers", read_peer);
        fields.unsupported(&[
            ("origins", "requests without a valid JWT would be let through"),
            ("jwts", "requests without a valid JWT would be let through"),
        ]);
        fields.no_effect(&[
            ("peerIsOptional", "the mode alone decides; write `mode: PERMISSIVE`"),
            ("originIsOptional", "this version asks for no JWT"),
            ("principalBinding", "the principal is the peer's"),
        ]);
        if peers.len() > 1 {
            fields.refuse("peers", "write one entry, `mtls`");
        }
        check_scope(&mut fields, kind, name);
        fields.finish();
        let mode = if peers.is_empty() { MtlsMode::Disable } else { peers[0] };
        Some(Self { mode, targets })
    }
}

fn check_scope(fields: &mut Fields<'_, '_>, kind: Kind, name: &str) {
    let targeted = fields.has("targets");
    let at = fields.at;
    match (kind, name == "default", targeted) {
        (Kind::MeshPolicy, _, true) => {
            fields.refuse("targets", "a MeshPolicy is for the whole mesh: it has no targets")
        }
        (Kind::Policy, true, true) => {
            fields.refuse("targets", "the Policy `default` is for its whole namespace: it has no targets");
        }
        (Kind::Policy, false, false) => fields.decoder.within("targets", |decoder| {
            decoder.refuse(at, "a Policy without targets must be named `default`");
        }),
        _ => {}
    }
}

/// Reads `mtls: {}`, `mtls: null` or `mtls: {mode, allowTls}`.
fn read_peer<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<MtlsMode> {
    let mut fields = decoder.fields(node)?;
    let written = node.get("mtls").is_some();
    let mode = fields.get("mtls", read_mtls);
    fields.unsupported(&[("jwt", "requests without a valid JWT would be let through")]);
    if !written {
        let at = fields.at;
        fields.decoder.refuse(at, "an entry of peers is `mtls: {}`");
    }
    fields.finish();
    Some(mode.unwrap_or(MtlsMode::Strict))
}

fn read_mtls<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<MtlsMode> {
    let mut fields = decoder.fields(node)?;
    let table = [("STRICT", MtlsMode::Strict), ("PERMISSIVE", MtlsMode::Permissive)];
    let mode = fields.get("mode", |decoder, node| choice(decoder, node, &table));
    let allow_tls = fields.get("allowTls", flag).unwrap_or_default();
    fields.finish();
    if allow_tls { Some(MtlsMode::Permissive) } else { Some(mode.unwrap_or(MtlsMode::Strict)) }
}

impl LegacyTarget {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let name = fields.require("name", |decoder, node| {
            let name = name_at(decoder, node)?;
            if !is_service(&name) {
                let message = format!("`{}` is not the short name of a service", shortened(&name));
                decoder.refuse(name.at, message);
            }
            Some(name.value)
        });
        let ports = fields.list("ports", common::port_selector);
        fields.unsupported(&[("labels", "the policy would reach other workloads"), ("subset", "likewise")]);
        fields.finish();
        Some(Self { name: name?, ports })
    }
}

fn is_service(name: &str) -> bool {
    name.len() <= 63 && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}
