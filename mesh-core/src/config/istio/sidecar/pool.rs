//! `inboundConnectionPool` of a Sidecar, and `connectionPool` of one of its ports: how much a server takes at one time.
//!
//! Under Istio these are the limits of the sidecar towards its application. Here there is no connection between the two,
//! so that part of the limits means nothing.
// spec: istio networking/v1alpha3/sidecar.proto Sidecar.inbound_connection_pool

use crate::config::{
    decode::{Decoder, choice, flag, lasting},
    istio::destination_rule::{Http2KeepAlive, TcpKeepalive, UPGRADES, limit},
    tree::Node,
};

/// The limits of a server. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboundPool {
    /// `tcp.maxConnections`: as many requests as a sidecar would have connections to its application for, each of which
    /// carries one.
    pub connections_max: Option<u32>,
    /// `http.http1MaxPendingRequests`: requests that wait for one of those.
    pub pending_max: Option<u32>,
    /// `http.http2MaxRequests`: requests that run, also of HTTP/1.1.
    pub requests_max: Option<u32>,
}

impl InboundPool {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
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
        self.connections_max = fields.get("maxConnections", limit).flatten();
        fields.get("connectTimeout", lasting);
        fields.get("tcpKeepalive", TcpKeepalive::read);
        fields.get("maxConnectionDuration", lasting);
        fields.get("idleTimeout", lasting);
        let others = ["connectTimeout", "tcpKeepalive", "maxConnectionDuration", "idleTimeout"];
        fields.no_effect(&others.map(|name| (name, NO_HOP)));
        fields.finish();
        Some(())
    }

    fn read_http<'n>(&mut self, decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
        let mut fields = decoder.fields(node)?;
        self.pending_max = fields.get("http1MaxPendingRequests", limit).flatten();
        self.requests_max = fields.get("http2MaxRequests", limit).flatten();
        fields.get("maxRequestsPerConnection", limit);
        fields.get("maxRetries", limit);
        fields.get("idleTimeout", lasting);
        fields.get("h2UpgradePolicy", |decoder, node| choice(decoder, node, UPGRADES));
        fields.get("useClientProtocol", flag);
        fields.get("maxConcurrentStreams", limit);
        fields.get("http2KeepAlive", Http2KeepAlive::read);
        let others = [
            "maxRequestsPerConnection",
            "idleTimeout",
            "h2UpgradePolicy",
            "useClientProtocol",
            "maxConcurrentStreams",
            "http2KeepAlive",
        ];
        fields.no_effect(&others.map(|name| (name, NO_HOP)));
        fields.no_effect(&[("maxRetries", "a server does not send its handler a request again")]);
        fields.finish();
        Some(())
    }
}

const NO_HOP: &str = "there is no connection between the server and its handler";
