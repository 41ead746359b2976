//! Judges what VirtualServices and Gateways say of each other, over the whole set.
// spec: istio pkg/config/analysis/analyzers/virtualservice/gateways.go, analyzers/gateway/conflictinggateway.go

use super::Objects;
use crate::{
    config::{
        decode::shortened,
        diagnostic::{Code, Diagnostic},
        istio::{Gateway, NamespacedHosts, Server, VirtualService, bound_gateway},
        resource::{Mark, Resource, Spec},
        tree::{Node, Value},
    },
    registry::full_host,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

/// Adds what is found about Gateways and the VirtualServices bound to them.
pub(super) fn judge(objects: &Objects, domain: &str, findings: &mut Vec<Diagnostic>) {
    let gateways = objects.values().filter_map(|resource| match &resource.spec {
        Spec::Gateway(spec) => Some((&**resource, spec)),
        _ => None,
    });
    let gateways: Vec<_> = gateways.collect();
    conflicts(&gateways, findings);
    let known: HashMap<_, _> =
        gateways.iter().map(|(resource, spec)| (key(resource), offers(resource, spec))).collect();
    for resource in objects.values() {
        if let Spec::VirtualService(spec) = &resource.spec {
            judge_rule(resource, spec, &known, domain, findings);
        }
    }
}

/// Namespace and name of a Gateway.
type Key<'a> = (&'a str, &'a str);

fn key(resource: &Resource) -> Key<'_> {
    (&resource.key.namespace, &resource.key.name)
}

fn offers(resource: &Resource, gateway: &Gateway) -> NamespacedHosts {
    NamespacedHosts::of(gateway.servers.iter().flat_map(|server| &server.hosts), &resource.key.namespace)
}

/// Two Gateways of the same workloads must not claim one port and host.
fn conflicts(gateways: &[(&Resource, &Gateway)], findings: &mut Vec<Diagnostic>) {
    let mut claimed: HashMap<Claim<'_>, &Resource> = HashMap::new();
    for (resource, gateway) in gateways {
        for (index, server) in gateway.servers.iter().enumerate() {
            for claim in claims(gateway, server) {
                let host = claim.host;
                let first = *claimed.entry(claim).or_insert(resource);
                if first.key != resource.key {
                    findings.push(conflict(resource, first, (index, server), host));
                }
            }
        }
    }
}

/// What only one Gateway may claim: a host at a port of some workloads.
#[derive(PartialEq, Eq, Hash)]
struct Claim<'a> {
    selector: &'a BTreeMap<String, String>,
    bind: Option<IpAddr>,
    port: u16,
    host: &'a str,
}

fn claims<'a>(gateway: &'a Gateway, server: &'a Server) -> impl Iterator<Item = Claim<'a>> {
    server.hosts.iter().map(|host| Claim {
        selector: &gateway.selector,
        bind: server.bind,
        port: server.port.number,
        host: &host.host,
    })
}

fn conflict(
    resource: &Resource,
    first: &Resource,
    (index, server): (usize, &Server),
    host: &str,
) -> Diagnostic {
    let port = server.port.number;
    let message = format!(
        "port {port} and host {:?} are claimed by {} too, for the same workloads",
        shortened(host),
        first.key
    );
    Diagnostic::error(Code::CONFLICTING_GATEWAYS, message)
        .about(&resource.key)
        .at(resource.locate(server.at))
        .path(format!("spec.servers[{index}]"))
        .help(format!("give each its own port, host or selector; the other one is at {}", first.location))
        .kept("both are in force; which of them takes a connection is not defined")
}

fn judge_rule(
    resource: &Resource,
    rule: &VirtualService,
    known: &HashMap<Key<'_>, NamespacedHosts>,
    domain: &str,
    findings: &mut Vec<Diagnostic>,
) {
    let namespace = &*resource.key.namespace;
    for (index, written) in rule.gateways.iter().enumerate().filter(|(_, name)| *name != "mesh") {
        let Some(offers) = known.get(&bound_gateway(written, namespace)) else {
            findings.push(not_found(resource, index, written));
            continue;
        };
        for host in &rule.hosts {
            if !offers.meet(namespace, &full_host(&host.value, namespace, domain)) {
                let message =
                    format!("no server of gateway `{}` has host {:?}", shortened(written), host.value);
                let finding = Diagnostic::warning(Code::HOST_NOT_IN_GATEWAY, message)
                    .about(&resource.key)
                    .at(resource.locate(host.at))
                    .path("spec.hosts")
                    .help("add the host to a server of the Gateway, for this namespace");
                findings.push(finding);
            }
        }
    }
}

fn not_found(resource: &Resource, index: usize, written: &str) -> Diagnostic {
    Diagnostic::warning(Code::REFERENCE_NOT_FOUND, format!("no gateway `{}` is known", shortened(written)))
        .about(&resource.key)
        .at(resource.locate(place(resource, index)))
        .path(format!("spec.gateways[{index}]"))
        .help("write `namespace/name`, or `mesh` for calls inside of the mesh")
        .kept("the routes do not apply there")
}

/// Returns where entry `index` of `spec.gateways` is written.
fn place(resource: &Resource, index: usize) -> Mark {
    let list = resource.document.get("spec").and_then(|spec| spec.get("gateways"));
    let entry = list.and_then(|list| match &list.value {
        Value::Sequence(items) => items.get(index),
        _ => None,
    });
    entry.map_or(resource.document.at, |node: &Node| node.at)
}
