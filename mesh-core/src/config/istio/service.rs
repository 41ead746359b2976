//! Core `v1` Service as registry input: it names ports; its endpoints come from leases or entries of the same host.

use crate::config::{
    decode::{self, Decoder, name, text},
    tree::Node,
};

/// `spec` of a Service. Its host is `{name}.{namespace}.svc.{domain}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The ports.
    pub ports: Vec<ServicePort>,
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
    /// `targetPort`, if it is a number and differs.
    pub target_port: Option<u16>,
}

impl Service {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let ports = fields.list("ports", ServicePort::read_of_service);
        // The rest of a Service says how Kubernetes balances, which a process does by itself.
        for name in OTHER_FIELDS {
            fields.take(name);
        }
        fields.finish();
        Some(Self { ports })
    }
}

impl ServicePort {
    fn read_of_service<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let number = fields.require("port", decode::port);
        let name = fields.get("name", text).unwrap_or_default();
        let transport = fields.get("protocol", text).unwrap_or_default();
        let application = fields.get("appProtocol", text);
        // A named target port is named by the pod, which is not known here.
        let target_port = fields.get("targetPort", |_, node| Some(node.as_text()?.parse().ok()));
        fields.take("nodePort");
        fields.finish();
        let protocol = protocol(application.as_deref(), &name, &transport);
        Some(Self {
            number: number?,
            name,
            protocol,
            target_port: target_port.flatten().filter(|port| *port > 0),
        })
    }

    /// Reads a port of a ServiceEntry.
    pub(super) fn read_of_entry<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let number = fields.require("number", decode::port);
        let name = fields.require("name", name);
        let protocol = fields.get("protocol", text).unwrap_or_default().to_ascii_uppercase();
        let target_port = fields.get("targetPort", decode::port);
        fields.finish();
        Some(Self { number: number?, name: name?, protocol, target_port })
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

const PROTOCOLS: [&str; 11] =
    ["HTTP", "HTTP2", "HTTPS", "GRPC", "TCP", "TLS", "UDP", "MONGO", "REDIS", "MYSQL", "HTTP_PROXY"];

const OTHER_FIELDS: [&str; 21] = [
    "selector",
    "type",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
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
    "publishNotReadyAddresses",
    "sessionAffinity",
    "sessionAffinityConfig",
    "topologyKeys",
    "ipFamily",
];
