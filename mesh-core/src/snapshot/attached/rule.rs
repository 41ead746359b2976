//! One match of one rule of an attached route becomes a route.
// spec: istio pilot/pkg/config/kube/gateway/conversion.go convertHTTPRoute, convertGRPCRoute

use super::Alternative;
use crate::{
    config::{
        Code, Diagnostic, Mark,
        istio::{
            self, AttachedRule, Backend, BackendKind, BackendRef, Filters, PathMatch, PathModifier,
            RouteRedirect,
        },
    },
    retry::RetryPolicy,
    route::{
        Chance, Forward, HeaderOps, Mirror, PathRewrite, Redirect, Rewrite, Route, RouteAction, Target,
        Weighted, authority_of,
    },
    snapshot::{routes::Compiler, settings::retry},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use std::time::Duration;

/// Makes a route of one match.
pub(super) struct RuleCompiler<'c, 'a, 'b, 's, 'r> {
    pub(super) compiler: &'c mut Compiler<'a, 'b, 's>,
    pub(super) alternative: Alternative<'r>,
    /// Whether findings are reported: a rule is compiled once per match and port, and speaks once.
    pub(super) speaks: bool,
}

impl<'r> RuleCompiler<'_, '_, '_, '_, 'r> {
    pub(super) fn route(mut self) -> Route {
        let Alternative { attached, index, rule, matched } = self.alternative;
        self.speaks &= rule.matches.first().is_some_and(|first| std::ptr::eq(first, matched));
        let name = rule.name.clone().unwrap_or_else(|| format!("{}#{index}", attached.resource.key));
        Route {
            name: name.into(),
            source: Some(self.alternative.origin(rule.at)),
            matches: self.alternative.conditions(),
            action: self.action(rule),
            response_headers: self.operations("filters", rule.at, &rule.filters.headers.response),
        }
    }

    fn action(&mut self, rule: &'r AttachedRule) -> RouteAction {
        if !self.is_supported(&rule.filters, "filters", "every request that the rule matches") {
            return RouteAction::Direct { status: UNKNOWN_STATUS, body: Bytes::new(), fault: None };
        }
        if let Some(redirect) = &rule.filters.redirect {
            return RouteAction::Redirect(self.redirect(redirect));
        }
        let backends = rule.backends.iter().enumerate().filter(|(_, backend)| backend.weight > 0);
        let targets: Vec<_> =
            backends.map(|(at, backend)| (self.target(at, backend), backend.weight)).collect();
        let hashed = matches!(&targets[..], [(only, _)] if self.compiler.is_hashed(only));
        match Weighted::new(targets) {
            Ok(destinations) => RouteAction::Forward(self.forward(rule, destinations, hashed)),
            // spec: gateway-api v1 HTTPRouteRule.backendRefs: no backend that has a weight is 500
            Err(_) => RouteAction::Direct { status: UNKNOWN_STATUS, body: Bytes::new(), fault: None },
        }
    }

    fn forward(&mut self, rule: &'r AttachedRule, destinations: Weighted<Target>, hashed: bool) -> Forward {
        let retry = retry(rule.retry.as_ref(), self.compiler.view.settings, hashed);
        let (timeout, retry) = timeout_and_retry(rule, retry);
        // Backends without a weight are none at all.
        // spec: istio pilot/pkg/config/kube/gateway/conversion.go buildHTTPDestination
        let several = destinations.iter().nth(1).is_some();
        Forward {
            destinations,
            several,
            timeout,
            retry,
            rewrite: self.rewrite(rule),
            request_headers: self.operations("filters", rule.at, &rule.filters.headers.request),
            fault: None,
            mirrors: self.mirrors(rule),
        }
    }

    fn target(&mut self, index: usize, backend: &Backend) -> Target {
        let field = format!("backendRefs[{index}]");
        let mut target =
            self.reference(&backend.to, &field, "its share of the requests is answered with 500");
        target.authority = authority_of(&backend.filters.headers.request).and_then(as_value);
        target.request_headers = self.operations(&field, backend.to.at, &backend.filters.headers.request);
        target.response_headers = self.operations(&field, backend.to.at, &backend.filters.headers.response);
        if !self.is_supported(&backend.filters, &field, "its share of the requests") {
            target.cluster = None;
        }
        target
    }

    /// A backend of another namespace needs no ReferenceGrant, as under Istio: a consumer's route could have none.
    // spec: istio pilot/pkg/config/kube/gateway/route_collections.go: enforceRefGrant is for gateways only
    fn reference(&mut self, to: &BackendRef, field: &str, kept: &str) -> Target {
        let host = to.host(self.alternative.namespace(), &self.compiler.view.settings.domain);
        let service = host.as_ref().and_then(|host| self.compiler.clusters.service(host));
        let port = to.port.unwrap_or(self.compiler.port);
        let cluster = service.and_then(|service| self.compiler.clusters.number(service, port, ""));
        if cluster.is_none() {
            let finding = self.missing(to, host.as_deref(), service.is_some(), field);
            self.report(finding.kept(kept));
        }
        let name = match &host {
            Some(host) => format!("outbound|{port}||{host}"),
            // spec: istio pilot/pkg/networking/core/route/route.go GetDestinationCluster
            None => "UnknownService".to_owned(),
        };
        Target {
            authority: None,
            host: host.unwrap_or_else(|| to.name.as_str().into()),
            subset: "".into(),
            port,
            cluster,
            unknown_status: UNKNOWN_STATUS,
            name: name.into(),
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        }
    }

    fn missing(&self, to: &BackendRef, host: Option<&str>, known: bool, field: &str) -> Diagnostic {
        let what = match (&to.kind, host, to.port) {
            (BackendKind::Other(kind), ..) => {
                format!("nothing can be sent to a {kind}; a backend is a Service")
            }
            (_, Some(host), Some(port)) if known => format!("{host} has no port {port}"),
            (_, host, _) => format!("no service {} is known (yet)", host.unwrap_or(&to.name)),
        };
        self.alternative.attached.missing(what, to.at, self.alternative.path(field))
    }

    /// A filter must not be skipped: what it would have processed is answered with an error.
    // spec: gateway-api v1 HTTPRouteFilter.type
    fn is_supported(&mut self, filters: &Filters, field: &str, what: &str) -> bool {
        let Some(kind) = &filters.unsupported else { return true };
        let message = format!("filter `{}` is not supported, and must not be left out", kind.value);
        let resource = self.alternative.attached.resource;
        let finding = Diagnostic::error(Code::SCHEMA, message)
            .about(&resource.key)
            .at(resource.locate(kind.at))
            .path(self.alternative.path(field))
            .kept(format!("{what} is answered with 500"));
        self.report(finding);
        false
    }

    /// Without a port the redirect leads to the default port of its scheme, else to the port of the request.
    // spec: gateway-api v1 HTTPRequestRedirectFilter.port
    fn redirect(&self, written: &RouteRedirect) -> Redirect {
        let derived = match written.scheme {
            Some("https") => 443,
            Some(_) => 80,
            None => self.compiler.port,
        };
        let (uri, path) = match &written.path {
            Some(PathModifier::Full(path)) if path.starts_with('/') => (Some(path.clone()), None),
            Some(PathModifier::Full(path)) => (Some(format!("/{path}")), None),
            Some(PathModifier::Prefix(with)) => (None, self.replaced_prefix(with)),
            None => (None, None),
        };
        Redirect {
            fault: None,
            status: StatusCode::from_u16(written.code).unwrap_or(StatusCode::FOUND),
            uri,
            path,
            authority: written.hostname.clone(),
            port: Some(written.port.unwrap_or(derived)),
            scheme: written.scheme.map(str::to_owned),
        }
    }

    fn rewrite(&mut self, rule: &AttachedRule) -> Option<Rewrite> {
        let written = rule.filters.rewrite.as_ref();
        let authority = written
            .and_then(|rewrite| rewrite.hostname.as_deref())
            .or_else(|| authority_of(&rule.filters.headers.request))
            .and_then(as_value);
        let path = written.and_then(|rewrite| rewrite.path.as_ref()).and_then(|path| match path {
            PathModifier::Full(path) => Some(PathRewrite::Whole(path.clone())),
            PathModifier::Prefix(with) => self.replaced_prefix(with),
        });
        (authority.is_some() || path.is_some()).then_some(Rewrite { path, authority })
    }

    /// The prefix has no `/` at its end, and neither has what replaces it: so what follows is whole segments.
    fn replaced_prefix(&self, with: &str) -> Option<PathRewrite> {
        let Some(PathMatch::Segments(prefix)) = &self.alternative.matched.path else { return None };
        Some(PathRewrite::Prefix { matched: prefix.len(), with: with.to_owned() })
    }

    fn mirrors(&mut self, rule: &AttachedRule) -> Vec<Mirror> {
        let mut mirrors = Vec::new();
        for mirror in &rule.filters.mirrors {
            let target = self.reference(&mirror.to, "filters", "no copies are sent there");
            let chance = Chance::of_percent(mirror.percent);
            if target.cluster.is_some() && chance > Chance::NEVER {
                mirrors.push(Mirror { target, chance });
            }
        }
        mirrors
    }

    fn operations(&mut self, field: &str, at: Mark, written: &istio::HeaderOperations) -> HeaderOps {
        let (operations, errors) = HeaderOps::compile(written);
        let resource = self.alternative.attached.resource;
        for error in errors {
            let finding = Diagnostic::error(Code::SCHEMA, format!("{error}; this operation is left out"))
                .about(&resource.key)
                .at(resource.locate(at))
                .path(self.alternative.path(field));
            self.report(finding);
        }
        operations
    }

    fn report(&mut self, finding: Diagnostic) {
        if self.speaks {
            self.alternative.attached.report(self.compiler, finding);
        }
    }
}

/// `None` never happens: the reader refuses what can stand in no header.
fn as_value(authority: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(authority).ok()
}

/// The bound of a backend is that of each try where tries are configured, else that of the call.
// spec: istio pilot/pkg/config/kube/gateway/conversion.go convertHTTPRoute
fn timeout_and_retry(rule: &AttachedRule, retry: RetryPolicy) -> (Option<Duration>, RetryPolicy) {
    let lasting = |timeout: Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
    let (request, backend) = (lasting(rule.timeout), lasting(rule.backend_timeout));
    match rule.retry {
        None => (backend.or(request), retry),
        Some(_) => (request, RetryPolicy { per_try_timeout: backend, ..retry }),
    }
}

/// What is answered in place of a backend that is none, and of a filter that is not supported.
// spec: gateway-api v1 HTTPRouteRule.backendRefs
const UNKNOWN_STATUS: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
