//! `namespace/host`, as Gateways and Sidecars name hosts, and the ports beside them.
// spec: istio pkg/config/validation/agent ValidateNamespaceSlashWildcardHostname

mod set;

pub use set::NamespacedHosts;
pub(crate) use set::backwards;

use super::common::{is_host, is_label};
use crate::config::{
    decode::{Decoder, borrowed, shortened, text},
    diagnostic::{Code, Diagnostic},
    resource::Mark,
    tree::Node,
};
use std::net::IpAddr;

/// A host, and the namespaces in which it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacedHost {
    /// The namespaces; a Gateway's host that names none means all.
    pub namespaces: Namespaces,
    /// The full host, `*.suffix` or `*`, in lower case.
    pub host: String,
    /// Its place.
    pub at: Mark,
}

/// What stands before the `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// `*`.
    Any,
    /// `.`: the one of the object, or of the workload it applies to.
    Own,
    /// `~`.
    Nowhere,
    /// One.
    Named(String),
}

impl Namespaces {
    /// Returns whether `namespace` is among them, where `own` is the one that `.` means.
    pub fn include(&self, namespace: &str, own: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Own => namespace == own,
            Self::Nowhere => false,
            Self::Named(named) => named == namespace,
        }
    }
}

impl NamespacedHost {
    /// Reads a host of a Gateway's server, which may also be an address and need not name a namespace.
    pub(super) fn read_of_gateway(decoder: &mut Decoder<'_>, node: &Node) -> Option<Self> {
        let written = borrowed(decoder, node)?;
        let (namespaces, host) = written.split_once('/').unwrap_or(("*", written));
        let read = Self::new(namespaces, host, node.at);
        Self::checked(decoder, read.filter(|read| read.namespaces != Namespaces::Nowhere), node.at, written)
    }

    /// Reads a host of a Sidecar's egress.
    pub(super) fn read_of_sidecar(decoder: &mut Decoder<'_>, node: &Node) -> Option<Self> {
        let written = borrowed(decoder, node)?;
        let read = written.split_once('/').and_then(|(namespaces, host)| {
            Self::new(namespaces, host, node.at).filter(|_| host.parse::<IpAddr>().is_err())
        });
        Self::checked(decoder, read, node.at, written)
    }

    fn new(namespaces: &str, host: &str, at: Mark) -> Option<Self> {
        let namespaces = match namespaces {
            "*" => Namespaces::Any,
            "." => Namespaces::Own,
            "~" => Namespaces::Nowhere,
            named if is_label(named) => Namespaces::Named(named.to_owned()),
            _ => return None,
        };
        let is_full = host == "*" || host.contains('.') || host.parse::<IpAddr>().is_ok();
        let is_partial = host.starts_with('*') && host != "*" && !host.starts_with("*.");
        (is_full && !is_partial && is_host(host)).then(|| Self {
            namespaces,
            host: host.to_ascii_lowercase(),
            at,
        })
    }

    fn checked(decoder: &mut Decoder<'_>, read: Option<Self>, at: Mark, written: &str) -> Option<Self> {
        if read.is_none() {
            let message = format!("`{}` is not a host that can stand here", shortened(written));
            let finding = Diagnostic::error(Code::SCHEMA, message)
                .help("write `namespace/host` with a full host, e.g. `shop/*.example.com`, `./*` or `*/*`");
            decoder.find(at, finding);
        }
        read
    }
}

/// Reads the protocol of a port, in upper case.
// spec: istio pkg/config/protocol Parse
pub(super) fn protocol(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let protocol = text(decoder, node)?.to_ascii_uppercase();
    if PROTOCOLS.contains(&protocol.as_str()) {
        return Some(protocol);
    }
    let message = format!("`{}` is not a protocol", shortened(&protocol));
    let help = format!("write one of {}", PROTOCOLS.join(", "));
    decoder.find(node.at, Diagnostic::error(Code::SCHEMA, message).help(help));
    None
}

/// Returns whether a port of this protocol carries HTTP in plain.
pub(super) fn is_http(protocol: &str) -> bool {
    matches!(protocol, "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "HTTP_PROXY")
}

/// Returns whether a port of this protocol carries TLS.
pub(super) fn is_tls(protocol: &str) -> bool {
    matches!(protocol, "HTTPS" | "TLS")
}

const PROTOCOLS: [&str; 12] = [
    "HTTP",
    "HTTP2",
    "HTTPS",
    "GRPC",
    "GRPC-WEB",
    "HTTP_PROXY",
    "TLS",
    "TCP",
    "UDP",
    "MONGO",
    "REDIS",
    "MYSQL",
];
