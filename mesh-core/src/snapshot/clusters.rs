//! Services become clusters: one per service port and subset that something refers to, numbered as they are met.
//!
//! A number stays that of its cluster as long as anything refers to it, so that a change of a cluster leaves the routes
//! that lead there alone.

mod security;
mod store;

pub(super) use store::ClusterStore;

use super::{
    Cluster, passthrough,
    policy::Blocks,
    view::{Typed, View, carries},
};
use crate::{
    balance::{Endpoint, EndpointSet, Mutual, Nearness, SetPolicy},
    config::{
        Code, Diagnostic, Level, Origin,
        istio::{DestinationRule, Subset},
    },
    health::States,
    registry::{Instance, Locality, Port, Service},
    route::ClusterId,
};
use std::{collections::BTreeSet, sync::Arc};

/// The clusters that the routes of one host lead to, as they are compiled.
pub(super) struct Clusters<'a, 's> {
    view: View<'a>,
    states: &'s States,
    store: &'s mut ClusterStore,
    used: BTreeSet<ClusterId>,
    depends: BTreeSet<Arc<str>>,
    last: Option<Arc<Mutual>>,
    /// About the cluster being built.
    about_cluster: Vec<Diagnostic>,
    findings: Vec<Diagnostic>,
}

/// A cluster about to be built.
struct Plan<'a> {
    service: &'a Service,
    port: &'a Port,
    subset: Option<&'a Subset>,
    rule: Option<Typed<'a, DestinationRule>>,
    blocks: Blocks<'a>,
}

impl<'a, 's> Clusters<'a, 's> {
    pub(super) fn new(view: View<'a>, states: &'s States, store: &'s mut ClusterStore) -> Self {
        Self {
            view,
            states,
            store,
            used: BTreeSet::new(),
            depends: BTreeSet::new(),
            last: None,
            about_cluster: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Returns which clusters were used, what was looked at, and what was found.
    pub(super) fn finish(self) -> (Vec<ClusterId>, Vec<Arc<str>>, Vec<Diagnostic>) {
        (self.used.into_iter().collect(), self.depends.into_iter().collect(), self.findings)
    }

    /// Notes that what is compiled depends on `name`, a host or an object.
    pub(super) fn depend(&mut self, name: &Arc<str>) {
        if !self.depends.contains(name) {
            self.depends.insert(Arc::clone(name));
        }
    }

    /// Returns the service with this full host, if it is exported to this workload; on it what is compiled then depends,
    /// known or not.
    // spec: istio pilot/pkg/model/sidecar.go: a Sidecar imports the destinations of its rules, and what is not exported has no cluster
    pub(super) fn service(&mut self, host: &Arc<str>) -> Option<&'a Arc<Service>> {
        self.depend(host);
        self.view.destination(host)
    }

    /// Returns the cluster of `subset` (or of the whole service, if it is empty) at service port `port`, built on first
    /// use; `None` if the port or the subset does not exist.
    pub(super) fn number(&mut self, service: &Service, port: u16, subset: &str) -> Option<ClusterId> {
        // It may have been asked for by another name.
        self.depend(&service.host);
        let id = match self.store.number(&service.host, port, subset) {
            Some(known) => known,
            None => {
                let cluster = self.build(service, port, subset)?;
                let findings = std::mem::take(&mut self.about_cluster);
                self.store.add(cluster, findings)?
            }
        };
        self.used.insert(id);
        Some(id)
    }

    /// Returns cluster number `id` of those built so far.
    pub(super) fn get(&self, id: ClusterId) -> &Cluster {
        self.store.table.get(id)
    }

    fn build(&mut self, service: &Service, port: u16, subset: &str) -> Option<Cluster> {
        let port = service.ports.iter().find(|known| known.number == port)?;
        let rules = self.view.destination_rules(service);
        let subset = match subset {
            "" => None,
            name => Some(rules.iter().find_map(|rule| {
                let subset = rule.spec.subsets.iter().find(|known| known.name.value == name)?;
                Some((subset, &**rule.resource))
            })?),
        };
        let rule = rules.iter().find(|rule| rule.spec.traffic_policy.is_some()).or(rules.first()).copied();
        let mut blocks = Blocks::default();
        if let Some(rule) = rule {
            blocks = blocks.under(rule.spec.traffic_policy.as_ref(), rule.resource, port.number);
        }
        if let Some((subset, resource)) = subset {
            blocks = blocks.under(subset.traffic_policy.as_ref(), resource, port.number);
        }
        let blocks = blocks.above_mesh(self.view.settings);
        let subset = subset.map(|(subset, _)| subset);
        Some(self.cluster(&Plan { service, port, subset, rule, blocks }))
    }

    fn cluster(&mut self, plan: &Plan<'_>) -> Cluster {
        let (service, blocks) = (plan.service, &plan.blocks);
        let name: Arc<str> = plan.name("|").into();
        let itself = blocks.passes_through().then(|| passthrough::itself(service));
        let instances: Vec<_> = match &itself {
            Some(itself) => itself.iter().collect(),
            None => service.instances.iter().filter(|instance| plan.selects(instance)).collect(),
        };
        let endpoints: Vec<_> =
            instances.iter().filter_map(|instance| self.endpoint(plan, instance, &name)).collect();
        self.note_mutual_tls_lost(plan, &instances);
        let outlier = blocks.outlier();
        let (viewer, locality) = (self.view.viewer, blocks.locality(self.view.settings));
        let here = Locality::of_labels(&viewer.labels);
        let set_policy = SetPolicy {
            policy: blocks.balance(self.view.settings),
            min_health_percent: outlier.map_or(0, |outlier| outlier.min_health_percent),
            warm_up: blocks.warm_up(),
            nearness: locality.as_deref().map(|policy| Nearness {
                locality: &here,
                labels: &viewer.labels,
                policy,
            }),
        };
        Cluster {
            tls: plan.tls(&endpoints, self.view.settings.auto_mtls),
            rule: plan
                .rule
                .map(|rule| rule.resource.origin(blocks.tls().map_or(rule.spec.host.at, |tls| tls.at))),
            host: Arc::clone(&service.host),
            namespace: Arc::clone(&service.namespace),
            subset: plan.subset.map_or("", |subset| &subset.name.value).into(),
            port: plan.port.number,
            endpoints: EndpointSet::build(endpoints, &set_policy),
            hash: blocks.hash(),
            warm_up: blocks.warm_up(),
            locality,
            limits: blocks.limits(self.view.settings),
            connect_timeout: blocks.connect_timeout(self.view.settings),
            idle_timeout: blocks.idle_timeout(),
            max_requests_per_connection: blocks.max_requests_per_connection(),
            connection: blocks.connection(plan.port, self.view.settings),
            outlier,
            state: self.states.cluster(&name),
            budget: self.states.budget(&service.host),
            retry_budget: blocks.retry_budget(self.states, &name),
            sources: blocks.sources(),
            name,
        }
    }

    fn endpoint(&mut self, plan: &Plan<'_>, instance: &Instance, cluster: &str) -> Option<Endpoint> {
        let address = plan.service.address(instance, plan.port)?;
        Some(Endpoint {
            labels: Arc::clone(&instance.labels),
            locality: instance.locality.clone(),
            weight: instance.weight,
            security: self.security(plan, instance, &address),
            state: self.states.endpoint(cluster, &address),
            address,
        })
    }

    /// Notes that the subset to which `origin` sends selects no endpoint.
    pub(super) fn note_empty(&mut self, number: ClusterId, origin: Origin) {
        let cluster = self.get(number);
        if cluster.endpoints.is_empty() && !cluster.subset.is_empty() {
            let message = format!("no endpoint of {} belongs to subset {:?}", cluster.host, cluster.subset);
            let finding = Diagnostic::new(Code::EMPTY_SUBSET, Level::Info, message)
                .about(&origin.resource)
                .at(origin.location);
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }
}

impl Plan<'_> {
    fn selects(&self, instance: &Instance) -> bool {
        self.subset.is_none_or(|subset| carries(&instance.labels, &subset.labels))
    }

    /// `outbound|80|v1|host` as a cluster name, `outbound_.80_.v1_.host` as a server name.
    // spec: istio pilot/pkg/model BuildSubsetKey, BuildDNSSrvSubsetKey
    fn name(&self, separator: &str) -> String {
        let separator = if separator == "_" { "_." } else { separator };
        let subset = self.subset.map_or("", |subset| subset.name.value.as_str());
        ["outbound", &self.port.number.to_string(), subset, &self.service.host].join(separator)
    }
}
