//! Pieces that several kinds share.

use super::expression;
use crate::{
    config::{
        decode::{self, Decoder, Fields, name_at, shortened, text},
        diagnostic::{Code, Diagnostic},
        resource::{At, Mark},
        tree::{Key, Node},
    },
    route::check_header_value,
};
use http::{HeaderName, HeaderValue};
use regex::Regex;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

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
    /// Reads a condition. The regex `*` stands for presence.
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let read = Self::read_with(decoder, node, Self::read_regex)?;
        if matches!(&read, Self::Prefix(prefix) if prefix.is_empty()) {
            decoder.refuse(node.at, "the prefix must not be empty; write `{}` for presence");
            return None;
        }
        Some(read)
    }

    /// Reads a condition on the path: an empty prefix is that of every path, and `*` is no expression.
    pub(super) fn read_uri<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        Self::read_with(decoder, node, |decoder, node| expression::whole(decoder, node).map(Self::Regex))
    }

    /// Reads an expression; `*` stands for presence.
    pub(super) fn read_regex(decoder: &mut Decoder<'_>, node: &Node) -> Option<Self> {
        match node.as_text() {
            Some("*") => Some(Self::Present),
            _ => expression::whole(decoder, node).map(Self::Regex),
        }
    }

    /// Returns the match of the regular expression `text`, which stands at `at`.
    pub(super) fn regex(decoder: &mut Decoder<'_>, text: &str, at: Mark) -> Option<Self> {
        expression::whole_of(decoder, text, at).map(Self::Regex)
    }

    fn read_with<'n>(
        decoder: &mut Decoder<'n>,
        node: &'n Node,
        regex: impl FnOnce(&mut Decoder<'n>, &'n Node) -> Option<Self>,
    ) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let exact = fields.get("exact", text).map(Self::Exact);
        let prefix = fields.get("prefix", text).map(Self::Prefix);
        let regex = fields.get("regex", regex);
        let written = ["exact", "prefix", "regex"].into_iter().filter(|name| fields.has(name)).count();
        if written > 1 {
            let at = fields.at;
            fields.decoder.refuse(at, "only one of exact, prefix and regex may be set");
        }
        let found = exact.or(prefix).or(regex);
        fields.finish();
        if written == 0 { Some(Self::Present) } else { found }
    }
}

impl Destination {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let host = fields.require("host", host_of_destination);
        let subset = fields.get("subset", label_at);
        let port = fields.get("port", port_selector);
        fields.finish();
        Some(Self { host: host?, subset, port })
    }
}

fn host_of_destination(decoder: &mut Decoder<'_>, node: &Node) -> Option<At<String>> {
    let host = host(decoder, node)?;
    if host.value == "*" {
        decoder.refuse(host.at, "`*` is no destination: name one host");
        return None;
    }
    Some(host)
}

/// Reads a DNS label, with its place.
pub(super) fn label_at(decoder: &mut Decoder<'_>, node: &Node) -> Option<At<String>> {
    let label = name_at(decoder, node)?;
    if !is_label(&label) {
        let message = format!("`{}` is no DNS label", shortened(&label));
        let help = "write lower-case letters, digits and `-`, at most 63, none of them `-` at an end";
        decoder.find(node.at, Diagnostic::error(Code::SCHEMA, message).help(help));
        return None;
    }
    Some(label)
}

// spec: rfc1123 2.1; istio pkg/config/labels IsDNS1123Label
pub(in crate::config) fn is_label(text: &str) -> bool {
    let is_inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    text.len() <= 63
        && !text.is_empty()
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Returns whether `text` is the value of a label, or its name behind the prefix.
// spec: kubernetes concepts/overview/working-with-objects/labels, syntax and character set
pub(super) fn is_label_text(text: &str) -> bool {
    let edges = text.bytes().next().into_iter().chain(text.bytes().last());
    text.len() <= 63
        && !text.is_empty()
        && edges.into_iter().all(|c| c.is_ascii_alphanumeric())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
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

/// Reads the name of a header that is operated on, in lower case.
type HeaderKey = fn(&mut Decoder<'_>, &str, Mark) -> Option<String>;

impl HeaderOperations {
    fn read_request<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        Self::read(decoder, node, header_name)
    }

    fn read_response<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        Self::read(decoder, node, plain_header_name)
    }

    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, key: HeaderKey) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let set = fields.get("set", pairs(key)).unwrap_or_default();
        let add = fields.get("add", pairs(key)).unwrap_or_default();
        let remove = fields.list("remove", removed);
        fields.finish();
        Some(Self { set, add, remove })
    }
}

impl Headers {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let request = fields.get("request", HeaderOperations::read_request).unwrap_or_default();
        let response = fields.get("response", HeaderOperations::read_response).unwrap_or_default();
        fields.finish();
        Some(Self { request, response })
    }

    /// Adds what the fields say that Istio 1.3 had in the place of `headers`.
    // spec: istio networking/v1alpha3/virtual_service.proto of release 1.3, HTTPRoute and HTTPRouteDestination
    pub(super) fn read_old(&mut self, fields: &mut Fields<'_, '_>) {
        let appended = fields.get("appendRequestHeaders", pairs(header_name));
        self.request.add.extend(appended.into_iter().flatten());
        self.request.remove.append(&mut fields.list("removeRequestHeaders", removed));
        let appended = fields.get("appendResponseHeaders", pairs(plain_header_name));
        self.response.add.extend(appended.into_iter().flatten());
        self.response.remove.append(&mut fields.list("removeResponseHeaders", removed));
        fields.deprecated("appendRequestHeaders", "headers.request.add");
        fields.deprecated("removeRequestHeaders", "headers.request.remove");
        fields.deprecated("appendResponseHeaders", "headers.response.add");
        fields.deprecated("removeResponseHeaders", "headers.response.remove");
    }

    /// Likewise, for the one of them that only routes had.
    pub(super) fn read_oldest(&mut self, fields: &mut Fields<'_, '_>) {
        let appended = fields.get("appendHeaders", pairs(header_name));
        self.request.add.extend(appended.into_iter().flatten());
        fields.deprecated("appendHeaders", "headers.request.add");
    }
}

/// Returns a reader of header names and values.
fn pairs<'n>(key: HeaderKey) -> impl FnOnce(&mut Decoder<'n>, &'n Node) -> Option<Vec<(String, String)>> {
    move |decoder, node| {
        Some(decoder.entries(node, |decoder, name, value| header_and_value(decoder, name, value, key)))
    }
}

fn header_and_value(
    decoder: &mut Decoder<'_>,
    key: &Key,
    node: &Node,
    name: HeaderKey,
) -> Option<(String, String)> {
    let value = if node.is_null() { String::new() } else { text(decoder, node)? };
    if HeaderValue::from_str(&value).is_err() {
        decoder.refuse(node.at, "a header's value holds no line breaks and no other control characters");
        return None;
    }
    let name = name(decoder, &key.text, key.at)?;
    if value.is_empty() {
        // spec: envoy config.core.v3.HeaderValueOption.keep_empty_value
        let message = format!("header `{name}` has no value, and is left out, as under Istio");
        decoder
            .find(node.at, Diagnostic::warning(Code::NO_EFFECT, message).help("write `remove` to remove it"));
        return None;
    }
    // An authority is taken as it is written.
    let checked = if name == "host" { Ok(()) } else { check_header_value(&name, &value) };
    if let Err(error) = checked {
        decoder.refuse(node.at, shortened(&error.to_string()));
        return None;
    }
    Some((name, value))
}

fn removed(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let name = decode::name(decoder, node)?;
    plain_header_name(decoder, &name, node.at)
}

/// Reads the name of a header of a request, in lower case. `:authority` is `host`.
pub(super) fn header_name(decoder: &mut Decoder<'_>, written: &str, at: Mark) -> Option<String> {
    if written.eq_ignore_ascii_case(":authority") {
        return Some("host".to_owned());
    }
    if written.starts_with(':') {
        let message = format!("`{}` is no header and is left out, as under Istio", shortened(written));
        decoder.find(at, Diagnostic::warning(Code::NO_EFFECT, message));
        return None;
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

/// Reads the name of a header that is no part of the request line, in lower case.
// spec: istio pkg/config/validation ValidateHTTPHeaderOperationName
fn plain_header_name(decoder: &mut Decoder<'_>, written: &str, at: Mark) -> Option<String> {
    if written.starts_with(':') || written.eq_ignore_ascii_case("host") {
        decoder.refuse(at, format!("`{}` can neither be removed nor set on a response", shortened(written)));
        return None;
    }
    header_name(decoder, written, at)
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
// spec: istio pkg/config/validation validateExportTo
pub(super) fn export_to(fields: &mut Fields<'_, '_>) -> Vec<String> {
    let scopes = fields.list("exportTo", scope);
    let mut seen = BTreeSet::new();
    if let Some(twice) = scopes.iter().find(|scope| !seen.insert(scope.as_str())) {
        fields.refuse("exportTo", format!("`{twice}` is listed twice"));
    }
    if seen.len() > 1 && seen.contains("*") {
        fields.refuse("exportTo", "`*` is everybody: leave the other entries out");
    }
    scopes
}

fn scope(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let scope = decode::name(decoder, node)?;
    if matches!(scope.as_str(), "." | "*" | "~") || is_label(&scope) {
        return Some(scope);
    }
    let message = format!("`{}` is no namespace", shortened(&scope));
    let help = "write `.` for the own namespace, `*` for all, or the name of one";
    decoder.find(node.at, Diagnostic::error(Code::SCHEMA, message).help(help));
    None
}
