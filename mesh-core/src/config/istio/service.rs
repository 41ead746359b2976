//! Core `v1` Service as registry input: its ports, and whom it selects. Its endpoints come from Pods, WorkloadEntries,
//! Endpoints and EndpointSlices, and from leases or entries of the same host.
// spec: kubernetes core/v1 Service; istio pilot/pkg/serviceregistry/kube/conversion.go ConvertService

use super::common;
use crate::config::{
    decode::{self, Decoder, Fields, choice, flag, labels, shortened, text},
    diagnostic::{Code, Diagnostic},
    tree::Node,
};
use std::{collections::BTreeMap, net::IpAddr};

/// `spec` of a Service. Its host is `{name}.{namespace}.svc.{domain}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The ports.
    pub ports: Vec<ServicePort>,
    /// `selector`: the labels of its endpoints; empty selects nobody.
    pub selector: BTreeMap<String, String>,
    /// `externalName`, if its `type` is ExternalName: the name that its host stands for.
    pub external_name: Option<String>,
    /// `clusterIP` and `clusterIPs`: callers may also call the service by them. A headless service has none.
    pub cluster_ips: Vec<IpAddr>,
    /// `publishNotReadyAddresses`: whether endpoints that are not ready are endpoints too.
    pub publish_not_ready: bool,
}

/// One port of a Service or a ServiceEntry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The port by which callers know it.
    pub number: u16,
    /// Its name; may be empty where there is only one.
    pub name: String,
    /// Upper case: `HTTP`, `HTTP2`, `GRPC`, `TCP` …; empty if not said.
    pub protocol: String,
    /// `targetPort`, if it is said.
    pub target_port: Option<TargetPort>,
}

/// `targetPort`: where the endpoints of a service listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// The same port at all of them.
    Number(u16),
    /// The port to which each of them gives this name.
    Named(String),
}

impl Service {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let ports = fields.list("ports", ServicePort::read_of_service);
        let external = fields.get("type", |d, n| choice(d, n, TYPES)).unwrap_or_default();
        let external_name = fields.get("externalName", external_host).filter(|_| external);
        let read = Self {
            selector: fields.get("selector", labels).unwrap_or_default(),
            cluster_ips: cluster_ips(&mut fields),
            publish_not_ready: fields.get("publishNotReadyAddresses", flag).unwrap_or_default(),
            external_name,
            ports,
        };
        check_external(&mut fields, external);
        // The rest of a Service says how Kubernetes balances, which a process does by itself.
        for name in OTHER_FIELDS {
            fields.take(name);
        }
        fields.finish();
        Some(read)
    }
}

fn cluster_ips(fields: &mut Fields<'_, '_>) -> Vec<IpAddr> {
    let first = fields.get("clusterIP", text);
    let all = fields.list("clusterIPs", text);
    // `None`, which says that it has no address of its own, is none.
    let mut read: Vec<_> = first.iter().chain(&all).filter_map(|address| address.parse().ok()).collect();
    read.sort_unstable();
    read.dedup();
    read
}

fn external_host(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let host = text(decoder, node)?;
    if host.is_empty() {
        return None;
    }
    if !common::is_host(&host) || host.starts_with('*') {
        decoder.refuse(node.at, format!("`{}` is not a host name", shortened(&host)));
        return None;
    }
    Some(host.to_ascii_lowercase())
}

/// A name stands for another one whole: Kubernetes needs no port for that, and a process needs to know which it calls.
fn check_external(fields: &mut Fields<'_, '_>, external: bool) {
    if external && !fields.has("externalName") {
        fields.refuse("externalName", "`externalName` is required where `type` is ExternalName");
    }
    if external && fields.count("ports").unwrap_or(0) == 0 {
        let message =
            "without `ports` this name can be called only if `externalName` is a service of the mesh";
        let finding = Diagnostic::warning(Code::NO_EFFECT, message);
        fields.find("ports", finding.help("write the ports of the external service"));
    }
}

impl ServicePort {
    fn read_of_service<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let number = fields.require("port", decode::port);
        let name = fields.get("name", text).unwrap_or_default();
        let transport = fields.get("protocol", text).unwrap_or_default();
        let application = fields.get("appProtocol", text);
        let target_port = fields.get("targetPort", TargetPort::read);
        fields.take("nodePort");
        fields.finish();
        let protocol = protocol(application.as_deref(), &name, &transport);
        Some(Self { number: number?, name, protocol, target_port })
    }
}

impl TargetPort {
    fn read(decoder: &mut Decoder<'_>, node: &Node) -> Option<Self> {
        let written = text(decoder, node)?;
        match written.parse() {
            // Kubernetes takes both for "not said".
            Ok(0) => None,
            _ if written.is_empty() => None,
            Ok(number) => Some(Self::Number(number)),
            Err(_) => Some(Self::Named(written)),
        }
    }
}

/// Returns the protocol that Istio would see: `appProtocol`, else the prefix of the port's name.
// spec: istio pkg/config/kube/conversion.go ConvertProtocol
fn protocol(application: Option<&str>, name: &str, transport: &str) -> String {
    if !matches!(transport, "" | "TCP") {
        return transport.to_ascii_uppercase();
    }
    let said = match application {
        Some("kubernetes.io/h2c") => "http2",
        Some("kubernetes.io/ws" | "kubernetes.io/wss") => "http",
        Some(said) => said,
        None => name.split('-').next().unwrap_or_default(),
    };
    let said = said.to_ascii_uppercase();
    if PROTOCOLS.contains(&said.as_str()) { said } else { String::new() }
}

/// The types of a Service, and whether each only is another name.
const TYPES: &[(&str, bool)] =
    &[("ClusterIP", false), ("NodePort", false), ("LoadBalancer", false), ("ExternalName", true)];

const PROTOCOLS: [&str; 11] =
    ["HTTP", "HTTP2", "HTTPS", "GRPC", "TCP", "TLS", "UDP", "MONGO", "REDIS", "MYSQL", "HTTP_PROXY"];

const OTHER_FIELDS: [&str; 15] = [
    "externalIPs",
    "externalTrafficPolicy",
    "internalTrafficPolicy",
    "trafficDistribution",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "allocateLoadBalancerNodePorts",
    "healthCheckNodePort",
    "sessionAffinity",
    "sessionAffinityConfig",
    "topologyKeys",
    "ipFamily",
];
