//! Reads the `spec` of a Sidecar, as strictly as Istio's webhook does.
// spec: istio pkg/config/validation ValidateSidecar

use super::{EgressListener, InboundPool, IngressListener, Sidecar};
use crate::config::{
    decode::{self, Decoder, Fields, choice, shortened, text},
    diagnostic::{Code, Diagnostic},
    istio::{
        common::{Destination, WorkloadSelector},
        namespaced_host::{NamespacedHost, Namespaces, is_tls, protocol},
        server_tls::{ServerTls, ServerTlsMode},
    },
    resource::Mark,
    tree::Node,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

impl Sidecar {
    /// Reads the `spec` of a Sidecar in `namespace`.
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, namespace: &str) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let workload_selector = fields.get("workloadSelector", WorkloadSelector::reader("labels"));
        let egress = fields.list("egress", |d, n| Egress::read(d, n, namespace));
        let ingress = fields.list("ingress", Ingress::read);
        let allow_any = fields.get("outboundTrafficPolicy", read_policy);
        let inbound_pool = fields.get("inboundConnectionPool", InboundPool::read);
        if workload_selector.as_ref().is_some_and(|selector| selector.labels.is_empty()) {
            let message = "a selector without labels selects every workload of the namespace";
            fields.find("workloadSelector", Diagnostic::warning(Code::SCHEMA_WARNING, message));
        }
        check_parts(&mut fields);
        check_ports(&mut fields, "egress", egress.iter().map(|listener| (listener.port, listener.at)));
        check_ports(
            &mut fields,
            "ingress",
            ingress.iter().map(|listener| (Some(listener.kept.port), listener.at)),
        );
        check_order(&mut fields, &egress);
        fields.finish();
        let egress = egress.into_iter().map(|listener| EgressListener { hosts: listener.hosts }).collect();
        let ingress = ingress.into_iter().map(|listener| listener.kept).collect();
        Some(Self { workload_selector, egress, allow_any, inbound_pool, ingress })
    }
}

fn check_parts(fields: &mut Fields<'_, '_>) {
    let parts = ["egress", "ingress", "outboundTrafficPolicy", "inboundConnectionPool"];
    let says_something =
        parts.iter().any(|name| fields.has(name) && fields.count(name).is_none_or(|count| count > 0));
    if !says_something {
        let at = fields.at;
        let message = format!("one of {} is required", parts.join(", "));
        fields.decoder.within("egress", |decoder| decoder.refuse(at, message));
    }
}

fn check_ports(
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    ports: impl Iterator<Item = (Option<u16>, Mark)>,
) {
    let mut seen = HashSet::new();
    for (port, at) in ports {
        if port.is_some_and(|port| port > 0 && !seen.insert(port)) {
            fields
                .decoder
                .within(name, |decoder| decoder.refuse(at, "a listener with this port stands above"));
        }
    }
}

/// The listener without a port takes what the others leave.
fn check_order(fields: &mut Fields<'_, '_>, egress: &[Egress]) {
    let Some((_, before_last)) = egress.split_last() else { return };
    for listener in before_last.iter().filter(|listener| listener.port.is_none()) {
        let message = "only the last listener may have no port";
        fields.decoder.within("egress", |decoder| decoder.refuse(listener.at, message));
    }
}

/// A listener of `egress`, with what only its validation needs.
struct Egress {
    at: Mark,
    port: Option<u16>,
    hosts: Vec<NamespacedHost>,
}

impl Egress {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, namespace: &str) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let hosts = fields.require("hosts", |decoder, node| {
            Some(decoder.each(node, |decoder, node| NamespacedHost::read_of_sidecar(decoder, node)))
        });
        let port = fields.get("port", Port::read);
        let socket = fields.get("bind", read_bind).unwrap_or_default();
        if port.as_ref().is_some_and(|port| port.number == 0) && !socket {
            fields.refuse("port", "only a Unix socket has port 0");
        }
        fields.get("captureMode", |decoder, node| choice(decoder, node, CAPTURE_MODES));
        if fields.count("hosts") == Some(0) {
            fields.refuse("hosts", "at least one host is required");
        }
        let hosts = hosts.unwrap_or_default();
        note_repeated(&mut fields, &hosts, namespace);
        fields.no_effect(&[
            ("port", "the hosts are seen on all of their ports"),
            ("bind", "calls are made without a listener"),
            ("captureMode", "calls are made without a listener"),
        ]);
        fields.finish();
        Some(Self { at: node.at, port: port.map(|port| port.number), hosts })
    }
}

/// Reads an address or a Unix socket; returns whether it is a socket.
fn read_bind(decoder: &mut Decoder<'_>, node: &Node) -> Option<bool> {
    if node.as_text().is_some_and(is_socket) {
        return Some(true);
    }
    decode::parsed::<IpAddr>(decoder, node, "an IP address, or unix:///PATH").map(|_| false)
}

// spec: istio pkg/config/validation ValidateUnixAddress
fn is_socket(text: &str) -> bool {
    text.strip_prefix("unix://").is_some_and(|path| path.starts_with(['/', '@']) && !path.ends_with('/'))
}

fn note_repeated(fields: &mut Fields<'_, '_>, hosts: &[NamespacedHost], own: &str) {
    let mut seen: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for host in hosts {
        let known = seen.entry(namespace_of(host, own)).or_default();
        let covered = known.contains("*") || host.host == "*" && !known.is_empty();
        if !known.insert(&host.host) || covered {
            let message = format!("the hosts before name what `{}` names", shortened(&host.host));
            let finding = Diagnostic::warning(Code::SCHEMA_WARNING, message);
            fields.decoder.within("hosts", |decoder| decoder.find(host.at, finding));
        }
    }
}

fn namespace_of(host: &NamespacedHost, own: &str) -> String {
    match &host.namespaces {
        Namespaces::Any => "*".to_owned(),
        Namespaces::Nowhere => "~".to_owned(),
        Namespaces::Own => own.to_owned(),
        Namespaces::Named(name) => name.clone(),
    }
}

/// A listener of `ingress`, with what only its validation needs.
struct Ingress {
    at: Mark,
    kept: IngressListener,
}

impl Ingress {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let port = fields.require("port", Port::read);
        fields.get("bind", |decoder, node| decode::parsed::<IpAddr>(decoder, node, "an IP address"));
        if port.as_ref().is_some_and(|port| port.number == 0) {
            fields.refuse("port", "a port is a number from 1 to 65535");
        }
        fields.get("captureMode", |decoder, node| choice(decoder, node, CAPTURE_MODES));
        fields.get("defaultEndpoint", default_endpoint);
        let tls = fields.get("tls", ServerTls::read);
        let pool = fields.get("connectionPool", InboundPool::read);
        if let Some(tls) = &tls {
            check_tls(&mut fields, tls, port.as_ref());
        }
        fields.no_effect(NO_EFFECT);
        fields.finish();
        Some(Self { at: node.at, kept: IngressListener { port: port?.number, pool } })
    }
}

const NO_EFFECT: &[(&str, &str)] = &[
    ("bind", "a server listens where its program says"),
    ("captureMode", "a server listens where its program says"),
    ("defaultEndpoint", "a server is its own endpoint"),
    ("tls", "PeerAuthentication says whom a server lets in"),
];

fn check_tls(fields: &mut Fields<'_, '_>, tls: &ServerTls, port: Option<&Port>) {
    if matches!(tls.mode, ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough) {
        fields.refuse("tls", "ISTIO_MUTUAL and AUTO_PASSTHROUGH have no place in a Sidecar's ingress");
    }
    if tls.https_redirect || !tls.subject_alt_names.is_empty() {
        fields.refuse("tls", "httpsRedirect and subjectAltNames have no place in a Sidecar's ingress");
    }
    if port.is_some_and(|port| !is_tls(&port.protocol)) {
        fields.refuse("tls", "only a port of protocol HTTPS or TLS takes TLS");
    }
}

/// Reads `127.0.0.1:PORT`, `0.0.0.0:PORT`, `[::1]:PORT`, `[::]:PORT`, `:PORT` or `unix://PATH`.
fn default_endpoint(decoder: &mut Decoder<'_>, node: &Node) -> Option<()> {
    let written = text(decoder, node)?;
    let is_local = |address: &str| {
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        bare.is_empty() || bare.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified() || LOCAL.contains(&bare))
    };
    let named = written
        .rsplit_once(':')
        .is_some_and(|(address, port)| is_local(address) && port.parse::<u16>().is_ok_and(|port| port > 0));
    if !named && !is_socket(&written) {
        let message = format!("`{}` is not an endpoint of this host", shortened(&written));
        let help = "write 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///PATH";
        decoder.find(node.at, Diagnostic::error(Code::SCHEMA, message).help(help));
    }
    Some(())
}

const LOCAL: [&str; 2] = ["127.0.0.1", "::1"];

/// `port` of a listener.
struct Port {
    number: u16,
    protocol: String,
}

impl Port {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let number = fields.require("number", |decoder, node| decode::number(decoder, node, 0, u16::MAX));
        let protocol = fields.get("protocol", protocol).unwrap_or_default();
        fields.get("name", text);
        let target = fields.get("targetPort", |decoder, node| decode::number(decoder, node, 0, u16::MAX));
        if target.is_some_and(|port| port > 0) {
            fields.refuse("targetPort", "a Sidecar has no target port: leave it out");
        }
        fields.finish();
        Some(Self { number: number?, protocol })
    }
}

/// Reads `{mode: ...}`. Without a mode it is REGISTRY_ONLY, protobuf's zero.
fn read_policy<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<bool> {
    let mut fields = decoder.fields(node)?;
    let mode = fields.get("mode", |decoder, node| choice(decoder, node, POLICIES));
    fields.get("egressProxy", Destination::read);
    fields.unsupported(&[("egressProxy", "calls would leave by another way than through the proxy")]);
    if fields.has("egressProxy") && mode != Some(true) {
        fields.refuse("egressProxy", "egressProxy needs mode ALLOW_ANY");
    }
    fields.finish();
    Some(mode.unwrap_or(false))
}

const POLICIES: &[(&str, bool)] = &[("ALLOW_ANY", true), ("REGISTRY_ONLY", false)];

const CAPTURE_MODES: &[(&str, ())] = &[("DEFAULT", ()), ("IPTABLES", ()), ("NONE", ())];
