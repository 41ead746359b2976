//! Counters and histograms with handles resolved before a request comes; Prometheus text on the admin listener.
//!
//! Recording an answer takes two atomic additions: no lock, no allocation but for the first answer of its kind. Nothing
//! an unauthenticated peer sends becomes a label.

mod clusters;
mod decisions;
mod gates;
mod histogram;
mod requests;
mod text;

pub use decisions::PolicyOutcome;
pub use gates::{Gate, GateReading};
pub use requests::RequestMetrics;

use crate::{
    identity::{IdentityStore, Side},
    progress::{Progress, Readiness},
    settings::Settings,
};
use decisions::Decisions;
use gates::Gates;
use mesh_core::{
    authenticate::TokenFault,
    config::Origin,
    identity::SpiffeId,
    snapshot::{Cluster, Snapshot},
    time::Time,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use text::{Labels, Text};

/// The recorder of one workload.
#[derive(Debug)]
pub struct Telemetry {
    own: Own,
    outbound: Handles,
    inbound: Handles,
    gates: Gates,
    /// By side and reason; reasons are words of the code, so there are few.
    refused: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    decisions: Decisions,
}

/// What this workload is called in labels.
#[derive(Clone, Debug)]
struct Own {
    workload: String,
    namespace: String,
    app: String,
    version: String,
}

impl Telemetry {
    /// Returns a recorder for the workload that `settings` describe.
    pub fn new(settings: &Settings) -> Self {
        let label = |name: &str| settings.labels.get(name).cloned().unwrap_or_else(|| UNKNOWN.to_owned());
        let own = Own {
            workload: settings.service.clone(),
            namespace: settings.namespace.clone(),
            app: label("app"),
            version: label("version"),
        };
        Self {
            own,
            outbound: Handles::new(CLUSTERS_MAX),
            inbound: Handles::new(PEERS_MAX),
            gates: Gates::default(),
            refused: Mutex::default(),
            decisions: Decisions::default(),
        }
    }

    /// Returns the handle for requests to `cluster`; to be resolved once per cluster and snapshot, and kept.
    pub fn client(&self, cluster: &Cluster) -> Arc<RequestMetrics> {
        self.outbound.resolve(|| self.own.outbound(cluster), || self.own.outbound_overflow())
    }

    /// Returns the handle for requests from `peer`; to be resolved once per connection, and kept.
    pub fn server(&self, peer: Option<&SpiffeId>) -> Arc<RequestMetrics> {
        self.inbound.resolve(|| self.own.inbound(peer), || self.own.inbound_overflow())
    }

    /// Shows what stands at `gate` for as long as that is there.
    pub fn on_gate(&self, gate: Weak<dyn Gate>) {
        self.gates.add(gate);
    }

    /// Counts a handshake that was refused; `side` is the side the peer was on, `reason` a word of the refusing code.
    pub fn on_handshake_refused(&self, side: Side, reason: &'static str) {
        let peer = match side {
            Side::Client => "client",
            Side::Server => "server",
        };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry((peer, reason)).or_default() += 1;
    }

    /// Counts a request that policy let through.
    pub fn on_allowed(&self) {
        self.decisions.on_allowed();
    }

    /// Counts a request that the policies on trial would have let through.
    pub fn on_allowed_on_trial(&self) {
        self.decisions.on_allowed_on_trial();
    }

    /// Counts what else came of asking the policies, under the one that it rests on.
    pub fn on_policy(&self, outcome: PolicyOutcome, policy: Option<&Origin>) {
        self.decisions.on_outcome(outcome, policy);
    }

    /// Counts a request whose token is not good.
    pub fn on_token_refused(&self, fault: TokenFault) {
        self.decisions.on_token_refused(fault);
    }

    /// Returns everything recorded, and the state of the workload and of what it calls by `snapshot`, in Prometheus's text
    /// format.
    // spec: prometheus docs/instrumenting/exposition_formats, version 0.0.4
    pub(crate) fn render(
        &self,
        progress: &Progress,
        identity: &IdentityStore,
        snapshot: &Snapshot,
        now: Time,
    ) -> String {
        let mut text = Text::default();
        let sides = [&self.outbound, &self.inbound].map(Handles::all);
        let handles: Vec<_> = sides.iter().flatten().collect();
        text.family(
            "istio_requests_total",
            "counter",
            "Requests, by who sent them to whom and how they ended.",
        );
        handles.iter().for_each(|handle| handle.render_totals(&mut text));
        text.family(
            "istio_request_duration_milliseconds",
            "histogram",
            "From a request to the end of its answer.",
        );
        handles.iter().for_each(|handle| handle.render_durations(&mut text));
        text.family(
            "mesh_handshakes_refused_total",
            "counter",
            "TLS handshakes refused, by the peer's side.",
        );
        for (&(peer, reason), &count) in self.refused.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            text.sample(&Labels::new().with("peer", peer).with("reason", reason), count);
        }
        self.decisions.render(&mut text);
        self.gates.render(&mut text);
        clusters::render(&mut text, snapshot, now);
        render_state(&mut text, progress, identity);
        text.finish()
    }
}

fn render_state(text: &mut Text, progress: &Progress, identity: &IdentityStore) {
    let facts = progress.facts();
    text.family("mesh_ready", "gauge", "1 if this workload is ready.");
    text.sample(&Labels::new(), u64::from(progress.readiness() == Readiness::Ready));
    if let Some(in_force) = &facts.in_force {
        text.family("mesh_config_info", "gauge", "The version of the configuration in force.");
        text.sample(&Labels::new().with("version", &in_force.version), 1);
        text.family("mesh_config_age_seconds", "gauge", "For how long it has been in force.");
        text.sample(&Labels::new(), in_force.since.elapsed().as_secs());
        text.family("mesh_config_rejections", "gauge", "Findings about objects not in force as written.");
        text.sample(&Labels::new(), in_force.rejected().count());
        let stale = in_force.from_cache || facts.config_trouble.is_some();
        text.family("mesh_config_stale", "gauge", "1 if the source does not confirm what is in force.");
        text.sample(&Labels::new(), u64::from(stale));
    }
    if let Some(current) = identity.current() {
        let left = current.svid.not_after().duration_since(identity.clock().now()).unwrap_or_default();
        text.family("mesh_certificate_expires_in_seconds", "gauge", "Time left to the own certificate.");
        text.sample(&Labels::new(), left.as_secs());
    }
}

/// The handles of one side, by their labels. The lock is taken when a handle is resolved, not when it is used.
#[derive(Debug)]
struct Handles {
    known: Mutex<BTreeMap<Labels, Arc<RequestMetrics>>>,
    max: usize,
}

impl Handles {
    fn new(max: usize) -> Self {
        Self { known: Mutex::default(), max }
    }

    /// Returns the handle for `labels`, or beyond the bound the one for `overflow`, after those that nobody holds any
    /// more have made room.
    fn resolve(
        &self,
        labels: impl FnOnce() -> Labels,
        overflow: impl FnOnce() -> Labels,
    ) -> Arc<RequestMetrics> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut labels = labels();
        if known.len() >= self.max && !known.contains_key(&labels) {
            known.retain(|_, handle| Arc::strong_count(handle) > 1);
            if known.len() >= self.max {
                labels = overflow();
            }
        }
        let handle = known.entry(labels);
        Arc::clone(handle.or_insert_with_key(|labels| Arc::new(RequestMetrics::new(labels.clone()))))
    }

    fn all(&self) -> Vec<Arc<RequestMetrics>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

// spec: istio reference/config/metrics, labels; those that are not known here yet are left out
impl Own {
    fn outbound(&self, cluster: &Cluster) -> Labels {
        let (name, namespace) = service_name(&cluster.host);
        let mut versions = cluster.endpoints.as_slice().iter().map(|endpoint| endpoint.labels.get("version"));
        // One series per cluster: where its endpoints differ, the subset tells more than a guess.
        let first = versions.next().flatten();
        let version = first.filter(|&first| versions.all(|version| version == Some(first)));
        self.source()
            .with("destination_service", &cluster.host)
            .with("destination_service_name", name)
            .with("destination_service_namespace", namespace)
            .with("destination_version", version.map_or(UNKNOWN, String::as_str))
            .with("connection_security_policy", UNKNOWN)
    }

    fn outbound_overflow(&self) -> Labels {
        self.source().with("destination_service", OVERFLOW)
    }

    fn source(&self) -> Labels {
        Labels::new()
            .with("reporter", "source")
            .with("source_workload", &self.workload)
            .with("source_workload_namespace", &self.namespace)
            .with("source_app", &self.app)
            .with("source_version", &self.version)
    }

    fn inbound(&self, peer: Option<&SpiffeId>) -> Labels {
        let (namespace, account) = peer.and_then(SpiffeId::account).unwrap_or((UNKNOWN, UNKNOWN));
        self.destination()
            .with("source_principal", peer.map_or(UNKNOWN, SpiffeId::as_str))
            .with("source_workload", account)
            .with("source_workload_namespace", namespace)
            .with("connection_security_policy", if peer.is_some() { "mutual_tls" } else { "none" })
    }

    fn inbound_overflow(&self) -> Labels {
        self.destination().with("source_principal", OVERFLOW)
    }

    fn destination(&self) -> Labels {
        Labels::new()
            .with("reporter", "destination")
            .with("destination_workload", &self.workload)
            .with("destination_workload_namespace", &self.namespace)
            .with("destination_app", &self.app)
            .with("destination_version", &self.version)
            .with("destination_service_name", &self.workload)
            .with("destination_service_namespace", &self.namespace)
    }
}

/// Returns name and namespace of the service with this full host.
fn service_name(host: &str) -> (&str, &str) {
    let parts = host.split_once('.').and_then(|(name, rest)| Some((name, rest.split_once(".svc")?.0)));
    parts.filter(|(_, namespace)| !namespace.contains('.')).unwrap_or((host, UNKNOWN))
}

const UNKNOWN: &str = "unknown";
const OVERFLOW: &str = "overflow";
/// As many as the largest mesh this is built for has services; each costs 1 KiB until it is used.
const CLUSTERS_MAX: usize = 20_000;
/// Peers that proved who they are; a service with more callers than this wants the sum anyway.
const PEERS_MAX: usize = 1_000;

#[cfg(test)]
mod tests;
