//! Pieces that several kinds share.

use crate::config::{
    decode::{self, Decoder, Fields, name_at, shortened, text},
    diagnostic::{Code, Diagnostic},
    resource::At,
    tree::{Key, Node},
};
use http::{HeaderName, HeaderValue};
use regex::{Regex, RegexBuilder};
use std::{collections::BTreeMap, net::IpAddr};

/// How a string is compared.
// spec: istio networking/v1alpha3/virtual_service.proto StringMatch
#[derive(Clone, Debug)]
pub enum StringMatch {
    /// Equal, byte by byte.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// The whole string matches the regular expression (RE2 syntax; compiled anchored at both ends).
    Regex(Regex),
    /// Present at all: `{}` or the regex `*`.
    Present,
}

impl PartialEq for StringMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            (Self::Present, Self::Present) => true,
            _ => false,
        }
    }
}

/// Where a route sends a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The host as written: a short name, or with dots as it is.
    pub host: At<String>,
    /// The subset, if one is named.
    pub subset: Option<At<String>>,
    /// The service port, if one is named.
    pub port: Option<u16>,
}

/// `set`, `add` and `remove` for one direction, in the order in which they are applied: remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOperations {
    /// Overwrites. Keys are lower case.
    pub set: Vec<(String, String)>,
    /// Appends.
    pub add: Vec<(String, String)>,
    /// Removes.
    pub remove: Vec<String>,
}

/// Header operations for request and response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// On the way to the destination.
    pub request: HeaderOperations,
    /// On the way back.
    pub response: HeaderOperations,
}

/// `selector.matchLabels` (or `workloadSelector`): every label must be equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadSelector {
    /// The labels; empty selects every workload.
    pub labels: BTreeMap<String, String>,
}

impl StringMatch {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let exact = fields.get("exact", text).map(Self::Exact);
        let prefix = fields.get("prefix", text).map(Self::Prefix);
        let regex = fields.get("regex", Self::read_regex);
        let written = ["exact", "prefix", "regex"].into_iter().filter(|name| fields.has(name)).count();
        if written > 1 {
            let at = fields.at;
            fields.decoder.refuse(at, "only one of exact, prefix and regex may be set");
        }
        let found = exact.or(prefix).or(regex);
        fields.finish();
        if written == 0 { Some(Self::Present) } else { found }
    }

    fn read_regex(decoder: &mut Decoder<'_>, node: &Node) -> Option<Self> {
        let text = decode::name(decoder, node)?;
        if text == "*" {
            return Some(Self::Present);
        }
        match compile(&text) {
            Ok(regex) => Some(Self::Regex(regex)),
            Err(reason) => {
                let message = format!("regex `{}` is not valid: {reason}", shortened(&text));
                let help = "write it in RE2 syntax; it is matched against the whole text";
                decoder.find(node.at, Diagnostic::error(Code::INVALID_REGEXP, message).help(help));
                None
            }
        }
    }
}

/// Compiles `text` so that it matches whole strings only.
fn compile(text: &str) -> Result<Regex, String> {
    if text.len() > REGEX_CHARS_MAX {
        return Err(format!("it has {} bytes, and at most {REGEX_CHARS_MAX} are allowed", text.len()));
    }
    let build = |pattern: &str| {
        RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => format!("compiled, it exceeds {limit} bytes"),
            // The last line of a syntax error says what is wrong; those before draw the pattern.
            other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        })
    };
    // By itself first: `a)|(?:b` is no expression, but would become one between the anchors' parentheses.
    build(text)?;
    build(&format!("^(?:{text})$"))
}

impl Destination {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let host = fields.require("host", host);
        let subset = fields.get("subset", name_at);
        let port = fields.get("port", port_selector);
        fields.finish();
        Some(Self { host: host?, subset, port })
    }
}

/// Reads `{number: N}`.
pub(super) fn port_selector<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<u16> {
    let mut fields = decoder.fields(node)?;
    let number = fields.require("number", decode::port);
    fields.unsupported(&[("name", "the port it names is not known here; write `number`")]);
    fields.finish();
    number
}

/// Reads a host name: short, with dots, with a leading `*`, or an address.
pub(super) fn host(decoder: &mut Decoder<'_>, node: &Node) -> Option<At<String>> {
    let host = name_at(decoder, node)?;
    if is_host(&host) {
        return Some(host);
    }
    let message = format!("`{}` is not a host name", shortened(&host));
    let help = if host.contains(':') {
        "write the name without scheme and port; a destination's port is `port: {number: N}`"
    } else {
        "write a name such as reviews, reviews.shop.svc.cluster.local or *.example.com"
    };
    decoder.find(node.at, Diagnostic::error(Code::SCHEMA, message).help(help));
    None
}

// spec: istio pkg/config/validation ValidateWildcardDomain, RFC 1123 (underscores occur in external names)
pub(super) fn is_host(text: &str) -> bool {
    if text == "*" || text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let rest = text.strip_prefix("*.").or_else(|| text.strip_prefix('*')).unwrap_or(text);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    text.len() <= 255 && rest.strip_suffix('.').unwrap_or(rest).split('.').all(is_label)
}

impl HeaderOperations {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let pairs = |decoder: &mut Decoder<'n>, node: &'n Node| Some(decoder.entries(node, header_and_value));
        let set = fields.get("set", pairs).unwrap_or_default();
        let add = fields.get("add", pairs).unwrap_or_default();
        let remove = fields.list("remove", |decoder, node| {
            let name = decode::name(decoder, node)?;
            header_name(decoder, &name, node.at)
        });
        fields.finish();
        Some(Self { set, add, remove })
    }
}

impl Headers {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let request = fields.get("request", HeaderOperations::read).unwrap_or_default();
        let response = fields.get("response", HeaderOperations::read).unwrap_or_default();
        fields.finish();
        Some(Self { request, response })
    }
}

fn header_and_value(decoder: &mut Decoder<'_>, key: &Key, node: &Node) -> Option<(String, String)> {
    let value = if node.is_null() { String::new() } else { text(decoder, node)? };
    if HeaderValue::from_str(&value).is_err() {
        decoder.refuse(node.at, "a header's value holds no line breaks and no other control characters");
        return None;
    }
    if key.text.starts_with(':') && !key.text.eq_ignore_ascii_case(":authority") {
        let message = format!("`{}` is no header and is left out, as under Istio", shortened(&key.text));
        decoder.find(key.at, Diagnostic::warning(Code::NO_EFFECT, message));
        return None;
    }
    Some((header_name(decoder, &key.text, key.at)?, value))
}

/// Reads a header's name, in lower case. `:authority` is `host`.
pub(super) fn header_name(
    decoder: &mut Decoder<'_>,
    written: &str,
    at: crate::config::Mark,
) -> Option<String> {
    if written.eq_ignore_ascii_case(":authority") {
        return Some("host".to_owned());
    }
    match HeaderName::from_bytes(written.as_bytes()) {
        Ok(name) => Some(name.as_str().to_owned()),
        Err(_) => {
            let message =
                format!("`{}` is not the name of a header that can be used here", shortened(written));
            decoder.refuse(at, message);
            None
        }
    }
}

impl WorkloadSelector {
    /// Reads the labels under `name`: `matchLabels`, or `labels` in older messages.
    pub(super) fn reader<'n>(name: &'static str) -> impl FnOnce(&mut Decoder<'n>, &'n Node) -> Option<Self> {
        move |decoder, node| {
            let mut fields = decoder.fields(node)?;
            let labels = fields.get(name, decode::labels).unwrap_or_default();
            if name == "matchLabels" && labels.is_empty() {
                // spec: istio pkg/config/validation validateWorkloadSelector
                let at = fields.at;
                let message = "a selector without labels selects every workload; leave it out to mean that";
                fields.decoder.find(at, Diagnostic::warning(Code::SCHEMA_WARNING, message));
            }
            if let Some((key, value)) =
                labels.iter().find(|(k, v)| k.is_empty() || k.contains('*') || v.contains('*'))
            {
                // spec: istio pkg/config/validation validateWorkloadSelector
                fields.refuse(
                    name,
                    format!(
                        "`{}` is not a label: wildcards select nothing",
                        shortened(&format!("{key}: {value}"))
                    ),
                );
            }
            fields.finish();
            Some(Self { labels })
        }
    }
}

/// Reads `exportTo`.
pub(super) fn export_to(fields: &mut Fields<'_, '_>) -> Vec<String> {
    fields.list("exportTo", decode::name)
}

/// Istio's own bound.
// spec: istio pkg/config/validation validateStringMatchRegexp
const REGEX_CHARS_MAX: usize = 1024;

/// A hundred times what a path expression needs, and little enough for thousands of routes.
const REGEX_BYTES_MAX: usize = 1024 * 1024;
