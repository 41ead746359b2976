//! The routes of one host and port: each entry of a VirtualService becomes a route per alternative of its `match`.
// spec: istio pilot/pkg/networking/core/route/route.go

use super::{
    clusters::Clusters,
    settings::retry,
    view::{Typed, View, carries},
};
use crate::{
    config::{
        Code, Diagnostic, Mark,
        istio::{self, HttpMatch, HttpRoute, RouteDestination, StringMatch, VirtualService, bound_gateway},
    },
    registry::{Service, full_host},
    route::{
        Condition, Forward, HeaderOpError, HeaderOps, PathRewrite, Redirect, Rewrite, Route, RouteAction,
        RouteMatch, Target, VirtualHost, Weighted, authority_of,
    },
};
use http::{HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;

/// Compiles the routes for one host and port.
pub(super) struct Compiler<'a, 'b, 's> {
    pub(super) view: View<'a>,
    pub(super) clusters: &'b mut Clusters<'a, 's>,
    pub(super) findings: &'b mut Vec<Diagnostic>,
    pub(super) port: u16,
    /// The namespace and name of the Gateway whose requests are routed; `None` are those of the workload itself.
    pub(super) gateway: Option<(&'b str, &'b str)>,
}

impl<'a, 'b, 's> Compiler<'a, 'b, 's> {
    /// Returns what compiles the routes of the workload's own calls.
    pub(super) fn for_mesh(
        view: View<'a>,
        clusters: &'b mut Clusters<'a, 's>,
        findings: &'b mut Vec<Diagnostic>,
        port: u16,
    ) -> Self {
        Self { view, clusters, findings, port, gateway: None }
    }
}

impl<'a> Compiler<'a, '_, '_> {
    /// A service that no VirtualService routes: one route, the default retries, no timeout.
    pub(super) fn service_itself(&mut self, service: &Service, port: u16) -> VirtualHost {
        let name: Arc<str> = format!("{}:{port}", service.host).into();
        let target = Target {
            host: Arc::clone(&service.host),
            subset: "".into(),
            port,
            cluster: self.clusters.number(service, port, ""),
            unknown_status: StatusCode::SERVICE_UNAVAILABLE,
            name: format!("outbound|{port}||{}", service.host).into(),
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        };
        let action = RouteAction::Forward(Forward {
            destinations: Weighted::one(target),
            timeout: None,
            retry: self.view.settings.retry.clone(),
            rewrite: None,
            request_headers: HeaderOps::default(),
            fault: None,
            mirrors: Vec::new(),
        });
        let route = Route {
            name: "default".into(),
            source: None,
            matches: RouteMatch::default(),
            action,
            response_headers: HeaderOps::default(),
        };
        VirtualHost { name, routes: vec![route], source: None }
    }

    pub(super) fn virtual_host(&mut self, name: &str, rule: Typed<'a, VirtualService>) -> VirtualHost {
        let mut routes = Vec::new();
        'all: for (index, http) in rule.spec.http.iter().enumerate() {
            for route in self.routes(rule, index, http) {
                let last = route.matches.is_catch_all();
                routes.push(route);
                if last {
                    self.note_unreachable(rule, index);
                    break 'all;
                }
            }
        }
        let at = rule.spec.hosts.first().map_or(Mark::default(), |host| host.at);
        VirtualHost { name: name.into(), routes, source: Some(rule.resource.origin(at)) }
    }

    /// Adds `finding`, unless it is there: a rule with several hosts and ports is compiled for each of them.
    pub(super) fn report(&mut self, finding: Diagnostic) {
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// What follows a route that takes everything can never be reached.
    fn note_unreachable(&mut self, rule: Typed<'_, VirtualService>, catch_all: usize) {
        let Some(next) = rule.spec.http.get(catch_all + 1) else { return };
        let finding = Diagnostic::warning(
            Code::UNREACHABLE_RULE,
            format!("http[{catch_all}] takes every request; nothing reaches the routes behind it"),
        )
        .about(&rule.resource.key)
        .at(rule.resource.locate(next.at))
        .path(format!("spec.http[{}]", catch_all + 1))
        .help("put the route without conditions last");
        // A rule with several hosts and ports is compiled for each of them.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// One route per alternative of `match`, in order.
    fn routes(&mut self, rule: Typed<'a, VirtualService>, index: usize, http: &HttpRoute) -> Vec<Route> {
        let everything = HttpMatch::default();
        let alternatives =
            if http.matches.is_empty() { std::slice::from_ref(&everything) } else { &http.matches[..] };
        let mut routes = Vec::new();
        for alternative in alternatives {
            if self.concerns_us(&rule.resource.key.namespace, alternative) {
                routes.extend(self.route(rule, index, http, alternative));
            }
        }
        routes
    }

    /// Conditions on the caller are judged here, once, and not per request. `namespace` is the rule's.
    fn concerns_us(&self, namespace: &str, alternative: &HttpMatch) -> bool {
        let viewer = self.view.viewer;
        // spec: istio pilot/pkg/networking/core/route/route.go sourceMatchHTTP: where gateways are named, labels are not consulted
        let source = match (&alternative.gateways[..], self.gateway) {
            ([], None) => carries(&viewer.labels, &alternative.source_labels),
            ([], Some(_)) => true,
            (gateways, None) => gateways.iter().any(|gateway| gateway == "mesh"),
            (gateways, Some(edge)) => {
                gateways.iter().any(|gateway| bound_gateway(gateway, namespace) == edge)
            }
        };
        let from = |namespace: &String| self.gateway.is_some() || *namespace == viewer.namespace;
        source
            && alternative.source_namespace.as_ref().is_none_or(from)
            && alternative.port.is_none_or(|port| port == self.port)
    }

    fn route(
        &mut self,
        rule: Typed<'a, VirtualService>,
        index: usize,
        http: &HttpRoute,
        alternative: &HttpMatch,
    ) -> Option<Route> {
        let name = match (&http.name, &alternative.name) {
            (None, _) => format!("{}#{index}", rule.resource.key),
            (Some(name), None) => name.clone(),
            (Some(name), Some(alternative)) => format!("{name}.{alternative}"),
        };
        let origin = Origin { rule, index, at: http.at };
        Some(Route {
            name: name.into(),
            source: Some(rule.resource.origin(http.at)),
            matches: self.conditions(&origin, alternative)?,
            action: self.action(&origin, http, alternative)?,
            response_headers: self.operations(&origin, "headers.response", &http.headers.response),
        })
    }

    /// `None` if a header name is none: then the route could match more than was meant, so it is left out.
    fn conditions(&mut self, origin: &Origin<'_>, alternative: &HttpMatch) -> Option<RouteMatch> {
        let mut conditions = Vec::new();
        let mut add = |condition: Option<Condition>| conditions.extend(condition);
        let HttpMatch { uri, ignore_uri_case, scheme, method, authority, .. } = alternative;
        add(uri.clone().map(|pattern| Condition::Path { pattern, ignore_case: *ignore_uri_case }));
        add(scheme.clone().map(Condition::Scheme));
        add(method.clone().map(Condition::Method));
        add(authority.clone().map(Condition::Authority));
        for (name, pattern) in &alternative.query_params {
            add(Some(Condition::Query(name.clone(), pattern.clone())));
        }
        let headers = alternative.headers.iter().map(|(name, pattern)| (name, pattern, false));
        let without = alternative.without_headers.iter().map(|(name, pattern)| (name, pattern, true));
        for (name, pattern, absent) in headers.chain(without) {
            // spec: istio networking/v1alpha3/virtual_service.proto HTTPMatchRequest.headers: keys uri, scheme, method, authority are ignored
            if matches!(name.as_str(), "uri" | "scheme" | "method" | "authority") {
                continue;
            }
            let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
                self.findings.push(
                    origin.finding("match", format!("{name:?} is no header name; the route is left out")),
                );
                return None;
            };
            let condition = if absent { Condition::WithoutHeader } else { Condition::Header };
            add(Some(condition(header, pattern.clone())));
        }
        Some(RouteMatch::all(conditions))
    }

    fn action(
        &mut self,
        origin: &Origin<'_>,
        http: &HttpRoute,
        alternative: &HttpMatch,
    ) -> Option<RouteAction> {
        if let Some(redirect) = &http.redirect {
            return Some(RouteAction::Redirect(self::redirect(redirect)?));
        }
        if let Some(direct) = &http.direct_response {
            let status = StatusCode::from_u16(direct.status).ok()?;
            return Some(RouteAction::Direct { status, body: direct.body.clone().into() });
        }
        let targets: Vec<_> =
            http.route.iter().map(|to| (self.target(origin, to), to.weight.value)).collect();
        let destinations = match Weighted::new(targets) {
            Ok(destinations) => destinations,
            Err(error) => {
                self.findings.push(origin.finding("route", format!("{error}; the route is left out")));
                return None;
            }
        };
        Some(RouteAction::Forward(Forward {
            destinations,
            timeout: http.timeout.as_ref().map(|timeout| timeout.value).filter(|timeout| !timeout.is_zero()),
            retry: retry(http.retries.as_ref(), self.view.settings),
            rewrite: self.rewrite(origin, http, alternative),
            request_headers: self.operations(origin, "headers.request", &http.headers.request),
            fault: None,
            mirrors: Vec::new(),
        }))
    }

    fn target(&mut self, origin: &Origin<'_>, to: &RouteDestination) -> Target {
        let namespace = &origin.rule.resource.key.namespace;
        let host = full_host(&to.destination.host.value, namespace, &self.view.settings.domain);
        let subset = to.destination.subset.as_ref().map_or("", |subset| subset.value.as_str());
        let service = self.clusters.service(&host);
        let port = self.port_of(service.map(|service| &**service), to.destination.port);
        if let (Some(service), None) = (service, to.destination.port) {
            self.note_ambiguous(origin, to, service);
        }
        let cluster = service.and_then(|service| self.clusters.number(service, port, subset));
        match cluster {
            Some(number) => {
                let at = to.destination.subset.as_ref().map_or(to.destination.host.at, |subset| subset.at);
                self.clusters.note_empty(number, origin.rule.resource.origin(at));
            }
            None => self.findings.push(self.dangling(origin, to, service.is_some())),
        }
        Target {
            host: to.destination.host.value.as_str().into(),
            subset: subset.into(),
            port,
            cluster,
            unknown_status: StatusCode::SERVICE_UNAVAILABLE,
            name: format!("outbound|{port}|{subset}|{host}").into(),
            request_headers: self.operations(origin, "route.headers.request", &to.headers.request),
            response_headers: self.operations(origin, "route.headers.response", &to.headers.response),
        }
    }

    /// The port named, else the service's only one, else the request's.
    // spec: istio pilot/pkg/networking/core/route/route.go GetDestinationCluster
    fn port_of(&self, service: Option<&Service>, named: Option<u16>) -> u16 {
        let only = || match service.map(|service| &service.ports[..]) {
            Some([only]) => Some(only.number),
            _ => None,
        };
        named.or_else(only).unwrap_or(self.port)
    }

    /// A destination that names no port goes to the request's port: with several ports that is rarely what was meant.
    fn note_ambiguous(&mut self, origin: &Origin<'_>, to: &RouteDestination, service: &Service) {
        if service.ports.len() < 2 {
            return;
        }
        let numbers: Vec<_> = service.ports.iter().map(|port| port.number.to_string()).collect();
        let host = &to.destination.host;
        let message =
            format!("{:?} has the ports {}, and the destination names none", host.value, numbers.join(", "));
        let finding = Diagnostic::warning(Code::PORT_REQUIRED, message)
            .about(&origin.rule.resource.key)
            .at(origin.rule.resource.locate(host.at))
            .path(format!("spec.http[{}].route", origin.index))
            .help("write `port: {number: ...}` in the destination");
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn dangling(&self, origin: &Origin<'_>, to: &RouteDestination, known: bool) -> Diagnostic {
        let host = &to.destination.host;
        let (message, at) = match (&to.destination.subset, known) {
            (Some(subset), true) => (
                format!("{host:?} has no subset {:?}, or not this port", subset.value, host = host.value),
                subset.at,
            ),
            (None, true) => (format!("{:?} has no such port", host.value), host.at),
            (_, false) => (format!("no service {:?} is known (yet)", host.value), host.at),
        };
        Diagnostic::warning(Code::REFERENCE_NOT_FOUND, message)
            .about(&origin.rule.resource.key)
            .at(origin.rule.resource.locate(at))
            .path(format!("spec.http[{}].route", origin.index))
            .kept("requests sent there are answered with 503, flag NC")
    }

    fn rewrite(&mut self, origin: &Origin<'_>, http: &HttpRoute, alternative: &HttpMatch) -> Option<Rewrite> {
        let written = http.rewrite.as_ref();
        let authority = written
            .and_then(|rewrite| rewrite.authority.as_deref())
            .or_else(|| authority_of(&http.headers.request))
            .or_else(|| http.route.iter().find_map(|to| authority_of(&to.headers.request)));
        let authority = authority.and_then(|authority| match HeaderValue::from_str(authority) {
            Ok(authority) => Some(authority),
            Err(_) => {
                self.findings
                    .push(origin.finding("rewrite.authority", format!("{authority:?} is no authority")));
                None
            }
        });
        let path = written.and_then(|rewrite| rewrite.uri.clone()).map(|with| match &alternative.uri {
            Some(StringMatch::Prefix(prefix)) => PathRewrite::Prefix { matched: prefix.len(), with },
            // Without a match the prefix is "/", as it is for Envoy.
            None => PathRewrite::Prefix { matched: 1, with },
            Some(_) => PathRewrite::Whole(with),
        });
        (authority.is_some() || path.is_some()).then_some(Rewrite { path, authority })
    }

    fn operations(
        &mut self,
        origin: &Origin<'_>,
        field: &str,
        written: &istio::HeaderOperations,
    ) -> HeaderOps {
        let (operations, errors) = HeaderOps::compile(written);
        let explain =
            |error: HeaderOpError| origin.finding(field, format!("{error}; this operation is left out"));
        self.findings.extend(errors.into_iter().map(explain));
        operations
    }
}

/// Where a route comes from.
struct Origin<'a> {
    rule: Typed<'a, VirtualService>,
    index: usize,
    at: Mark,
}

impl Origin<'_> {
    fn finding(&self, field: &str, message: String) -> Diagnostic {
        Diagnostic::error(Code::SCHEMA, message)
            .about(&self.rule.resource.key)
            .at(self.rule.resource.locate(self.at))
            .path(format!("spec.http[{}].{field}", self.index))
    }
}

fn redirect(written: &istio::Redirect) -> Option<Redirect> {
    Some(Redirect {
        status: StatusCode::from_u16(written.code).ok()?,
        uri: written.uri.clone(),
        path: None,
        authority: written.authority.clone(),
        port: written.port,
        scheme: written.scheme.clone(),
    })
}
