//! The clusters in use and their numbers, kept from one snapshot to the next.

use super::Clusters;
use crate::{
    config::Diagnostic,
    health::States,
    registry::Service,
    route::ClusterId,
    snapshot::{Cluster, cluster_table::ClusterTable, view::View},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Every cluster that is in use, kept from one snapshot to the next.
#[derive(Debug)]
pub(in crate::snapshot) struct ClusterStore {
    pub(in crate::snapshot) table: ClusterTable,
    /// By host.
    numbers: HashMap<Arc<str>, Vec<Numbered>>,
    /// By number: how many hosts' routes lead there.
    uses: Vec<u32>,
    /// Numbers whose uses have changed.
    recounted: Vec<ClusterId>,
    free: Vec<ClusterId>,
    /// What was found about a cluster when it was built.
    findings: BTreeMap<ClusterId, Vec<Diagnostic>>,
    /// What stands where a number is free.
    vacant: Arc<Cluster>,
}

/// The number of one cluster of a host.
#[derive(Debug)]
struct Numbered {
    port: u16,
    subset: Arc<str>,
    id: ClusterId,
}

impl ClusterStore {
    pub(in crate::snapshot) fn new() -> Self {
        Self {
            table: ClusterTable::default(),
            numbers: HashMap::new(),
            uses: Vec::new(),
            recounted: Vec::new(),
            free: Vec::new(),
            findings: BTreeMap::new(),
            vacant: Arc::new(Cluster::vacant()),
        }
    }

    /// Builds the clusters of `host` again, because its service, its rules or its endpoints changed.
    ///
    /// What cannot be built any more has no number from now on; the routes that led there are compiled again too.
    pub(in crate::snapshot) fn refresh(&mut self, view: View<'_>, states: &States, host: &str) {
        let Some(known) = self.numbers.remove(host) else { return };
        // A host that has become another name has no clusters of its own any more.
        let service = view.registry.get(host).filter(|service| *service.host == *host);
        let mut kept = Vec::new();
        for numbered in known {
            let mut clusters = Clusters::new(view, states, self);
            let build = |service: &Arc<Service>| clusters.build(service, numbered.port, &numbered.subset);
            if let Some(cluster) = service.and_then(build) {
                let findings = clusters.about_cluster;
                self.put(numbered.id, cluster, findings);
                kept.push(numbered);
            }
        }
        if !kept.is_empty() {
            self.numbers.insert(host.into(), kept);
        }
    }

    /// Counts the uses of a host's routes, or takes them back.
    pub(in crate::snapshot) fn count(&mut self, used: &[ClusterId], change: fn(u32, u32) -> u32) {
        for id in used {
            if let Some(uses) = self.uses.get_mut(id.0 as usize) {
                *uses = change(*uses, 1);
            }
            self.recounted.push(*id);
        }
    }

    /// Frees the numbers that nothing leads to any more.
    pub(in crate::snapshot) fn free_unused(&mut self) {
        for id in std::mem::take(&mut self.recounted) {
            let unused = self.uses.get(id.0 as usize) == Some(&0);
            let cluster = Arc::clone(self.table.get(id));
            if !unused || Arc::ptr_eq(&cluster, &self.vacant) {
                continue;
            }
            if let Some(known) = self.numbers.get_mut(&cluster.host) {
                known.retain(|other| other.id != id);
                if known.is_empty() {
                    self.numbers.remove(&cluster.host);
                }
            }
            self.findings.remove(&id);
            self.table.replace(id, Arc::clone(&self.vacant));
            self.free.push(id);
        }
    }

    pub(in crate::snapshot) fn findings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.findings.values().flatten()
    }

    pub(super) fn number(&self, host: &str, port: u16, subset: &str) -> Option<ClusterId> {
        let known = self.numbers.get(host)?;
        let found = known.iter().find(|other| other.port == port && *other.subset == *subset);
        found.map(|found| found.id)
    }

    pub(super) fn add(&mut self, cluster: Cluster, findings: Vec<Diagnostic>) -> Option<ClusterId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let id = ClusterId(u32::try_from(self.table.len()).ok()?);
                self.table.push(Arc::clone(&self.vacant));
                self.uses.push(0);
                id
            }
        };
        let known = self.numbers.entry(Arc::clone(&cluster.host)).or_default();
        known.push(Numbered { port: cluster.port, subset: Arc::clone(&cluster.subset), id });
        self.put(id, cluster, findings);
        Some(id)
    }

    fn put(&mut self, id: ClusterId, cluster: Cluster, findings: Vec<Diagnostic>) {
        self.table.replace(id, Arc::new(cluster));
        match findings.is_empty() {
            true => drop(self.findings.remove(&id)),
            false => drop(self.findings.insert(id, findings)),
        }
    }
}
