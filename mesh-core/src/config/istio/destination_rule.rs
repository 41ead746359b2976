//! DestinationRule: subsets of a host and the policy for its traffic.
// spec: istio networking/v1alpha3/destination_rule.proto

mod read;

use super::common::WorkloadSelector;
use crate::config::resource::{At, Mark};
use std::{collections::BTreeMap, time::Duration};

/// `spec` of a DestinationRule.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationRule {
    /// The host as written.
    pub host: At<String>,
    /// `trafficPolicy`.
    pub traffic_policy: Option<TrafficPolicy>,
    /// `subsets`; names are unique.
    pub subsets: Vec<Subset>,
    /// `exportTo`; empty means `["*"]`.
    pub export_to: Vec<String>,
    /// `workloadSelector`.
    pub workload_selector: Option<WorkloadSelector>,
}

/// One subset.
#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    /// Its name.
    pub name: At<String>,
    /// Labels that an endpoint must carry, every one.
    pub labels: BTreeMap<String, String>,
    /// Replaces the rule's policy block by block.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// `trafficPolicy`. A block that is `None` was not written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    /// `loadBalancer`.
    pub load_balancer: Option<LoadBalancer>,
    /// `connectionPool`.
    pub connection_pool: Option<ConnectionPool>,
    /// `outlierDetection`.
    pub outlier_detection: Option<OutlierDetection>,
    /// `tls`.
    pub tls: Option<ClientTls>,
    /// `portLevelSettings`.
    pub port_level: Vec<PortPolicy>,
}

/// One entry of `portLevelSettings`.
#[derive(Clone, Debug, PartialEq)]
pub struct PortPolicy {
    /// The service port.
    pub port: u16,
    /// The blocks; `port_level` inside is empty.
    pub policy: TrafficPolicy,
}

/// `loadBalancer.simple`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadBalancer {
    /// Two random endpoints, the less loaded one (also `LEAST_CONN`).
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The address the caller asked for.
    Passthrough,
}

/// `connectionPool`. `None` is Istio's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionPool {
    /// `tcp.maxConnections`.
    pub max_connections: Option<u32>,
    /// `tcp.connectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `http.http1MaxPendingRequests`: the limit on waiting requests, also of HTTP/2.
    pub max_pending_requests: Option<u32>,
    /// `http.http2MaxRequests`: the limit on active requests, also of HTTP/1.1.
    pub max_requests: Option<u32>,
    /// `http.maxRequestsPerConnection`; 0 is unlimited.
    pub max_requests_per_connection: Option<u32>,
    /// `http.maxRetries`.
    pub max_retries: Option<u32>,
    /// `http.idleTimeout`.
    pub idle_timeout: Option<Duration>,
}

/// `outlierDetection`. `None` is Istio's default for that field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Where the block starts.
    pub at: Mark,
    /// `consecutive5xxErrors` (and the deprecated `consecutiveErrors`); 0 switches it off.
    pub consecutive_5xx: Option<u32>,
    /// `consecutiveGatewayErrors`; 0 or absent switches it off.
    pub consecutive_gateway: Option<u32>,
    /// `consecutiveLocalOriginFailures`.
    pub consecutive_local_origin: Option<u32>,
    /// `splitExternalLocalOriginErrors`.
    pub split_local_origin: bool,
    /// `interval`.
    pub interval: Option<Duration>,
    /// `baseEjectionTime`.
    pub base_ejection_time: Option<Duration>,
    /// `maxEjectionPercent`, 0 to 100.
    pub max_ejection_percent: Option<u8>,
    /// `minHealthPercent`, 0 to 100.
    pub min_health_percent: Option<u8>,
}

/// `tls`: how to talk to the endpoints. Written at all, it switches automatic mutual TLS off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// Where the block starts.
    pub at: Mark,
    /// `mode`.
    pub mode: ClientTlsMode,
    /// `clientCertificate`.
    pub client_certificate: Option<String>,
    /// `privateKey`.
    pub private_key: Option<String>,
    /// `caCertificates`.
    pub ca_certificates: Option<String>,
    /// `subjectAltNames`.
    pub subject_alt_names: Vec<String>,
    /// `sni`.
    pub sni: Option<String>,
    /// `insecureSkipVerify`.
    pub insecure_skip_verify: bool,
}

/// `tls.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTlsMode {
    /// Plaintext.
    Disable,
    /// TLS, the server's certificate only.
    Simple,
    /// Mutual TLS with the certificates named beside it.
    Mutual,
    /// Mutual TLS with the workload's SVID.
    IstioMutual,
}
