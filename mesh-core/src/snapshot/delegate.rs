//! A VirtualService whose routes delegate to others, with those of the delegates in their place. One level only.
// spec: istio pilot/pkg/model/virtualservice.go mergeVirtualServicesIfNeeded

use super::{
    MeshSettings,
    view::{Typed, or_default},
};
use crate::{
    config::{
        Code, Diagnostic,
        istio::{ClaimMatch, Delegate, Delegated, HttpMatch, HttpRoute, StringMatch, VirtualService},
    },
    registry::{full_host, is_exported},
};

/// Returns `root` with the routes of its delegates in the place of the routes that delegate, and what is wrong with
/// them. `find` returns the VirtualService of a namespace and name.
///
/// A route whose delegate does not exist, or does not let the namespace of `root` see it, is left out; so is a route of
/// a delegate that would match what the delegating route does not. Short names of a delegate's destinations become full
/// ones, as they are meant in its own namespace.
pub(super) fn merge<'a>(
    root: Typed<'_, VirtualService>,
    settings: &MeshSettings,
    find: impl Fn(&str, &str) -> Option<Typed<'a, VirtualService>>,
) -> (VirtualService, Vec<Diagnostic>) {
    let mut findings = Vec::new();
    let mut http = Vec::new();
    for (index, route) in root.spec.http.iter().enumerate() {
        let Some(delegate) = &route.delegate else {
            http.push(route.clone());
            continue;
        };
        match delegate_of(root, delegate, settings, &find) {
            Ok(child) => merge_all(route, child, &settings.domain, &mut http, &mut findings),
            Err(why) => findings.push(left_out(root, index, delegate, why)),
        }
    }
    (VirtualService { http, ..root.spec.clone() }, findings)
}

/// Returns the namespaces and names of the objects that `root` delegates to.
pub(super) fn delegates<'r>(root: Typed<'r, VirtualService>) -> impl Iterator<Item = (&'r str, &'r str)> {
    let own = &*root.resource.key.namespace;
    let delegates = root.spec.http.iter().filter_map(|route| route.delegate.as_ref());
    delegates.map(move |to| (to.namespace.as_deref().unwrap_or(own), to.name.as_str()))
}

fn delegate_of<'a>(
    root: Typed<'_, VirtualService>,
    delegate: &Delegate,
    settings: &MeshSettings,
    find: impl Fn(&str, &str) -> Option<Typed<'a, VirtualService>>,
) -> Result<Typed<'a, VirtualService>, String> {
    let own = &*root.resource.key.namespace;
    let namespace = delegate.namespace.as_deref().unwrap_or(own);
    let name = format!("VirtualService {namespace}/{}", delegate.name);
    let child = find(namespace, &delegate.name).ok_or_else(|| format!("there is no {name}"))?;
    if !child.spec.hosts.is_empty() {
        return Err(format!("{name} has hosts of its own, and is no delegate"));
    }
    let export_to = or_default(&child.spec.export_to, &settings.virtual_service_export_to);
    if !is_exported(export_to, namespace, own) {
        return Err(format!("{name} is not exported to namespace {own}"));
    }
    Ok(child)
}

fn left_out(root: Typed<'_, VirtualService>, index: usize, delegate: &Delegate, why: String) -> Diagnostic {
    Diagnostic::warning(Code::REFERENCE_NOT_FOUND, why)
        .about(&root.resource.key)
        .at(root.resource.locate(delegate.at))
        .path(format!("spec.http[{index}].delegate"))
        .kept("the route is left out")
}

/// Adds every route of `child` to `http`, as far as `root` covers it.
fn merge_all(
    root: &HttpRoute,
    child: Typed<'_, VirtualService>,
    domain: &str,
    http: &mut Vec<HttpRoute>,
    findings: &mut Vec<Diagnostic>,
) {
    for (index, route) in child.spec.http.iter().enumerate() {
        let mut route = route.clone();
        let origin = child.resource.origin(route.at);
        let conflict = |what: &str, path: String| {
            Diagnostic::warning(Code::SCHEMA_WARNING, what)
                .about(&child.resource.key)
                .at(origin.location.clone())
                .path(path)
                .kept("the route is left out")
        };
        if route.delegate.is_some() {
            let path = format!("spec.http[{index}].delegate");
            findings.push(conflict("a delegate must not delegate further", path));
            continue;
        }
        let Some(matches) = merge_matches(&root.matches, &route.matches) else {
            let what = "it matches requests that the route which delegates to it does not";
            let help = "repeat the conditions of the delegating route, or narrow them";
            findings.push(conflict(what, format!("spec.http[{index}].match")).help(help));
            continue;
        };
        route.matches = matches;
        name_hosts(&mut route, &child.resource.key.namespace, domain);
        inherit(&mut route, root);
        route.delegated = Some(Delegated { origin, index });
        http.push(route);
    }
}

/// Writes out the short names of destinations, which are meant in `namespace`.
fn name_hosts(route: &mut HttpRoute, namespace: &str, domain: &str) {
    let destinations = route.route.iter_mut().map(|to| &mut to.destination);
    let mirrors = route.mirrors.iter_mut().map(|mirror| &mut mirror.destination);
    for destination in destinations.chain(mirrors).chain(&mut route.mirror) {
        destination.host.value = full_host(&destination.host.value, namespace, domain).to_string();
    }
}

/// Gives `child` what it does not say itself.
// spec: istio pilot/pkg/model/virtualservice.go mergeHTTPRoute
fn inherit(child: &mut HttpRoute, root: &HttpRoute) {
    child.name = joined(&root.name, &child.name);
    child.rewrite = child.rewrite.take().or_else(|| root.rewrite.clone());
    child.timeout = child.timeout.take().or_else(|| root.timeout.clone());
    child.retries = child.retries.take().or_else(|| root.retries.clone());
    child.hedge = child.hedge.or(root.hedge);
    child.fault = child.fault.take().or_else(|| root.fault.clone());
    child.mirror = child.mirror.take().or_else(|| root.mirror.clone());
    child.mirror_percentage = child.mirror_percentage.or(root.mirror_percentage);
    child.cors = child.cors.take().or_else(|| root.cors.clone());
    if child.mirrors.is_empty() {
        child.mirrors.clone_from(&root.mirrors);
    }
    if child.headers == Default::default() {
        child.headers.clone_from(&root.headers);
    }
}

fn joined(root: &Option<String>, child: &Option<String>) -> Option<String> {
    match (root, child) {
        (Some(root), Some(child)) => Some(format!("{root}-{child}")),
        (one, other) => one.as_ref().or(other.as_ref()).cloned(),
    }
}

/// Returns the alternatives that meet one of `root` and one of `child`; `None` if one of `child` lies within none of
/// `root`.
fn merge_matches(root: &[HttpMatch], child: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if root.is_empty() || child.is_empty() {
        return Some([root, child].concat());
    }
    let mut merged = Vec::new();
    for inner in child {
        let covering = root.iter().filter(|outer| lies_within(inner, outer));
        let before = merged.len();
        merged.extend(covering.map(|outer| both(outer, inner)));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

/// Returns whether every condition that both have is met by `inner` only where `outer` meets it.
// spec: istio pilot/pkg/model/virtualservice.go hasConflict
fn lies_within(inner: &HttpMatch, outer: &HttpMatch) -> bool {
    let single = [
        (&outer.uri, &inner.uri),
        (&outer.scheme, &inner.scheme),
        (&outer.method, &inner.method),
        (&outer.authority, &inner.authority),
    ];
    let listed = [
        (&outer.headers, &inner.headers),
        (&outer.without_headers, &inner.without_headers),
        (&outer.query_params, &inner.query_params),
    ];
    let labels = &inner.source_labels;
    let gateways = &inner.gateways;
    single.into_iter().all(|(outer, inner)| match (outer, inner) {
        (Some(outer), Some(inner)) => narrows(inner, outer),
        _ => true,
    }) && listed.into_iter().all(|(outer, inner)| {
        inner.iter().all(|(name, inner)| {
            let same = outer.iter().find(|(other, _)| other == name);
            same.is_none_or(|(_, outer)| narrows(inner, outer))
        })
    }) && inner.claims.iter().all(|inner| {
        let same = outer.claims.iter().find(|outer| is_same_claim(inner, outer));
        same.is_none_or(|outer| narrows(&inner.pattern, &outer.pattern))
    }) && inner.ignore_uri_case == outer.ignore_uri_case
        && (outer.port.is_none() || inner.port.is_none() || inner.port == outer.port)
        && (outer.source_namespace.is_none() || inner.source_namespace == outer.source_namespace)
        && labels.iter().all(|(name, value)| outer.source_labels.get(name).is_none_or(|outer| outer == value))
        && (outer.gateways.is_empty() || gateways.iter().all(|gateway| outer.gateways.contains(gateway)))
}

/// Returns whether whatever `inner` matches, `outer` matches. Of regular expressions nobody knows.
// spec: istio pilot/pkg/model/virtualservice.go stringMatchConflict
fn narrows(inner: &StringMatch, outer: &StringMatch) -> bool {
    match (outer, inner) {
        (StringMatch::Exact(outer), StringMatch::Exact(inner)) => outer == inner,
        (StringMatch::Prefix(outer), StringMatch::Exact(inner) | StringMatch::Prefix(inner)) => {
            inner.starts_with(outer.as_str())
        }
        _ => false,
    }
}

fn is_same_claim(a: &ClaimMatch, b: &ClaimMatch) -> bool {
    a.claim == b.claim && a.absent == b.absent
}

/// Returns the match that meets every condition of both; where both have the same, that of `inner`, the narrower one.
fn both(outer: &HttpMatch, inner: &HttpMatch) -> HttpMatch {
    let mut merged = inner.clone();
    merged.name = joined(&outer.name, &inner.name);
    merged.uri = merged.uri.or_else(|| outer.uri.clone());
    merged.scheme = merged.scheme.or_else(|| outer.scheme.clone());
    merged.method = merged.method.or_else(|| outer.method.clone());
    merged.authority = merged.authority.or_else(|| outer.authority.clone());
    merged.headers = all(&outer.headers, &inner.headers);
    merged.without_headers = all(&outer.without_headers, &inner.without_headers);
    merged.query_params = all(&outer.query_params, &inner.query_params);
    let of_outer = |claim: &&ClaimMatch| !inner.claims.iter().any(|inner| is_same_claim(inner, claim));
    merged.claims.extend(outer.claims.iter().filter(of_outer).cloned());
    merged.port = merged.port.or(outer.port);
    let labels = outer.source_labels.clone();
    merged.source_labels = labels.into_iter().chain(merged.source_labels).collect();
    if merged.gateways.is_empty() {
        merged.gateways.clone_from(&outer.gateways);
    }
    merged
}

/// Returns the conditions of `outer` on what `inner` says nothing about, and those of `inner`.
fn all(outer: &[(String, StringMatch)], inner: &[(String, StringMatch)]) -> Vec<(String, StringMatch)> {
    let of_outer = outer.iter().filter(|(name, _)| !inner.iter().any(|(other, _)| other == name));
    of_outer.chain(inner).cloned().collect()
}

#[cfg(test)]
mod tests;
