//! The routes of one host and port: each entry of a VirtualService becomes a route per alternative of its `match`.
// spec: istio pilot/pkg/networking/core/route/route.go

use super::{
    clusters::Clusters,
    settings::retry,
    view::{Typed, View, carries},
};
use crate::{
    config::{
        Code, Diagnostic, Location, Mark, Origin, ResourceKey,
        istio::{
            self, Destination, HttpMatch, HttpRoute, RouteDestination, StringMatch, VirtualService,
            bound_gateway,
        },
    },
    registry::{Service, full_host},
    retry::RetryPolicy,
    route::{
        Chance, Condition, Forward, HeaderOpError, HeaderOps, Mirror, PathRewrite, Redirect, Rewrite, Route,
        RouteAction, RouteMatch, Target, VirtualHost, Weighted, authority_of,
    },
};
use http::{HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;

/// Compiles the routes for one host and port.
pub(super) struct Compiler<'a, 'b, 's> {
    pub(super) view: View<'a>,
    pub(super) clusters: &'b mut Clusters<'a, 's>,
    pub(super) findings: &'b mut Vec<Diagnostic>,
    /// The port that requests are for.
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
            authority: None,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        };
        let retry = retry(None, self.view.settings, self.is_hashed(&target));
        let action = RouteAction::Forward(Forward {
            destinations: Weighted::one(target),
            several: false,
            timeout: None,
            retry,
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

    pub(super) fn virtual_host(&mut self, name: &str, rule: Typed<'_, VirtualService>) -> VirtualHost {
        let mut routes = Vec::new();
        'all: for (index, http) in rule.spec.http.iter().enumerate() {
            for route in self.routes(rule, index, http) {
                let last = route.matches.is_catch_all();
                routes.push(route);
                if last {
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

    /// One route per alternative of `match`, in order.
    fn routes(&mut self, rule: Typed<'_, VirtualService>, index: usize, http: &HttpRoute) -> Vec<Route> {
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
        // spec: istio pilot/pkg/networking/core/route/route.go sourceMatchHTTP: where gateways are named, labels and namespace are not consulted
        let source = match (&alternative.gateways[..], self.gateway) {
            ([], None) => {
                let from = alternative.source_namespace.as_ref();
                carries(&viewer.labels, &alternative.source_labels)
                    && from.is_none_or(|from| *from == viewer.namespace)
            }
            ([], Some(_)) => true,
            (gateways, None) => gateways.iter().any(|gateway| gateway == "mesh"),
            (gateways, Some(edge)) => {
                gateways.iter().any(|gateway| bound_gateway(gateway, namespace) == edge)
            }
        };
        source && alternative.port.is_none_or(|port| port == self.port)
    }

    fn route(
        &mut self,
        rule: Typed<'_, VirtualService>,
        index: usize,
        http: &HttpRoute,
        alternative: &HttpMatch,
    ) -> Option<Route> {
        let name = match (&http.name, &alternative.name) {
            (None, _) => format!("{}#{index}", rule.resource.key),
            (Some(name), None) => name.clone(),
            (Some(name), Some(alternative)) => format!("{name}.{alternative}"),
        };
        let place = Place::of(rule, index, http);
        Some(Route {
            name: name.into(),
            source: Some(place.origin(place.at)),
            matches: self.conditions(&place, alternative)?,
            action: self.action(&place, http, alternative)?,
            response_headers: self.operations(&place, "headers.response", &http.headers.response),
        })
    }

    /// `None` if a condition cannot be judged: then the route could match more than was meant, so it is left out.
    fn conditions(&mut self, place: &Place<'_>, alternative: &HttpMatch) -> Option<RouteMatch> {
        if !alternative.claims.is_empty() && self.gateway.is_none() {
            let message = "a call inside the mesh has no claims to match; the route is left out";
            let finding = place.finding("match", message.to_owned());
            self.findings.push(Diagnostic { code: Code::CLAIMS_WITHOUT_AUTHENTICATION, ..finding });
            return None;
        }
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
            // spec: rfc9113 8.3.1: `host` is the authority, and clients send the one or the other
            if name == "host" {
                let condition = if absent { Condition::WithoutAuthority } else { Condition::Authority };
                add(Some(condition(pattern.clone())));
                continue;
            }
            let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
                self.findings.push(
                    place.finding("match", format!("{name:?} is no header name; the route is left out")),
                );
                return None;
            };
            let condition = if absent { Condition::WithoutHeader } else { Condition::Header };
            add(Some(condition(header, pattern.clone())));
        }
        Some(RouteMatch::all(conditions).of_claims(alternative.claims.clone()))
    }

    fn action(
        &mut self,
        place: &Place<'_>,
        http: &HttpRoute,
        alternative: &HttpMatch,
    ) -> Option<RouteAction> {
        if let Some(written) = &http.redirect {
            let of_request = written.request_port && self.port != OTHER_PORT;
            let port = written.port.or_else(|| of_request.then_some(self.port));
            return Some(RouteAction::Redirect(Redirect {
                status: StatusCode::from_u16(written.code).ok()?,
                uri: written.uri.clone(),
                path: written.prefix_rewrite.as_ref().map(|with| in_place_of(alternative, with)),
                authority: written.authority.clone(),
                port,
                scheme: written.scheme.clone(),
                fault: http.fault.clone(),
            }));
        }
        if let Some(direct) = &http.direct_response {
            let status = StatusCode::from_u16(direct.status).ok()?;
            let body = direct.body.clone().into();
            return Some(RouteAction::Direct { status, body, fault: http.fault.clone() });
        }
        self.forward(place, http, alternative).map(RouteAction::Forward)
    }

    fn forward(&mut self, place: &Place<'_>, http: &HttpRoute, alternative: &HttpMatch) -> Option<Forward> {
        let rewrite = self.rewrite(place, http, alternative)?;
        let mut targets = Vec::new();
        for to in &http.route {
            targets.push((self.destination(place, to)?, to.weight.value));
        }
        let hashed = matches!(&targets[..], [(only, _)] if self.is_hashed(only));
        let destinations = match Weighted::new(targets) {
            Ok(destinations) => destinations,
            Err(error) => {
                self.findings.push(place.finding("route", format!("{error}; the route is left out")));
                return None;
            }
        };
        Some(Forward {
            destinations,
            several: http.route.len() > 1,
            timeout: http.timeout.as_ref().map(|timeout| timeout.value).filter(|timeout| !timeout.is_zero()),
            retry: RetryPolicy {
                hedge: http.hedge,
                ..retry(http.retries.as_ref(), self.view.settings, hashed)
            },
            rewrite: Some(rewrite).filter(|rewrite| rewrite.path.is_some() || rewrite.authority.is_some()),
            request_headers: self.operations(place, "headers.request", &http.headers.request),
            fault: http.fault.clone(),
            mirrors: self.mirrors(place, http),
        })
    }

    /// `None` if its authority is none: requests would arrive under another name.
    fn destination(&mut self, place: &Place<'_>, to: &RouteDestination) -> Option<Target> {
        let target = self.target(place, &to.destination);
        if target.cluster.is_none() {
            let known = self.service_of(place, &to.destination).is_some();
            self.findings.push(dangling(place, "route", &to.destination, known));
        }
        let authority = match authority_of(&to.headers.request) {
            None => None,
            Some(written) => Some(self.authority(place, "route.headers.request", written)?),
        };
        Some(Target {
            authority,
            request_headers: self.operations(place, "route.headers.request", &to.headers.request),
            response_headers: self.operations(place, "route.headers.response", &to.headers.response),
            ..target
        })
    }

    /// A destination that does not exist gets no copies.
    // spec: istio pilot/pkg/networking/core/route/route.go MirrorPercent
    fn mirrors(&mut self, place: &Place<'_>, http: &HttpRoute) -> Vec<Mirror> {
        let one = http.mirror.iter().map(|to| (to, http.mirror_percentage, "mirror"));
        let several = http.mirrors.iter().map(|mirror| (&mirror.destination, mirror.percentage, "mirrors"));
        let mut mirrors = Vec::new();
        for (to, percentage, field) in one.chain(several) {
            let chance = percentage.unwrap_or(Chance::ALWAYS);
            let target = self.target(place, to);
            if target.cluster.is_none() {
                let known = self.service_of(place, to).is_some();
                self.findings.push(dangling(place, field, to, known).kept("no copies are sent there"));
            } else if chance > Chance::NEVER {
                mirrors.push(Mirror { target, chance });
            }
        }
        mirrors
    }

    fn service_of(&self, place: &Place<'_>, to: &Destination) -> Option<&'a Arc<Service>> {
        self.view.destination(&full_host(&to.host, place.namespace(), &self.view.settings.domain))
    }

    /// Returns the cluster that `to` names, with no headers of its own.
    fn target(&mut self, place: &Place<'_>, to: &Destination) -> Target {
        let host = full_host(&to.host.value, place.namespace(), &self.view.settings.domain);
        let subset = to.subset.as_ref().map_or("", |subset| subset.value.as_str());
        let service = self.clusters.service(&host);
        let port = self.port_of(service.map(|service| &**service), to.port);
        if let (Some(service), None) = (service, to.port) {
            self.note_ambiguous(place, to, service);
        }
        let cluster = service.and_then(|service| self.clusters.number(service, port, subset));
        if let Some(number) = cluster {
            let at = to.subset.as_ref().map_or(to.host.at, |subset| subset.at);
            self.clusters.note_empty(number, place.origin(at));
        }
        Target {
            host: to.host.value.as_str().into(),
            subset: subset.into(),
            port,
            cluster,
            unknown_status: StatusCode::SERVICE_UNAVAILABLE,
            name: format!("outbound|{port}|{subset}|{host}").into(),
            authority: None,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        }
    }

    /// Returns whether the cluster of `target` picks the endpoint by what a request holds.
    pub(super) fn is_hashed(&self, target: &Target) -> bool {
        target.cluster.is_some_and(|number| self.clusters.get(number).hash.is_some())
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
    fn note_ambiguous(&mut self, place: &Place<'_>, to: &Destination, service: &Service) {
        if service.ports.len() < 2 {
            return;
        }
        let numbers: Vec<_> = service.ports.iter().map(|port| port.number.to_string()).collect();
        let message = format!(
            "{:?} has the ports {}, and the destination names none",
            to.host.value,
            numbers.join(", ")
        );
        let finding = place
            .warning(Code::PORT_REQUIRED, "route", message)
            .at(place.locate(to.host.at))
            .help("write `port: {number: ...}` in the destination");
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// `None` if it cannot be made: the route must not send requests elsewhere than it says.
    fn rewrite(&mut self, place: &Place<'_>, http: &HttpRoute, alternative: &HttpMatch) -> Option<Rewrite> {
        let written = http.rewrite.as_ref();
        let authority = written.and_then(|rewrite| rewrite.authority.as_deref());
        let authority = match authority.or_else(|| authority_of(&http.headers.request)) {
            None => None,
            Some(authority) => Some(self.authority(place, "rewrite.authority", authority)?),
        };
        let path = written.and_then(|rewrite| match (&rewrite.regex, &rewrite.uri) {
            (Some(regex), _) => Some(PathRewrite::Regex(regex.clone())),
            (None, uri) => uri.as_ref().map(|with| in_place_of(alternative, with)),
        });
        Some(Rewrite { path, authority })
    }

    fn authority(&mut self, place: &Place<'_>, field: &str, written: &str) -> Option<HeaderValue> {
        let authority = HeaderValue::from_str(written).ok();
        if authority.is_none() {
            let message = format!("{written:?} is no authority; the route is left out");
            self.findings.push(place.finding(field, message));
        }
        authority
    }

    fn operations(&mut self, place: &Place<'_>, field: &str, written: &istio::HeaderOperations) -> HeaderOps {
        let (operations, errors) = HeaderOps::compile(written);
        let explain =
            |error: HeaderOpError| place.finding(field, format!("{error}; this operation is left out"));
        self.findings.extend(errors.into_iter().map(explain));
        operations
    }
}

/// Where a route was written: in the object it stands in, or in a delegate of that.
struct Place<'a> {
    key: &'a ResourceKey,
    file: &'a Arc<str>,
    index: usize,
    at: Mark,
}

impl<'a> Place<'a> {
    fn of(rule: Typed<'a, VirtualService>, index: usize, http: &'a HttpRoute) -> Self {
        match &http.delegated {
            None => Self { key: &rule.resource.key, file: &rule.resource.location.file, index, at: http.at },
            Some(delegated) => Self {
                key: &delegated.origin.resource,
                file: &delegated.origin.location.file,
                index: delegated.index,
                at: http.at,
            },
        }
    }

    /// The namespace in which short names are meant.
    fn namespace(&self) -> &'a str {
        &self.key.namespace
    }

    fn locate(&self, mark: Mark) -> Location {
        Location::new(self.file, mark)
    }

    fn origin(&self, mark: Mark) -> Origin {
        Origin { resource: self.key.clone(), location: self.locate(mark) }
    }

    fn finding(&self, field: &str, message: String) -> Diagnostic {
        self.complete(field, Diagnostic::error(Code::SCHEMA, message))
    }

    fn warning(&self, code: Code, field: &str, message: String) -> Diagnostic {
        self.complete(field, Diagnostic::warning(code, message))
    }

    fn complete(&self, field: &str, finding: Diagnostic) -> Diagnostic {
        let path = format!("spec.http[{}].{field}", self.index);
        finding.about(self.key).at(self.locate(self.at)).path(path)
    }
}

/// Says of `to`, in `field`, that it does not exist; its service may be `known` all the same.
fn dangling(place: &Place<'_>, field: &str, to: &Destination, known: bool) -> Diagnostic {
    let host = &to.host;
    let (message, at) = match (&to.subset, known) {
        (Some(subset), true) => (
            format!("{host:?} has no subset {:?}, or not this port", subset.value, host = host.value),
            subset.at,
        ),
        (None, true) => (format!("{:?} has no such port", host.value), host.at),
        (_, false) => (format!("no service {:?} is known (yet)", host.value), host.at),
    };
    place
        .warning(Code::REFERENCE_NOT_FOUND, field, message)
        .at(place.locate(at))
        .kept("requests sent there are answered with 503, flag NC")
}

/// Returns the rewrite that puts `with` in the place of what `alternative` matches of the path.
// spec: envoy config.route.v3.RouteAction.prefix_rewrite, RedirectAction.prefix_rewrite
fn in_place_of(alternative: &HttpMatch, with: &str) -> PathRewrite {
    let with = with.to_owned();
    match &alternative.uri {
        Some(StringMatch::Prefix(prefix)) => PathRewrite::Prefix { matched: prefix.len(), with },
        // Without a condition the prefix is "/", as it is for Envoy.
        None | Some(StringMatch::Present) => PathRewrite::Prefix { matched: 1, with },
        Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => PathRewrite::Whole(with),
    }
}

/// Stands for every port that nothing names.
pub(super) const OTHER_PORT: u16 = 0;
