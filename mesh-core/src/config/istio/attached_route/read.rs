//! Reads the `spec` of an HTTPRoute or GRPCRoute, as strictly as the API server does.

use super::{
    AttachedMatch, AttachedRoute, AttachedRule, Backend, BackendKind, BackendRef, Filters, Parent, PathMatch,
    filters::{GRPC_FILTERS, HTTP_FILTERS, IN_BACKENDS, IN_RULES, Types},
};
use crate::{
    config::{
        decode::{self, Decoder, Fields, count, name, shortened, text},
        diagnostic::{Code, Diagnostic},
        istio::{common, virtual_service::HttpRetry},
        schema::Support,
        tree::{Node, Value},
    },
    retry::RetryOn,
};
use std::{collections::HashSet, time::Duration};

impl AttachedRoute {
    pub(crate) fn read_http<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let parents = parents(&mut fields);
        let mut rules = fields.list("rules", AttachedRule::read_http);
        match fields.count("rules") {
            Some(0) => fields.refuse("rules", "at least one rule is required"),
            Some(_) => {}
            // spec: gateway-api v1 HTTPRouteSpec.rules, its default
            None => rules.push(AttachedRule::of_everything(node)),
        }
        check_rules(&mut fields, &rules);
        fields.finish();
        Some(Self { parents, rules })
    }

    pub(crate) fn read_grpc<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let parents = parents(&mut fields);
        let rules = fields.list("rules", AttachedRule::read_grpc);
        check_rules(&mut fields, &rules);
        fields.finish();
        Some(Self { parents, rules })
    }
}

/// Reads what the two kinds say of where they belong.
fn parents(fields: &mut Fields<'_, '_>) -> Vec<Parent> {
    let parents = fields.list("parentRefs", Parent::read);
    let hostnames = fields.list("hostnames", common::host);
    fields.no_effect(&[("useDefaultGateways", "it concerns the edge of the mesh")]);
    if fields.count("parentRefs").unwrap_or(0) == 0 {
        let message = "the route is attached to nothing: `parentRefs` is empty";
        fields.find("parentRefs", Diagnostic::warning(Code::NO_EFFECT, message));
    }
    let edge = parents.iter().find(|parent| !parent.is_service);
    if let Some(edge) = edge {
        let message = format!(
            "{} is no Service; what the route does there touches no call inside the mesh",
            shortened(&edge.name)
        );
        let finding = Diagnostic::warning(Code::NO_EFFECT, message).help(
            "a route of calls inside the mesh has `parentRefs: [{group: \"\", kind: Service, name: ...}]`",
        );
        fields.find("parentRefs", finding);
    }
    // spec: gep-1426 "Hostnames": those of a route that is attached to a Service are ignored
    if edge.is_none() && !hostnames.is_empty() {
        let message = "`hostnames` has no effect on a Service: the route is for every name of it";
        fields.find("hostnames", Diagnostic::warning(Code::NO_EFFECT, message));
    }
    fields.describe(&["hostnames"], Support::NoEffect, "the route is for every name of its Service");
    at_most(fields, "parentRefs", 32);
    at_most(fields, "hostnames", 16);
    parents
}

fn check_rules(fields: &mut Fields<'_, '_>, rules: &[AttachedRule]) {
    at_most(fields, "rules", 16);
    let mut seen = HashSet::new();
    let named = rules.iter().filter_map(|rule| rule.name.as_ref());
    if let Some(twice) = named.into_iter().find(|name| !seen.insert(*name)) {
        fields.refuse("rules", format!("two rules are named `{}`", shortened(twice)));
    }
}

/// The API server keeps lists short; more is harmless here.
fn at_most(fields: &mut Fields<'_, '_>, list: &'static str, most: usize) {
    if let Some(count) = fields.count(list).filter(|count| *count > most) {
        let message = format!("{count} items, of which the API server takes {most}");
        fields.find(list, Diagnostic::warning(Code::SCHEMA_WARNING, message));
    }
}

impl Parent {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let group = fields.get("group", text).unwrap_or_else(|| GATEWAY_API.to_owned());
        let kind = fields.get("kind", name).unwrap_or_else(|| "Gateway".to_owned());
        let namespace = fields.get("namespace", name);
        let name = fields.require("name", name);
        let section = fields.get("sectionName", text);
        let port = fields.get("port", decode::port);
        let is_service = group.is_empty() && kind == "Service";
        if is_service && section.is_some() {
            // spec: istio pilot/pkg/config/kube/gateway/conversion.go referenceAllowed: asked of gateways only
            let message = "`sectionName` has no effect on a Service, as under Istio";
            let finding = Diagnostic::warning(Code::NO_EFFECT, message).help("write `port`");
            fields.find("sectionName", finding);
        }
        fields.describe(&["sectionName"], Support::NoEffect, "it names no port of a Service; write `port`");
        if kind == "ServiceEntry" {
            let message = "a route of a ServiceEntry is not supported, and its calls must not go unrouted";
            fields.refuse("kind", message);
        }
        fields.finish();
        Some(Self { at: node.at, is_service, namespace, name: name?, port })
    }
}

impl AttachedRule {
    fn read_http<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let (timeout, backend_timeout) = fields.get("timeouts", timeouts).unwrap_or_default();
        let retry = fields.get("retry", retry);
        let mut rule =
            Self { timeout, backend_timeout, retry, ..Self::read(&mut fields, node, HTTP_FILTERS) };
        rule.matches = fields.list("matches", AttachedMatch::read_http);
        if fields.count("matches").unwrap_or(0) == 0 {
            rule.matches = vec![AttachedMatch::every_path(node.at)];
        }
        at_most(&mut fields, "matches", 64);
        rule.check_filters(&mut fields);
        fields.finish();
        Some(rule)
    }

    fn read_grpc<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mut rule = Self::read(&mut fields, node, GRPC_FILTERS);
        rule.matches = fields.list("matches", AttachedMatch::read_grpc);
        if fields.count("matches").unwrap_or(0) == 0 {
            rule.matches = vec![AttachedMatch { at: node.at, ..AttachedMatch::default() }];
        }
        at_most(&mut fields, "matches", 64);
        fields.finish();
        Some(rule)
    }

    /// Reads what the rules of both kinds have.
    fn read<'n>(fields: &mut Fields<'_, 'n>, node: &'n Node, types: Types) -> Self {
        let rule = Self {
            at: node.at,
            name: fields.get("name", name),
            filters: Filters::read(fields, types, &IN_RULES),
            backends: fields.list("backendRefs", |decoder, node| Backend::read(decoder, node, types)),
            ..Self::default()
        };
        fields.no_effect(&[(
            "sessionPersistence",
            "sessions are not kept; a DestinationRule with consistentHash comes closest",
        )]);
        at_most(fields, "filters", 16);
        at_most(fields, "backendRefs", 16);
        rule
    }

    /// Returns the rule of an HTTPRoute that has none.
    fn of_everything(node: &Node) -> Self {
        Self { at: node.at, matches: vec![AttachedMatch::every_path(node.at)], ..Self::default() }
    }

    // spec: gateway-api v1 HTTPRouteRule, its validation rules
    fn check_filters(&self, fields: &mut Fields<'_, '_>) {
        if self.filters.redirect.is_some() && !self.backends.is_empty() {
            fields.refuse("filters", "RequestRedirect and backendRefs exclude each other");
        }
        let by_prefix =
            matches!(&self.matches[..], [only] if matches!(only.path, Some(PathMatch::Segments(_))));
        if self.filters.replaces_prefix() && !by_prefix {
            fields
                .refuse("filters", "ReplacePrefixMatch needs exactly one match, and that of type PathPrefix");
        }
    }
}

impl Backend {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, types: Types) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let to = BackendRef::of(&mut fields);
        let weight = fields.get("weight", |decoder, node| decode::number(decoder, node, 0, 1_000_000_u32));
        let filters = Filters::read(&mut fields, types, &IN_BACKENDS);
        fields.finish();
        Some(Self { to: to?, weight: weight.unwrap_or(1), filters })
    }
}

impl BackendRef {
    /// Reads the reference that `fields` hold, perhaps beside others.
    pub(super) fn of(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let group = fields.get("group", text).unwrap_or_default();
        let kind = fields.get("kind", name).unwrap_or_else(|| "Service".to_owned());
        let namespace = fields.get("namespace", name);
        let name = fields.require("name", name);
        let port = fields.get("port", decode::port);
        let kind = match (group.as_str(), kind.as_str()) {
            ("", "Service") => BackendKind::Service,
            // spec: istio pilot/pkg/config/kube/gateway/conversion.go buildDestination
            ("networking.istio.io", "Hostname") => BackendKind::Hostname,
            ("", kind) => BackendKind::Other(kind.to_owned()),
            (group, kind) => BackendKind::Other(format!("{group}/{kind}")),
        };
        let read = Self { at: fields.at, kind, namespace, name: name?, port };
        read.check(fields);
        Some(read)
    }

    // spec: gateway-api v1 BackendObjectReference; istio pilot/pkg/config/kube/gateway/conversion.go buildDestination
    fn check(&self, fields: &mut Fields<'_, '_>) {
        let sent_to = !matches!(self.kind, BackendKind::Other(_));
        if sent_to && self.port.is_none() && !fields.has("port") {
            fields.refuse("port", "`port` is required: the service port to send to");
        }
        if self.kind == BackendKind::Service && self.name.contains('.') {
            let message = format!("`{}` is no name of a Service", shortened(&self.name));
            let finding = Diagnostic::error(Code::SCHEMA, message)
                .help("write the name alone, and `namespace` beside it");
            fields.find("name", finding);
        }
        if self.kind == BackendKind::Hostname && self.namespace.is_some() {
            fields.refuse("namespace", "a Hostname has no namespace");
        }
    }
}

fn timeouts<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<(Option<Duration>, Option<Duration>)> {
    let mut fields = decoder.fields(node)?;
    let request = fields.get("request", duration);
    let backend = fields.get("backendRequest", duration);
    if let (Some(request), Some(backend)) = (request, backend)
        && !request.is_zero()
        && backend > request
    {
        // spec: gateway-api v1 HTTPRouteTimeouts, its validation rules
        fields.refuse("backendRequest", "must not be longer than `request`");
    }
    fields.finish();
    Some((request, backend))
}

/// What is retried is always Istio's default list, and the codes beside it.
// spec: istio pilot/pkg/config/kube/gateway/conversion.go convertHTTPRoute
fn retry<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<HttpRetry> {
    let mut fields = decoder.fields(node)?;
    let codes = fields.list("codes", code);
    let attempts = fields.get("attempts", count);
    let backoff = fields.get("backoff", duration);
    fields.finish();
    let words = format!("{},{}", RetryOn::default(), codes.join(","));
    let retry_on = if codes.is_empty() { None } else { RetryOn::parse(&words).ok() };
    Some(HttpRetry { attempts, retry_on, backoff, ..HttpRetry::default() })
}

fn code(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let code = decode::number(decoder, node, 400_u16, 599)?.to_string();
    if RetryOn::parse(&code).is_err() {
        let message = format!("{code} has no meaning in HTTP, and is not retried, as under Istio");
        decoder.find(node.at, Diagnostic::warning(Code::NO_EFFECT, message));
        return None;
    }
    Some(code)
}

/// Reads a duration of the Gateway API, which are Go's without fractions, signs and small units.
// spec: gep-2257
fn duration(decoder: &mut Decoder<'_>, node: &Node) -> Option<Duration> {
    let duration = decode::duration(decoder, node)?;
    if let Value::Scalar { text, .. } = &node.value
        && !is_gep_2257(text)
    {
        let message = format!("`{}` is no duration of the Gateway API", shortened(text));
        let help = "write one to four of a number of up to 5 digits and h, m, s or ms, as in `1m30s`";
        decoder.find(node.at, Diagnostic::error(Code::SCHEMA, message).help(help));
    }
    Some(duration)
}

fn is_gep_2257(text: &str) -> bool {
    let mut rest = text;
    let mut parts = 0;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = rest.len() - unit.len();
        let units = ["ms", "h", "m", "s"];
        let Some(behind) = units.into_iter().find_map(|name| unit.strip_prefix(name)) else { return false };
        parts += 1;
        if !(1..=5).contains(&digits) || parts > 4 {
            return false;
        }
        rest = behind;
    }
    parts > 0
}

const GATEWAY_API: &str = "gateway.networking.k8s.io";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_one_to_four_whole_numbers_with_units() {
        for (text, is) in [
            ("0s", true),
            ("1h2m3s4ms", true),
            ("99999ms", true),
            ("500ms", true),
            ("", false),
            ("0", false),
            ("1.5s", false),
            ("100000s", false),
            ("1us", false),
            ("1s1s1s1s1s", false),
            ("s", false),
        ] {
            assert_eq!(is_gep_2257(text), is, "{text}");
        }
    }
}
