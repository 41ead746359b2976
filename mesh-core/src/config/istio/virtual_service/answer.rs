//! Reads what a route does with the path of a request, and what it answers by itself: `rewrite`, `redirect` and
//! `directResponse`.
// spec: istio pkg/config/validation validateHTTPRewrite, validateHTTPRedirect, validateHTTPDirectResponse

use super::{DirectResponse, Redirect, Rewrite};
use crate::{
    config::{
        decode::{self, Decoder, Fields, choice, count, name, shortened, text},
        diagnostic::{Code, Diagnostic},
        istio::expression,
        tree::Node,
    },
    route::Substitution,
};
use http::uri::Authority;

impl Redirect {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let code = fields.get("redirectCode", count).filter(|code| *code != 0).unwrap_or(301);
        if !matches!(code, 301 | 302 | 303 | 307 | 308) {
            let finding = Diagnostic::error(Code::SCHEMA, format!("{code} is not a redirect"));
            fields.find("redirectCode", finding.help("write one of 301, 302, 303, 307 and 308"));
        }
        let read = Self {
            uri: fields.get("uri", text).filter(|uri| !uri.is_empty()),
            prefix_rewrite: fields.get("prefixRewrite", text).filter(|prefix| !prefix.is_empty()),
            authority: fields.get("authority", text).filter(|authority| !authority.is_empty()),
            port: fields.get("port", decode::port),
            request_port: fields.get("derivePort", |d, n| choice(d, n, PORTS)).unwrap_or_default(),
            scheme: fields.get("scheme", |d, n| choice(d, n, SCHEMES)).map(str::to_owned),
            code: u16::try_from(code).unwrap_or(301),
        };
        for (one, other) in [("port", "derivePort"), ("uri", "prefixRewrite")] {
            if fields.has(one) && fields.has(other) {
                fields.refuse(other, format!("{one} and {other} exclude each other"));
            }
        }
        refuse_without(&mut fields, &["uri", "prefixRewrite", "authority", "port", "derivePort", "scheme"]);
        fields.finish();
        Some(read)
    }
}

/// Refuses a mapping in which none of the fields `names` says anything.
fn refuse_without(fields: &mut Fields<'_, '_>, names: &[&str]) {
    if !names.iter().any(|name| fields.has(name)) {
        let at = fields.at;
        fields.decoder.refuse(at, format!("one of {} is required", names.join(", ")));
    }
}

impl DirectResponse {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        // Envoy takes no informational answer as a final one.
        let status = fields.require("status", |decoder, node| decode::number(decoder, node, 200_u16, 599));
        let body = fields.get("body", body).unwrap_or_default();
        fields.finish();
        Some(Self { status: status?, body })
    }
}

fn body<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Vec<u8>> {
    let mut fields = decoder.fields(node)?;
    let string = fields.get("string", text).map(String::into_bytes);
    let bytes = fields.get("bytes", decode::base64);
    if fields.has("string") && fields.has("bytes") {
        fields.refuse("bytes", "string and bytes exclude each other");
    }
    let body = string.or(bytes);
    let length = body.as_ref().map_or(0, Vec::len);
    if length > BODY_BYTES_MAX {
        let at = fields.at;
        fields.decoder.refuse(at, format!("a body has at most {BODY_BYTES_MAX} bytes"));
    } else if length > BODY_BYTES_LARGE {
        let at = fields.at;
        let message = format!("a body of {length} bytes travels to every workload with every configuration");
        fields.decoder.find(at, Diagnostic::warning(Code::SCHEMA_WARNING, message));
    }
    fields.finish();
    body
}

impl Rewrite {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self {
            uri: fields.get("uri", text).filter(|uri| !uri.is_empty()),
            regex: fields.get("uriRegexRewrite", substitution),
            authority: fields.get("authority", authority),
        };
        if read.uri.is_some() && fields.has("uriRegexRewrite") {
            fields.refuse("uriRegexRewrite", "uri and uriRegexRewrite exclude each other");
        }
        refuse_without(&mut fields, &["uri", "uriRegexRewrite", "authority"]);
        fields.finish();
        Some(read)
    }
}

fn authority(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let authority = name(decoder, node)?;
    if Authority::try_from(authority.as_str()).is_err() {
        decoder.refuse(node.at, format!("`{}` is no authority", shortened(&authority)));
        return None;
    }
    Some(authority)
}

fn substitution<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Substitution> {
    let mut fields = decoder.fields(node)?;
    let pattern = fields.require("match", expression::part);
    let rewrite = fields.require("rewrite", name);
    let read = pattern.zip(rewrite).and_then(|(pattern, rewrite)| {
        Substitution::new(pattern, &rewrite).map_err(|error| fields.refuse("rewrite", error.to_string())).ok()
    });
    fields.finish();
    read
}

/// Whether the port of a redirect is the request's.
const PORTS: &[(&str, bool)] = &[("FROM_PROTOCOL_DEFAULT", false), ("FROM_REQUEST_PORT", true)];

const SCHEMES: &[(&str, &str)] = &[("http", "http"), ("https", "https")];

// spec: istio pkg/config/validation validateHTTPDirectResponse
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Istio warns from here on.
const BODY_BYTES_LARGE: usize = 100 * 1024;
