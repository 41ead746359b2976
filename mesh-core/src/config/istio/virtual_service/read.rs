//! Reads the `spec` of a VirtualService, as strictly as Istio's webhook does.
// spec: istio pkg/config/validation/virtualservice.go

use super::{
    DirectResponse, HttpMatch, HttpRetry, HttpRoute, Redirect, Rewrite, RouteDestination, VirtualService,
};
use crate::{
    config::{
        decode::{self, Decoder, Fields, count, duration, flag, lasting, name, shortened, text},
        diagnostic::{Code, Diagnostic},
        istio::common::{self, Destination, Headers, StringMatch},
        resource::At,
        tree::{Key, Node, Value},
    },
    retry::RetryOn,
};
use std::collections::BTreeSet;

impl VirtualService {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let hosts = fields.require("hosts", |decoder, node| Some(decoder.each(node, common::host)));
        let gateways = fields.list("gateways", name);
        let export_to = common::export_to(&mut fields);
        let http = fields.list("http", HttpRoute::read);
        let routes_nothing = !["http", "tcp", "tls"].into_iter().any(|name| fields.has(name));
        if routes_nothing {
            let at = fields.at;
            fields.decoder.refuse(at, "one of http, tcp and tls is required");
        }
        fields.no_effect(&[
            ("tcp", "routes below HTTP have no place inside a process"),
            ("tls", "routes below HTTP have no place inside a process"),
        ]);
        fields.finish();
        let read = Self { hosts: hosts.unwrap_or_default(), gateways, export_to, http };
        read.check_hosts(decoder, node);
        Some(read)
    }

    fn check_hosts<'n>(&self, decoder: &mut Decoder<'n>, node: &'n Node) {
        let Some(written) = node.get("hosts") else { return };
        decoder.within("hosts", |decoder| {
            if matches!(&written.value, Value::Sequence(hosts) if hosts.is_empty()) {
                decoder.refuse(written.at, "at least one host is required");
            }
            let in_mesh = self.gateways.is_empty() || self.gateways.iter().any(|gateway| gateway == "mesh");
            if let Some(all) = self.hosts.iter().find(|host| in_mesh && host.value == "*") {
                decoder.refuse(all.at, "host `*` is not allowed inside the mesh");
            }
            if let Some((host, other)) = overlap(&self.hosts) {
                decoder.refuse(host.at, format!("hosts `{}` and `{}` overlap", host.value, other));
            }
        });
    }
}

/// Returns a host that an earlier one or a wildcard among `hosts` covers too, and that other one.
fn overlap(hosts: &[At<String>]) -> Option<(&At<String>, String)> {
    let mut seen = BTreeSet::new();
    let lower: Vec<_> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    let wildcards: BTreeSet<_> = lower.iter().filter_map(|host| host.strip_prefix('*')).collect();
    hosts.iter().zip(&lower).find_map(|(host, lower)| {
        if !seen.insert(lower.as_str()) {
            return Some((host, host.value.clone()));
        }
        let own = lower.strip_prefix('*').unwrap_or(lower);
        let parents = own.match_indices('.').map(|(dot, _)| &own[dot..]);
        // A wildcard does not cover itself.
        let mut parents = parents.filter(|parent| !lower.starts_with('*') || parent.len() < own.len());
        parents.find(|parent| wildcards.contains(parent)).map(|parent| (host, format!("*{parent}")))
    })
}

impl HttpRoute {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let route = Self {
            at: node.at,
            name: fields.get("name", text),
            matches: fields.list("match", HttpMatch::read),
            route: fields.list("route", RouteDestination::read),
            redirect: fields.get("redirect", Redirect::read),
            direct_response: fields.get("directResponse", DirectResponse::read),
            rewrite: fields.get("rewrite", Rewrite::read),
            timeout: fields.get("timeout", |d, n| Some(At { value: duration(d, n)?, at: n.at })),
            retries: fields.get("retries", HttpRetry::read),
            headers: fields.get("headers", Headers::read).unwrap_or_default(),
        };
        fields.unsupported(&[("delegate", "the routes of the other object would be missing")]);
        fields.no_effect(NO_EFFECT_IN_ROUTE);
        check_action(&mut fields);
        check_weights(&mut fields, &route.route);
        check_authority(&mut fields, &route);
        fields.finish();
        Some(route)
    }
}

fn check_action(fields: &mut Fields<'_, '_>) {
    let actions: Vec<_> = ["route", "redirect", "directResponse", "delegate"]
        .into_iter()
        .filter(|name| fields.has(name))
        .collect();
    let at = fields.at;
    match actions[..] {
        [] => fields.decoder.refuse(at, "one of route, redirect and directResponse is required"),
        [_] => {}
        [first, second, ..] => {
            fields.decoder.refuse(at, format!("{first} and {second} exclude each other"));
        }
    }
    for action in ["redirect", "directResponse"] {
        if fields.has(action) && fields.has("rewrite") {
            fields.refuse("rewrite", format!("{action} and rewrite exclude each other"));
        }
    }
    if fields.has("redirect") && fields.has("fault") {
        fields.refuse("fault", "redirect and fault exclude each other");
    }
    if fields.has("mirror") && fields.has("mirrors") {
        fields.refuse("mirrors", "mirror and mirrors exclude each other");
    }
}

fn check_weights(fields: &mut Fields<'_, '_>, route: &[RouteDestination]) {
    if fields.count("route") == Some(0) {
        fields.refuse("route", "at least one destination is required");
    }
    let total: u64 = route.iter().map(|to| u64::from(to.weight.value)).sum();
    // Destinations that did not read have findings of their own.
    if route.len() > 1 && fields.count("route") == Some(route.len()) && total == 0 {
        let finding = Diagnostic::error(Code::SCHEMA, "total destination weight = 0")
            .help("give at least one destination a `weight` above 0");
        fields.find("route", finding);
    }
}

fn check_authority(fields: &mut Fields<'_, '_>, route: &HttpRoute) {
    let rewritten = route.rewrite.as_ref().is_some_and(|rewrite| rewrite.authority.is_some());
    let sets_host = |headers: &Headers| {
        let request = &headers.request;
        request.set.iter().chain(&request.add).any(|(name, _)| name == "host")
    };
    if rewritten && (sets_host(&route.headers) || route.route.iter().any(|to| sets_host(&to.headers))) {
        fields.refuse("rewrite", "authority is rewritten here, and set by headers too");
    }
}

const NO_EFFECT_IN_ROUTE: &[(&str, &str)] = &[
    ("fault", "this version injects no faults"),
    ("mirror", "this version mirrors no requests"),
    ("mirrors", "this version mirrors no requests"),
    ("mirrorPercent", "this version mirrors no requests"),
    ("mirrorPercentage", "this version mirrors no requests"),
    ("corsPolicy", "CORS is answered where browsers arrive, at the edge"),
    // Istio 1.3 had them; later versions dropped them.
    ("websocketUpgrade", "upgrades are always possible"),
    ("appendHeaders", "write `headers.request.add`"),
    ("removeResponseHeaders", "write `headers.response.remove`"),
];

impl HttpMatch {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self {
            at: node.at,
            name: fields.get("name", text),
            uri: fields.get("uri", StringMatch::read),
            ignore_uri_case: fields.get("ignoreUriCase", flag).unwrap_or_default(),
            scheme: fields.get("scheme", StringMatch::read),
            method: fields.get("method", StringMatch::read),
            authority: fields.get("authority", StringMatch::read),
            headers: fields.get("headers", conditions(header)).unwrap_or_default(),
            without_headers: fields.get("withoutHeaders", conditions(header)).unwrap_or_default(),
            query_params: fields.get("queryParams", conditions(parameter)).unwrap_or_default(),
            port: fields.get("port", decode::port),
            source_labels: fields.get("sourceLabels", decode::labels).unwrap_or_default(),
            source_namespace: fields.get("sourceNamespace", text),
            gateways: fields.list("gateways", name),
        };
        fields.no_effect(&[("statPrefix", "routes are told apart by their name")]);
        fields.finish();
        Some(read)
    }
}

type Name = fn(&mut Decoder<'_>, &Key) -> Option<String>;

/// Returns a reader of names and conditions.
fn conditions<'n>(
    name: Name,
) -> impl FnOnce(&mut Decoder<'n>, &'n Node) -> Option<Vec<(String, StringMatch)>> {
    move |decoder, node| {
        Some(decoder.entries(node, |decoder, key, node| {
            let name = name(decoder, key);
            let condition = StringMatch::read(decoder, node)?;
            Some((name?, condition))
        }))
    }
}

fn header(decoder: &mut Decoder<'_>, key: &Key) -> Option<String> {
    // spec: istio networking/v1alpha3/virtual_service.proto HTTPMatchRequest.headers
    if matches!(key.text.as_str(), "uri" | "scheme" | "method" | "authority") {
        let message = format!("a condition on header `{}` is ignored, as under Istio", key.text);
        let help = format!("write `{}` beside `headers`", key.text);
        decoder.find(key.at, Diagnostic::warning(Code::NO_EFFECT, message).help(help));
        return None;
    }
    common::header_name(decoder, &key.text, key.at)
}

fn parameter(decoder: &mut Decoder<'_>, key: &Key) -> Option<String> {
    if key.text.is_empty() {
        decoder.refuse(key.at, "the name of a query parameter must not be empty");
        return None;
    }
    Some(key.text.clone())
}

impl RouteDestination {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let destination = fields.require("destination", Destination::read);
        let weight = fields.get("weight", |decoder, node| {
            Some(At { value: decode::number(decoder, node, 0, i32::MAX)?.unsigned_abs(), at: node.at })
        });
        let headers = fields.get("headers", Headers::read).unwrap_or_default();
        fields.finish();
        Some(Self {
            destination: destination?,
            weight: weight.unwrap_or(At { value: 0, at: node.at }),
            headers,
        })
    }
}

impl HttpRetry {
    pub(in crate::config::istio) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self {
            attempts: fields.get("attempts", count),
            per_try_timeout: fields.get("perTryTimeout", lasting),
            retry_on: fields.get("retryOn", retry_on),
            backoff: fields.get("backoff", lasting),
            ignore_previous_hosts: fields.get("retryIgnorePreviousHosts", flag),
        };
        fields.no_effect(&[("retryRemoteLocalities", "this version does not weigh localities")]);
        for name in ["perTryTimeout", "retryOn"] {
            if read.attempts == Some(0) && fields.has(name) {
                let finding = Diagnostic::error(Code::SCHEMA, format!("`{name}` is set, but attempts is 0"))
                    .help("`attempts: 0` switches retries off: leave the rest out, or set attempts");
                fields.find(name, finding);
            }
        }
        fields.finish();
        Some(read)
    }
}

fn retry_on(decoder: &mut Decoder<'_>, node: &Node) -> Option<RetryOn> {
    let text = text(decoder, node)?;
    match RetryOn::parse(&text) {
        Ok(conditions) => Some(conditions),
        Err(error) => {
            decoder.refuse(node.at, shortened(&error.to_string()));
            None
        }
    }
}

impl Redirect {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let code = fields.get("redirectCode", count).unwrap_or(301);
        if !matches!(code, 301 | 302 | 303 | 307 | 308) {
            let finding = Diagnostic::error(Code::SCHEMA, format!("{code} is not a redirect"));
            fields.find("redirectCode", finding.help("write one of 301, 302, 303, 307 and 308"));
        }
        let read = Self {
            uri: fields.get("uri", text),
            authority: fields.get("authority", text),
            port: fields.get("port", decode::port),
            scheme: fields.get("scheme", text),
            code: u16::try_from(code).unwrap_or(301),
        };
        fields.unsupported(&[("prefixRewrite", "the caller would be sent to where it came from")]);
        fields.no_effect(&[("derivePort", "the port is `port`, or the scheme's default")]);
        fields.finish();
        Some(read)
    }
}

impl DirectResponse {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
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
    fields.unsupported(&[("bytes", "the answer would have no body; write `string`")]);
    if string.as_ref().is_some_and(|body| body.len() > BODY_BYTES_MAX) {
        fields.refuse("string", format!("a body has at most {BODY_BYTES_MAX} bytes"));
    }
    fields.finish();
    string
}

impl Rewrite {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self { uri: fields.get("uri", text), authority: fields.get("authority", name) };
        fields.unsupported(&[("uriRegexRewrite", "requests would go out with another path")]);
        fields.finish();
        Some(read)
    }
}

// spec: istio pkg/config/validation validateHTTPDirectResponse
const BODY_BYTES_MAX: usize = 1024 * 1024;
