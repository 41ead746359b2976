//! `when`: conditions on one attribute of a request each.
// spec: istio docs/reference/config/security/conditions; pkg/config/security ValidateAttribute

use super::{Lists, ServiceAccount, ip_block, workload_port};
use crate::config::{
    decode::{self, Decoder, Fields, name, shortened},
    diagnostic::{Code, Diagnostic},
    tree::Node,
};
use http::HeaderName;
use ipnet::IpNet;

/// One entry of `when`: what it is about, and the values it must and must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `request.headers[name]`.
    Header(HeaderName, Lists<String>),
    /// `request.headers[host]` or `[:authority]`.
    Host(Lists<String>),
    /// `request.headers[:method]`.
    Method(Lists<String>),
    /// `source.ip`: the direct peer.
    SourceIp(Lists<IpNet>),
    /// `remote.ip`: the first caller, as trusted proxies tell it.
    RemoteIp(Lists<IpNet>),
    /// `source.namespace`.
    SourceNamespace(Lists<String>),
    /// `source.principal`.
    SourcePrincipal(Lists<String>),
    /// `source.serviceAccount`.
    SourceServiceAccount(Lists<ServiceAccount>),
    /// `request.auth.principal`.
    RequestPrincipal(Lists<String>),
    /// `request.auth.claims[name][name]…`, also as `request.auth.audiences` and `request.auth.presenter`.
    Claim(Vec<String>, Lists<String>),
    /// `destination.ip`.
    DestinationIp(Lists<IpNet>),
    /// `destination.port`: of the workload.
    DestinationPort(Lists<u16>),
    /// `connection.sni`.
    Sni(Lists<String>),
}

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Header(HeaderName),
    Host,
    Method,
    SourceIp,
    RemoteIp,
    SourceNamespace,
    SourcePrincipal,
    SourceServiceAccount,
    RequestPrincipal,
    Claim(Vec<String>),
    DestinationIp,
    DestinationPort,
    Sni,
}

impl Condition {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, namespace: &str) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let key = fields.require("key", Key::read);
        let condition = match key {
            Some(key) => Some(key.condition(&mut fields, namespace)),
            None => {
                texts(&mut fields);
                None
            }
        };
        let written = |name| fields.count(name).unwrap_or_default();
        if written("values") + written("notValues") == 0 {
            let at = fields.at;
            fields.decoder.refuse(at, "at least one of `values` and `notValues` must be set");
        }
        fields.finish();
        condition
    }

    /// Returns whether it is about a token.
    pub(super) fn asks_for_token(&self) -> bool {
        matches!(self, Self::RequestPrincipal(_) | Self::Claim(..))
    }
}

impl Key {
    fn read(decoder: &mut Decoder<'_>, node: &Node) -> Option<Self> {
        let text = name(decoder, node)?;
        match Self::parse(&text) {
            Ok(key) => Some(key),
            Err((why, help)) => {
                let finding = Diagnostic::error(Code::SCHEMA, format!("`{}` {why}", shortened(&text)));
                decoder.find(node.at, finding.help(help));
                None
            }
        }
    }

    /// Returns what `text` is about, or what is wrong with it and what to write.
    fn parse(text: &str) -> Result<Self, (&'static str, &'static str)> {
        let (name, inner) = text.split_at(text.find('[').unwrap_or(text.len()));
        Ok(match (name, inner) {
            ("request.headers", _) => header(bracketed(inner).ok_or(NOT_BRACKETED)?)?,
            ("request.auth.claims", _) => Self::Claim(claim_path(inner).ok_or(NOT_BRACKETED)?),
            ("source.ip", "") => Self::SourceIp,
            ("remote.ip", "") => Self::RemoteIp,
            ("source.namespace", "") => Self::SourceNamespace,
            ("source.principal", "") => Self::SourcePrincipal,
            ("source.serviceAccount", "") => Self::SourceServiceAccount,
            ("request.auth.principal", "") => Self::RequestPrincipal,
            ("request.auth.audiences", "") => Self::Claim(vec!["aud".to_owned()]),
            ("request.auth.presenter", "") => Self::Claim(vec!["azp".to_owned()]),
            ("destination.ip", "") => Self::DestinationIp,
            ("destination.port", "") => Self::DestinationPort,
            ("connection.sni", "") => Self::Sni,
            ("destination.namespace", "") => return Err(("is no key", "write `metadata.namespace` instead")),
            ("destination.labels", _) => return Err(("is no key", "write `selector` instead")),
            _ if name.starts_with("experimental.") => return Err(EXPERIMENTAL),
            _ => return Err(("is no key", KEYS)),
        })
    }

    fn condition(self, fields: &mut Fields<'_, '_>, namespace: &str) -> Condition {
        match self {
            Self::Header(name) => Condition::Header(name, texts(fields)),
            Self::Host => Condition::Host(texts(fields)),
            Self::Method => Condition::Method(texts(fields)),
            Self::SourceIp => Condition::SourceIp(lists(fields, ip_block)),
            Self::RemoteIp => Condition::RemoteIp(lists(fields, ip_block)),
            Self::SourceNamespace => Condition::SourceNamespace(texts(fields)),
            Self::SourcePrincipal => Condition::SourcePrincipal(texts(fields)),
            Self::SourceServiceAccount => Condition::SourceServiceAccount(lists(fields, |decoder, node| {
                ServiceAccount::read(decoder, node, namespace)
            })),
            Self::RequestPrincipal => Condition::RequestPrincipal(texts(fields)),
            Self::Claim(path) => Condition::Claim(path, texts(fields)),
            Self::DestinationIp => Condition::DestinationIp(lists(fields, ip_block)),
            Self::DestinationPort => Condition::DestinationPort(lists(fields, workload_port)),
            Self::Sni => Condition::Sni(texts(fields)),
        }
    }
}

fn texts(fields: &mut Fields<'_, '_>) -> Lists<String> {
    lists(fields, decode::name)
}

fn lists<'n, T>(
    fields: &mut Fields<'_, 'n>,
    read: impl Fn(&mut Decoder<'n>, &'n Node) -> Option<T>,
) -> Lists<T> {
    Lists::read(fields, "values", "notValues", read)
}

/// Returns the key about header `name`; some are parts of the request line.
fn header(name: &str) -> Result<Key, (&'static str, &'static str)> {
    match name.to_ascii_lowercase().as_str() {
        ":authority" | "host" => Ok(Key::Host),
        ":method" => Ok(Key::Method),
        ":path" => Err(("is not supported by this version", "write `paths` under `to[].operation`")),
        name => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Ok(Key::Header(name)),
            Err(_) => Err(("names no header", "write `request.headers[x-name]`")),
        },
    }
}

/// Returns what stands between the brackets of `[a]`.
fn bracketed(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']').filter(|name| !name.is_empty())
}

/// Returns the names in `[a][b]`. Where the brackets do not pair up, what stands between the outermost is one name.
// spec: istio pilot/pkg/security/authz/model extractNameInNestedBrackets
fn claim_path(text: &str) -> Option<Vec<String>> {
    let inner = bracketed(text)?;
    let names: Vec<_> = inner.split("][").map(str::to_owned).collect();
    let paired = names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']']));
    Some(if paired { names } else { vec![inner.to_owned()] })
}

const NOT_BRACKETED: (&str, &str) =
    ("names nothing", "write the name between brackets: `request.headers[x-name]`");

const EXPERIMENTAL: (&str, &str) =
    ("is not supported by this version", "there is no filter of Envoy's whose metadata it could look at");

const KEYS: &str = "the keys are request.headers[name], request.auth.principal, request.auth.audiences, \
                    request.auth.presenter, request.auth.claims[name], source.ip, source.namespace, \
                    source.principal, source.serviceAccount, remote.ip, destination.ip, destination.port and \
                    connection.sni";
