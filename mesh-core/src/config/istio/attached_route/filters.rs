//! Reads `filters`: what becomes of a request on its way.

use super::{
    BackendRef, Filters, PathModifier, RouteMirror, RouteRedirect, RouteRewrite,
    matches::{first_of_its_name, header},
};
use crate::config::{
    decode::{self, Decoder, Fields, choice, text},
    istio::common::{self, HeaderOperations},
    resource::At,
    tree::Node,
};
use http::HeaderValue;
use std::collections::HashSet;

/// The types of filter that a kind of route has, each with the field that says more.
pub(super) type Types = &'static [(&'static str, &'static str)];

/// One filter, read.
enum Filter {
    RequestHeaders(HeaderOperations),
    ResponseHeaders(HeaderOperations),
    Redirect(RouteRedirect),
    Rewrite(RouteRewrite),
    Mirror(RouteMirror),
    /// Without effect here; a finding says so.
    Nothing,
    Unsupported(At<&'static str>),
}

impl Filters {
    /// Reads `filters` among `fields`: those of a route that has these types, of which some are `supported`.
    pub(super) fn read(fields: &mut Fields<'_, '_>, types: Types, supported: &[&str]) -> Self {
        let mut seen = HashSet::new();
        let filters = fields.list("filters", |decoder, node| {
            let (kind, filter) = filter(decoder, node, types, supported)?;
            if !seen.insert(kind) && !REPEATED.contains(&kind) {
                decoder.refuse(node.at, format!("`{kind}` stands here twice"));
            }
            Some(filter)
        });
        let read = Self::of(filters);
        if read.redirect.is_some() && read.rewrite.is_some() {
            fields.refuse("filters", "RequestRedirect and URLRewrite exclude each other");
        }
        read
    }

    fn of(filters: Vec<Filter>) -> Self {
        let mut read = Self::default();
        for filter in filters {
            match filter {
                Filter::RequestHeaders(operations) => read.headers.request = operations,
                Filter::ResponseHeaders(operations) => read.headers.response = operations,
                Filter::Redirect(redirect) => read.redirect = Some(redirect),
                Filter::Rewrite(rewrite) => read.rewrite = Some(rewrite),
                Filter::Mirror(mirror) => read.mirrors.push(mirror),
                Filter::Unsupported(kind) => read.unsupported = read.unsupported.or(Some(kind)),
                Filter::Nothing => {}
            }
        }
        read
    }

    /// Returns whether the matched prefix of the path is replaced.
    pub(super) fn replaces_prefix(&self) -> bool {
        let redirect = self.redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
        let rewrite = self.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
        matches!(redirect.or(rewrite), Some(PathModifier::Prefix(_)))
    }
}

/// Reads one filter; returns beside it the field that its type names.
fn filter<'n>(
    decoder: &mut Decoder<'n>,
    node: &'n Node,
    types: Types,
    supported: &[&str],
) -> Option<(&'static str, Filter)> {
    let mut fields = decoder.fields(node)?;
    let kind = fields.require("type", |decoder, node| choice(decoder, node, types));
    let request = fields.get("requestHeaderModifier", header_operations);
    let response = fields.get("responseHeaderModifier", header_operations);
    let mirror = fields.get("requestMirror", RouteMirror::read);
    let (mut redirect, mut rewrite) = (None, None);
    if types == HTTP_FILTERS {
        redirect = fields.get("requestRedirect", RouteRedirect::read);
        rewrite = fields.get("urlRewrite", RouteRewrite::read);
        fields.no_effect(&[("cors", "CORS is answered where browsers arrive, at the edge")]);
        fields.take("externalAuth");
    }
    fields.take("extensionRef");
    check_union(&mut fields, kind, types);
    fields.finish();
    let kind = kind?;
    let filter = match kind {
        kind if !supported.contains(&kind) => Some(Filter::Unsupported(At { value: kind, at: node.at })),
        "requestHeaderModifier" => request.map(Filter::RequestHeaders),
        "responseHeaderModifier" => response.map(Filter::ResponseHeaders),
        "requestRedirect" => redirect.map(Filter::Redirect),
        "urlRewrite" => rewrite.map(Filter::Rewrite),
        "requestMirror" => mirror.map(Filter::Mirror),
        _ => Some(Filter::Nothing),
    };
    Some((kind, filter?))
}

/// The field that `type` names must be there, and no other of them.
// spec: gateway-api v1 HTTPRouteFilter, GRPCRouteFilter, their validation rules
fn check_union(fields: &mut Fields<'_, '_>, kind: Option<&'static str>, types: Types) {
    let Some(kind) = kind else { return };
    for (name, field) in types {
        match (*field == kind, fields.has(field)) {
            (true, false) => fields.refuse(field, format!("`{field}` is required by type {name}")),
            (false, true) => fields.refuse(field, format!("`{field}` belongs to type {name}")),
            _ => {}
        }
    }
}

fn header_operations<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<HeaderOperations> {
    let mut fields = decoder.fields(node)?;
    let read = HeaderOperations {
        set: header_values(&mut fields, "set"),
        add: header_values(&mut fields, "add"),
        remove: fields.list("remove", |decoder, node| Some(header(decoder, node)?.as_str().to_owned())),
    };
    fields.finish();
    Some(read)
}

/// Of several with one name, the first counts.
// spec: gateway-api v1 HTTPHeader.name
fn header_values(fields: &mut Fields<'_, '_>, list: &'static str) -> Vec<(String, String)> {
    let mut seen = HashSet::new();
    fields.list(list, |decoder, node| {
        let mut fields = decoder.fields(node)?;
        let name = fields.require("name", header);
        let value = fields.require("value", header_value);
        fields.finish();
        let name = name?.as_str().to_owned();
        first_of_its_name(&mut seen, decoder, &name, node.at).then_some((name, value?))
    })
}

fn header_value(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let value = decode::name(decoder, node)?;
    if HeaderValue::from_str(&value).is_err() {
        decoder.refuse(node.at, "a header's value holds no line breaks and no other control characters");
        return None;
    }
    Some(value)
}

impl RouteRedirect {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self {
            scheme: fields.get("scheme", |decoder, node| choice(decoder, node, &SCHEMES)),
            hostname: fields.get("hostname", hostname),
            path: fields.get("path", PathModifier::read),
            port: fields.get("port", decode::port),
            code: fields.get("statusCode", |decoder, node| choice(decoder, node, &CODES)).unwrap_or(302),
        };
        fields.finish();
        Some(read)
    }
}

impl RouteRewrite {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let hostname = fields.get("hostname", hostname);
        let path = fields.get("path", PathModifier::read);
        fields.finish();
        Some(Self { hostname, path })
    }
}

impl PathModifier {
    // spec: gateway-api v1 HTTPPathModifier, its validation rules
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let kind = fields.require("type", |decoder, node| choice(decoder, node, MODIFIERS));
        let full = fields.get("replaceFullPath", text).map(Self::Full);
        let prefix = fields
            .get("replacePrefixMatch", text)
            .map(|prefix| Self::Prefix(prefix.strip_suffix('/').map(str::to_owned).unwrap_or(prefix)));
        check_union(&mut fields, kind, MODIFIERS);
        fields.finish();
        full.or(prefix)
    }
}

impl RouteMirror {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let to = fields.require("backendRef", BackendRef::read);
        let percent = fields.get("percent", decode::percent).map(f64::from);
        let fraction = fields.get("fraction", fraction);
        if percent.is_some() && fraction.is_some() {
            fields.refuse("fraction", "percent and fraction exclude each other");
        }
        fields.finish();
        Some(Self { to: to?, percent: percent.or(fraction).unwrap_or(100.0) })
    }
}

/// Reads a fraction as a percentage.
// spec: gateway-api v1 Fraction
fn fraction<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<f64> {
    let mut fields = decoder.fields(node)?;
    let numerator = fields.require("numerator", |decoder, node| decode::number(decoder, node, 0, i32::MAX));
    let denominator = fields.get("denominator", |decoder, node| decode::number(decoder, node, 1, i32::MAX));
    let denominator = denominator.unwrap_or(100);
    if let Some(numerator) = numerator.filter(|numerator| *numerator > denominator) {
        fields.refuse("numerator", format!("{numerator} of {denominator} is more than the whole"));
    }
    fields.finish();
    let numerator = numerator?;
    Some(100.0 * f64::from(numerator) / f64::from(denominator))
}

/// Reads a host name without a wildcard.
// spec: gateway-api v1 PreciseHostname
fn hostname(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let name = common::host(decoder, node)?.value;
    if name.contains('*') {
        decoder.refuse(node.at, "a wildcard is no host to send anybody to");
        return None;
    }
    Some(name)
}

impl BackendRef {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self::of(&mut fields);
        fields.finish();
        read
    }
}

/// What a rule does of what its filters say.
pub(super) const IN_RULES: [&str; 6] = [
    "requestHeaderModifier",
    "responseHeaderModifier",
    "requestMirror",
    "requestRedirect",
    "urlRewrite",
    "cors",
];

/// What a backend does of what its filters say.
// spec: istio pilot/pkg/config/kube/gateway/conversion.go buildHTTPDestination
pub(super) const IN_BACKENDS: [&str; 3] = ["requestHeaderModifier", "responseHeaderModifier", "cors"];

/// Filters that may stand in a rule more than once.
const REPEATED: [&str; 2] = ["requestMirror", "extensionRef"];

pub(super) const HTTP_FILTERS: Types = &[
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("CORS", "cors"),
    ("ExternalAuth", "externalAuth"),
    ("ExtensionRef", "extensionRef"),
];

pub(super) const GRPC_FILTERS: Types = &[
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("ExtensionRef", "extensionRef"),
];

const MODIFIERS: Types =
    &[("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch")];

const SCHEMES: [(&str, &str); 2] = [("http", "http"), ("https", "https")];

const CODES: [(&str, u16); 5] = [("301", 301), ("302", 302), ("303", 303), ("307", 307), ("308", 308)];
