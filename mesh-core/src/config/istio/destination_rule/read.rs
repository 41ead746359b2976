//! Reads the `spec` of a DestinationRule, as strictly as Istio's webhook does.
// spec: istio pkg/config/validation/validation.go validateDestinationRule, validateTrafficPolicy

use super::{
    ClientTls, ClientTlsMode, ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PortPolicy,
    Subset, TrafficPolicy,
};
use crate::config::{
    decode::{Decoder, Fields, choice, count, flag, lasting, name, name_at, percent, shortened},
    diagnostic::{Code, Diagnostic},
    istio::common::{self, WorkloadSelector, port_selector},
    tree::Node,
};
use std::collections::HashMap;

impl DestinationRule {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let host = fields.require("host", common::host);
        let traffic_policy = fields.get("trafficPolicy", TrafficPolicy::read);
        let subsets = fields.list("subsets", Subset::read);
        let export_to = common::export_to(&mut fields);
        let workload_selector = fields.get("workloadSelector", WorkloadSelector::reader("matchLabels"));
        check_names(&mut fields, &subsets);
        fields.finish();
        Some(Self { host: host?, traffic_policy, subsets, export_to, workload_selector })
    }
}

fn check_names(fields: &mut Fields<'_, '_>, subsets: &[Subset]) {
    let mut first = HashMap::new();
    for subset in subsets {
        if let Some(line) = first.insert(subset.name.value.as_str(), subset.name.at.line) {
            let message =
                format!("subset `{}` is defined twice, first on line {line}", shortened(&subset.name));
            fields.decoder.within("subsets", |decoder| decoder.refuse(subset.name.at, message));
        }
    }
}

impl Subset {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let name = fields.require("name", name_at);
        let labels = fields.get("labels", crate::config::decode::labels).unwrap_or_default();
        let traffic_policy = fields.get("trafficPolicy", TrafficPolicy::read);
        fields.finish();
        Some(Self { name: name?, labels, traffic_policy })
    }
}

impl TrafficPolicy {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mut read = Self::read_blocks(&mut fields);
        read.port_level = fields.list("portLevelSettings", PortPolicy::read);
        fields.no_effect(&[
            ("tunnel", "tunnels carry connections, not requests"),
            ("proxyProtocol", "no PROXY header is sent"),
            ("retryBudget", "this version has its own retry budget"),
        ]);
        fields.finish();
        Some(read)
    }

    fn read_blocks(fields: &mut Fields<'_, '_>) -> Self {
        Self {
            load_balancer: fields.get("loadBalancer", LoadBalancer::read),
            connection_pool: fields.get("connectionPool", ConnectionPool::read),
            outlier_detection: fields.get("outlierDetection", OutlierDetection::read),
            tls: fields.get("tls", ClientTls::read),
            port_level: Vec::new(),
        }
    }
}

impl PortPolicy {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let port = fields.require("port", port_selector);
        let policy = TrafficPolicy::read_blocks(&mut fields);
        fields.finish();
        Some(Self { port: port?, policy })
    }
}

impl LoadBalancer {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let simple = fields.get("simple", |decoder, node| {
            let chosen = choice(decoder, node, SIMPLE)?;
            if node.as_text() == Some("LEAST_CONN") {
                let finding = Diagnostic::warning(Code::DEPRECATED, "LEAST_CONN is deprecated");
                decoder.find(node.at, finding.help("write LEAST_REQUEST, which is the same"));
            }
            Some(chosen)
        });
        if fields.has("simple") && fields.has("consistentHash") {
            fields.refuse("consistentHash", "simple and consistentHash exclude each other");
        }
        fields.no_effect(&[
            ("consistentHash", "requests go to the less loaded of two endpoints (LEAST_REQUEST)"),
            ("localityLbSetting", "this version does not weigh localities"),
            ("zoneAwareLbSetting", "this version does not weigh localities"),
            ("warmupDurationSecs", "new endpoints get their full share at once"),
            ("warmup", "new endpoints get their full share at once"),
        ]);
        fields.finish();
        Some(simple.unwrap_or_default())
    }
}

const SIMPLE: &[(&str, LoadBalancer)] = &[
    ("LEAST_REQUEST", LoadBalancer::LeastRequest),
    ("ROUND_ROBIN", LoadBalancer::RoundRobin),
    ("RANDOM", LoadBalancer::Random),
    ("PASSTHROUGH", LoadBalancer::Passthrough),
    ("LEAST_CONN", LoadBalancer::LeastRequest),
    ("UNSPECIFIED", LoadBalancer::LeastRequest),
];

impl ConnectionPool {
    pub(in crate::config::istio) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mut pool = Self::default();
        fields.get("tcp", |decoder, node| pool.read_tcp(decoder, node));
        fields.get("http", |decoder, node| pool.read_http(decoder, node));
        fields.finish();
        Some(pool)
    }

    fn read_tcp<'n>(&mut self, decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
        let mut fields = decoder.fields(node)?;
        self.max_connections = fields.get("maxConnections", limit).flatten();
        self.connect_timeout = fields.get("connectTimeout", lasting);
        fields.no_effect(&[
            ("tcpKeepalive", "connections follow the system's settings"),
            ("maxConnectionDuration", "connections are not limited in age"),
            ("idleTimeout", "write `http.idleTimeout`"),
        ]);
        fields.finish();
        Some(())
    }

    fn read_http<'n>(&mut self, decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
        let mut fields = decoder.fields(node)?;
        self.max_pending_requests = fields.get("http1MaxPendingRequests", limit).flatten();
        self.max_requests = fields.get("http2MaxRequests", limit).flatten();
        self.max_requests_per_connection = fields.get("maxRequestsPerConnection", count);
        self.max_retries = fields.get("maxRetries", limit).flatten();
        self.idle_timeout = fields.get("idleTimeout", lasting);
        fields.no_effect(&[
            ("h2UpgradePolicy", "mesh peers agree on HTTP/2 by ALPN"),
            ("useClientProtocol", "mesh peers agree on HTTP/2 by ALPN"),
            ("maxConcurrentStreams", "the server's own limit is kept"),
            ("http2KeepAlive", "connections follow this version's own settings"),
        ]);
        fields.finish();
        Some(())
    }
}

/// Reads a limit; 0 is the default, as under Istio.
fn limit(decoder: &mut Decoder<'_>, node: &Node) -> Option<Option<u32>> {
    count(decoder, node).map(|limit| (limit > 0).then_some(limit))
}

impl OutlierDetection {
    pub(in crate::config::istio) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let deprecated = fields.get("consecutiveErrors", count);
        fields.deprecated("consecutiveErrors", "consecutive5xxErrors");
        let read = Self {
            at: node.at,
            consecutive_5xx: fields.get("consecutive5xxErrors", count).or(deprecated),
            consecutive_gateway: fields.get("consecutiveGatewayErrors", count),
            consecutive_local_origin: fields.get("consecutiveLocalOriginFailures", count),
            split_local_origin: fields.get("splitExternalLocalOriginErrors", flag).unwrap_or_default(),
            interval: fields.get("interval", lasting),
            base_ejection_time: fields.get("baseEjectionTime", lasting),
            max_ejection_percent: fields.get("maxEjectionPercent", percent),
            min_health_percent: fields.get("minHealthPercent", percent),
        };
        fields.no_effect(&[("outlierDetectionHttpErrorCodes", "every 5xx counts, and nothing else")]);
        read.warn_if_nothing_is_ever_ejected(&mut fields);
        fields.finish();
        Some(read)
    }

    /// Envoy ejects only while the ejected ones stay within the percentage, and does not round up to one.
    // spec: envoy source/common/upstream/outlier_detection_impl.cc ejectHost
    fn warn_if_nothing_is_ever_ejected(&self, fields: &mut Fields<'_, '_>) {
        let percent = self.max_ejection_percent.unwrap_or(MAX_EJECTION_PERCENT);
        if percent >= SMALL_EJECTION_PERCENT {
            return;
        }
        let written = if self.max_ejection_percent.is_some() { "" } else { " (the default)" };
        let reach = match 100_u8.checked_div(percent) {
            None => "no endpoint is ever ejected".to_owned(),
            Some(quotient) => {
                let hosts = quotient + u8::from(100 % percent != 0);
                format!("no endpoint is ejected while the host has fewer than {hosts}")
            }
        };
        let message = format!("with maxEjectionPercent {percent}{written} {reach}");
        let finding = Diagnostic::warning(Code::NEVER_EJECTS, message);
        fields.find(
            "maxEjectionPercent",
            finding.help("write `maxEjectionPercent: 100`, or what you can spare"),
        );
    }
}

impl ClientTls {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mode = fields.get("mode", |decoder, node| choice(decoder, node, MODES));
        let read = Self {
            at: node.at,
            // spec: istio networking/v1alpha3/destination_rule.proto ClientTLSSettings.TLSmode, whose zero is DISABLE
            mode: mode.unwrap_or(ClientTlsMode::Disable),
            client_certificate: fields.get("clientCertificate", name),
            private_key: fields.get("privateKey", name),
            ca_certificates: fields.get("caCertificates", name),
            subject_alt_names: fields.list("subjectAltNames", name),
            sni: fields.get("sni", name),
            insecure_skip_verify: fields.get("insecureSkipVerify", flag).unwrap_or_default(),
        };
        fields.unsupported(&[
            (
                "credentialName",
                "there is no store of secrets here; name files by clientCertificate and privateKey",
            ),
            ("caCrl", "revoked certificates would be accepted"),
        ]);
        read.check(&mut fields);
        fields.finish();
        Some(read)
    }

    // spec: istio pkg/config/validation validateTLS
    fn check(&self, fields: &mut Fields<'_, '_>) {
        if !fields.has("mode") {
            let finding =
                Diagnostic::warning(Code::SECURITY_NOTE, "`tls` without `mode` is DISABLE: plaintext");
            let at = fields.at;
            fields.decoder.find(at, finding.help("write the mode that is meant"));
        }
        match self.mode {
            ClientTlsMode::IstioMutual => {
                // `sni` and `subjectAltNames` occur beside it in Istio's own egress samples.
                for name in ["clientCertificate", "privateKey", "caCertificates", "insecureSkipVerify"] {
                    if fields.has(name) {
                        fields
                            .refuse(name, "ISTIO_MUTUAL uses the workload's own certificate: leave this out");
                    }
                }
            }
            ClientTlsMode::Mutual => {
                for name in ["clientCertificate", "privateKey"] {
                    if !fields.has(name) {
                        fields.refuse(name, format!("MUTUAL needs `{name}`"));
                    }
                }
            }
            ClientTlsMode::Disable | ClientTlsMode::Simple => {}
        }
        if self.insecure_skip_verify {
            let message = "any certificate is accepted from this host";
            fields.find("insecureSkipVerify", Diagnostic::warning(Code::SECURITY_NOTE, message));
        }
    }
}

const MODES: &[(&str, ClientTlsMode)] = &[
    ("DISABLE", ClientTlsMode::Disable),
    ("SIMPLE", ClientTlsMode::Simple),
    ("MUTUAL", ClientTlsMode::Mutual),
    ("ISTIO_MUTUAL", ClientTlsMode::IstioMutual),
];

// spec: istio networking/v1alpha3/destination_rule.proto OutlierDetection.max_ejection_percent
const MAX_EJECTION_PERCENT: u8 = 10;

/// From 25 on, four endpoints are enough for one to be ejected: nobody with fewer expects much of ejection.
const SMALL_EJECTION_PERCENT: u8 = 25;
