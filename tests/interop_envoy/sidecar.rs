//! Sidecars as istiod configures them, with files in the place of its secret discovery.
// spec: istio pilot/pkg/networking/core/{cluster_tls,listener_builder,listener_inbound}.go

use crate::{
    certificates::Files,
    envoy::{address, typed},
};
use serde_json::{Value, json};
use std::path::Path;

const TLS: &str = "envoy.extensions.transport_sockets.tls.v3";
const HTTP: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// HTTP/1.1 or HTTP/2, between two sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

impl Version {
    /// Returns what the sidecar of a caller offers.
    // spec: istio pilot/pkg/xds/filters/filters.go mtlsHTTP11ALPN, mtlsHTTP2ALPN
    pub(crate) fn offered(self) -> &'static [&'static str] {
        match self {
            Self::Http1 => &["istio-http/1.1", "istio", "http/1.1"],
            Self::Http2 => &["istio-h2", "istio", "h2"],
        }
    }
}

/// How the sidecar of a caller reaches a workload.
#[derive(Clone, Debug)]
pub(crate) struct Route<'a> {
    /// The name of its listener.
    pub(crate) name: &'a str,
    /// The port of the workload.
    pub(crate) port: u16,
    pub(crate) version: Version,
    /// Without it, plaintext is sent.
    pub(crate) tls: Option<CallerTls<'a>>,
}

/// The TLS of a caller.
#[derive(Clone, Debug)]
pub(crate) struct CallerTls<'a> {
    pub(crate) own: Option<&'a Files>,
    pub(crate) roots: &'a Path,
    /// The ID that the workload must have.
    pub(crate) expected: &'a str,
    pub(crate) offered: &'a [&'a str],
}

/// Returns listener and cluster of a caller's sidecar for `route`. It passes every header of its application on.
pub(crate) fn outbound(route: &Route<'_>) -> (Value, Value) {
    let Route { name, port, version, tls } = route;
    let manager = manager(name, true, "ALWAYS_FORWARD_ONLY", &[]);
    let listener = json!({
        "name": name,
        "address": address(0),
        "filter_chains": [{"filters": [manager]}],
    });
    let mut cluster = cluster(name, *port);
    if *version == Version::Http2 {
        let options = json!({"explicit_http_config": {"http2_protocol_options": {}}});
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
                typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", options),
        });
    }
    if let Some(tls) = tls {
        let context = json!({"sni": SNI, "common_tls_context": tls.context()});
        cluster["transport_socket"] = transport_socket("UpstreamTlsContext", context);
    }
    (listener, cluster)
}

/// The server name by which istiod lets callers ask for port 80 of the service `echo`.
pub(crate) const SNI: &str = "outbound_.80_._.echo.default.svc.cluster.local";

impl CallerTls<'_> {
    fn context(&self) -> Value {
        let own: Vec<Value> = self.own.into_iter().map(certificate).collect();
        json!({
            "alpn_protocols": self.offered,
            "tls_certificates": own,
            "validation_context": validation(self.roots, &json!({"exact": self.expected})),
        })
    }
}

/// Who is let in by the sidecar of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Strict,
    Permissive,
}

/// The sidecar of a workload.
#[derive(Clone, Debug)]
pub(crate) struct Inbound<'a> {
    /// The name of its listener.
    pub(crate) name: &'a str,
    /// The port of its listener; 0 for any.
    pub(crate) listen: u16,
    pub(crate) mode: Mode,
    pub(crate) own: &'a Files,
    pub(crate) roots: &'a Path,
    /// How the ID of a caller is matched.
    pub(crate) callers: &'a Value,
    /// The port of the application; without one, what is let through is answered with 200.
    pub(crate) application: Option<u16>,
    /// What judges requests.
    pub(crate) filters: &'a [Value],
}

/// Returns listener and cluster of `sidecar`.
pub(crate) fn inbound(sidecar: &Inbound<'_>) -> (Value, Value) {
    let Inbound { name, own, roots, callers, application, filters, .. } = sidecar;
    let manager = manager(name, application.is_some(), "APPEND_FORWARD", filters);
    let tls = json!({
        "require_client_certificate": true,
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [certificate(own)],
            "validation_context": validation(roots, callers),
        },
    });
    let mut secured = json!({
        "filter_chain_match": {"transport_protocol": "tls"},
        "filters": [manager],
        "transport_socket": transport_socket("DownstreamTlsContext", tls),
    });
    let mut chains = Vec::new();
    if sidecar.mode == Mode::Permissive {
        secured["filter_chain_match"]["application_protocols"] = json!(OF_THE_MESH);
        chains
            .push(json!({"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [manager]}));
    }
    chains.push(secured);
    let inspector = typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", json!({}));
    let listener = json!({
        "name": name,
        "address": address(sidecar.listen),
        "listener_filters": [{"name": "tls_inspector", "typed_config": inspector}],
        "filter_chains": chains,
    });
    (listener, cluster(name, application.unwrap_or_default()))
}

/// How a sidecar that takes plaintext, too, tells the mesh's TLS from its application's.
// spec: istio pilot/pkg/networking/core/listener.go allIstioMtlsALPNs
const OF_THE_MESH: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// Returns the filter that serves HTTP: after `filters`, all of it goes to the cluster `name`, or is answered at once.
fn manager(name: &str, forward: bool, client_certificates: &str, filters: &[Value]) -> Value {
    let router = typed("envoy.extensions.filters.http.router.v3.Router", json!({}));
    let mut filters = filters.to_vec();
    filters.push(json!({"name": "router", "typed_config": router}));
    let mut route = json!({
        "match": {"prefix": "/"},
        "request_headers_to_add": [{"header": {"key": "x-seen-sni", "value": "%REQUESTED_SERVER_NAME%"}}],
    });
    if forward {
        route["route"] = json!({"cluster": name, "timeout": "0s"});
    } else {
        route["direct_response"] = json!({"status": 200});
    }
    let config = json!({
        "stat_prefix": name,
        "codec_type": "AUTO",
        "normalize_path": true,
        "strip_trailing_host_dot": true,
        "forward_client_cert_details": client_certificates,
        "set_current_client_cert_details": {"subject": true, "uri": true, "dns": true},
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    });
    json!({"name": "http", "typed_config": typed(HTTP, config)})
}

fn cluster(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
        },
    })
}

fn certificate(files: &Files) -> Value {
    json!({
        "certificate_chain": {"filename": files.certificate},
        "private_key": {"filename": files.key},
    })
}

fn validation(roots: &Path, peer: &Value) -> Value {
    json!({
        "trusted_ca": {"filename": roots},
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": peer}],
    })
}

fn transport_socket(context: &str, config: Value) -> Value {
    json!({"name": "tls", "typed_config": typed(&format!("{TLS}.{context}"), config)})
}
