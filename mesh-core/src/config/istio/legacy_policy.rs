//! MeshPolicy and Policy of Istio 1.3 (`authentication.istio.io/v1alpha1`): mutual TLS, and tokens of end users.

use super::{common, peer_authentication::MtlsMode, request_authentication::JwtRule};
use crate::config::{
    decode::{Decoder, Fields, choice, flag, name_at, shortened},
    resource::Kind,
    schema::Support,
    tree::Node,
};

/// `spec` of a MeshPolicy or Policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LegacyPolicy {
    /// `peers: [mtls: {}]` is STRICT, `mode: PERMISSIVE` or `allowTls` PERMISSIVE, no `mtls` DISABLE.
    pub mode: MtlsMode,
    /// `targets`; empty means the whole mesh or namespace.
    pub targets: Vec<LegacyTarget>,
    /// `peers[].jwt` and `origins[].jwt`; `None` if there are none.
    pub tokens: Option<LegacyTokens>,
}

/// Which tokens a policy of Istio 1.3 takes.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyTokens {
    /// A token must be good by the rule of its issuer.
    pub rules: Vec<JwtRule>,
    /// Whether a request may come without one: `originIsOptional`, `peerIsOptional`.
    pub optional: bool,
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
        let peers = fields.list("peers", Peer::read);
        let mut origins = fields.list("origins", read_origin);
        origins.extend(fields.list("jwts", JwtRule::read_legacy));
        let peer_is_optional = fields.get("peerIsOptional", flag).unwrap_or_default();
        let origin_is_optional = fields.get("originIsOptional", flag).unwrap_or_default();
        fields.no_effect(&[(
            "principalBinding",
            "the principal is the peer's, the request principal the token's",
        )]);
        if peers.len() > 1 {
            fields.refuse("peers", "write one entry, `mtls` or `jwt`");
        }
        check_scope(&mut fields, kind, name);
        let mode = peers.first().map_or(MtlsMode::Disable, Peer::mode);
        let of_peers: Vec<_> = peers.into_iter().filter_map(Peer::token).collect();
        let optional =
            (of_peers.is_empty() || peer_is_optional) && (origins.is_empty() || origin_is_optional);
        let rules: Vec<_> = of_peers.into_iter().chain(origins).collect();
        let tokens = (!rules.is_empty()).then_some(LegacyTokens { rules, optional });
        fields.finish();
        Some(Self { mode, targets, tokens })
    }
}

fn check_scope(fields: &mut Fields<'_, '_>, kind: Kind, name: &str) {
    let targeted = fields.has("targets");
    let at = fields.at;
    match (kind, name == "default", targeted) {
        (Kind::MeshPolicy, _, true) => fields.refuse("targets", NO_TARGETS),
        (Kind::Policy, true, true) => {
            fields.refuse("targets", "the Policy `default` is for its whole namespace: it has no targets");
        }
        (Kind::Policy, false, false) => fields.decoder.within("targets", |decoder| {
            decoder.refuse(at, "a Policy without targets must be named `default`");
        }),
        _ => {}
    }
    if kind == Kind::MeshPolicy {
        fields.describe(&["targets"], Support::Refused, NO_TARGETS);
    }
}

const NO_TARGETS: &str = "a MeshPolicy is for the whole mesh: it has no targets";

/// One entry of `peers`.
enum Peer {
    Mtls(MtlsMode),
    Token(Box<JwtRule>),
}

impl Peer {
    /// Reads `mtls: {}`, `mtls: null`, `mtls: {mode, allowTls}` or `jwt: {...}`.
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let written = node.get("mtls").is_some();
        let mode = fields.get("mtls", read_mtls);
        let token = fields.get("jwt", JwtRule::read_legacy).map(Box::new);
        if written == fields.has("jwt") {
            let at = fields.at;
            fields.decoder.refuse(at, "an entry of peers is `mtls: {}` or `jwt: {...}`");
        }
        fields.finish();
        Some(token.map_or(Self::Mtls(mode.unwrap_or(MtlsMode::Strict)), Self::Token))
    }

    fn mode(&self) -> MtlsMode {
        match self {
            Self::Mtls(mode) => *mode,
            Self::Token(_) => MtlsMode::Disable,
        }
    }

    fn token(self) -> Option<JwtRule> {
        match self {
            Self::Mtls(_) => None,
            Self::Token(rule) => Some(*rule),
        }
    }
}

/// Reads `{jwt: {...}}`.
fn read_origin<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<JwtRule> {
    let mut fields = decoder.fields(node)?;
    let rule = fields.require("jwt", JwtRule::read_legacy);
    fields.finish();
    rule
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
