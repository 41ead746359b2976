//! `loadBalancer`: how an endpoint is chosen.

use super::LocalitySetting;
use crate::{
    balance::{Cookie, HashSource, Policy, TableSize, WarmUp},
    config::{
        decode::{Decoder, Fields, choice, decimal, duration, flag, lasting, name, number, text},
        diagnostic::{Code, Diagnostic},
        istio::common::header_name,
        resource::At,
        tree::Node,
    },
};
use http::HeaderName;
use std::sync::Arc;

/// `loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadBalancer {
    /// `simple`, or the annotation `mesh/loadBalancer`; `None` is the default, LEAST_REQUEST.
    pub simple: Option<SimpleLb>,
    /// `consistentHash`, in place of `simple`.
    pub hash: Option<ConsistentHash>,
    /// `localityLbSetting`.
    pub locality: Option<At<LocalitySetting>>,
    /// `warmup`, or the deprecated `warmupDurationSecs`.
    pub warm_up: Option<WarmUp>,
}

/// `loadBalancer.consistentHash`: requests with the same hash go to the same endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistentHash {
    /// What is hashed. A request without it goes to any endpoint.
    pub source: Arc<HashSource>,
    /// [`Policy::RingHash`] or [`Policy::Maglev`].
    pub policy: Policy,
}

/// `loadBalancer.simple`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SimpleLb {
    /// Two random endpoints, the less loaded one (also `LEAST_CONN`).
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The address the caller asked for.
    Passthrough,
    /// Two random endpoints, the one that answers sooner: by annotation only, Istio has no word for it.
    PeakEwma,
}

impl LoadBalancer {
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let simple = fields.get("simple", read_simple);
        let hash = fields.get("consistentHash", read_hash);
        exclude(&mut fields, &["simple", "consistentHash"]);
        let locality = fields.get("localityLbSetting", |decoder, node| {
            Some(At { value: LocalitySetting::read(decoder, node)?, at: node.at })
        });
        let warm_up = read_either_warm_up(&mut fields);
        if warm_up.is_some() && (hash.is_some() || !simple.unwrap_or_default().warms_up()) {
            let message = "new endpoints are warmed up only by LEAST_REQUEST and ROUND_ROBIN: here they get their \
                           full share at once";
            let name = if fields.has("warmup") { "warmup" } else { "warmupDurationSecs" };
            fields.find(name, Diagnostic::warning(Code::INEFFECTIVE_POLICY, message));
        }
        fields.no_effect(&[(
            "zoneAwareLbSetting",
            "how many callers each zone has is not known here; localityLbSetting prefers the own zone",
        )]);
        fields.finish();
        Some(Self { simple, hash: hash.flatten(), locality, warm_up })
    }
}

impl SimpleLb {
    // spec: envoy intro/arch_overview/upstream/load_balancing/slow_start
    const fn warms_up(self) -> bool {
        matches!(self, Self::LeastRequest | Self::RoundRobin)
    }
}

fn read_simple(decoder: &mut Decoder<'_>, node: &Node) -> Option<SimpleLb> {
    let chosen = choice(decoder, node, SIMPLE)?;
    if node.as_text() == Some("LEAST_CONN") {
        let finding = Diagnostic::warning(Code::DEPRECATED, "LEAST_CONN is deprecated");
        decoder.find(node.at, finding.help("write LEAST_REQUEST, which is the same"));
    }
    Some(chosen)
}

const SIMPLE: &[(&str, SimpleLb)] = &[
    ("LEAST_REQUEST", SimpleLb::LeastRequest),
    ("ROUND_ROBIN", SimpleLb::RoundRobin),
    ("RANDOM", SimpleLb::Random),
    ("PASSTHROUGH", SimpleLb::Passthrough),
    ("LEAST_CONN", SimpleLb::LeastRequest),
    ("UNSPECIFIED", SimpleLb::LeastRequest),
];

/// Reads `consistentHash`; without a key there is nothing to hash.
fn read_hash<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Option<ConsistentHash>> {
    let mut fields = decoder.fields(node)?;
    let source = read_source(&mut fields);
    let policy = read_table(&mut fields);
    if !KEYS.iter().any(|name| fields.has(name)) {
        let message = "there is no key to hash: each request is sent to any endpoint";
        let help = format!("write one of {}", KEYS.join(", "));
        let at = fields.at;
        fields.decoder.find(at, Diagnostic::warning(Code::INEFFECTIVE_POLICY, message).help(help));
    }
    fields.finish();
    Some(source.map(|source| ConsistentHash { source: Arc::new(source), policy }))
}

fn read_source(fields: &mut Fields<'_, '_>) -> Option<HashSource> {
    let header = fields.get("httpHeaderName", read_header).map(HashSource::Header);
    let cookie = fields.get("httpCookie", read_cookie).map(HashSource::Cookie);
    let query = fields.get("httpQueryParameterName", name).map(HashSource::QueryParameter);
    let source = fields.get("useSourceIp", flag).and_then(|used| used.then_some(HashSource::SourceAddress));
    exclude(fields, KEYS);
    if source.is_some() {
        let message =
            "every request of a process has the same source address: all of them go to one endpoint";
        let finding = Diagnostic::warning(Code::INEFFECTIVE_POLICY, message);
        fields.find("useSourceIp", finding.help("hash a header, a cookie or a query parameter"));
    }
    header.or(cookie).or(query).or(source)
}

const KEYS: &[&str] = &["httpHeaderName", "httpCookie", "httpQueryParameterName", "useSourceIp"];

fn read_header(decoder: &mut Decoder<'_>, node: &Node) -> Option<HeaderName> {
    let written = name(decoder, node)?;
    HeaderName::try_from(header_name(decoder, &written, node.at)?).ok()
}

fn read_cookie<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Cookie> {
    let mut fields = decoder.fields(node)?;
    let name = fields.require("name", name);
    let path = fields.get("path", text).unwrap_or_default();
    let ttl = fields.get("ttl", duration);
    let attributes = fields.list("attributes", read_attribute);
    fields.finish();
    Some(Cookie { name: name?, path, ttl, attributes })
}

fn read_attribute<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<(String, String)> {
    let mut fields = decoder.fields(node)?;
    let name = fields.require("name", name);
    let value = fields.get("value", text).unwrap_or_default();
    fields.finish();
    Some((name?, value))
}

fn read_table(fields: &mut Fields<'_, '_>) -> Policy {
    let deprecated = fields.get("minimumRingSize", ring_size);
    fields.deprecated("minimumRingSize", "ringHash: {minimumRingSize: ...}");
    let ring = fields.get("ringHash", |decoder, node| {
        let mut fields = decoder.fields(node)?;
        let size = fields.get("minimumRingSize", ring_size);
        fields.finish();
        Some(ring_of(size.unwrap_or(0)))
    });
    let maglev = fields.get("maglev", |decoder, node| {
        let mut fields = decoder.fields(node)?;
        let table_size = fields.get("tableSize", maglev_size).unwrap_or_default();
        fields.finish();
        Some(Policy::Maglev { table_size })
    });
    exclude(fields, &["minimumRingSize", "ringHash", "maglev"]);
    maglev.or(ring).unwrap_or_else(|| ring_of(deprecated.unwrap_or(0)))
}

/// Zero is the default, as under Istio.
fn ring_of(minimum_size: u64) -> Policy {
    Policy::RingHash { minimum_size: if minimum_size == 0 { RING_SIZE } else { minimum_size } }
}

fn ring_size(decoder: &mut Decoder<'_>, node: &Node) -> Option<u64> {
    number(decoder, node, 0, RING_SIZE_MAX).map(u64::from)
}

fn maglev_size(decoder: &mut Decoder<'_>, node: &Node) -> Option<TableSize> {
    let slots = number(decoder, node, 1, MAGLEV_SIZE_MAX)?;
    let size = TableSize::new(slots.into());
    if size.is_none() {
        let finding = Diagnostic::error(Code::SCHEMA, format!("{slots} is not a prime number"));
        let default = TableSize::DEFAULT.get();
        decoder.find(node.at, finding.help(format!("write a prime, such as the default {default}")));
    }
    size
}

/// Reads `warmup`, else `warmupDurationSecs`.
fn read_either_warm_up(fields: &mut Fields<'_, '_>) -> Option<WarmUp> {
    let warm_up = fields.get("warmup", read_warm_up);
    let deprecated = fields.get("warmupDurationSecs", lasting);
    fields.deprecated("warmupDurationSecs", "warmup: {duration: ...}");
    warm_up.or(deprecated.map(WarmUp::new))
}

fn read_warm_up<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<WarmUp> {
    let mut fields = decoder.fields(node)?;
    let duration = fields.require("duration", lasting);
    let minimum_percent = fields.get("minimumPercent", |decoder, node| decimal(decoder, node, 0.0, 100.0));
    let aggression = fields.get("aggression", |decoder, node| decimal(decoder, node, 1.0, f64::MAX));
    fields.finish();
    let default = WarmUp::new(duration?);
    Some(WarmUp {
        minimum_percent: minimum_percent.unwrap_or(default.minimum_percent),
        aggression: aggression.unwrap_or(default.aggression),
        ..default
    })
}

/// Refuses the second one of `names` that is there.
fn exclude(fields: &mut Fields<'_, '_>, names: &[&'static str]) {
    let mut written = names.iter().copied().filter(|name| fields.has(name));
    if let (Some(first), Some(second)) = (written.next(), written.next()) {
        fields.refuse(second, format!("{first} and {second} exclude each other"));
    }
}

/// Envoy's bound: a larger ring costs memory and spreads no better.
// spec: envoy config/cluster/v3/cluster.proto RingHashLbConfig.minimum_ring_size
const RING_SIZE_MAX: u32 = 8_388_608;
// spec: istio pilot/pkg/networking/core/cluster_traffic_policy.go ApplyRingHashLoadBalancer
const RING_SIZE: u64 = 1024;
// spec: istio pkg/config/validation validateLoadBalancer: less than 5000011
const MAGLEV_SIZE_MAX: u32 = 5_000_010;
