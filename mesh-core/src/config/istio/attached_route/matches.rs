//! Reads `matches`: what a request must be like.

use super::{AttachedMatch, PathMatch};
use crate::config::{
    decode::{self, Decoder, Fields, choice, shortened},
    diagnostic::{Code, Diagnostic},
    istio::common::StringMatch,
    resource::{At, Mark},
    tree::Node,
};
use http::HeaderName;
use std::collections::HashSet;

impl AttachedMatch {
    /// Returns what an HTTP rule without `matches` matches: everything, as a prefix.
    pub(super) fn every_path(at: Mark) -> Self {
        Self { at, path: Some(PathMatch::Segments(String::new())), ..Self::default() }
    }

    pub(super) fn read_http<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let path = fields.get("path", path);
        let read = Self {
            at: node.at,
            path: path.or_else(|| Self::every_path(node.at).path),
            method: fields.get("method", |decoder, node| choice(decoder, node, &METHODS)),
            headers: named(&mut fields, "headers", header),
            query_params: named(&mut fields, "queryParams", decode::name),
        };
        fields.finish();
        Some(read)
    }

    pub(super) fn read_grpc<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let path = fields.get("method", grpc_method);
        let headers = named(&mut fields, "headers", header);
        fields.finish();
        Some(Self { at: node.at, path, headers, ..Self::default() })
    }
}

/// How a value is compared.
#[derive(Clone, Copy)]
enum Comparison {
    Exact,
    Prefix,
    Regex,
}

impl Comparison {
    fn pattern(self, decoder: &mut Decoder<'_>, node: &Node) -> Option<StringMatch> {
        match self {
            Self::Regex => StringMatch::read_regex(decoder, node),
            Self::Exact | Self::Prefix => decode::name(decoder, node).map(StringMatch::Exact),
        }
    }
}

fn path<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<PathMatch> {
    let mut fields = decoder.fields(node)?;
    let comparison = fields.get("type", |decoder, node| choice(decoder, node, &PATH_COMPARISONS));
    let value = fields.get("value", decode::name_at);
    let value = value.unwrap_or_else(|| At { value: "/".to_owned(), at: node.at });
    let path = match comparison.unwrap_or(Comparison::Prefix) {
        Comparison::Regex => StringMatch::regex(fields.decoder, &value, value.at).map(PathMatch::Whole),
        comparison => {
            check_path(&mut fields, &value);
            Some(literal(comparison, value.value))
        }
    };
    fields.finish();
    path
}

/// "When specified, a trailing `/` is ignored."
// spec: gateway-api v1 PathMatchPathPrefix
fn literal(comparison: Comparison, path: String) -> PathMatch {
    match comparison {
        Comparison::Prefix => PathMatch::Segments(path.strip_suffix('/').map(str::to_owned).unwrap_or(path)),
        Comparison::Exact | Comparison::Regex => PathMatch::Whole(StringMatch::Exact(path)),
    }
}

// spec: gateway-api v1 HTTPPathMatch, its validation rules
fn check_path(fields: &mut Fields<'_, '_>, path: &At<String>) {
    let normal = format!("{path}/", path = path.value);
    let wrong = match path.value.as_str() {
        path if !path.starts_with('/') => "must begin with `/`",
        path if path.contains("//") => "must not contain `//`",
        _ if normal.contains("/./") || normal.contains("/../") => "must not contain `.` or `..` as a segment",
        path if path.contains("%2f") || path.contains("%2F") => "must not contain `%2F`",
        path if !path.bytes().all(is_of_path) => "holds a character that no path holds",
        _ => return,
    };
    let message = format!("path `{}` {wrong}", shortened(path));
    fields.decoder.within("value", |decoder| decoder.refuse(path.at, message));
}

// spec: rfc3986 3.3: pchar and `/`
fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%".contains(&byte)
}

/// Reads a list of `{type, name, value}`. Of several with one name, the first counts.
// spec: gateway-api v1 HTTPHeaderMatch.name, HTTPQueryParamMatch.name
fn named<'n, N: AsRef<str>>(
    fields: &mut Fields<'_, 'n>,
    list: &'static str,
    name: fn(&mut Decoder<'_>, &Node) -> Option<N>,
) -> Vec<(N, StringMatch)> {
    let mut seen = HashSet::new();
    fields.list(list, |decoder, node| {
        let mut fields = decoder.fields(node)?;
        let comparison = fields.get("type", |decoder, node| choice(decoder, node, &COMPARISONS));
        let comparison = comparison.unwrap_or(Comparison::Exact);
        let name = fields.require("name", name);
        let pattern = fields.require("value", |decoder, node| comparison.pattern(decoder, node));
        fields.finish();
        let name = name?;
        first_of_its_name(&mut seen, decoder, name.as_ref(), node.at).then_some((name, pattern?))
    })
}

/// Returns whether `name` is new to `seen`; if not, says that it is left out.
pub(super) fn first_of_its_name(
    seen: &mut HashSet<String>,
    decoder: &mut Decoder<'_>,
    name: &str,
    at: Mark,
) -> bool {
    let first = seen.insert(name.to_owned());
    if !first {
        let message = format!("`{}` stands here twice; the first one counts", shortened(name));
        decoder.find(at, Diagnostic::warning(Code::SCHEMA_WARNING, message));
    }
    first
}

/// Reads the name of a header; a pseudo header has none.
// spec: gateway-api v1 HTTPHeaderName
pub(super) fn header(decoder: &mut Decoder<'_>, node: &Node) -> Option<HeaderName> {
    let written = decode::name(decoder, node)?;
    match HeaderName::from_bytes(written.as_bytes()) {
        Ok(name) => Some(name),
        Err(_) => {
            decoder.refuse(node.at, format!("`{}` is not the name of a header", shortened(&written)));
            None
        }
    }
}

/// A gRPC method is the path `/service/method`.
// spec: istio pilot/pkg/config/kube/gateway/conversion.go createGRPCURIMatch; grpc PROTOCOL-HTTP2.md "Path"
fn grpc_method<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<PathMatch> {
    let mut fields = decoder.fields(node)?;
    let comparison = fields.get("type", |decoder, node| choice(decoder, node, &COMPARISONS));
    // An empty text means any, as an absent one does.
    let part = |decoder: &mut Decoder<'_>, node: &Node| {
        let text = decode::text(decoder, node)?;
        (!text.is_empty()).then_some(At { value: text, at: node.at })
    };
    let (service, method) = (fields.get("service", part), fields.get("method", part));
    if service.is_none() && method.is_none() {
        let at = fields.at;
        fields.decoder.refuse(at, "one of `service` and `method` is required");
    }
    let (service, method) = (service.as_ref(), method.as_ref());
    let path = match comparison.unwrap_or(Comparison::Exact) {
        Comparison::Regex => grpc_regex(fields.decoder, service, method),
        Comparison::Exact | Comparison::Prefix => grpc_exact(fields.decoder, service, method),
    };
    fields.finish();
    path
}

fn grpc_exact(
    decoder: &mut Decoder<'_>,
    service: Option<&At<String>>,
    method: Option<&At<String>>,
) -> Option<PathMatch> {
    for (part, dots) in [(service, true), (method, false)] {
        if let Some(name) = part.filter(|name| !is_grpc_name(name, dots)) {
            decoder.refuse(name.at, format!("`{}` is not a name in gRPC", shortened(name)));
        }
    }
    match (service, method) {
        (Some(service), Some(method)) => {
            Some(PathMatch::Whole(StringMatch::Exact(format!("/{}/{}", service.value, method.value))))
        }
        (Some(service), None) => Some(PathMatch::Segments(format!("/{}", service.value))),
        (None, Some(method)) => {
            let path = format!("/[^/]+/{}", method.value);
            StringMatch::regex(decoder, &path, method.at).map(PathMatch::Whole)
        }
        (None, None) => None,
    }
}

/// Each part by itself first, so that a finding is about what was written.
fn grpc_regex(
    decoder: &mut Decoder<'_>,
    service: Option<&At<String>>,
    method: Option<&At<String>>,
) -> Option<PathMatch> {
    for part in [service, method].into_iter().flatten() {
        StringMatch::regex(decoder, part, part.at)?;
    }
    let at = service.or(method)?.at;
    let service = service.map_or("[^/]+".to_owned(), |service| format!("(?:{})", service.value));
    let method = method.map_or(".+".to_owned(), |method| format!("(?:{})", method.value));
    StringMatch::regex(decoder, &format!("/{service}/{method}"), at).map(PathMatch::Whole)
}

// spec: gateway-api v1 GRPCMethodMatch, its validation rules
fn is_grpc_name(name: &str, dots: bool) -> bool {
    let is_word = |word: &str| {
        word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
            && word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    };
    match dots {
        true => name.strip_prefix('.').unwrap_or(name).split('.').all(is_word),
        false => is_word(name),
    }
}

const PATH_COMPARISONS: [(&str, Comparison); 3] = [
    ("Exact", Comparison::Exact),
    ("PathPrefix", Comparison::Prefix),
    ("RegularExpression", Comparison::Regex),
];

const COMPARISONS: [(&str, Comparison); 2] =
    [("Exact", Comparison::Exact), ("RegularExpression", Comparison::Regex)];

// spec: gateway-api v1 HTTPMethod
const METHODS: [(&str, &str); 9] = [
    ("GET", "GET"),
    ("HEAD", "HEAD"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("DELETE", "DELETE"),
    ("CONNECT", "CONNECT"),
    ("OPTIONS", "OPTIONS"),
    ("TRACE", "TRACE"),
    ("PATCH", "PATCH"),
];
