//! Reads `match`: the alternatives of a route, and what their conditions may name.
// spec: istio pkg/config/validation/virtualservice.go validateHTTPRouteMatchRequest

use super::{ClaimMatch, HttpMatch, read::Around};
use crate::config::{
    decode::{self, Decoder, Fields, flag, shortened, text},
    diagnostic::{Code, Diagnostic},
    istio::common::{self, StringMatch, is_label},
    tree::{Key, Node},
};
use std::collections::BTreeMap;

/// What a key of `headers` or `withoutHeaders` names.
enum Subject {
    Header(String),
    Claim(Vec<String>),
}

impl HttpMatch {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, around: Around) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mut read = Self {
            at: node.at,
            name: fields.get("name", text),
            uri: fields.get("uri", StringMatch::read_uri),
            ignore_uri_case: fields.get("ignoreUriCase", flag).unwrap_or_default(),
            scheme: fields.get("scheme", StringMatch::read),
            method: fields.get("method", StringMatch::read),
            authority: fields.get("authority", StringMatch::read),
            query_params: fields.get("queryParams", parameters).unwrap_or_default(),
            port: fields.get("port", decode::port),
            source_labels: fields.get("sourceLabels", labels).unwrap_or_default(),
            source_namespace: fields.get("sourceNamespace", namespace),
            gateways: fields.list("gateways", gateway),
            ..Self::default()
        };
        let headers = fields.get("headers", |decoder, node| Some(subjects(decoder, node, around, false)));
        let without =
            fields.get("withoutHeaders", |decoder, node| Some(subjects(decoder, node, around, true)));
        read.keep(headers.unwrap_or_default(), false);
        read.keep(without.unwrap_or_default(), true);
        fields.no_effect(&[("statPrefix", "routes are told apart by their name")]);
        note_no_condition(&mut fields, &read);
        fields.finish();
        Some(read)
    }

    fn keep(&mut self, conditions: Vec<(Subject, StringMatch)>, absent: bool) {
        for (subject, pattern) in conditions {
            match subject {
                Subject::Claim(claim) => self.claims.push(ClaimMatch { claim, pattern, absent }),
                Subject::Header(name) if absent => self.without_headers.push((name, pattern)),
                Subject::Header(name) => self.headers.push((name, pattern)),
            }
        }
    }
}

/// Warns of a match that was begun and has no condition.
fn note_no_condition(fields: &mut Fields<'_, '_>, read: &HttpMatch) {
    let nothing = HttpMatch { at: read.at, name: read.name.clone(), ..HttpMatch::default() };
    if *read == nothing && !fields.has("headers") && !fields.has("withoutHeaders") {
        let at = fields.at;
        let message = "a match without conditions is met by every request";
        let help = "leave `match` out if that is meant";
        fields.decoder.find(at, Diagnostic::warning(Code::SCHEMA_WARNING, message).help(help));
    }
}

/// Reads the conditions of `headers`, or with `absent` those of `withoutHeaders`.
fn subjects<'n>(
    decoder: &mut Decoder<'n>,
    node: &'n Node,
    around: Around,
    absent: bool,
) -> Vec<(Subject, StringMatch)> {
    decoder.entries(node, |decoder, key, node| {
        if node.is_null() && !absent {
            decoder.refuse(node.at, "a condition on a header must not be null; write `{}` for presence");
        }
        let subject = subject(decoder, key, around);
        let condition = StringMatch::read(decoder, node)?;
        Some((subject?, condition))
    })
}

fn subject(decoder: &mut Decoder<'_>, key: &Key, around: Around) -> Option<Subject> {
    if let Some(claim) = claim_of(&key.text) {
        if around.in_mesh {
            let message = "routing by the claims of a token works at gateways only, as under Istio: a caller inside \
                           the mesh has no claims (the analysis IST0149 is about the gateways that do)";
            let help = "match a header that the gateway sets, or bind the VirtualService to gateways";
            decoder.find(key.at, Diagnostic::error(Code::SCHEMA, message).help(help));
            return None;
        }
        return Some(Subject::Claim(claim));
    }
    // spec: istio networking/v1alpha3/virtual_service.proto HTTPMatchRequest.headers
    if matches!(&*key.text, "uri" | "scheme" | "method" | "authority") {
        let message = format!("a condition on header `{}` is ignored, as under Istio", key.text);
        let help = format!("write `{}` beside `headers`", key.text);
        decoder.find(key.at, Diagnostic::warning(Code::NO_EFFECT, message).help(help));
        return None;
    }
    if key.text.starts_with(':') && !key.text.eq_ignore_ascii_case(":authority") {
        let message = format!("a condition on `{}` is not supported under `headers`", shortened(&key.text));
        let help = "write `uri`, `method` or `scheme` beside `headers`";
        decoder.find(key.at, Diagnostic::error(Code::SCHEMA, message).help(help));
        return None;
    }
    common::header_name(decoder, &key.text, key.at).map(Subject::Header)
}

/// Returns the names that lead to a claim, if `key` names one: `@request.auth.claims.a.b`, or with `[a][b]`.
// spec: istio pkg/config/security/jwt ToRoutingClaim
fn claim_of(key: &str) -> Option<Vec<String>> {
    let (head, path) = key.split_at_checked(CLAIMS.len())?;
    if !head.eq_ignore_ascii_case(CLAIMS) {
        return None;
    }
    let owned = |names: &str, between: &str| names.split(between).map(str::to_owned).collect();
    if let Some(names) = path.strip_prefix('.').filter(|names| !names.is_empty()) {
        return Some(owned(names, "."));
    }
    let names = path.strip_prefix('[')?.strip_suffix(']').filter(|names| !names.is_empty())?;
    Some(owned(names, "]["))
}

fn parameters<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Vec<(String, StringMatch)>> {
    Some(decoder.entries(node, |decoder, key, node| {
        if key.text.is_empty() {
            decoder.refuse(key.at, "the name of a query parameter must not be empty");
            return None;
        }
        Some((key.text.to_string(), StringMatch::read(decoder, node)?))
    }))
}

/// Reads labels that a workload can have.
// spec: istio pkg/config/labels Instance.Validate
fn labels<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<BTreeMap<String, String>> {
    let labels = decode::labels(decoder, node)?;
    let wrong = labels.iter().find(|(key, value)| {
        let name = key.rsplit_once('/').map_or(key.as_str(), |(_, name)| name);
        !is_tag(name) || !(value.is_empty() || is_tag(value))
    });
    if let Some((key, value)) = wrong {
        let label = shortened(&format!("{key}: {value}"));
        decoder.refuse(node.at, format!("`{label}` is not a label that a workload can have"));
    }
    Some(labels)
}

fn is_tag(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 63
        && text.chars().all(is_inner)
        && is_end(text.chars().next())
        && is_end(text.chars().next_back())
}

fn namespace(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    common::label_at(decoder, node).map(|label| label.value)
}

/// Reads the name of a gateway: `mesh`, a name, or `namespace/name`.
// spec: istio pkg/config/validation validateGatewayNames
pub(super) fn gateway(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let name = decode::name(decoder, node)?;
    let is_name = match name.split_once('/') {
        Some((namespace, name)) => is_label(namespace) && is_label(name),
        None => name.split('.').all(is_label),
    };
    if !is_name {
        let message = format!("`{}` is not the name of a gateway", shortened(&name));
        let help = "write `mesh`, the name of a Gateway, or namespace/name";
        decoder.find(node.at, Diagnostic::error(Code::SCHEMA, message).help(help));
        return None;
    }
    if let Some((gateway, rest)) = name.split_once('.') {
        let namespace = rest.split('.').next().unwrap_or_default();
        let message = format!("`{}` names a gateway in a form that is no longer used", shortened(&name));
        let help = format!("write `{namespace}/{gateway}`");
        decoder.find(node.at, Diagnostic::warning(Code::SCHEMA_WARNING, message).help(help));
    }
    Some(name)
}

const CLAIMS: &str = "@request.auth.claims";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_named_with_dots_or_brackets() {
        for (key, claim) in [
            ("@request.auth.claims.group.id", Some(vec!["group", "id"])),
            ("@Request.Auth.Claims[group][id]", Some(vec!["group", "id"])),
            ("@request.auth.claims[https://a.b/c]", Some(vec!["https://a.b/c"])),
            ("@request.auth.claims.", None),
            ("@request.auth.claims[]", None),
            ("@request.auth.claims", None),
            ("@request.auth.claim.x", None),
            ("x", None),
        ] {
            let expected = claim.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(claim_of(key), expected, "{key}");
        }
    }
}
