//! The policy in force towards a cluster, setting by setting, each with where it was written.

use super::{Place, written::Written};
use crate::{
    balance::{HashSource, LocalityPolicy, Policy},
    config::Origin,
    route::{AbortAnswer, Chance, Fault, Forward, PathRewrite},
    snapshot::{Cluster, UpstreamHttp},
};
use serde::Serialize;
use std::time::Duration;

/// One setting that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// The field of a DestinationRule's `trafficPolicy` by which it is set.
    pub field: &'static str,
    /// Its value, as it is written there.
    pub value: String,
    /// Where it was written; `None` is a default.
    pub source: Option<Place>,
}

/// Returns what is in force towards `cluster`.
pub(super) fn of(cluster: &Cluster, written: Written<'_>) -> Vec<Effective> {
    let mut rows = Rows { all: Vec::new(), block: None, written };
    rows.on_load_balancer(cluster);
    rows.on_connection_pool(cluster);
    rows.on_outlier_detection(cluster);
    rows.block(cluster.sources.retry_budget.as_deref());
    if let Some(budget) = &cluster.retry_budget {
        let (percent, least) = (budget.percent, budget.retries_min);
        rows.add("retryBudget", format!("{percent} % of the requests, at least {least} at a time"));
    }
    rows.all
}

/// Returns what a route does to a request besides sending it on.
pub(super) fn on_the_way(fault: Option<&Fault>, forward: Option<&Forward>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(delay) = fault.and_then(|fault| fault.delay) {
        lines.push(format!("a delay of {}, {}", lasting(delay.duration), share(delay.chance)));
    }
    if let Some(abort) = fault.and_then(|fault| fault.abort) {
        let answer = match abort.answer {
            AbortAnswer::Status(status) => status.as_str().to_owned(),
            AbortAnswer::Grpc(status) => format!("gRPC status {status}"),
        };
        lines.push(format!("the answer {answer} in place of the destination's, {}", share(abort.chance)));
    }
    let Some(forward) = forward else { return lines };
    if let Some(rewrite) = &forward.rewrite {
        let path = rewrite.path.as_ref().map(|path| match path {
            PathRewrite::Prefix { with, .. } => format!("the matched prefix of the path becomes {with:?}"),
            PathRewrite::Whole(with) => format!("the path becomes {with:?}"),
            PathRewrite::Regex(_) => "what of the path a regular expression matches is replaced".to_owned(),
        });
        let authority = rewrite.authority.as_ref().map(|name| format!("the authority becomes {name:?}"));
        lines.extend(path.into_iter().chain(authority));
    }
    for mirror in &forward.mirrors {
        lines.push(format!("a copy to {}, {}", mirror.target.name, share(mirror.chance)));
    }
    lines
}

struct Rows<'a> {
    all: Vec<Effective>,
    /// Where the block at hand was written.
    block: Option<&'a Origin>,
    written: Written<'a>,
}

impl<'a> Rows<'a> {
    fn block(&mut self, block: Option<&'a Origin>) {
        self.block = block;
    }

    fn add(&mut self, field: &'static str, value: impl Into<String>) {
        let source = self.block.and_then(|block| match field.split_once('.') {
            None => Some(Place::of(block)),
            Some((_, name)) => self.written.field(block, &[&[name], deprecated(name)].concat()),
        });
        self.all.push(Effective { field, value: value.into(), source });
    }

    fn add_if(&mut self, field: &'static str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.add(field, value);
        }
    }

    fn on_load_balancer(&mut self, cluster: &'a Cluster) {
        self.block(cluster.sources.load_balancer.as_deref());
        let hashed = cluster.hash.as_deref().map_or("nothing".to_owned(), hashed);
        match cluster.endpoints.policy() {
            Policy::LeastRequest => self.add("loadBalancer.simple", "LEAST_REQUEST"),
            Policy::RoundRobin => self.add("loadBalancer.simple", "ROUND_ROBIN"),
            Policy::Random => self.add("loadBalancer.simple", "RANDOM"),
            Policy::PeakEwma => self.add("loadBalancer", "the sooner answer of two"),
            Policy::RingHash { minimum_size } => {
                let text = format!("{hashed}, on a ring of at least {minimum_size} points");
                self.add("loadBalancer.consistentHash", text);
            }
            Policy::Maglev { table_size } => {
                let text = format!("{hashed}, in a Maglev table of {} slots", table_size.get());
                self.add("loadBalancer.consistentHash", text);
            }
        }
        let warm_up = cluster
            .warm_up
            .map(|it| format!("{}, from {} % of its share", lasting(it.duration), it.minimum_percent));
        self.add_if("loadBalancer.warmup", warm_up);
        let locality = cluster.locality.as_deref().map(|policy| match policy {
            LocalityPolicy::Distribute(_) => "shares by locality",
            LocalityPolicy::Failover(_) => "the nearest first",
        });
        self.add_if("loadBalancer.localityLbSetting", locality);
    }

    fn on_connection_pool(&mut self, cluster: &'a Cluster) {
        self.block(cluster.sources.connection_pool.as_deref());
        let (limits, connection) = (&cluster.limits, &cluster.connection);
        self.add("connectionPool.tcp.connectTimeout", lasting(cluster.connect_timeout));
        self.add("connectionPool.tcp.maxConnections", bound(limits.connections_max));
        self.add_if("connectionPool.tcp.maxConnectionDuration", connection.age_max.map(lasting));
        let probes = connection.tcp_keepalive.map(|it| {
            let count = it.probes.map_or(SYSTEM.to_owned(), |probes| probes.to_string());
            format!("time {}, interval {}, probes {count}", or_system(it.time), or_system(it.interval))
        });
        self.add_if("connectionPool.tcp.tcpKeepalive", probes);
        self.add("connectionPool.http.http1MaxPendingRequests", bound(limits.pending_max));
        self.add("connectionPool.http.http2MaxRequests", bound(limits.requests_max));
        self.add("connectionPool.http.maxRetries", bound(limits.retries_max));
        self.add("connectionPool.http.idleTimeout", lasting(cluster.idle_timeout));
        let requests = cluster.max_requests_per_connection;
        self.add_if(
            "connectionPool.http.maxRequestsPerConnection",
            (requests > 0).then(|| requests.to_string()),
        );
        let http = match connection.http {
            UpstreamHttp::Any => None,
            UpstreamHttp::Http1 => Some("DO_NOT_UPGRADE"),
            UpstreamHttp::Http2 => Some("UPGRADE"),
            UpstreamHttp::AsRequested => {
                self.add("connectionPool.http.useClientProtocol", "true");
                None
            }
        };
        self.add_if("connectionPool.http.h2UpgradePolicy", http);
        let streams = connection.streams_max.map(|most| most.to_string());
        self.add_if("connectionPool.http.maxConcurrentStreams", streams);
        let pings = connection.http2_keep_alive.map(|it| {
            let or_client = |time: Option<Duration>| time.map_or("the client's".to_owned(), lasting);
            format!("interval {}, timeout {}", or_client(it.interval), or_client(it.timeout))
        });
        self.add_if("connectionPool.http.http2KeepAlive", pings);
    }

    fn on_outlier_detection(&mut self, cluster: &'a Cluster) {
        self.block(cluster.sources.outlier_detection.as_deref());
        let Some(policy) = &cluster.outlier else { return self.add("outlierDetection", "off") };
        self.add("outlierDetection.consecutive5xxErrors", count(policy.consecutive_5xx));
        self.add("outlierDetection.consecutiveGatewayErrors", count(policy.consecutive_gateway));
        self.add("outlierDetection.baseEjectionTime", lasting(policy.base_ejection_time));
        let one = if policy.always_eject_one { ", and one in any case: mesh/alwaysEjectOneHost" } else { "" };
        self.add("outlierDetection.maxEjectionPercent", format!("{} %{one}", policy.max_ejection_percent));
        self.add("outlierDetection.minHealthPercent", format!("{} %", policy.min_health_percent));
    }
}

/// Returns the older names of a field.
fn deprecated(name: &str) -> &'static [&'static str] {
    match name {
        "consecutive5xxErrors" => &["consecutiveErrors"],
        "warmup" => &["warmupDurationSecs"],
        _ => &[],
    }
}

fn hashed(source: &HashSource) -> String {
    match source {
        HashSource::Header(name) => format!("header {name}"),
        HashSource::Cookie(cookie) => format!("cookie {}", cookie.name),
        HashSource::SourceAddress => "the address of the caller".to_owned(),
        HashSource::QueryParameter(name) => format!("query parameter {name}"),
    }
}

fn share(chance: Chance) -> String {
    match chance {
        Chance::ALWAYS => "for every request".to_owned(),
        chance => format!("for {} % of the requests", chance.percent()),
    }
}

fn bound(limit: u32) -> String {
    if limit == u32::MAX { "no limit".to_owned() } else { limit.to_string() }
}

fn count(number: u32) -> String {
    if number == 0 { "off".to_owned() } else { number.to_string() }
}

fn lasting(duration: Duration) -> String {
    format!("{duration:?}")
}

fn or_system(time: Option<Duration>) -> String {
    time.map_or(SYSTEM.to_owned(), lasting)
}

const SYSTEM: &str = "the system's";
