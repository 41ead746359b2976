//! AuthorizationPolicy: who may do what.
//!
//! A condition that this version cannot enforce is an error of the object, never a condition left out.
// spec: istio security/v1beta1/authorization_policy.proto

mod condition;

pub use condition::Condition;

use super::{
    common::WorkloadSelector,
    policy_target::{self, PolicyTarget},
};
use crate::{
    authorize::is_path,
    config::{
        decode::{self, Decoder, Fields, name, parsed, shortened},
        diagnostic::{Code, Diagnostic},
        resource::Mark,
        tree::Node,
    },
};
use ipnet::IpNet;
use std::{fmt, net::IpAddr};

/// `action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizationAction {
    /// Lets matching requests through; with any ALLOW present the rest is denied.
    #[default]
    Allow,
    /// Denies matching requests, before any ALLOW is asked.
    Deny,
    /// Decides nothing; that a request matches is recorded.
    Audit,
}

/// `spec` of an AuthorizationPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// `selector`; `None` means the namespace, or the mesh if it stands in the root namespace.
    pub selector: Option<WorkloadSelector>,
    /// `targetRef` and `targetRefs`; with any of them it applies to no workload.
    pub targets: Vec<PolicyTarget>,
    /// `action`.
    pub action: AuthorizationAction,
    /// `rules`; none never matches, an empty rule matches everything.
    pub rules: Vec<AuthorizationRule>,
}

/// One rule: some `from` (if any), some `to` (if any), and every `when` must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// Its place.
    pub at: Mark,
    /// `from[].source`.
    pub from: Vec<Source>,
    /// `to[].operation`.
    pub to: Vec<Operation>,
    /// `when[]`.
    pub when: Vec<Condition>,
}

/// A list and its opposite, `paths` and `notPaths` say: what is asked about must be on the one, and must not be on the
/// other. An empty list asks nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists<T> {
    /// The list.
    pub values: Vec<T>,
    /// Its opposite.
    pub not_values: Vec<T>,
}

/// `source`: every list must be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// `principals`, without `spiffe://`.
    pub principals: Lists<String>,
    /// `requestPrincipals`: `issuer/subject` of a verified token.
    pub request_principals: Lists<String>,
    /// `namespaces`.
    pub namespaces: Lists<String>,
    /// `serviceAccounts`, whatever their trust domain.
    pub service_accounts: Lists<ServiceAccount>,
    /// `trustDomains`.
    pub trust_domains: Lists<String>,
    /// `ipBlocks`: CIDR or address of the direct peer.
    pub ip_blocks: Lists<IpNet>,
    /// `remoteIpBlocks`: likewise of the first caller, as trusted proxies tell it.
    pub remote_ip_blocks: Lists<IpNet>,
}

/// A service account of a namespace. Its `Debug` is `"namespace/name"`, as it is written.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// `operation`: likewise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// `hosts`, without regard to case.
    pub hosts: Lists<String>,
    /// `ports`: of the workload.
    pub ports: Lists<u16>,
    /// `methods`.
    pub methods: Lists<String>,
    /// `paths`: without query.
    pub paths: Lists<String>,
}

impl AuthorizationPolicy {
    /// Reads the `spec` of a policy in `namespace`.
    // spec: istio pkg/config/validation ValidateAuthorizationPolicy
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, namespace: &str) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let (selector, targets) = policy_target::read(&mut fields);
        let action = fields.get("action", AuthorizationAction::read);
        let rules = fields.list("rules", |d, n| AuthorizationRule::read(d, n, namespace));
        fields
            .unsupported(&[("provider", "it is for action CUSTOM, and nobody asks the external authorizer")]);
        if let Some(action @ (AuthorizationAction::Deny | AuthorizationAction::Audit)) = action
            && fields.count("rules").unwrap_or_default() == 0
        {
            refuse_without_rules(&mut fields, action);
        }
        fields.finish();
        Some(Self { selector, targets, action: action.unwrap_or_default(), rules })
    }
}

fn refuse_without_rules(fields: &mut Fields<'_, '_>, action: AuthorizationAction) {
    let message = match action {
        AuthorizationAction::Audit => "an AUDIT without rules records nothing",
        _ => "a DENY without rules denies nothing",
    };
    let finding = Diagnostic::error(Code::SCHEMA, message);
    fields.find("rules", finding.help("write `rules: [{}]` to match every request"));
}

impl AuthorizationAction {
    fn read(decoder: &mut Decoder<'_>, node: &Node) -> Option<Self> {
        if decode::borrowed(decoder, node)? == "CUSTOM" {
            let message =
                "action CUSTOM is not supported by this version: nobody asks the external authorizer";
            let finding = Diagnostic::error(Code::SCHEMA, message);
            decoder.find(node.at, finding.help("write ALLOW, DENY or AUDIT"));
            return None;
        }
        let table = [("ALLOW", Self::Allow), ("DENY", Self::Deny), ("AUDIT", Self::Audit)];
        decode::choice(decoder, node, &table)
    }
}

impl AuthorizationRule {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, namespace: &str) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let from = fields.list("from", |decoder, node| {
            only(decoder, node, "source", |decoder, node| Source::read(decoder, node, namespace))
        });
        let to = fields.list("to", |decoder, node| only(decoder, node, "operation", Operation::read));
        let when = fields.list("when", |decoder, node| Condition::read(decoder, node, namespace));
        for name in ["from", "to"] {
            if fields.count(name) == Some(0) {
                fields.refuse(name, format!("`{name}` must not be empty; leave it out to match everything"));
            }
        }
        let at = fields.at;
        fields.finish();
        Some(Self { at, from, to, when })
    }

    /// Returns whether some condition is about a token.
    pub(crate) fn asks_for_token(&self) -> bool {
        self.from.iter().any(|source| !source.request_principals.is_empty())
            || self.when.iter().any(Condition::asks_for_token)
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

impl<T> Lists<T> {
    fn read<'n>(
        fields: &mut Fields<'_, 'n>,
        values: &'static str,
        not_values: &'static str,
        read: impl Fn(&mut Decoder<'n>, &'n Node) -> Option<T>,
    ) -> Self {
        Self { values: fields.list(values, &read), not_values: fields.list(not_values, &read) }
    }

    /// Returns whether neither list asks anything.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.not_values.is_empty()
    }
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { values: Vec::new(), not_values: Vec::new() }
    }
}

impl Source {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, namespace: &str) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let account =
            |decoder: &mut Decoder<'n>, node: &'n Node| ServiceAccount::read(decoder, node, namespace);
        let principals = Lists::read(&mut fields, "principals", "notPrincipals", name);
        let request_principals = Lists::read(&mut fields, "requestPrincipals", "notRequestPrincipals", name);
        let namespaces = Lists::read(&mut fields, "namespaces", "notNamespaces", name);
        let service_accounts = Lists::read(&mut fields, "serviceAccounts", "notServiceAccounts", account);
        let trust_domains = Lists::read(&mut fields, "trustDomains", "notTrustDomains", name);
        let ip_blocks = Lists::read(&mut fields, "ipBlocks", "notIpBlocks", ip_block);
        let remote_ip_blocks = Lists::read(&mut fields, "remoteIpBlocks", "notRemoteIpBlocks", ip_block);
        let named = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
        if (fields.has("serviceAccounts") || fields.has("notServiceAccounts"))
            && let Some(name) = named.into_iter().find(|name| fields.has(name))
        {
            fields.refuse(name, "must not be set beside service accounts");
        }
        fields.refuse_empty();
        fields.finish();
        Some(Self {
            principals,
            request_principals,
            namespaces,
            service_accounts,
            trust_domains,
            ip_blocks,
            remote_ip_blocks,
        })
    }
}

impl ServiceAccount {
    /// Reads `account` or `namespace/account`.
    // spec: istio security/v1beta1/authorization_policy.proto Source.service_accounts
    fn read(decoder: &mut Decoder<'_>, node: &Node, namespace: &str) -> Option<Self> {
        let text = name(decoder, node)?;
        let (namespace, account) = text.split_once('/').unwrap_or((namespace, &text));
        if [namespace, account].iter().any(|part| part.is_empty() || part.contains(['*', '/'])) {
            let message = format!("`{}` is not a service account", shortened(&text));
            let finding =
                Diagnostic::error(Code::SCHEMA, message).help("write `account` or `namespace/account`");
            decoder.find(node.at, finding);
            return None;
        }
        Some(Self { namespace: namespace.to_owned(), name: account.to_owned() })
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}/{}\"", self.namespace, self.name)
    }
}

fn ip_block(decoder: &mut Decoder<'_>, node: &Node) -> Option<IpNet> {
    match node.as_text().and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(address) => Some(address.into()),
        None => parsed(decoder, node, "an address or a CIDR such as 10.0.0.0/8"),
    }
}

/// Reads a port, from 0 as under Istio, where it matches nothing.
// spec: istio pkg/config/security ValidatePorts
fn workload_port(decoder: &mut Decoder<'_>, node: &Node) -> Option<u16> {
    decode::number(decoder, node, 0, u16::MAX)
}

impl Operation {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self {
            hosts: Lists::read(&mut fields, "hosts", "notHosts", name),
            ports: Lists::read(&mut fields, "ports", "notPorts", workload_port),
            methods: Lists::read(&mut fields, "methods", "notMethods", name),
            paths: Lists::read(&mut fields, "paths", "notPaths", path),
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
