//! What the workloads behind a cluster make of what comes in: the other end of a call, for whoever explains one. No
//! request depends on it.

use super::{Cluster, Inbound, MeshSettings, Scope, Viewer, inbound, index::Index, view::View};
use crate::{
    balance::{Endpoint, Security},
    config::{Resource, Spec, istio::EntryLocation},
    health::States,
    registry::full_host,
};
use std::{collections::BTreeMap, sync::Arc};

/// Endpoints that are alike: they have the same labels and port, and are called in the same way.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Their labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The port they listen at; of a service without endpoints, that of the service.
    pub port: u16,
    /// How many there are; 0 where no endpoint is known, and one with the labels that are selected stands for them.
    pub count: usize,
    /// How the caller calls them; `None` where no endpoint is known.
    pub security: Option<Security>,
    /// What they let in.
    pub inbound: Inbound,
}

/// Returns who is reached by calls to `cluster`; nobody outside of the mesh.
pub fn reached(resources: &[Arc<Resource>], settings: &MeshSettings, cluster: &Cluster) -> Vec<Reached> {
    let (settings, _) = settings.of(resources);
    let viewer = |labels: &BTreeMap<String, String>| Viewer {
        namespace: cluster.namespace.to_string(),
        service: Some(cluster.host.to_string()),
        labels: labels.clone(),
    };
    let nobody = viewer(&BTreeMap::new());
    let index = Index::of(resources, &nobody, &settings, Scope::default());
    let view = View::new(&index, &nobody, &settings);
    if !index.registry.get(&cluster.host).is_some_and(|it| it.location == EntryLocation::MeshInternal) {
        return Vec::new();
    }
    let mut reached = groups(cluster.endpoints.as_slice());
    if reached.is_empty() {
        reached.push(stand_in(&view, cluster));
    }
    // Of their own: nobody fetches keys for whom is only explained.
    let states = States::default();
    for group in &mut reached {
        group.inbound = inbound::compile(&View::new(&index, &viewer(&group.labels), &settings), &states);
    }
    reached
}

fn groups(endpoints: &[Endpoint]) -> Vec<Reached> {
    let mut groups: Vec<Reached> = Vec::new();
    for endpoint in endpoints {
        let port = endpoint.address.port();
        let alike = |group: &&mut Reached| {
            group.port == port
                && group.labels == endpoint.labels
                && group.security.as_ref() == Some(&endpoint.security)
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.count += 1,
            None => groups.push(Reached {
                labels: Arc::clone(&endpoint.labels),
                port,
                count: 1,
                security: Some(endpoint.security.clone()),
                inbound: Inbound::default(),
            }),
        }
    }
    groups
}

/// Returns a workload with the labels that the Service and the subset select.
fn stand_in(view: &View<'_>, cluster: &Cluster) -> Reached {
    let service = view.registry.get(&cluster.host);
    let mut labels = BTreeMap::new();
    for resource in view.resources {
        let host = || full_host(&resource.key.name, &resource.key.namespace, &view.settings.domain);
        if let Spec::Service(service) = &resource.spec
            && *host() == *cluster.host
        {
            labels.extend(service.selector.clone());
        }
    }
    for rule in service.map(|service| view.destination_rules(service)).unwrap_or_default() {
        let subset = rule.spec.subsets.iter().find(|subset| *subset.name.value == *cluster.subset);
        labels.extend(subset.into_iter().flat_map(|subset| subset.labels.clone()));
    }
    let port = service.and_then(|it| it.ports.iter().find(|port| port.number == cluster.port));
    let port = port.map_or(cluster.port, |port| port.target_number());
    Reached { labels: Arc::new(labels), port, count: 0, security: None, inbound: Inbound::default() }
}
