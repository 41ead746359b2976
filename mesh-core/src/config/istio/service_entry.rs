//! ServiceEntry and WorkloadEntry: the static registry, and the form in which the control endpoint serves leases.
// spec: istio networking/v1alpha3/service_entry.proto, workload_entry.proto

use super::common;
use super::service::ServicePort;
use crate::config::{
    decode::{self, Decoder, Fields, choice, count, name, name_at, shortened, text},
    diagnostic::{Code, Diagnostic},
    resource::At,
    tree::Node,
};
use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

/// `spec` of a ServiceEntry.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceEntry {
    /// The hosts; at least one.
    pub hosts: Vec<At<String>>,
    /// `ports`; at least one.
    pub ports: Vec<ServicePort>,
    /// `location`.
    pub location: EntryLocation,
    /// `resolution`.
    pub resolution: Resolution,
    /// `endpoints`.
    pub endpoints: Vec<WorkloadEntry>,
    /// `subjectAltNames`: the SPIFFE IDs (or names) expected of its endpoints.
    pub subject_alt_names: Vec<String>,
    /// `exportTo`; empty means `["*"]`.
    pub export_to: Vec<String>,
}

/// `location`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryLocation {
    /// Outside: plaintext unless a DestinationRule says otherwise.
    #[default]
    MeshExternal,
    /// Part of the mesh.
    MeshInternal,
}

/// `resolution`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// Dial the host that was asked for.
    #[default]
    None,
    /// The endpoints' addresses are IP addresses.
    Static,
    /// The endpoints' addresses (or the hosts) are names to resolve; every answer is an endpoint.
    Dns,
    /// The same, the first answer only.
    DnsRoundRobin,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// An IP address, or a name where `resolution` is DNS.
    pub address: At<String>,
    /// Port name to the port it listens on; a port that is not named here uses the service's target port.
    pub ports: BTreeMap<String, u16>,
    /// Labels; `security.istio.io/tlsMode: istio` marks an endpoint that speaks mutual TLS.
    pub labels: BTreeMap<String, String>,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Relative weight; `None` is 1.
    pub weight: Option<u32>,
    /// The service account, from which the expected SPIFFE ID follows.
    pub service_account: Option<String>,
}

impl ServiceEntry {
    // spec: istio pkg/config/validation validateServiceEntry
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let hosts = fields.require("hosts", |decoder, node| Some(decoder.each(node, common::host)));
        let ports =
            fields.require("ports", |decoder, node| Some(decoder.each(node, ServicePort::read_of_entry)));
        let read = Self {
            hosts: hosts.unwrap_or_default(),
            ports: ports.unwrap_or_default(),
            location: fields.get("location", |d, n| choice(d, n, LOCATIONS)).unwrap_or_default(),
            resolution: fields.get("resolution", Resolution::read).unwrap_or_default(),
            endpoints: fields
                .list("endpoints", |d, n| Some(WorkloadEntry::read(d, n)))
                .into_iter()
                .flatten()
                .collect(),
            subject_alt_names: fields.list("subjectAltNames", name),
            export_to: common::export_to(&mut fields),
        };
        fields.no_effect(&[
            ("addresses", "callers are routed by name"),
            ("workloadSelector", "workloads register themselves, or stand under `endpoints`"),
        ]);
        read.check(&mut fields);
        fields.finish();
        Some(read)
    }

    fn check(&self, fields: &mut Fields<'_, '_>) {
        for name in ["hosts", "ports"] {
            if fields.count(name) == Some(0) {
                fields.refuse(name, format!("at least one of {name} is required"));
            }
        }
        if let Some(all) = self.hosts.iter().find(|host| host.value == "*") {
            fields.decoder.within("hosts", |decoder| decoder.refuse(all.at, "host `*` is not allowed here"));
        }
        check_ports(fields, &self.ports);
        self.check_endpoints(fields);
    }

    fn check_endpoints(&self, fields: &mut Fields<'_, '_>) {
        let wildcard = self.hosts.iter().find(|host| host.starts_with('*'));
        match self.resolution {
            Resolution::None if !self.endpoints.is_empty() => {
                fields.refuse(
                    "endpoints",
                    "resolution NONE dials the host that was asked for: it has no endpoints",
                );
            }
            Resolution::DnsRoundRobin if self.endpoints.len() > 1 => {
                fields.refuse("endpoints", "resolution DNS_ROUND_ROBIN has at most one endpoint");
            }
            Resolution::Dns | Resolution::DnsRoundRobin if self.endpoints.is_empty() => {
                if let Some(host) = wildcard {
                    let message =
                        format!("`{}` cannot be resolved: resolution DNS needs a full name", host.value);
                    fields.decoder.within("hosts", |decoder| decoder.refuse(host.at, message));
                }
            }
            _ => {}
        }
        let names: HashSet<_> = self.ports.iter().map(|port| port.name.as_str()).collect();
        for endpoint in &self.endpoints {
            self.check_endpoint(fields, endpoint, &names);
        }
    }

    fn check_endpoint(&self, fields: &mut Fields<'_, '_>, endpoint: &WorkloadEntry, ports: &HashSet<&str>) {
        let at = endpoint.address.at;
        if self.resolution == Resolution::Static && endpoint.address.parse::<IpAddr>().is_err() {
            let message =
                format!("`{}` is no IP address, as resolution STATIC needs", shortened(&endpoint.address));
            let finding =
                Diagnostic::error(Code::SCHEMA, message).help("write the address, or `resolution: DNS`");
            fields.decoder.within("endpoints", |decoder| decoder.find(at, finding));
        }
        if let Some(unknown) = endpoint.ports.keys().find(|name| !ports.contains(name.as_str())) {
            let message =
                format!("endpoint port `{}` is not among the ports of the entry", shortened(unknown));
            fields.decoder.within("endpoints", |decoder| decoder.refuse(at, message));
        }
    }
}

fn check_ports(fields: &mut Fields<'_, '_>, ports: &[ServicePort]) {
    let (mut numbers, mut names) = (HashSet::new(), HashSet::new());
    for port in ports {
        if !numbers.insert(port.number) {
            fields.refuse("ports", format!("port {} is defined twice", port.number));
        }
        if !names.insert(&port.name) {
            fields.refuse("ports", format!("port name `{}` is used twice", shortened(&port.name)));
        }
    }
}

impl Resolution {
    fn read(decoder: &mut Decoder<'_>, node: &Node) -> Option<Self> {
        if node.as_text() == Some("DYNAMIC_DNS") {
            let message = "DYNAMIC_DNS is read as NONE: the host that was asked for is dialled";
            decoder.find(node.at, Diagnostic::warning(Code::NO_EFFECT, message));
            return Some(Self::None);
        }
        choice(decoder, node, RESOLUTIONS)
    }
}

impl WorkloadEntry {
    /// Returns `None` for an endpoint that is well-formed but cannot be dialled.
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let address = fields.require("address", name_at);
        let ports =
            fields.get("ports", |decoder, node| {
                Some(decoder.entries(node, |decoder, key, node| {
                    Some((key.text.clone(), decode::port(decoder, node)?))
                }))
            });
        let labels = fields.get("labels", decode::labels).unwrap_or_default();
        let locality = fields.get("locality", text).unwrap_or_default();
        let weight = fields.get("weight", count);
        let service_account = fields.get("serviceAccount", name);
        fields.no_effect(&[("network", "every endpoint is dialled directly")]);
        let Some(address) = address else {
            fields.finish();
            return None;
        };
        let ports = ports.unwrap_or_default().into_iter().collect();
        let read = Self { address, ports, labels, locality, weight, service_account };
        let at = read.address.at;
        let dialled = read.dialled();
        if let Err(reason) = dialled {
            let finding = if read.address.starts_with("unix://") {
                Diagnostic::warning(Code::NO_EFFECT, format!("{reason}; the endpoint is left out"))
            } else {
                Diagnostic::error(Code::SCHEMA, reason)
            };
            fields.decoder.within("address", |decoder| decoder.find(at, finding));
        }
        fields.finish();
        dialled.is_ok().then_some(read)
    }

    fn dialled(&self) -> Result<(), &'static str> {
        if self.address.starts_with("unix://") {
            return Err("Unix sockets are not dialled");
        }
        if common::is_host(&self.address) && !self.address.starts_with('*') {
            return Ok(());
        }
        Err("expected an IP address or a host name, without scheme and port")
    }
}

const LOCATIONS: &[(&str, EntryLocation)] =
    &[("MESH_EXTERNAL", EntryLocation::MeshExternal), ("MESH_INTERNAL", EntryLocation::MeshInternal)];

const RESOLUTIONS: &[(&str, Resolution)] = &[
    ("NONE", Resolution::None),
    ("STATIC", Resolution::Static),
    ("DNS", Resolution::Dns),
    ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
];
