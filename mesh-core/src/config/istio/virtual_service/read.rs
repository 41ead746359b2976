//! Reads the `spec` of a VirtualService, as strictly as Istio's webhook does.
// spec: istio pkg/config/validation/virtualservice.go

use super::{
    CorsPolicy, Delegate, DirectResponse, HttpMatch, HttpMirror, HttpRetry, HttpRoute, Redirect, Rewrite,
    RouteDestination, VirtualService,
    fault::{fault, mirror_percentage},
    lint,
    matches::gateway,
    reach,
};
use crate::{
    config::{
        decode::{self, Decoder, Fields, count, duration, flag, lasting, name, shortened, text},
        diagnostic::{Code, Diagnostic},
        istio::common::{self, Destination, HeaderOperations, Headers},
        resource::At,
        schema::Support,
        tree::Node,
    },
    retry::RetryOn,
};
use std::collections::BTreeSet;

/// What an object says about every route in it.
#[derive(Clone, Copy)]
pub(super) struct Around {
    /// It has no hosts: other objects send their routes through it.
    pub(super) is_delegate: bool,
    /// It routes calls inside the mesh, perhaps beside those that arrive at gateways.
    pub(super) in_mesh: bool,
}

impl VirtualService {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let hosts = fields.list("hosts", common::host);
        let gateways = fields.list("gateways", gateway);
        let export_to = common::export_to(&mut fields);
        let around = Around {
            is_delegate: !is_written(&fields, "hosts"),
            in_mesh: gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh"),
        };
        let http = fields.list("http", |decoder, node| HttpRoute::read(decoder, node, around));
        let routes_nothing = !["http", "tcp", "tls"].into_iter().any(|name| is_written(&fields, name));
        if routes_nothing {
            let at = fields.at;
            fields.decoder.refuse(at, "one of http, tcp and tls is required");
        }
        fields.no_effect(&[
            ("tcp", "routes below HTTP have no place inside a process"),
            ("tls", "routes below HTTP have no place inside a process"),
        ]);
        check_hosts(&mut fields, &hosts, around);
        if fields.count("http") == Some(http.len()) {
            reach::note_unreachable(&mut fields, &http);
        }
        fields.finish();
        Some(Self { hosts, gateways, export_to, http })
    }
}

/// Returns whether field `name` is there and says something: an empty list does not.
fn is_written(fields: &Fields<'_, '_>, name: &str) -> bool {
    fields.has(name) && fields.count(name) != Some(0)
}

fn check_hosts(fields: &mut Fields<'_, '_>, hosts: &[At<String>], around: Around) {
    for name in ["gateways", "tcp", "tls"] {
        if around.is_delegate && is_written(fields, name) {
            let message = format!("an object without `hosts` is a delegate, and has no `{name}`");
            fields.find(name, Diagnostic::error(Code::SCHEMA, message).help("write the hosts it routes"));
        }
    }
    if !around.in_mesh {
        let message = "it is bound to gateways only: no call inside the mesh is routed by it";
        let finding = Diagnostic::warning(Code::NO_EFFECT, message);
        fields.find("gateways", finding.help("add `mesh` if calls inside the mesh are meant too"));
    }
    fields.decoder.within("hosts", |decoder| {
        if let Some(all) = hosts.iter().find(|host| around.in_mesh && host.value == "*") {
            decoder.refuse(all.at, "host `*` is not allowed inside the mesh");
        }
        if let Some((host, other)) = overlap(hosts) {
            decoder.refuse(host.at, format!("hosts `{}` and `{}` overlap", host.value, other));
        }
    });
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
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, around: Around) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mut route = Self {
            at: node.at,
            name: fields.get("name", text),
            matches: fields.list("match", |decoder, node| HttpMatch::read(decoder, node, around)),
            route: fields.list("route", RouteDestination::read),
            redirect: fields.get("redirect", Redirect::read),
            direct_response: fields.get("directResponse", DirectResponse::read),
            delegate: fields.get("delegate", Delegate::read),
            rewrite: fields.get("rewrite", Rewrite::read),
            timeout: fields.get("timeout", |d, n| Some(At { value: duration(d, n)?, at: n.at })),
            retries: fields.get("retries", HttpRetry::read),
            hedge: None,
            fault: fields.get("fault", fault),
            mirror: fields.get("mirror", Destination::read),
            mirror_percentage: mirror_percentage(&mut fields),
            mirrors: fields.list("mirrors", HttpMirror::read),
            cors: fields.get("corsPolicy", CorsPolicy::read),
            headers: fields.get("headers", Headers::read).unwrap_or_default(),
            delegated: None,
        };
        route.headers.read_old(&mut fields);
        route.headers.read_oldest(&mut fields);
        fields.no_effect(&[("websocketUpgrade", "upgrades are always possible")]);
        check_action(&mut fields, around);
        check_mirrors(&mut fields, around);
        check_weights(&mut fields, &route.route);
        check_authority(&mut fields, &route);
        note_edge(&mut fields, around);
        note_idle_headers(&mut fields, &route);
        lint::note_tries(&mut fields, &route);
        fields.finish();
        Some(route)
    }
}

impl Delegate {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let name = fields.require("name", name);
        let namespace = fields.get("namespace", text).filter(|namespace| !namespace.is_empty());
        fields.finish();
        Some(Self { at: node.at, name: name?, namespace })
    }
}

/// A route forwards, answers or delegates, and has nothing that belongs to another of these.
// spec: istio pkg/config/validation/virtualservice.go validateHTTPRouteConflict
fn check_action(fields: &mut Fields<'_, '_>, around: Around) {
    let actions: Vec<_> = ["route", "redirect", "directResponse", "delegate"]
        .into_iter()
        .filter(|name| fields.has(name))
        .collect();
    let at = fields.at;
    match actions[..] {
        [] => fields.decoder.refuse(at, "one of route, redirect, directResponse and delegate is required"),
        [_] => {}
        [first, second, ..] => {
            fields.decoder.refuse(at, format!("{first} and {second} exclude each other"));
        }
    }
    if around.is_delegate && fields.has("delegate") {
        fields.refuse("delegate", "a delegate (an object without `hosts`) must not delegate further");
    }
    for action in ["redirect", "directResponse"].into_iter().filter(|action| actions.contains(action)) {
        for other in ["rewrite", "fault"] {
            if fields.has(other) {
                fields.refuse(other, format!("{action} and {other} exclude each other"));
            }
        }
        for idle in ["timeout", "retries", "mirror", "mirrors"] {
            if is_written(fields, idle) {
                let message = format!("`{idle}` has no effect here: a {action} sends nothing");
                fields.find(idle, Diagnostic::warning(Code::NO_EFFECT, message));
            }
        }
    }
}

fn check_mirrors(fields: &mut Fields<'_, '_>, around: Around) {
    if fields.has("mirror") && is_written(fields, "mirrors") {
        fields.refuse("mirrors", "mirror and mirrors exclude each other");
    }
    // What one of the two lacks, a delegate and its root may have from each other.
    let alone = !around.is_delegate && !fields.has("delegate") && !fields.has("mirror");
    for name in ["mirrorPercentage", "mirrorPercent"] {
        if alone && fields.has(name) {
            let message = format!("`{name}` has no effect here: there is no `mirror`");
            let help = "write `percentage` in an entry of `mirrors`";
            fields.find(name, Diagnostic::warning(Code::NO_EFFECT, message).help(help));
        }
    }
}

fn note_edge(fields: &mut Fields<'_, '_>, around: Around) {
    if around.in_mesh && fields.has("corsPolicy") {
        let message = "`corsPolicy` has no effect here: CORS is answered where browsers arrive, at the edge";
        fields.find("corsPolicy", Diagnostic::warning(Code::NO_EFFECT, message));
    }
    let why = "CORS is answered where browsers arrive, at the edge";
    fields.describe(&["corsPolicy"], Support::NoEffect, why);
}

fn note_idle_headers(fields: &mut Fields<'_, '_>, route: &HttpRoute) {
    let answers = fields.has("redirect") || fields.has("directResponse");
    if answers && route.headers.request != HeaderOperations::default() {
        let message = "`request` has no effect here: a route that answers by itself sends nothing";
        fields.find("headers", Diagnostic::warning(Code::NO_EFFECT, message));
    }
}

fn check_weights(fields: &mut Fields<'_, '_>, route: &[RouteDestination]) {
    if fields.count("route") == Some(0) {
        fields.refuse("route", "at least one destination is required");
    }
    // Destinations that did not read have findings of their own.
    if fields.count("route") != Some(route.len()) {
        return;
    }
    if route.len() > 1 && route.iter().all(|to| to.weight.value == 0) {
        let finding = Diagnostic::error(Code::SCHEMA, "total destination weight = 0")
            .help("give at least one destination a `weight` above 0");
        fields.find("route", finding);
    }
    lint::note_weights(fields, route);
}

/// The authority is rewritten in one place.
// spec: istio pkg/config/validation/virtualservice.go validateAuthorityRewrite
fn check_authority(fields: &mut Fields<'_, '_>, route: &HttpRoute) {
    let hosts = |headers: &Headers| {
        let request = &headers.request;
        request.set.iter().chain(&request.add).filter(|(name, _)| name == "host").count()
    };
    let rewritten = route.rewrite.as_ref().is_some_and(|rewrite| rewrite.authority.is_some());
    let of_route = hosts(&route.headers);
    if rewritten && of_route > 0 {
        fields.refuse("rewrite", "authority is rewritten here, and set by headers too");
    } else if of_route > 1 {
        fields.refuse("headers", "authority is set more than once");
    }
    if (rewritten || of_route > 0) && route.route.iter().any(|to| hosts(&to.headers) > 0) {
        // spec: istio pilot/pkg/networking/core/route/route.go processDestination: the route's authority wins
        let message = "the authority that a destination's headers set has no effect: the route rewrites it";
        fields.find("route", Diagnostic::warning(Code::NO_EFFECT, message));
    }
}

impl RouteDestination {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let destination = fields.require("destination", Destination::read);
        let weight = fields.get("weight", |decoder, node| {
            Some(At { value: decode::number(decoder, node, 0, i32::MAX)?.unsigned_abs(), at: node.at })
        });
        let mut headers = fields.get("headers", Headers::read).unwrap_or_default();
        headers.read_old(&mut fields);
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
            remote_localities: fields.get("retryRemoteLocalities", flag),
        };
        for name in ["perTryTimeout", "retryOn", "retryRemoteLocalities"] {
            if read.attempts == Some(0) && fields.has(name) {
                let finding = Diagnostic::error(Code::SCHEMA, format!("`{name}` is set, but attempts is 0"))
                    .help("`attempts: 0` switches retries off: leave the rest out, or set attempts");
                fields.find(name, finding);
            }
        }
        lint::note_try_timeout(&mut fields, &read);
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
