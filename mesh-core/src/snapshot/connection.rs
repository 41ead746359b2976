//! How connections to the endpoints of a cluster are made and kept, beyond how many there may be.

use super::MeshSettings;
use crate::config::istio::{ConnectionPool, H2UpgradePolicy, Http2KeepAlive, TcpKeepalive};
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

/// How connections to the endpoints of a cluster are made and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionPolicy {
    /// Which HTTP is spoken.
    pub http: UpstreamHttp,
    /// How many streams an HTTP/2 connection carries at a time; `None` leaves it to the client.
    pub streams_max: Option<u32>,
    /// At which age a connection gets no further request; `None` is never.
    pub age_max: Option<Duration>,
    /// Probes of an idle TCP connection; `None` leaves them to the client.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Pings on an HTTP/2 connection; `None` leaves them to the client.
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// Which HTTP is spoken to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpstreamHttp {
    /// What the client is set to.
    #[default]
    Any,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, in plaintext with prior knowledge.
    Http2,
    /// The version of the request.
    AsRequested,
}

impl ConnectionPolicy {
    /// Returns the policy of a cluster at a port of this protocol (upper case) under `pool`. Most clusters have none of
    /// this, and share one.
    pub(super) fn of(pool: Option<&ConnectionPool>, protocol: &str, mesh: &MeshSettings) -> Arc<Self> {
        let policy = Self {
            http: UpstreamHttp::of(pool, protocol, mesh.h2_upgrade),
            streams_max: pool.and_then(|pool| pool.max_concurrent_streams),
            age_max: pool.and_then(|pool| pool.max_connection_duration),
            tcp_keepalive: keepalive(pool.and_then(|pool| pool.tcp_keepalive), mesh.tcp_keepalive),
            http2_keep_alive: pool.and_then(|pool| pool.http2_keep_alive),
        };
        if policy == **DEFAULT { Arc::clone(&DEFAULT) } else { Arc::new(policy) }
    }
}

/// What the rule leaves out is the mesh's.
// spec: istio pilot/pkg/networking/core/cluster_traffic_policy.go applyTCPKeepalive, setKeepAliveSettings
fn keepalive(rule: Option<TcpKeepalive>, mesh: Option<TcpKeepalive>) -> Option<TcpKeepalive> {
    let (Some(rule), Some(mesh)) = (rule, mesh) else { return rule.or(mesh) };
    Some(TcpKeepalive {
        probes: rule.probes.or(mesh.probes),
        time: rule.time.or(mesh.time),
        interval: rule.interval.or(mesh.interval),
    })
}

static DEFAULT: LazyLock<Arc<ConnectionPolicy>> = LazyLock::new(Arc::default);

impl UpstreamHttp {
    /// A port that speaks HTTP/2 by its own protocol is not talked out of it: a gRPC server knows nothing else.
    // spec: istio pilot/pkg/networking/core/cluster_builder.go setUpstreamProtocol, shouldH2Upgrade
    fn of(pool: Option<&ConnectionPool>, protocol: &str, mesh_upgrades: bool) -> Self {
        let (upgrade, as_requested) =
            pool.map_or_else(Default::default, |pool| (pool.h2_upgrade, pool.use_client_protocol));
        match upgrade {
            _ if as_requested => Self::AsRequested,
            _ if HTTP2_PROTOCOLS.contains(&protocol) => Self::Http2,
            H2UpgradePolicy::Upgrade => Self::Http2,
            H2UpgradePolicy::DoNotUpgrade => Self::Http1,
            // The mesh speaks of ports that are known to be of HTTP.
            H2UpgradePolicy::Default if mesh_upgrades && protocol == "HTTP" => Self::Http2,
            H2UpgradePolicy::Default => Self::Any,
        }
    }
}

// spec: istio pkg/config/protocol Instance.IsHTTP2
const HTTP2_PROTOCOLS: [&str; 3] = ["HTTP2", "GRPC", "GRPC-WEB"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_http_follows_the_rule_and_the_port() {
        use {H2UpgradePolicy::*, UpstreamHttp::*};
        for (upgrade, as_requested, protocol, http) in [
            (Default, false, "HTTP", Any),
            (Default, false, "", Any),
            (Default, false, "GRPC", Http2),
            (Default, true, "HTTP", AsRequested),
            (Upgrade, false, "HTTP", Http2),
            (Upgrade, false, "", Http2),
            (DoNotUpgrade, false, "HTTP", Http1),
            (DoNotUpgrade, false, "HTTP2", Http2),
            (DoNotUpgrade, true, "HTTP", AsRequested),
        ] {
            let pool = ConnectionPool {
                h2_upgrade: upgrade,
                use_client_protocol: as_requested,
                ..ConnectionPool::default()
            };
            assert_eq!(
                UpstreamHttp::of(Some(&pool), protocol, false),
                http,
                "{upgrade:?} {as_requested} {protocol}"
            );
        }
        assert_eq!(UpstreamHttp::of(None, "HTTP", false), Any);
    }

    #[test]
    fn the_mesh_upgrades_ports_of_http_unless_a_rule_says_otherwise() {
        use {H2UpgradePolicy::*, UpstreamHttp::*};
        for (upgrade, protocol, http) in [
            (Default, "HTTP", Http2),
            (Default, "", Any),
            (Default, "TCP", Any),
            (DoNotUpgrade, "HTTP", Http1),
            (Upgrade, "HTTP", Http2),
        ] {
            let pool = ConnectionPool { h2_upgrade: upgrade, ..ConnectionPool::default() };
            assert_eq!(UpstreamHttp::of(Some(&pool), protocol, true), http, "{upgrade:?} {protocol}");
        }
        assert_eq!(UpstreamHttp::of(None, "HTTP", true), Http2);
    }

    #[test]
    fn of_the_keepalive_the_mesh_says_what_a_rule_leaves_out() {
        let (one, two) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(2)));
        let mesh = TcpKeepalive { probes: Some(9), time: one, interval: None };
        let rule = TcpKeepalive { probes: None, time: two, interval: two };
        assert_eq!(
            keepalive(Some(rule), Some(mesh)),
            Some(TcpKeepalive { probes: Some(9), time: two, interval: two })
        );
        assert_eq!(keepalive(None, Some(mesh)), Some(mesh));
        assert_eq!(keepalive(Some(rule), None), Some(rule));
    }

    #[test]
    fn clusters_without_such_settings_share_one_policy() {
        let limits = ConnectionPool { max_connections: Some(7), ..ConnectionPool::default() };
        let mesh = MeshSettings::new("cluster.local".parse().unwrap());
        let one = ConnectionPolicy::of(None, "HTTP", &mesh);
        assert!(Arc::ptr_eq(&one, &ConnectionPolicy::of(Some(&limits), "HTTP", &mesh)));
    }
}
