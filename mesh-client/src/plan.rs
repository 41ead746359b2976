//! A snapshot with the connections to its endpoints beside it: what one request reads, once.
//!
//! The plan is rebuilt when the snapshot changes; the pools are not: they are found again by what they connect to.

use crate::pool::{Key, Pool, Pools, Protocol, Terms};
use arc_swap::ArcSwap;
use http::Version;
use mesh_core::{
    balance::Security,
    registry::Address,
    route::ClusterId,
    snapshot::{Cluster, Snapshot, UpstreamHttp},
};
use mesh_runtime::{
    config::ConfigStore,
    telemetry::{RequestMetrics, Telemetry},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// A snapshot and the pools of its endpoints, filled in as they are used.
pub(crate) struct Plan {
    snapshot: Arc<Snapshot>,
    clusters: Box<[OnceLock<Connections>]>,
    telemetry: Arc<Telemetry>,
}

/// The connections of one cluster.
pub(crate) struct Connections {
    pub(crate) terms: Terms,
    pub(crate) metrics: Arc<RequestMetrics>,
    slots: Box<[Slot]>,
}

/// The pool of one endpoint, once somebody has sent to it.
pub(crate) struct Slot {
    /// `IP:PORT`.
    pub(crate) label: Arc<str>,
    pool: OnceLock<Arc<Pool>>,
    /// The one for requests of HTTP/2, where each is sent on in its own version.
    http2: OnceLock<Arc<Pool>>,
}

/// The plan in force.
pub(crate) struct Plans {
    current: ArcSwap<Plan>,
    rebuilding: Mutex<()>,
    config: Arc<ConfigStore>,
    pub(crate) pools: Pools,
}

impl Plan {
    fn of(snapshot: Arc<Snapshot>, telemetry: Arc<Telemetry>) -> Self {
        let clusters = (0..snapshot.cluster_numbers()).map(|_| OnceLock::new()).collect();
        Self { snapshot, clusters, telemetry }
    }

    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Returns the connections of cluster `id`.
    pub(crate) fn connections(&self, id: ClusterId) -> &Connections {
        self.clusters[id.0 as usize].get_or_init(|| {
            let cluster = self.snapshot.cluster(id);
            let slot = |address: &Address| Slot {
                label: address.to_string().into(),
                pool: OnceLock::new(),
                http2: OnceLock::new(),
            };
            let slots = cluster.endpoints.as_slice().iter().map(|it| slot(&it.address)).collect();
            Connections { terms: Terms::of(cluster), metrics: self.telemetry.client(cluster), slots }
        })
    }

    /// Returns the pool of endpoint `index` of cluster `id` for a request of this version.
    pub(crate) fn pool(&self, id: ClusterId, index: usize, version: Version, pools: &Pools) -> &Arc<Pool> {
        let (slot, cluster) = (&self.connections(id).slots[index], self.snapshot.cluster(id));
        let http = cluster.connection.http;
        let apart = http == UpstreamHttp::AsRequested && version == Version::HTTP_2;
        let place = if apart { &slot.http2 } else { &slot.pool };
        place.get_or_init(|| {
            let endpoint = &cluster.endpoints.as_slice()[index];
            pools.get(Key {
                cluster: Arc::clone(&cluster.name),
                address: endpoint.address.clone(),
                security: endpoint.security.clone(),
                protocol: pools.connector.protocol.under(http, version),
            })
        })
    }

    /// Keeps the pools whose endpoint is still in the snapshot, with the same security; drains the others.
    fn keep(&self, pools: &Pools) {
        if pools.is_empty() {
            return;
        }
        let clusters: HashMap<&str, _> =
            self.snapshot.clusters().map(|cluster| (&*cluster.name, cluster)).collect();
        let mut known: HashMap<&str, HashMap<&Address, &Security>> = HashMap::new();
        pools.retain(|key| {
            let Some((name, cluster)) = clusters.get_key_value(&*key.cluster) else { return false };
            let endpoints = known.entry(name).or_insert_with(|| {
                cluster.endpoints.as_slice().iter().map(|it| (&it.address, &it.security)).collect()
            });
            speaks(cluster, key.protocol, pools.connector.protocol)
                && endpoints.get(&key.address).is_some_and(|security| **security == key.security)
        });
    }
}

/// Returns whether some request to `cluster` is sent by `protocol`, if the client is set to `set`.
fn speaks(cluster: &Cluster, protocol: Protocol, set: Protocol) -> bool {
    let versions = [Version::HTTP_11, Version::HTTP_2];
    versions.into_iter().any(|version| set.under(cluster.connection.http, version) == protocol)
}

impl Connections {
    /// Returns the slot of endpoint `index`.
    pub(crate) fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }
}

impl Plans {
    pub(crate) fn new(config: Arc<ConfigStore>, telemetry: Arc<Telemetry>, pools: Pools) -> Self {
        let plan = Plan::of(config.current(), telemetry);
        Self { current: ArcSwap::from_pointee(plan), rebuilding: Mutex::new(()), config, pools }
    }

    /// Returns the plan of the snapshot in force. A request calls this once and keeps what it got.
    pub(crate) fn current(&self) -> Arc<Plan> {
        let plan = self.current.load_full();
        if self.config.is_current(&plan.snapshot) { plan } else { self.rebuild() }
    }

    /// Once per reload; those who come meanwhile wait, so that nobody who calls after a reload is routed by the old one.
    fn rebuild(&self) -> Arc<Plan> {
        let _one_at_a_time = self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = self.current.load_full();
        let snapshot = self.config.current();
        if Arc::ptr_eq(&plan.snapshot, &snapshot) {
            return plan;
        }
        let plan = Arc::new(Plan::of(snapshot, Arc::clone(&plan.telemetry)));
        self.current.store(Arc::clone(&plan));
        plan.keep(&self.pools);
        plan
    }

    /// Drops what is no longer used: pools of endpoints that left, connections that were idle for too long.
    pub(crate) fn sweep(&self) {
        let plan = self.current();
        if self.pools.take_unchecked() {
            plan.keep(&self.pools);
        }
        self.pools.sweep();
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("version", self.snapshot.version()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Plans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plans").field("current", &*self.current.load()).field("pools", &self.pools).finish()
    }
}
