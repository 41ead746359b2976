//! Leases as the registry object that stands for them: one ServiceEntry per service.
//!
//! The ports of a Service or ServiceEntry that names the same host rule; the leases only bring endpoints to it.
// spec: istio networking/v1alpha3/service_entry.proto

use crate::leases::{Held, ServiceKey, State};
use mesh_core::{
    config::{
        Meta, Resource, Spec,
        istio::{Service, ServiceEntry, ServicePort, TargetPort},
    },
    identity::SpiffeId,
};
use mesh_runtime::control::wire::{LEASE_MARK, LEASE_WITHDRAWN, Lease};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What the configuration says about services that leases may join.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    services: BTreeMap<ServiceKey, Declaration>,
    /// Every ServiceEntry, for their names are taken.
    entries: BTreeSet<ServiceKey>,
}

/// What it says about one service.
#[derive(Debug, Default)]
struct Declaration {
    ports: Vec<ServicePort>,
    /// Identities it gives the service to, in full.
    identities: BTreeSet<String>,
    /// Service accounts of the same namespace it gives the service to.
    accounts: BTreeSet<String>,
}

impl Declared {
    /// Reads the services out of the objects in force.
    pub(crate) fn read(resources: &[Arc<Resource>]) -> Self {
        let mut declared = Self::default();
        for resource in resources {
            let key = key(&resource.key.namespace, &resource.key.name);
            match &resource.spec {
                Spec::Service(service) => declared.on_service(key, service, &resource.meta),
                Spec::ServiceEntry(entry) => declared.on_entry(key, entry),
                _ => {}
            }
        }
        declared
    }

    fn on_service(&mut self, key: ServiceKey, service: &Service, meta: &Meta) {
        let accounts = meta.annotations.get(ACCOUNTS_ANNOTATION).map_or("", String::as_str);
        let accounts = accounts.split(',').map(str::trim).filter(|account| !account.is_empty());
        let declaration = self.services.entry(key).or_default();
        declaration.ports.clone_from(&service.ports);
        declaration.accounts.extend(accounts.map(str::to_owned));
    }

    /// Only services of the entry's own namespace are its to say anything about.
    fn on_entry(&mut self, entry_key: ServiceKey, entry: &ServiceEntry) {
        let suffix = host(&entry_key.namespace, "");
        let own = entry.hosts.iter().map(|host| host.strip_suffix(&suffix).unwrap_or(host));
        for service in own.filter(|service| !service.contains('.')) {
            let declaration = self.services.entry(key(&entry_key.namespace, service)).or_default();
            if declaration.ports.is_empty() {
                declaration.ports.clone_from(&entry.ports);
            }
            let accounts = entry.endpoints.iter().filter_map(|endpoint| endpoint.service_account.clone());
            declaration.accounts.extend(accounts);
            declaration.identities.extend(entry.subject_alt_names.iter().cloned());
        }
        self.entries.insert(entry_key);
    }

    /// Returns whether a Service or ServiceEntry gives the service to `account` of its own namespace, which is `id`.
    pub(crate) fn gives(&self, key: &ServiceKey, account: &str, id: &SpiffeId) -> bool {
        self.services.get(key).is_some_and(|declaration| {
            declaration.accounts.contains(account) || declaration.identities.contains(id.as_str())
        })
    }

    /// Returns the ServiceEntry that stands for the leases of a service.
    pub(crate) fn entry(&self, key: &ServiceKey, leases: &BTreeMap<String, Held>) -> Value {
        let declared = self.services.get(key).map_or(&[][..], |declaration| &declaration.ports);
        let leased: Vec<ServicePort>;
        let ports = if declared.is_empty() {
            leased = leases.values().next().map(|held| leased_ports(&held.lease)).unwrap_or_default();
            &leased
        } else {
            declared
        };
        let endpoints: Vec<_> =
            leases.values().filter(|held| !held.is_withdrawn()).map(|held| endpoint(held, ports)).collect();
        let mut annotations = BTreeMap::from([(ORIGIN_ANNOTATION, "leases")]);
        if endpoints.is_empty() {
            // Said aloud, so that nobody takes it for a registry that was lost.
            annotations.insert(LEASE_MARK, LEASE_WITHDRAWN);
        }
        let taken = self.entries.contains(key);
        let name = format!("{}{}", key.service, if taken { "-leases" } else { "" });
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {
                "name": name,
                "namespace": key.namespace,
                "annotations": annotations,
            },
            "spec": {
                "hosts": [host(&key.namespace, &key.service)],
                "location": "MESH_INTERNAL",
                "resolution": "STATIC",
                "ports": ports.iter().map(port).collect::<Vec<_>>(),
                "endpoints": endpoints,
            },
        })
    }
}

fn key(namespace: &str, service: &str) -> ServiceKey {
    ServiceKey { namespace: namespace.to_owned(), service: service.to_owned() }
}

/// Returns the full host of a service.
fn host(namespace: &str, service: &str) -> String {
    format!("{service}.{namespace}.svc.cluster.local")
}

/// Returns the ports of a service that only leases know: the one that callers know, and the others as they are.
fn leased_ports(lease: &Lease) -> Vec<ServicePort> {
    let main = main_port(lease).map(|(name, _)| name);
    let ports = lease.ports.iter().map(|(name, listening)| ServicePort {
        number: if Some(name) == main { lease.service_port } else { *listening },
        name: name.clone(),
        protocol: protocol(name).to_owned(),
        target_port: None,
    });
    let mut ports: Vec<_> = ports.collect();
    // The one that callers know comes first, and keeps its number should another listen on the same.
    ports.sort_by_key(|port| Some(&port.name) != main);
    let mut taken = BTreeSet::new();
    ports.retain(|port| taken.insert(port.number));
    ports
}

/// Returns the port of a lease that callers mean when they name none: `http`, else the first by name.
fn main_port(lease: &Lease) -> Option<(&String, &u16)> {
    lease.ports.get_key_value("http").or_else(|| lease.ports.first_key_value())
}

/// Returns the protocol that the name of a port stands for, upper case; HTTP where it stands for none.
// spec: istio docs/ops/configuration/traffic-management/protocol-selection
fn protocol(name: &str) -> &'static str {
    match name.split('-').next().unwrap_or_default() {
        "http2" => "HTTP2",
        "grpc" => "GRPC",
        "https" => "HTTPS",
        "tls" => "TLS",
        "tcp" => "TCP",
        _ => "HTTP",
    }
}

fn port(port: &ServicePort) -> Value {
    // What calls here speaks HTTP, whatever the Service leaves unsaid, and an entry has to say it.
    let protocol =
        Some(port.protocol.as_str()).filter(|said| !matches!(*said, "" | "SCTP")).unwrap_or("HTTP");
    let mut written = json!({"number": port.number, "name": port_name(port), "protocol": protocol});
    if let Some(TargetPort::Number(target)) = port.target_port {
        written["targetPort"] = target.into();
    }
    written
}

/// A Service with one port need not name it, an entry has to.
fn port_name(port: &ServicePort) -> &str {
    if port.name.is_empty() { "http" } else { &port.name }
}

fn endpoint(held: &Held, ports: &[ServicePort]) -> Value {
    let lease = &held.lease;
    let mut labels = lease.labels.clone();
    // Whether it speaks mutual TLS is known here, and not the workload's to claim.
    labels.remove(TLS_MODE_LABEL);
    if held.certified {
        labels.insert(TLS_MODE_LABEL.to_owned(), "istio".to_owned());
    }
    if let State::Expired(_) = held.state {
        labels.insert(LEASE_MARK.to_owned(), "expired".to_owned());
    }
    let mut written = json!({
        "address": lease.address,
        "ports": endpoint_ports(lease, ports),
        "labels": labels,
    });
    if let Some((_, account)) = held.owner.account() {
        written["serviceAccount"] = account.into();
    }
    if !lease.locality.is_empty() {
        written["locality"] = lease.locality.clone().into();
    }
    written
}

/// Returns the listening ports under the names that the service has for them.
///
/// A name that the service does not know stands for the port with the number callers know, or for the only one.
fn endpoint_ports(lease: &Lease, ports: &[ServicePort]) -> BTreeMap<String, u16> {
    let known = |name: &str| ports.iter().any(|port| port_name(port) == name);
    let mut written: BTreeMap<_, _> =
        lease.ports.iter().filter(|(name, _)| known(name)).map(|(name, at)| (name.clone(), *at)).collect();
    if let Some((name, listening)) = main_port(lease)
        && !known(name)
    {
        let by_number = ports.iter().find(|port| port.number == lease.service_port);
        let only = if let [only] = ports { Some(only) } else { None };
        if let Some(port) = by_number.or(only) {
            written.entry(port_name(port).to_owned()).or_insert(*listening);
        }
    }
    written
}

/// Istio's own: the service accounts that may run the service outside of Kubernetes.
// spec: istio pkg/config/constants annotations.yaml, alpha.istio.io/kubernetes-serviceaccounts
const ACCOUNTS_ANNOTATION: &str = "alpha.istio.io/kubernetes-serviceaccounts";
const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
const ORIGIN_ANNOTATION: &str = "mesh/origin";
