//! ServiceEntry: the static registry, and the form in which the control endpoint serves leases.
// spec: istio networking/v1alpha3/service_entry.proto

use super::{
    common::{self, WorkloadSelector},
    service::ServicePort,
    workload_entry::{WorkloadEntry, is_port_name},
};
use crate::config::{
    decode::{self, Decoder, Fields, choice, name, shortened},
    diagnostic::{Code, Diagnostic},
    resource::At,
    tree::Node,
};
use ipnet::IpNet;
use std::{collections::HashSet, net::IpAddr, sync::Arc};

/// `spec` of a ServiceEntry.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceEntry {
    /// The hosts; at least one.
    pub hosts: Vec<At<String>>,
    /// `addresses`, as far as they are single ones: callers may also call the service by them.
    pub addresses: Vec<IpAddr>,
    /// `ports`.
    pub ports: Vec<ServicePort>,
    /// `location`.
    pub location: EntryLocation,
    /// `resolution`.
    pub resolution: Resolution,
    /// `endpoints`; none beside a `workloadSelector`.
    pub endpoints: Vec<WorkloadEntry>,
    /// `workloadSelector`: the WorkloadEntries and Pods of its own namespace that are its endpoints.
    pub workload_selector: Option<WorkloadSelector>,
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

impl ServiceEntry {
    // spec: istio pkg/config/validation ValidateServiceEntry
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let hosts = fields.require("hosts", |decoder, node| Some(decoder.each(node, host)));
        let resolution = fields.get("resolution", Resolution::read).unwrap_or_default();
        let read = Self {
            hosts: hosts.unwrap_or_default(),
            addresses: fields.list("addresses", |d, n| address(d, n, resolution)),
            ports: fields.list("ports", ServicePort::read_of_entry),
            location: fields.get("location", |d, n| choice(d, n, LOCATIONS)).unwrap_or_default(),
            resolution,
            endpoints: sharing_labels(fields.list("endpoints", WorkloadEntry::read)),
            workload_selector: fields.get("workloadSelector", WorkloadSelector::reader("labels")),
            subject_alt_names: fields.list("subjectAltNames", name),
            export_to: common::export_to(&mut fields),
        };
        read.check_hosts(&mut fields);
        read.check_ports(&mut fields);
        read.check_selector(&mut fields);
        read.check_endpoints(&mut fields);
        read.check_export_to(&mut fields);
        fields.finish();
        Some(read)
    }

    fn is_resolved_by_name(&self) -> bool {
        matches!(self.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
    }

    fn check_hosts(&self, fields: &mut Fields<'_, '_>) {
        if fields.count("hosts") == Some(0) {
            fields.refuse("hosts", "at least one of hosts is required");
        }
        if self.is_resolved_by_name()
            && fields.count("endpoints").unwrap_or(0) == 0
            && let Some(host) = self.hosts.iter().find(|host| host.starts_with('*'))
        {
            let message = format!("`{}` cannot be resolved: resolution DNS needs a full name", host.value);
            fields.decoder.within("hosts", |decoder| decoder.refuse(host.at, message));
        }
        // The authority tells hosts apart, or the server name; plain TCP has neither.
        let told_apart = |port: &ServicePort| SHARED_PROTOCOLS.contains(&port.protocol.as_str());
        if self.hosts.len() > 1
            && self.resolution != Resolution::None
            && let Some(port) = self.ports.iter().find(|port| !told_apart(port))
        {
            let message = format!(
                "port {} has to say a protocol of HTTP or TLS: its requests are for one of {} hosts",
                port.number,
                self.hosts.len()
            );
            fields.refuse("ports", message);
        }
    }

    fn check_ports(&self, fields: &mut Fields<'_, '_>) {
        if fields.count("ports").unwrap_or(0) == 0 {
            let message = "without a port there is nothing to call: the entry has no effect";
            fields.find("ports", Diagnostic::warning(Code::NO_EFFECT, message));
        }
        let (mut numbers, mut names) = (HashSet::new(), HashSet::new());
        for port in &self.ports {
            if !numbers.insert(port.number) {
                fields.refuse("ports", format!("port {} is defined twice", port.number));
            }
            if !names.insert(&port.name) {
                fields.refuse("ports", format!("port name `{}` is used twice", shortened(&port.name)));
            }
        }
        // spec: istio pkg/config/analysis/analyzers/serviceentry ProtocolAddressesAnalyzer
        let by_address = |port: &&ServicePort| matches!(port.protocol.as_str(), "" | "TCP");
        if fields.count("addresses").unwrap_or(0) == 0
            && let Some(port) = self.ports.iter().find(by_address)
        {
            let message = format!(
                "port {} serves TCP, or does not say what: only an address tells whose its connections are",
                port.number
            );
            let finding = Diagnostic::warning(Code::ADDRESSES_REQUIRED, message);
            fields.find("ports", finding.help("write its `protocol`, or give the entry `addresses`"));
        }
    }

    fn check_selector(&self, fields: &mut Fields<'_, '_>) {
        let Some(selector) = &self.workload_selector else { return };
        if fields.count("endpoints").unwrap_or(0) > 0 {
            fields.refuse("workloadSelector", "workloadSelector and endpoints exclude each other");
        }
        let message = match self.resolution {
            Resolution::None => "resolution NONE dials the host that was asked for: nothing is selected",
            Resolution::Dns | Resolution::DnsRoundRobin => {
                "with resolution DNS, write the names under `endpoints`; this selects the entries that have one"
            }
            Resolution::Static if selector.labels.is_empty() => {
                "without labels every workload of the namespace is selected"
            }
            Resolution::Static => return,
        };
        fields.find("workloadSelector", Diagnostic::warning(Code::SCHEMA_WARNING, message));
    }

    fn check_endpoints(&self, fields: &mut Fields<'_, '_>) {
        let count = fields.count("endpoints").unwrap_or(0);
        if self.resolution == Resolution::None && count > 0 {
            let message = "resolution NONE dials the host that was asked for: it has no endpoints";
            fields.refuse("endpoints", message);
        }
        if self.resolution == Resolution::DnsRoundRobin && count > 1 {
            fields.refuse("endpoints", "resolution DNS_ROUND_ROBIN has at most one endpoint");
        }
        let names: HashSet<_> = self.ports.iter().map(|port| port.name.as_str()).collect();
        for endpoint in &self.endpoints {
            self.check_endpoint(fields, endpoint, &names);
        }
    }

    fn check_endpoint(&self, fields: &mut Fields<'_, '_>, endpoint: &WorkloadEntry, ports: &HashSet<&str>) {
        let Some(address) = &endpoint.address else { return };
        if self.resolution == Resolution::Static && address.parse::<IpAddr>().is_err() {
            let message = format!("`{}` is no IP address, as resolution STATIC needs", shortened(address));
            let finding =
                Diagnostic::error(Code::SCHEMA, message).help("write the address, or `resolution: DNS`");
            fields.decoder.within("endpoints", |decoder| decoder.find(address.at, finding));
        }
        if let Some(unknown) = endpoint.ports.keys().find(|name| !ports.contains(name.as_str())) {
            let message =
                format!("endpoint port `{}` is not among the ports of the entry", shortened(unknown));
            fields.decoder.within("endpoints", |decoder| decoder.refuse(address.at, message));
        }
    }

    // spec: istio pkg/config/validation validateExportTo
    fn check_export_to(&self, fields: &mut Fields<'_, '_>) {
        let scopes: HashSet<_> = self.export_to.iter().map(String::as_str).collect();
        if scopes.len() < self.export_to.len() {
            fields.refuse("exportTo", "a namespace is written twice");
        }
        for alone in ["*", "~"] {
            if scopes.len() > 1 && scopes.contains(alone) {
                fields.refuse("exportTo", format!("`{alone}` stands alone: it leaves nothing to add"));
            }
        }
    }
}

/// Lets endpoints that carry the labels of the one before share them: replicas mostly do, and a map of labels is the
/// largest part of an endpoint in memory.
fn sharing_labels(mut endpoints: Vec<WorkloadEntry>) -> Vec<WorkloadEntry> {
    endpoints.shrink_to_fit();
    let mut before = Arc::default();
    for WorkloadEntry { labels, .. } in &mut endpoints {
        if *labels == before {
            *labels = Arc::clone(&before);
        }
        before = Arc::clone(labels);
    }
    endpoints
}

/// Reads one of `hosts`.
fn host(decoder: &mut Decoder<'_>, node: &Node) -> Option<At<String>> {
    let host = common::host(decoder, node)?;
    if host.value == "*" {
        decoder.refuse(node.at, "host `*` is not allowed here");
    } else if host.parse::<IpAddr>().is_ok() {
        let finding = Diagnostic::error(Code::SCHEMA, format!("`{}` is not a host name", host.value));
        decoder.find(node.at, finding.help("give the entry a name, and write the address under `addresses`"));
    } else if host.starts_with('*') && !host.starts_with("*.") {
        let message = format!("`{}` is half of a name: write `*.` and whole parts of it", host.value);
        decoder.find(node.at, Diagnostic::warning(Code::SCHEMA_WARNING, message));
    }
    Some(host)
}

/// Reads one of `addresses`. A block of them is none by which a caller calls.
fn address(decoder: &mut Decoder<'_>, node: &Node, resolution: Resolution) -> Option<IpAddr> {
    let text = decode::borrowed(decoder, node)?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let Ok(block) = text.parse::<IpNet>() else {
        decoder
            .refuse(node.at, format!("`{}` is neither an IP address nor a block of them", shortened(text)));
        return None;
    };
    if matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin) {
        decoder.refuse(node.at, "a block of addresses goes with resolution NONE or STATIC only");
        return None;
    }
    if block.prefix_len() == block.max_prefix_len() {
        return Some(block.addr());
    }
    let message = "a block of addresses has no effect here: callers are routed by name, or by one address";
    decoder.find(node.at, Diagnostic::warning(Code::NO_EFFECT, message));
    None
}

impl ServicePort {
    /// Reads a port of a ServiceEntry.
    fn read_of_entry<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let number = fields.require("number", decode::port);
        let name = fields.require("name", port_name);
        let protocol = fields.get("protocol", protocol).unwrap_or_default();
        let target_port = fields.get("targetPort", decode::port).map(super::TargetPort::Number);
        fields.finish();
        Some(Self { number: number?, name: name?, protocol, target_port })
    }
}

fn port_name(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let name = name(decoder, node)?;
    if !is_port_name(&name) {
        let message = format!("`{}` is not the name of a port; use a-z, 0-9 and `-`", shortened(&name));
        decoder.refuse(node.at, message);
    }
    Some(name)
}

fn protocol(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let written = decode::text(decoder, node)?;
    let protocol = written.to_ascii_uppercase();
    if !protocol.is_empty() && !PROTOCOLS.contains(&protocol.as_str()) {
        let finding = Diagnostic::error(Code::SCHEMA, format!("unknown protocol `{}`", shortened(&written)));
        decoder.find(node.at, finding.help(format!("the protocols are {}", PROTOCOLS.join(", "))));
        return None;
    }
    Some(protocol)
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

const LOCATIONS: &[(&str, EntryLocation)] =
    &[("MESH_EXTERNAL", EntryLocation::MeshExternal), ("MESH_INTERNAL", EntryLocation::MeshInternal)];

const RESOLUTIONS: &[(&str, Resolution)] = &[
    ("NONE", Resolution::None),
    ("STATIC", Resolution::Static),
    ("DNS", Resolution::Dns),
    ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
];

// spec: istio pkg/config/protocol Parse
const PROTOCOLS: [&str; 13] = [
    "HTTP",
    "HTTP2",
    "HTTP_PROXY",
    "HTTPS",
    "GRPC",
    "GRPC-WEB",
    "TLS",
    "TCP",
    "UDP",
    "MONGO",
    "REDIS",
    "MYSQL",
    "HBONE",
];

/// The protocols that say which of several hosts is meant.
// spec: istio pkg/config/protocol IsHTTP, IsTLS
const SHARED_PROTOCOLS: [&str; 7] = ["HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB", "HTTPS", "TLS"];
