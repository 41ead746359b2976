//! Reads `corsPolicy`, which the edge obeys; a call inside the mesh comes from no browser.
// spec: istio pkg/config/validation validateCORSPolicy

use super::CorsPolicy;
use crate::config::{
    decode::{self, Decoder, choice, flag, lasting, shortened},
    diagnostic::{Code, Diagnostic},
    istio::common::StringMatch,
    tree::Node,
};
use http::HeaderName;
use std::time::Duration;

impl CorsPolicy {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let origins = fields.list("allowOrigins", origin);
        let old =
            fields.list("allowOrigin", |decoder, node| decode::name(decoder, node).map(StringMatch::Exact));
        fields.deprecated("allowOrigin", "allowOrigins: [{exact: ...}]");
        let read = Self {
            allow_origins: if fields.has("allowOrigins") { origins } else { old },
            allow_methods: fields.list("allowMethods", method),
            allow_headers: fields.list("allowHeaders", header),
            expose_headers: fields.list("exposeHeaders", header),
            max_age: fields.get("maxAge", seconds),
            allow_credentials: fields.get("allowCredentials", flag),
            ignore_unmatched_preflights: fields
                .get("unmatchedPreflights", |d, n| choice(d, n, PREFLIGHTS))
                .unwrap_or_default(),
        };
        fields.finish();
        Some(read)
    }
}

fn origin<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<StringMatch> {
    let origin = StringMatch::read(decoder, node)?;
    let empty = match &origin {
        StringMatch::Exact(text) => text.is_empty(),
        StringMatch::Present => true,
        StringMatch::Prefix(_) | StringMatch::Regex(_) => false,
    };
    if empty {
        decoder.refuse(node.at, "an origin is required: write exact, prefix or regex");
        return None;
    }
    Some(origin)
}

fn method(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let method = decode::name(decoder, node)?;
    if METHODS.contains(&method.as_str()) {
        return Some(method);
    }
    let message = format!("`{}` is not a method that can be allowed", shortened(&method));
    let finding =
        Diagnostic::error(Code::SCHEMA, message).help(format!("write one of {}", METHODS.join(", ")));
    decoder.find(node.at, finding);
    None
}

fn header(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let name = decode::name(decoder, node)?;
    if name != "*" && HeaderName::from_bytes(name.as_bytes()).is_err() {
        decoder.refuse(node.at, format!("`{}` is not the name of a header", shortened(&name)));
        return None;
    }
    Some(name)
}

fn seconds(decoder: &mut Decoder<'_>, node: &Node) -> Option<Duration> {
    let age = lasting(decoder, node)?;
    if age.subsec_nanos() > 0 {
        decoder.refuse(node.at, "browsers count whole seconds");
        return None;
    }
    Some(age)
}

const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

/// Whether a preflight that matches no origin is answered instead of being sent on.
const PREFLIGHTS: &[(&str, bool)] = &[("UNSPECIFIED", false), ("FORWARD", false), ("IGNORE", true)];
