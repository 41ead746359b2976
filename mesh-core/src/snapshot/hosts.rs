//! The virtual hosts of one host name: one per port of its service, or, where only a VirtualService knows it, one per port
//! that the rule tells apart and one for every other.
// spec: istio pilot/pkg/networking/core/httproute.go

use super::{
    attached::{self, Attached},
    clusters::{ClusterStore, Clusters},
    delegate, index, passthrough,
    routes::{Compiler, OTHER_PORT},
    view::{Typed, View},
};
use crate::{
    config::{Code, Diagnostic, Kind, istio::VirtualService},
    health::States,
    registry::{Service, full_host},
    route::{ClusterId, VirtualHost},
};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// What is compiled of one host, and what it was compiled from.
#[derive(Debug)]
pub(super) struct Unit {
    /// The names by which this workload may call the host.
    pub(super) names: Vec<Arc<str>>,
    /// Its virtual hosts by port; without one it answers for every port that has none of its own.
    pub(super) hosts: Vec<(Option<u16>, Arc<VirtualHost>)>,
    /// The clusters its routes lead to.
    pub(super) clusters: Vec<ClusterId>,
    /// The hosts and objects that were looked at, whether they were found or not.
    pub(super) depends: Vec<Arc<str>>,
    pub(super) findings: Vec<Diagnostic>,
    /// Whether there is a service behind it: where two hosts share a name, a service goes first.
    pub(super) is_service: bool,
}

/// Compiles `host`; `None` if this workload knows no such host.
pub(super) fn compile(
    view: View<'_>,
    store: &mut ClusterStore,
    states: &States,
    host: &Arc<str>,
) -> Option<Unit> {
    if let Some(target) = known_as(view, host) {
        return Some(another_name(view, store, states, host, target));
    }
    let service = view.registry.get(host).filter(|service| view.sees_service(service));
    let mut rules = view.virtual_services(host, service.is_some());
    let rule = rules.next();
    let mut findings = Vec::new();
    if let Some(rule) = rule {
        findings.extend(rules.filter_map(|younger| conflict(view, host, younger, &rule)));
    }
    let attached = view.attached(host);
    attached::note_missing(view, host, service.map(|service| &**service), &attached, &mut findings);
    let mut clusters = Clusters::new(view, states, store);
    clusters.depend(host);
    let merged = rule.and_then(|rule| with_delegates(view, rule, &mut clusters, &mut findings));
    let rule = match (rule, &merged) {
        (Some(Typed { resource, .. }), Some(spec)) => Some(Typed { resource, spec }),
        (rule, _) => rule,
    };
    let hosts = match (service, rule) {
        (None, None) if attached.is_empty() => return None,
        (None, None) => Vec::new(),
        (None, Some(rule)) => {
            let ports = ports_told_apart(view, rule, &mut clusters);
            let others = if ports.is_empty() { HTTP_PORT } else { OTHER_PORT };
            let mut at = |port| {
                let mut compiler = Compiler::for_mesh(view, &mut clusters, &mut findings, port);
                Arc::new(compiler.virtual_host(host, rule))
            };
            let mut hosts: Vec<_> = ports.into_iter().map(|port| (Some(port), at(port))).collect();
            hosts.push((None, at(others)));
            hosts
        }
        (Some(service), rule) => {
            let mut of_port = |port| {
                let compiler = Compiler::for_mesh(view, &mut clusters, &mut findings, port);
                (Some(port), Arc::new(of_service(compiler, service, &attached, rule)))
            };
            service.ports.iter().map(|port| of_port(port.number)).collect()
        }
    };
    let (clusters, depends, mut others) = clusters.finish();
    findings.append(&mut others);
    let mut names = aliases(view, host);
    let itself = service.iter().filter(|service| service.host == *host);
    names.extend(itself.flat_map(|service| &service.addresses).map(in_authority));
    Some(Unit { names, hosts, clusters, depends, findings, is_service: service.is_some() })
}

/// Returns the host of the service that `host` is another name for, unless routes name it itself.
fn known_as<'a>(view: View<'a>, host: &Arc<str>) -> Option<&'a Arc<str>> {
    let service = view.registry.get(host).filter(|service| service.host != *host)?;
    let is_routed = !view.index.claims.of(host).is_empty() || !view.index.attached.of(host).is_empty();
    (!is_routed).then_some(&service.host)
}

/// Another name for a service is one more name of its virtual hosts.
// spec: istio pilot/pkg/networking/core/httproute.go generateVirtualHostDomains, Service.Attributes.Aliases
fn another_name(
    view: View<'_>,
    store: &mut ClusterStore,
    states: &States,
    host: &Arc<str>,
    target: &Arc<str>,
) -> Unit {
    let depends = [host, target].map(Arc::clone);
    match compile(view, store, states, target) {
        Some(unit) => Unit {
            names: aliases(view, host),
            depends: unit.depends.iter().cloned().chain(depends).collect(),
            ..unit
        },
        None => Unit {
            names: Vec::new(),
            hosts: Vec::new(),
            clusters: Vec::new(),
            depends: depends.into(),
            findings: Vec::new(),
            is_service: false,
        },
    }
}

/// Returns `rule` with the routes of those it delegates to; `None` if it delegates to nobody.
pub(super) fn with_delegates(
    view: View<'_>,
    rule: Typed<'_, VirtualService>,
    clusters: &mut Clusters<'_, '_>,
    findings: &mut Vec<Diagnostic>,
) -> Option<VirtualService> {
    delegate::delegates(rule).next()?;
    for (namespace, name) in delegate::delegates(rule) {
        clusters.depend(&index::object(Kind::VirtualService, namespace, name));
    }
    let find = |namespace: &str, name: &str| view.virtual_service(namespace, name);
    let (merged, mut found) = delegate::merge(rule, view.settings, find);
    findings.append(&mut found);
    Some(merged)
}

/// Returns the ports at which `rule`, which routes no service, may do what it does at no other: those that its matches
/// name, those of services to which it sends without saying the port, and, for a redirect to the port of the request,
/// those that requests name by their scheme alone.
fn ports_told_apart(
    view: View<'_>,
    rule: Typed<'_, VirtualService>,
    clusters: &mut Clusters<'_, '_>,
) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    let mut derived = false;
    for http in &rule.spec.http {
        ports.extend(http.matches.iter().filter_map(|alternative| alternative.port));
        derived |= http.redirect.as_ref().is_some_and(|redirect| redirect.request_port);
        let mirrors = http.mirrors.iter().map(|mirror| &mirror.destination).chain(&http.mirror);
        let destinations = http.route.iter().map(|to| &to.destination).chain(mirrors);
        for to in destinations.filter(|to| to.port.is_none()) {
            let host = full_host(&to.host.value, &rule.resource.key.namespace, &view.settings.domain);
            let service = clusters.service(&host).filter(|service| service.ports.len() > 1);
            ports.extend(service.iter().flat_map(|service| &service.ports).map(|port| port.number));
        }
    }
    if derived || !ports.is_empty() {
        // The only port of a name is meant by requests that name none, and these mean the port of their scheme.
        ports.extend([HTTP_PORT, HTTPS_PORT]);
    }
    ports
}

fn of_service(
    mut compiler: Compiler<'_, '_, '_>,
    service: &Service,
    attached: &[Attached<'_>],
    rule: Option<Typed<'_, VirtualService>>,
) -> VirtualHost {
    let port = compiler.port;
    let name = format!("{}:{port}", service.host);
    let routes = match rule {
        Some(rule) if !attached::outrank(&mut compiler, service, attached, rule) => None,
        _ => attached::routes(&mut compiler, service, attached),
    };
    match (routes, rule) {
        (Some(routes), _) => attached::virtual_host(&name, routes),
        (None, Some(rule)) => compiler.virtual_host(&name, rule),
        (None, None) => {
            let itself = compiler.service_itself(service, port);
            passthrough::wildcard(&mut compiler, service, itself)
        }
    }
}

/// The older of two rules with the same host wins whole; nothing is merged.
fn conflict(
    view: View<'_>,
    host: &str,
    rule: Typed<'_, VirtualService>,
    older: &Typed<'_, VirtualService>,
) -> Option<Diagnostic> {
    let namespace = &rule.resource.key.namespace;
    let is_this = |written: &str| *full_host(written, namespace, &view.settings.domain) == *host;
    let written = rule.spec.hosts.iter().find(|written| is_this(&written.value))?;
    let older = older.resource;
    let message = format!("host {:?} is routed by {} already", written.value, older.key);
    let finding = Diagnostic::error(Code::CONFLICTING_HOSTS, message)
        .about(&rule.resource.key)
        .at(rule.resource.locate(written.at))
        .path("spec.hosts")
        .help(format!("merge the routes into one VirtualService; the other one is at {}", older.location))
        .kept("the older object routes the host, whole");
    Some(finding)
}

/// The names by which this workload may call `host`.
// spec: istio pilot/pkg/networking/core GenerateAltVirtualHosts
fn aliases(view: View<'_>, host: &Arc<str>) -> Vec<Arc<str>> {
    let mut names = vec![Arc::clone(host)];
    let suffix = format!(".svc.{}", view.settings.domain);
    let short = host.strip_suffix(&suffix).and_then(|short| short.split_once('.'));
    if let Some((name, namespace)) = short.filter(|(name, ns)| !name.contains('*') && !ns.contains('.')) {
        names.push(format!("{name}.{namespace}").into());
        names.push(format!("{name}.{namespace}.svc").into());
        if namespace == view.viewer.namespace {
            names.push(name.into());
        }
    }
    names
}

/// Returns an address as it stands in an authority.
fn in_authority(address: &IpAddr) -> Arc<str> {
    if address.is_ipv6() { format!("[{address}]").into() } else { address.to_string().into() }
}

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
