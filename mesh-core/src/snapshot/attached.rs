//! The routes of one service that HTTPRoutes and GRPCRoutes are attached to: every match of every rule becomes a
//! route, the most specific first.
//!
//! What the objects do to each other is Istio's, which turns them into VirtualServices: those of the caller's own
//! namespace replace those of the service's namespace, whole, and the two kinds are never merged.
// spec: gep-1426; istio pilot/pkg/config/kube/gateway/conversion.go, route_collections.go

mod rule;

use super::{
    routes::Compiler,
    view::{Typed, View, age},
};
use crate::{
    config::{
        Code, Diagnostic, Mark, Origin, Resource,
        istio::{AttachedMatch, AttachedRoute, AttachedRule, Parent, PathMatch, StringMatch, VirtualService},
    },
    registry::{Service, full_host},
    route::{Condition, Route, RouteMatch, VirtualHost},
};
use http::header::HOST;
use std::{cmp::Reverse, sync::Arc};

/// A route that is attached to some service.
#[derive(Clone, Copy)]
pub(super) struct Attached<'a> {
    pub(super) resource: &'a Arc<Resource>,
    pub(super) spec: &'a AttachedRoute,
}

/// Returns the full hosts of the services `route` is attached to.
pub(super) fn parents(resource: &Resource, spec: &AttachedRoute, domain: &str) -> Vec<Arc<str>> {
    let hosts = spec.parents.iter().filter_map(|parent| parent.host(&resource.key.namespace, domain));
    let mut hosts: Vec<_> = hosts.collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Notes the parents of `attached` that name `host` and a service or a port that is not there.
pub(super) fn note_missing(
    view: View<'_>,
    host: &Arc<str>,
    service: Option<&Service>,
    attached: &[Attached<'_>],
    findings: &mut Vec<Diagnostic>,
) {
    for attached in attached {
        for (index, parent) in attached.spec.parents.iter().enumerate() {
            if attached.host(parent, &view).as_ref() != Some(host) {
                continue;
            }
            let what = match (service, parent.port) {
                (None, _) => format!("no service {host} is known (yet)"),
                (Some(service), Some(port)) if !service.has(port) => format!("{host} has no port {port}"),
                _ => continue,
            };
            let finding = attached.missing(what, parent.at, format!("spec.parentRefs[{index}]"));
            findings.push(finding.kept("the route is attached to nothing there"));
        }
    }
}

/// Returns whether `attached` route `service` rather than `rule`, a VirtualService that covers it; says so of the one
/// that does not.
///
/// A VirtualService for this workload's namespace alone comes first, then attached routes of its own namespace, then
/// whatever is older. Where files say no age, the VirtualService counts as older.
// spec: istio pilot/pkg/model/push_context.go VirtualServicesForGateway
pub(super) fn outrank(
    compiler: &mut Compiler<'_, '_, '_>,
    service: &Service,
    attached: &[Attached<'_>],
    rule: Typed<'_, VirtualService>,
) -> bool {
    let view = compiler.view;
    let in_force = in_force(&view, service, compiler.port, attached);
    let Some(oldest) = in_force.first() else { return false };
    let Some(host) =
        rule.spec.hosts.iter().find(|host| {
            *full_host(host, &rule.resource.key.namespace, &view.settings.domain) == *service.host
        })
    else {
        // A wildcard covers only what nobody names.
        return true;
    };
    let public = rule.spec.export_to.is_empty() || rule.spec.export_to.iter().any(|scope| scope == "*");
    let own = oldest.is_of(&view.viewer.namespace);
    let older = match (&oldest.resource.meta.created, &rule.resource.meta.created) {
        (Some(route), Some(rule)) => route < rule,
        _ => false,
    };
    let outrank = public && (own || older);
    let rule = (rule.resource, host.at, "spec.hosts");
    let route = (oldest.resource, oldest.at(), "spec.parentRefs");
    let (winner, loser) = if outrank { (route, rule) } else { (rule, route) };
    if oldest.is_first_at(&view, service, compiler.port) {
        compiler.findings.push(conflict(&service.host, winner.0, loser));
    }
    outrank
}

/// Returns the routes of `service` at `port`; `None` if nothing is attached to it that this viewer sees.
///
/// There is no route behind them: what none of them matches is answered with 404.
pub(super) fn routes(
    compiler: &mut Compiler<'_, '_, '_>,
    service: &Service,
    attached: &[Attached<'_>],
) -> Option<Vec<Route>> {
    let in_force = in_force(&compiler.view, service, compiler.port, attached);
    let oldest = *in_force.first()?;
    let is_same = |attached: &&Attached<'_>| attached.resource.kind == oldest.resource.kind;
    let (same, other): (Vec<&Attached<'_>>, Vec<_>) = in_force.into_iter().partition(is_same);
    for loser in other.iter().filter(|loser| loser.is_first_at(&compiler.view, service, compiler.port)) {
        let place = (loser.resource, loser.at(), "spec.parentRefs");
        compiler.findings.push(conflict(&service.host, oldest.resource, place));
    }
    let mut alternatives: Vec<_> = same.iter().flat_map(|attached| attached.alternatives()).collect();
    // Stable: what is equally specific stays in the order of age, rules and matches.
    alternatives.sort_by_key(Alternative::rank);
    let mut routes = Vec::new();
    let mut alternatives = alternatives.into_iter();
    for alternative in alternatives.by_ref() {
        let speaks = alternative.attached.is_first_at(&compiler.view, service, compiler.port);
        let route = rule::RuleCompiler { compiler, alternative, speaks }.route();
        let last = route.matches.is_catch_all();
        routes.push(route);
        if last {
            break;
        }
    }
    if let Some(last) = routes.last() {
        for hidden in alternatives {
            if hidden.attached.is_first_at(&compiler.view, service, compiler.port) {
                hidden.attached.report(compiler, hidden.unreachable(&last.name));
            }
        }
    }
    Some(routes)
}

/// Returns the virtual host of `routes`, as [`routes`] returns them.
pub(super) fn virtual_host(name: &str, routes: Vec<Route>) -> VirtualHost {
    let source = routes.first().and_then(|route| route.source.clone());
    VirtualHost { name: name.into(), routes, source }
}

/// Returns those of `attached` that decide about this workload's calls to `service` at `port`, the oldest first: those
/// of its own namespace, else those of the service's. One without rules decides nothing.
// spec: gep-1426 "Namespace boundaries"
fn in_force<'r, 'a>(
    view: &View<'_>,
    service: &Service,
    port: u16,
    attached: &'r [Attached<'a>],
) -> Vec<&'r Attached<'a>> {
    let here = |namespace: &str| {
        let here = attached.iter().filter(|attached| attached.is_of(namespace));
        here.filter(|attached| attached.is_at(view, service, port)).collect::<Vec<_>>()
    };
    let mut found = here(&view.viewer.namespace);
    if found.is_empty() {
        found = here(&service.namespace);
    }
    found.sort_by(|a, b| age(a.resource).cmp(&age(b.resource)));
    found
}

fn conflict(host: &str, winner: &Resource, loser: (&Arc<Resource>, Mark, &str)) -> Diagnostic {
    let (resource, at, path) = loser;
    Diagnostic::warning(Code::CONFLICTING_HOSTS, format!("host {host:?} is routed by {} already", winner.key))
        .about(&resource.key)
        .at(resource.locate(at))
        .path(path)
        .help(format!("route it in one way only; the other one is at {}", winner.location))
        .kept("that object routes the host, whole")
}

impl<'a> Attached<'a> {
    fn is_of(&self, namespace: &str) -> bool {
        *self.resource.key.namespace == *namespace
    }

    fn host(&self, parent: &Parent, view: &View<'_>) -> Option<Arc<str>> {
        parent.host(&self.resource.key.namespace, &view.settings.domain)
    }

    fn is_at(&self, view: &View<'_>, service: &Service, port: u16) -> bool {
        let is_here = |parent: &Parent| {
            parent.port.is_none_or(|wanted| wanted == port)
                && self.host(parent, view).is_some_and(|host| host == service.host)
        };
        !self.spec.rules.is_empty() && self.spec.parents.iter().any(is_here)
    }

    /// Returns whether `port` is the first of the service's that it is attached to.
    fn is_first_at(&self, view: &View<'_>, service: &Service, port: u16) -> bool {
        let mut ports = service.ports.iter().map(|port| port.number);
        ports.find(|first| self.is_at(view, service, *first)) == Some(port)
    }

    /// Adds `finding`, of which one port of each service speaks.
    fn report(&self, compiler: &mut Compiler<'_, '_, '_>, finding: Diagnostic) {
        match &self.spec.parents[..] {
            // Looking through all the others for each would take the square of their number.
            [_] => compiler.findings.push(finding),
            _ => compiler.report(finding),
        }
    }

    fn at(&self) -> Mark {
        self.spec.parents.first().map_or(Mark::default(), |parent| parent.at)
    }

    fn alternatives(self) -> impl Iterator<Item = Alternative<'a>> {
        self.spec.rules.iter().enumerate().flat_map(move |(index, rule)| {
            rule.matches.iter().map(move |matched| Alternative { attached: self, index, rule, matched })
        })
    }

    fn missing(&self, what: String, at: Mark, path: String) -> Diagnostic {
        Diagnostic::warning(Code::REFERENCE_NOT_FOUND, what)
            .about(&self.resource.key)
            .at(self.resource.locate(at))
            .path(path)
    }
}

/// One match of one rule.
#[derive(Clone, Copy)]
struct Alternative<'a> {
    attached: Attached<'a>,
    index: usize,
    rule: &'a AttachedRule,
    matched: &'a AttachedMatch,
}

/// How specific a match is; the most specific sorts first.
type Rank = Reverse<(u8, usize, bool, usize, usize)>;

impl Alternative<'_> {
    /// An exact path before a prefix before a regular expression, the longer first; then method, headers, parameters.
    // spec: gateway-api v1 HTTPRouteRule.matches; istio pilot/pkg/config/kube/gateway/conversion.go sortHTTPRoutes
    fn rank(&self) -> Rank {
        let AttachedMatch { path, method, headers, query_params, .. } = self.matched;
        let (kind, length) = match path {
            Some(PathMatch::Whole(StringMatch::Exact(path))) => (3, path.len()),
            Some(PathMatch::Segments(prefix)) => (2, prefix.len()),
            Some(PathMatch::Whole(StringMatch::Regex(regex))) => (1, regex.as_str().len()),
            Some(PathMatch::Whole(_)) | None => (0, 0),
        };
        Reverse((kind, length, method.is_some(), headers.len(), query_params.len()))
    }

    fn conditions(&self) -> RouteMatch {
        let AttachedMatch { path, method, headers, query_params, .. } = self.matched;
        let mut conditions = Vec::new();
        match path {
            Some(PathMatch::Segments(prefix)) if prefix.is_empty() => {}
            Some(PathMatch::Segments(prefix)) => conditions.push(Condition::PathSegments(prefix.clone())),
            Some(PathMatch::Whole(pattern)) => {
                conditions.push(Condition::Path { pattern: pattern.clone(), ignore_case: false });
            }
            None => {}
        }
        let method = method.map(|method| Condition::Method(StringMatch::Exact(method.to_owned())));
        let headers = headers.iter().map(|(name, pattern)| match *name == HOST {
            // spec: rfc9113 8.3.1: `host` is the authority, and clients send the one or the other
            true => Condition::Authority(pattern.clone()),
            false => Condition::Header(name.clone(), pattern.clone()),
        });
        let parameters =
            query_params.iter().map(|(name, pattern)| Condition::Query(name.clone(), pattern.clone()));
        conditions.extend(method.into_iter().chain(headers).chain(parameters));
        RouteMatch::all(conditions)
    }

    fn unreachable(&self, catch_all: &str) -> Diagnostic {
        let resource = self.attached.resource;
        Diagnostic::warning(
            Code::UNREACHABLE_RULE,
            format!("{catch_all} takes every request before this match is looked at"),
        )
        .about(&resource.key)
        .at(resource.locate(self.matched.at))
        .path(self.path("matches"))
        .help("a prefix comes before a regular expression, and the older of two equal matches first")
    }

    fn namespace(&self) -> &str {
        &self.attached.resource.key.namespace
    }

    fn origin(&self, at: Mark) -> Origin {
        self.attached.resource.origin(at)
    }

    fn path(&self, field: &str) -> String {
        format!("spec.rules[{}].{field}", self.index)
    }
}
