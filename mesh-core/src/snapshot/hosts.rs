//! Virtual hosts: one per service and port, and one per host that only a VirtualService knows.
// spec: istio pilot/pkg/networking/core/httproute.go

use super::{
    clusters::Clusters,
    routes::Compiler,
    view::{Typed, View, specificity},
};
use crate::{
    config::{Code, Diagnostic, Mark, istio::VirtualService},
    registry::full_host,
    route::HostTable,
};
use std::{collections::HashMap, sync::Arc};

/// Returns every virtual host of `view`, building the clusters they lead to.
pub(super) fn compile<'a>(
    view: &'a View<'a>,
    clusters: &mut Clusters<'a>,
    findings: &mut Vec<Diagnostic>,
) -> HostTable {
    let claims = Claims::of(view, findings);
    let mut table = HostTable::default();
    for service in view.registry.services().filter(|service| view.sees_service(service)) {
        let claim = claims.covering(&service.host);
        for port in &service.ports {
            let mut compiler = Compiler { view, clusters, findings, port: port.number, gateway: None };
            let host = Arc::new(match claim {
                Some(rule) => compiler.virtual_host(&format!("{}:{}", service.host, port.number), rule),
                None => compiler.service_itself(service, port.number),
            });
            for name in aliases(view, &service.host) {
                table.insert(&name, Some(port.number), &host);
            }
        }
    }
    for (name, rule) in claims.only_claimed(view) {
        let mut compiler = Compiler { view, clusters, findings, port: 80, gateway: None };
        let host = Arc::new(compiler.virtual_host(&name, rule));
        for name in aliases(view, &name) {
            table.insert(&name, None, &host);
        }
    }
    table
}

/// Which VirtualService rules which host.
struct Claims<'a> {
    by_host: HashMap<Arc<str>, Typed<'a, VirtualService>>,
    /// Wildcards, the longest first.
    wildcards: Vec<(Arc<str>, Typed<'a, VirtualService>)>,
}

impl<'a> Claims<'a> {
    /// The older of two rules with the same host wins whole; nothing is merged.
    fn of(view: &View<'a>, findings: &mut Vec<Diagnostic>) -> Self {
        let mut by_host: HashMap<Arc<str>, Typed<'a, VirtualService>> = HashMap::new();
        for rule in view.virtual_services() {
            for host in &rule.spec.hosts {
                let name = full_host(&host.value, &rule.resource.key.namespace, &view.settings.domain);
                match by_host.get(&name) {
                    Some(older) => findings.push(conflict(&host.value, host.at, rule, older)),
                    None => drop(by_host.insert(name, rule)),
                }
            }
        }
        let mut wildcards: Vec<_> = by_host.iter().filter(|(host, _)| host.starts_with('*')).collect();
        wildcards.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let wildcards = wildcards.into_iter().map(|(host, rule)| (Arc::clone(host), *rule)).collect();
        Self { by_host, wildcards }
    }

    fn covering(&self, host: &str) -> Option<Typed<'a, VirtualService>> {
        let wildcard = || self.wildcards.iter().find(|(pattern, _)| specificity(pattern, host).is_some());
        self.by_host.get(host).or_else(|| wildcard().map(|(_, rule)| rule)).copied()
    }

    /// The hosts that no visible service has, in order.
    fn only_claimed(&self, view: &View<'_>) -> Vec<(Arc<str>, Typed<'a, VirtualService>)> {
        let mut hosts: Vec<_> = self
            .by_host
            .iter()
            .filter(|(host, _)| !view.registry.get(host).is_some_and(|service| view.sees_service(service)))
            .map(|(host, rule)| (Arc::clone(host), *rule))
            .collect();
        hosts.sort_by(|(a, _), (b, _)| a.cmp(b));
        hosts
    }
}

fn conflict(
    host: &str,
    at: Mark,
    rule: Typed<'_, VirtualService>,
    older: &Typed<'_, VirtualService>,
) -> Diagnostic {
    let older = older.resource;
    Diagnostic::error(Code::CONFLICTING_HOSTS, format!("host {host:?} is routed by {} already", older.key))
        .about(&rule.resource.key)
        .at(rule.resource.locate(at))
        .path("spec.hosts")
        .help(format!("merge the routes into one VirtualService; the other one is at {}", older.location))
        .kept("the older object routes the host, whole")
}

/// The names by which this workload may call `host`.
// spec: istio pilot/pkg/networking/core GenerateAltVirtualHosts
fn aliases(view: &View<'_>, host: &str) -> Vec<String> {
    let mut names = vec![host.to_owned()];
    let suffix = format!(".svc.{}", view.settings.domain);
    let short = host.strip_suffix(&suffix).and_then(|short| short.split_once('.'));
    if let Some((name, namespace)) = short.filter(|(name, ns)| !name.contains('*') && !ns.contains('.')) {
        names.push(format!("{name}.{namespace}"));
        names.push(format!("{name}.{namespace}.svc"));
        if namespace == view.viewer.namespace {
            names.push(name.to_owned());
        }
    }
    names
}
