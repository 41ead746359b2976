//! Core Endpoints and EndpointSlice, and Pods: where the endpoints of a Service are.
//!
//! The most part of a Pod says how Kubernetes runs it: whatever is not read here is its own business.
// spec: kubernetes core/v1 Endpoints, Pod; discovery/v1 EndpointSlice

use crate::config::{
    decode::{self, Decoder, choice, flag, text},
    diagnostic::{Code, Diagnostic},
    tree::Node,
};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// What an Endpoints or an EndpointSlice says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointList {
    /// Endpoints by the ports they share; an EndpointSlice has one such group.
    pub subsets: Vec<EndpointSubset>,
}

/// Endpoints that listen on the same ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSubset {
    /// Name of the service port to the port they listen on.
    pub ports: BTreeMap<String, u16>,
    /// Where they are.
    pub addresses: Vec<EndpointAddress>,
}

/// Where one endpoint is.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointAddress {
    /// Its address.
    pub ip: IpAddr,
    /// Whether it takes requests.
    pub ready: bool,
    /// Its region; empty if not known.
    pub region: String,
    /// Its zone; empty if not known.
    pub zone: String,
}

/// A Pod, as far as it is an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// `status.podIP` and `status.podIPs`; the first one is dialled.
    pub ips: Vec<IpAddr>,
    /// Whether it takes requests: it runs, is ready, and is not about to end.
    pub ready: bool,
    /// The ports of its containers that have a name.
    pub ports: BTreeMap<String, u16>,
    /// Its labels; shared with the endpoints made of it.
    pub labels: Arc<BTreeMap<String, String>>,
    /// `spec.serviceAccountName`; Kubernetes' `default` where none is said.
    pub service_account: String,
}

impl EndpointList {
    /// Reads an Endpoints.
    pub(crate) fn read_endpoints<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        // What stands beside is checked with the envelope.
        Some(Self { subsets: fields.list("subsets", EndpointSubset::read) })
    }

    /// Reads an EndpointSlice.
    pub(crate) fn read_slice<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let by_name = fields.get("addressType", |d, n| choice(d, n, ADDRESS_TYPES)).unwrap_or_default();
        let ports = numbered(fields.list("ports", named_port));
        let service = fields.get("metadata", service_of_slice);
        if by_name {
            let message =
                "a slice of addressType FQDN is left out, as under Istio: its names are not resolved";
            fields.find("addressType", Diagnostic::warning(Code::NO_EFFECT, message));
        }
        if service.is_none() {
            let message = "the slice names no service, and belongs to none";
            let finding = Diagnostic::warning(Code::NO_EFFECT, message);
            fields.find("metadata", finding.help(format!("label it `{SERVICE_LABEL}: NAME`")));
        }
        let read = |decoder: &mut Decoder<'n>, node: &'n Node| match by_name {
            true => Some(Vec::new()),
            false => EndpointAddress::read_of_slice(decoder, node),
        };
        let addresses = fields.list("endpoints", read).into_iter().flatten().collect();
        Some(Self { subsets: vec![EndpointSubset { ports, addresses }] })
    }
}

fn service_of_slice<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<String> {
    let mut fields = decoder.fields(node)?;
    fields.get("labels", decode::labels)?.remove(SERVICE_LABEL).filter(|name| !name.is_empty())
}

impl EndpointSubset {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let ports = numbered(fields.list("ports", named_port));
        let address = |ready| {
            move |decoder: &mut Decoder<'n>, node: &'n Node| EndpointAddress::read(decoder, node, ready)
        };
        let mut addresses = fields.list("addresses", address(true));
        addresses.extend(fields.list("notReadyAddresses", address(false)));
        fields.finish();
        Some(Self { ports, addresses })
    }
}

/// Reads a port's name and, if it is a port of TCP, its number.
fn named_port<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<(String, Option<u16>)> {
    let mut fields = decoder.fields(node)?;
    let name = fields.get("name", text).unwrap_or_default();
    let port = fields.get("port", decode::port);
    let protocol = fields.get("protocol", text).unwrap_or_default();
    fields.take("appProtocol");
    fields.finish();
    Some((name, port.filter(|_| is_tcp(&protocol))))
}

fn is_tcp(protocol: &str) -> bool {
    matches!(protocol, "" | "TCP")
}

/// Returns the ports that have a number.
fn numbered(ports: Vec<(String, Option<u16>)>) -> BTreeMap<String, u16> {
    ports.into_iter().filter_map(|(name, port)| Some((name, port?))).collect()
}

impl EndpointAddress {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, ready: bool) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let ip = fields.require("ip", ip);
        for name in ["hostname", "nodeName", "targetRef"] {
            fields.take(name);
        }
        fields.finish();
        Some(Self { ip: ip?, ready, region: String::new(), zone: String::new() })
    }

    /// Reads an endpoint of a slice: one for each of its addresses.
    fn read_of_slice<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Vec<Self>> {
        let mut fields = decoder.fields(node)?;
        let addresses = fields.require("addresses", |decoder, node| Some(decoder.each(node, ip)));
        let ready = fields.get("conditions", is_ready).unwrap_or(true);
        // As version v1beta1 calls it, and what v1 makes of that.
        let older = fields.get("topology", decode::labels).unwrap_or_default();
        let old = fields.get("deprecatedTopology", decode::labels).unwrap_or_default();
        let topology = |label| old.get(label).or(older.get(label)).cloned().unwrap_or_default();
        let zone = fields.get("zone", text).unwrap_or_else(|| topology(ZONE_LABEL));
        let region = topology(REGION_LABEL);
        for name in ["hostname", "nodeName", "targetRef", "hints"] {
            fields.take(name);
        }
        fields.finish();
        let address = |ip| Self { ip, ready, region: region.clone(), zone: zone.clone() };
        Some(addresses?.into_iter().map(address).collect())
    }
}

/// Reads `conditions`. What still serves though it is about to end is not ready, and Istio sends nothing there.
// spec: istio pilot/pkg/serviceregistry/kube/controller/endpointslice.go endpointHealthStatus
fn is_ready<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<bool> {
    let mut fields = decoder.fields(node)?;
    let ready = fields.get("ready", flag).unwrap_or(true);
    fields.take("serving");
    fields.take("terminating");
    fields.finish();
    Some(ready)
}

fn ip(decoder: &mut Decoder<'_>, node: &Node) -> Option<IpAddr> {
    decode::parsed(decoder, node, "an IP address")
}

impl Pod {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let (labels, ending) = fields.get("metadata", pod_metadata).unwrap_or_default();
        let (ports, service_account) = fields.get("spec", pod_spec).unwrap_or_default();
        let (ips, ready) = fields.get("status", pod_status).unwrap_or_default();
        Some(Self {
            ips,
            ready: ready && !ending,
            ports,
            labels: Arc::new(labels),
            service_account: service_account.unwrap_or_else(|| "default".to_owned()),
        })
    }
}

/// Reads the labels of a Pod, and whether it is about to end.
fn pod_metadata<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<(BTreeMap<String, String>, bool)> {
    let mut fields = decoder.fields(node)?;
    let labels = fields.get("labels", decode::labels).unwrap_or_default();
    Some((labels, fields.take("deletionTimestamp").is_some()))
}

/// Reads the named ports of a Pod's containers, and its service account.
fn pod_spec<'n>(
    decoder: &mut Decoder<'n>,
    node: &'n Node,
) -> Option<(BTreeMap<String, u16>, Option<String>)> {
    let mut fields = decoder.fields(node)?;
    let mut ports = numbered(fields.list("containers", container_ports).into_iter().flatten().collect());
    ports.remove("");
    let account = fields.get("serviceAccountName", text);
    let older = fields.get("serviceAccount", text);
    Some((ports, account.or(older).filter(|account| !account.is_empty())))
}

fn container_ports<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Vec<(String, Option<u16>)>> {
    Some(decoder.fields(node)?.list("ports", container_port))
}

fn container_port<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<(String, Option<u16>)> {
    let mut fields = decoder.fields(node)?;
    let name = fields.get("name", text).unwrap_or_default();
    let port = fields.get("containerPort", decode::port);
    let protocol = fields.get("protocol", text).unwrap_or_default();
    Some((name, port.filter(|_| is_tcp(&protocol))))
}

/// Reads the addresses of a Pod, and whether it takes requests: it does unless its phase or its conditions deny it.
fn pod_status<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<(Vec<IpAddr>, bool)> {
    let mut fields = decoder.fields(node)?;
    let mut ips: Vec<_> = fields.get("podIP", ip).into_iter().collect();
    ips.extend(fields.list("podIPs", pod_ip));
    let phase = fields.get("phase", text).unwrap_or_default();
    let conditions = fields.list("conditions", condition);
    let ready = conditions.iter().all(|(kind, status)| kind != "Ready" || status == "True");
    Some((ips, ready && matches!(phase.as_str(), "" | "Running")))
}

fn pod_ip<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<IpAddr> {
    decoder.fields(node)?.get("ip", ip)
}

fn condition<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<(String, String)> {
    let mut fields = decoder.fields(node)?;
    Some((fields.get("type", text)?, fields.get("status", text)?))
}

/// The types of address, and whether each is a name.
const ADDRESS_TYPES: &[(&str, bool)] = &[("IPv4", false), ("IPv6", false), ("FQDN", true)];

/// Names the service a slice belongs to.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The region of a node.
pub(crate) const REGION_LABEL: &str = "topology.kubernetes.io/region";
/// The zone of a node.
pub(crate) const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
