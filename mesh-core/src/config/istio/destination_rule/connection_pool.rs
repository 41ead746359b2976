//! `connectionPool`: how many connections are made, and how they are used.

use crate::config::{
    decode::{Decoder, choice, flag, lasting, number},
    tree::Node,
};
use std::time::Duration;

/// `connectionPool`. `None` is Istio's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionPool {
    /// `tcp.maxConnections`.
    pub max_connections: Option<u32>,
    /// `tcp.connectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `tcp.tcpKeepalive`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `tcp.maxConnectionDuration`.
    pub max_connection_duration: Option<Duration>,
    /// `tcp.idleTimeout`; `http.idleTimeout` comes first.
    pub tcp_idle_timeout: Option<Duration>,
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
    /// `http.h2UpgradePolicy`.
    pub h2_upgrade: H2UpgradePolicy,
    /// `http.useClientProtocol`: the endpoint is spoken to in the version of the request.
    pub use_client_protocol: bool,
    /// `http.maxConcurrentStreams`.
    pub max_concurrent_streams: Option<u32>,
    /// `http.http2KeepAlive`.
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// `tcp.tcpKeepalive`. `None` is the setting of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// `probes`: as many unanswered ones end the connection.
    pub probes: Option<u32>,
    /// `time`: how long a connection is idle before it is probed.
    pub time: Option<Duration>,
    /// `interval`: between two probes.
    pub interval: Option<Duration>,
}

/// `http.http2KeepAlive`: pings on an HTTP/2 connection, also while it is idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http2KeepAlive {
    /// `interval`: between two pings.
    pub interval: Option<Duration>,
    /// `timeout`: how long an answer may take before the connection is given up.
    pub timeout: Option<Duration>,
}

/// `http.h2UpgradePolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum H2UpgradePolicy {
    /// As the client is set.
    #[default]
    Default,
    /// HTTP/1.1.
    DoNotUpgrade,
    /// HTTP/2, in plaintext with prior knowledge.
    Upgrade,
}

impl ConnectionPool {
    // spec: istio pkg/config/validation validateConnectionPool
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mut pool = Self::default();
        fields.get("tcp", |decoder, node| pool.read_tcp(decoder, node));
        fields.get("http", |decoder, node| pool.read_http(decoder, node));
        if !fields.has("tcp") && !fields.has("http") {
            let at = fields.at;
            fields.decoder.refuse(at, "one of tcp and http is required");
        }
        fields.finish();
        Some(pool)
    }

    fn read_tcp<'n>(&mut self, decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
        let mut fields = decoder.fields(node)?;
        self.max_connections = fields.get("maxConnections", limit).flatten();
        self.connect_timeout = fields.get("connectTimeout", lasting);
        self.tcp_keepalive = fields.get("tcpKeepalive", TcpKeepalive::read);
        self.max_connection_duration = fields.get("maxConnectionDuration", lasting);
        self.tcp_idle_timeout = fields.get("idleTimeout", lasting);
        fields.finish();
        Some(())
    }

    fn read_http<'n>(&mut self, decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
        let mut fields = decoder.fields(node)?;
        self.max_pending_requests = fields.get("http1MaxPendingRequests", limit).flatten();
        self.max_requests = fields.get("http2MaxRequests", limit).flatten();
        self.max_requests_per_connection = fields.get("maxRequestsPerConnection", limit).flatten();
        self.max_retries = fields.get("maxRetries", limit).flatten();
        self.idle_timeout = fields.get("idleTimeout", lasting);
        self.h2_upgrade = fields.get("h2UpgradePolicy", |d, n| choice(d, n, UPGRADES)).unwrap_or_default();
        self.use_client_protocol = fields.get("useClientProtocol", flag).unwrap_or_default();
        self.max_concurrent_streams = fields.get("maxConcurrentStreams", limit).flatten();
        self.http2_keep_alive = fields.get("http2KeepAlive", Http2KeepAlive::read);
        if self.use_client_protocol && self.h2_upgrade == H2UpgradePolicy::Upgrade {
            fields.refuse("useClientProtocol", "useClientProtocol and UPGRADE exclude each other");
        }
        fields.finish();
        Some(())
    }
}

impl TcpKeepalive {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self {
            probes: fields.get("probes", limit).flatten(),
            time: fields.get("time", lasting),
            interval: fields.get("interval", lasting),
        };
        fields.finish();
        Some(read)
    }
}

impl Http2KeepAlive {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read =
            Self { interval: fields.get("interval", lasting), timeout: fields.get("timeout", lasting) };
        fields.finish();
        Some(read)
    }
}

/// Reads a limit; 0 is the default, as under Istio.
pub(crate) fn limit(decoder: &mut Decoder<'_>, node: &Node) -> Option<Option<u32>> {
    number(decoder, node, 0, INT32_MAX).map(|limit| (limit > 0).then_some(limit))
}

pub(crate) const UPGRADES: &[(&str, H2UpgradePolicy)] = &[
    ("DEFAULT", H2UpgradePolicy::Default),
    ("DO_NOT_UPGRADE", H2UpgradePolicy::DoNotUpgrade),
    ("UPGRADE", H2UpgradePolicy::Upgrade),
];

/// Istio's limits are of type int32.
const INT32_MAX: u32 = i32::MAX as u32;
