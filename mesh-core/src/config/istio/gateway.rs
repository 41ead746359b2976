//! Gateway: what the edge of the mesh listens to, and for which hosts.
// spec: istio networking/v1alpha3/gateway.proto

use super::{
    namespaced_host::{NamespacedHost, is_http, is_tls, protocol},
    server_tls::{ServerTls, ServerTlsMode},
};
use crate::config::{
    decode::{self, Decoder, Fields, labels, name, shortened, text},
    diagnostic::{Code, Diagnostic},
    resource::Mark,
    schema::Support,
    tree::Node,
};
use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

/// `spec` of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// `selector`: the labels of the workloads that are this edge; empty is every edge.
    pub selector: BTreeMap<String, String>,
    /// `servers`; at least one.
    pub servers: Vec<Server>,
}

/// One entry of `servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it starts.
    pub at: Mark,
    /// `name`.
    pub name: Option<String>,
    /// `port`.
    pub port: ServerPort,
    /// `bind`: the address to listen on; `None` is every one.
    pub bind: Option<IpAddr>,
    /// `hosts`; at least one.
    pub hosts: Vec<NamespacedHost>,
    /// `tls`.
    pub tls: Option<ServerTls>,
}

/// `port` of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPort {
    /// The port.
    pub number: u16,
    /// The protocol, in upper case.
    pub protocol: String,
    /// Its name, unique in its Gateway.
    pub name: String,
}

impl Gateway {
    // spec: istio pkg/config/validation ValidateGateway
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let selector = fields.get("selector", labels).unwrap_or_default();
        let servers = fields.require("servers", |decoder, node| Some(decoder.each(node, Server::read)));
        if fields.count("servers") == Some(0) {
            fields.refuse("servers", "at least one server is required");
        }
        let read = Self { selector, servers: servers.unwrap_or_default() };
        read.check_names(&mut fields);
        fields.finish();
        Some(read)
    }

    fn check_names(&self, fields: &mut Fields<'_, '_>) {
        let mut seen = HashSet::new();
        for server in &self.servers {
            if !seen.insert(server.port.name.as_str()) {
                let message = format!("port name `{}` is used twice", shortened(&server.port.name));
                fields.decoder.within("servers", |decoder| decoder.refuse(server.at, message));
            }
        }
    }
}

impl Server {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let port = fields.require("port", ServerPort::read);
        let hosts = fields.require("hosts", |decoder, node| {
            Some(decoder.each(node, |decoder, node| NamespacedHost::read_of_gateway(decoder, node)))
        });
        let name = fields.get("name", text);
        let bind = fields.get("bind", address);
        let tls = fields.get("tls", ServerTls::read);
        fields.no_effect(&[("defaultEndpoint", "requests go where the routes send them")]);
        if fields.count("hosts") == Some(0) {
            fields.refuse("hosts", "at least one host is required");
        }
        let read =
            port.map(|port| Self { at: node.at, name, port, bind, hosts: hosts.unwrap_or_default(), tls });
        if let Some(read) = &read {
            read.check_tls(&mut fields);
        }
        fields.finish();
        read
    }

    // spec: istio pkg/config/validation validateServer
    fn check_tls(&self, fields: &mut Fields<'_, '_>) {
        let protocol = self.port.protocol.as_str();
        match (&self.tls, is_tls(protocol)) {
            (None, true) if !fields.has("tls") => {
                let at = fields.at;
                let message = format!("`tls` is required on a port of protocol {protocol}");
                fields.decoder.within("tls", |decoder| decoder.refuse(at, message));
            }
            (Some(tls), true) => self.note_not_served(fields, tls),
            (Some(tls), false) if !is_http(protocol) || !tls.only_redirects() => {
                fields.refuse("tls", format!("a port of protocol {protocol} takes no TLS"));
            }
            _ => {}
        }
        let redirects = self.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        if redirects && !is_http(protocol) {
            let message = "only a port that speaks HTTP in plain redirects to `https`";
            fields.find("tls", Diagnostic::warning(Code::SCHEMA_WARNING, message));
        }
    }

    /// The edge inside of a process ends TLS by itself, with certificates from files.
    fn note_not_served(&self, fields: &mut Fields<'_, '_>, tls: &ServerTls) {
        let why = match tls.mode {
            ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => return,
            ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
                "connections are not passed on by their server name"
            }
            ServerTlsMode::IstioMutual => "the edge is called from outside of the mesh",
        };
        let message = format!("this server is not served by the edge inside of a process: {why}");
        let finding = Diagnostic::warning(Code::NO_EFFECT, message)
            .help("write mode SIMPLE, MUTUAL or OPTIONAL_MUTUAL");
        fields.find("tls", finding);
    }

    /// Returns whether requests that arrive here are routed by VirtualServices' `http`.
    pub fn routes_http(&self) -> bool {
        let ends_tls = |tls: &ServerTls| {
            !matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
        };
        let protocol = self.port.protocol.as_str();
        is_http(protocol) || protocol == "HTTPS" && self.tls.as_ref().is_some_and(ends_tls)
    }

    /// Returns how TLS is ended here: `None` for a server in plain, and for one whose connections an edge inside of a
    /// process does not take.
    pub fn ends_tls(&self) -> Option<&ServerTls> {
        use ServerTlsMode::{Mutual, OptionalMutual, Simple};
        let taken = |tls: &&ServerTls| matches!(tls.mode, Simple | Mutual | OptionalMutual);
        if self.port.protocol == "HTTPS" { self.tls.as_ref().filter(taken) } else { None }
    }

    /// Returns whether requests that arrive here are only sent on to `https`.
    pub fn redirects(&self) -> bool {
        is_http(&self.port.protocol) && self.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }
}

impl ServerTls {
    fn only_redirects(&self) -> bool {
        self.mode == ServerTlsMode::Passthrough
            && self.server_certificate.is_none()
            && self.private_key.is_none()
            && self.ca_certificates.is_none()
    }
}

impl ServerPort {
    // spec: istio pkg/config/validation validateServerPort
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let number = fields.require("number", decode::port);
        let protocol = fields.require("protocol", protocol);
        let name = fields.require("name", name);
        let target = fields.get("targetPort", |decoder, node| decode::number(decoder, node, 0, u16::MAX));
        if target.is_some_and(|port| port > 0) {
            fields.refuse("targetPort", NO_TARGET_PORT);
        }
        fields.describe(&["targetPort"], Support::Refused, NO_TARGET_PORT);
        fields.finish();
        Some(Self { number: number?, protocol: protocol?, name: name? })
    }
}

const NO_TARGET_PORT: &str = "a Gateway has no target port: leave it out";

/// Reads the address of `bind`.
// spec: istio pkg/config/validation validateServerBind
fn address(decoder: &mut Decoder<'_>, node: &Node) -> Option<IpAddr> {
    if node.as_text().is_some_and(|text| text.starts_with("unix://")) {
        decoder.refuse(node.at, "Unix sockets are not listened on by this version");
        return None;
    }
    decode::parsed(decoder, node, "an IP address")
}

/// Returns namespace and name of the Gateway that a VirtualService of `namespace` means by `written`: `name`,
/// `namespace/name`, or `name.namespace` as it was written once.
// spec: istio pilot/pkg/model/virtualservice.go resolveGatewayName
pub fn bound_gateway<'a>(written: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    match written.split_once('/') {
        Some((".", name)) => (namespace, name),
        Some(key) => key,
        None => match written.split_once('.') {
            None => (namespace, written),
            Some((name, rest)) => (rest.split('.').next().unwrap_or(rest), name),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_named_alone_with_its_namespace_or_as_it_was_once() {
        for (written, key) in [
            ("edge", ("shop", "edge")),
            ("./edge", ("shop", "edge")),
            ("ingress/edge", ("ingress", "edge")),
            ("edge.ingress", ("ingress", "edge")),
            ("edge.ingress.svc.cluster.local", ("ingress", "edge")),
        ] {
            assert_eq!(bound_gateway(written, "shop"), key, "{written}");
        }
    }
}
