//! AuthorizationPolicy: who may do what.
//!
//! A condition that this version cannot enforce is an error of the object, never a condition left out.
// spec: istio security/v1beta1/authorization_policy.proto

use super::common::WorkloadSelector;
use crate::{
    authorize::is_path,
    config::{
        decode::{self, Decoder, name, parsed, shortened},
        diagnostic::{Code, Diagnostic},
        tree::Node,
    },
};
use ipnet::IpNet;
use std::net::IpAddr;

/// `action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizationAction {
    /// Lets matching requests through; with any ALLOW present the rest is denied.
    #[default]
    Allow,
    /// Denies matching requests, before any ALLOW is asked.
    Deny,
}

/// `spec` of an AuthorizationPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// `selector`; `None` means the namespace, or the mesh if it stands in the root namespace.
    pub selector: Option<WorkloadSelector>,
    /// `action`.
    pub action: AuthorizationAction,
    /// `rules`; none never matches, an empty rule matches everything.
    pub rules: Vec<AuthorizationRule>,
}

/// One rule: some `from` (if any) and some `to` (if any) must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// `from[].source`.
    pub from: Vec<Source>,
    /// `to[].operation`.
    pub to: Vec<Operation>,
}

/// `source`: every list that is not empty must match, every `not_` list must not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// `principals`, without `spiffe://`.
    pub principals: Vec<String>,
    /// `notPrincipals`.
    pub not_principals: Vec<String>,
    /// `namespaces`.
    pub namespaces: Vec<String>,
    /// `notNamespaces`.
    pub not_namespaces: Vec<String>,
    /// `ipBlocks`: CIDR or address of the direct peer.
    pub ip_blocks: Vec<ipnet::IpNet>,
    /// `notIpBlocks`.
    pub not_ip_blocks: Vec<ipnet::IpNet>,
}

/// `operation`: likewise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// `hosts`, without regard to case.
    pub hosts: Vec<String>,
    /// `notHosts`.
    pub not_hosts: Vec<String>,
    /// `ports`: of the workload.
    pub ports: Vec<u16>,
    /// `notPorts`.
    pub not_ports: Vec<u16>,
    /// `methods`.
    pub methods: Vec<String>,
    /// `notMethods`.
    pub not_methods: Vec<String>,
    /// `paths`: without query.
    pub paths: Vec<String>,
    /// `notPaths`.
    pub not_paths: Vec<String>,
}

impl AuthorizationPolicy {
    /// Reads the `spec` of a policy in `namespace`.
    // spec: istio pkg/config/validation ValidateAuthorizationPolicy
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, namespace: &str) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let selector = fields.get("selector", WorkloadSelector::reader("matchLabels"));
        let action = fields.get("action", AuthorizationAction::read).unwrap_or_default();
        let rules = fields.list("rules", |d, n| AuthorizationRule::read(d, n, namespace));
        let target = "the policy is meant for a gateway or waypoint, and would reach every workload";
        fields.unsupported(&[
            ("targetRef", target),
            ("targetRefs", target),
            ("provider", "nobody asks the external authorizer"),
        ]);
        if action == AuthorizationAction::Deny && rules.is_empty() && !fields.has("rules") {
            let finding = Diagnostic::warning(Code::SECURITY_NOTE, "a DENY without rules denies nothing");
            let at = fields.at;
            fields.decoder.find(at, finding.help("write `rules: [{}]` to deny everything"));
        }
        fields.finish();
        Some(Self { selector, action, rules })
    }
}

impl AuthorizationAction {
    fn read(decoder: &mut Decoder<'_>, node: &Node) -> Option<Self> {
        match decode::borrowed(decoder, node)? {
            unsupported @ ("AUDIT" | "CUSTOM") => {
                let message = format!("action {unsupported} is not supported by this version");
                let finding = Diagnostic::error(Code::SCHEMA, message);
                decoder.find(node.at, finding.help("write ALLOW or DENY"));
                None
            }
            _ => decode::choice(decoder, node, &[("ALLOW", Self::Allow), ("DENY", Self::Deny)]),
        }
    }
}

impl AuthorizationRule {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, namespace: &str) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let from = fields.list("from", |decoder, node| {
            only(decoder, node, "source", |decoder, node| Source::read(decoder, node, namespace))
        });
        let to = fields.list("to", |decoder, node| only(decoder, node, "operation", Operation::read));
        fields.unsupported(&[("when", "the rule would match more requests than it says")]);
        for name in ["from", "to"] {
            if fields.count(name) == Some(0) {
                fields.refuse(name, format!("`{name}` must not be empty; leave it out to match everything"));
            }
        }
        fields.finish();
        Some(Self { from, to })
    }
}

/// Reads a mapping whose only field is `name`.
fn only<'n, T>(
    decoder: &mut Decoder<'n>,
    node: &'n Node,
    name: &'static str,
    read: impl FnOnce(&mut Decoder<'n>, &'n Node) -> Option<T>,
) -> Option<T> {
    let mut fields = decoder.fields(node)?;
    let value = fields.require(name, read);
    fields.finish();
    value
}

impl Source {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, namespace: &str) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let account = |decoder: &mut Decoder<'n>, node: &'n Node| principal_of(decoder, node, namespace);
        let (accounts, not_accounts) =
            (fields.list("serviceAccounts", account), fields.list("notServiceAccounts", account));
        let mut read = Self {
            principals: fields.list("principals", name),
            not_principals: fields.list("notPrincipals", name),
            namespaces: fields.list("namespaces", name),
            not_namespaces: fields.list("notNamespaces", name),
            ip_blocks: fields.list("ipBlocks", ip_block),
            not_ip_blocks: fields.list("notIpBlocks", ip_block),
        };
        let wider = "the rule would match more peers than it says";
        fields.unsupported(&[
            ("requestPrincipals", wider),
            ("notRequestPrincipals", wider),
            ("remoteIpBlocks", wider),
            ("notRemoteIpBlocks", wider),
            ("trustDomains", wider),
            ("notTrustDomains", wider),
        ]);
        let named = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
        if fields.has("serviceAccounts") || fields.has("notServiceAccounts") {
            if let Some(name) = named.into_iter().find(|name| fields.has(name)) {
                fields.refuse(name, "must not be set beside service accounts");
            }
            read.principals = accounts;
            read.not_principals = not_accounts;
        }
        fields.refuse_empty();
        fields.finish();
        Some(read)
    }
}

/// Reads `account` or `namespace/account` as the principals that end with it, whatever their trust domain.
// spec: istio security/v1beta1/authorization_policy.proto Source.service_accounts
fn principal_of(decoder: &mut Decoder<'_>, node: &Node, namespace: &str) -> Option<String> {
    let text = name(decoder, node)?;
    let (namespace, account) = text.split_once('/').unwrap_or((namespace, &text));
    if [namespace, account].iter().any(|part| part.is_empty() || part.contains(['*', '/'])) {
        let message = format!("`{}` is not a service account", shortened(&text));
        let finding = Diagnostic::error(Code::SCHEMA, message).help("write `account` or `namespace/account`");
        decoder.find(node.at, finding);
        return None;
    }
    Some(format!("*/ns/{namespace}/sa/{account}"))
}

fn ip_block(decoder: &mut Decoder<'_>, node: &Node) -> Option<IpNet> {
    match node.as_text().and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(address) => Some(address.into()),
        None => parsed(decoder, node, "an address or a CIDR such as 10.0.0.0/8"),
    }
}

impl Operation {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self {
            hosts: fields.list("hosts", name),
            not_hosts: fields.list("notHosts", name),
            ports: fields.list("ports", decode::port),
            not_ports: fields.list("notPorts", decode::port),
            methods: fields.list("methods", name),
            not_methods: fields.list("notMethods", name),
            paths: fields.list("paths", path),
            not_paths: fields.list("notPaths", path),
        };
        fields.refuse_empty();
        fields.finish();
        Some(read)
    }
}

fn path(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let path = name(decoder, node)?;
    if !is_path(&path) {
        let message = format!(
            "`{}` is no path template: `{{*}}` and `{{**}}` are whole segments, and neither follows `{{**}}`",
            shortened(&path)
        );
        decoder.refuse(node.at, message);
        return None;
    }
    Some(path)
}
