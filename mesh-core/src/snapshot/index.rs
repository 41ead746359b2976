//! The objects that one workload sees, by what they are about; kept up to date change by change.

use super::{
    MeshSettings, Scope, Viewer, attached,
    mutual_tls::PeerPolicies,
    view::{age, or_default, specificity},
};
use crate::{
    config::{
        Changes, Kind, Resource, Spec,
        istio::{DestinationRule, VirtualService},
    },
    registry::{Registry, full_host},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// The objects in force, and where to find those that are about one thing.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) resources: Vec<Arc<Resource>>,
    pub(super) registry: Registry,
    /// The objects that set the mutual TLS mode of servers.
    pub(super) peer_policies: PeerPolicies,
    /// Destination rules by their namespace.
    rules: HashMap<Arc<str>, ByHost>,
    /// Virtual services.
    pub(super) claims: ByHost,
    /// What a Sidecar lets the workload see.
    pub(super) scope: Scope,
    /// HTTPRoutes and GRPCRoutes, by the services they are attached to.
    pub(super) attached: ByHost,
}

/// Objects by the full hosts they name; those of one host come in the order of age.
#[derive(Debug, Default)]
pub(super) struct ByHost {
    by_host: HashMap<Arc<str>, Vec<Arc<Resource>>>,
    /// The wildcards among the hosts, the longest first.
    wildcards: Vec<Arc<str>>,
}

/// What a change may have touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Hosts, and objects that are referred to by name, as [`object`] writes them.
    pub(super) names: BTreeSet<Arc<str>>,
    /// Everything, as when a wildcard changes.
    pub(super) everything: bool,
    /// The rules for what comes in.
    pub(super) inbound: bool,
}

impl Index {
    /// Returns the index of `resources`, as `viewer` sees them within `scope`.
    pub(super) fn of(
        resources: &[Arc<Resource>],
        viewer: &Viewer,
        settings: &MeshSettings,
        scope: Scope,
    ) -> Self {
        let registry = Registry::seen_from(&viewer.namespace, &settings.service_export_to);
        let mut index = Self { scope, registry, ..Self::default() };
        let changes = Changes { old: Vec::new(), new: resources.to_vec() };
        index.apply(resources, &changes, viewer, settings);
        index
    }

    /// Returns whether only a new index is right after `changes`: they decide what of it the workload sees at all.
    pub(super) fn is_upset_by(changes: &Changes) -> bool {
        changes.iter().any(|object| object.kind == Kind::Sidecar)
    }

    /// Brings the index from what it holds to `resources`, which `changes` lead to, as `viewer` sees them.
    pub(super) fn apply(
        &mut self,
        resources: &[Arc<Resource>],
        changes: &Changes,
        viewer: &Viewer,
        settings: &MeshSettings,
    ) -> Touched {
        let mut touched = Touched::default();
        self.resources = resources.to_vec();
        for old in &changes.old {
            self.on_object(old, viewer, settings, &mut touched, ByHost::remove);
        }
        for new in &changes.new {
            self.on_object(new, viewer, settings, &mut touched, ByHost::add);
        }
        if changes.iter().any(|object| is_peer_policy(object.kind)) {
            self.peer_policies = PeerPolicies::new(resources, settings);
        }
        touched.names.append(&mut self.registry.apply(changes, &settings.domain));
        // The ports that a policy of Istio 1.3 names are those of the service.
        let own = viewer.service.as_deref().map(|name| full_host(name, &viewer.namespace, &settings.domain));
        touched.inbound |= own.is_some_and(|own| touched.names.contains(&own));
        touched
    }

    fn on_object(
        &mut self,
        object: &Arc<Resource>,
        viewer: &Viewer,
        settings: &MeshSettings,
        touched: &mut Touched,
        change: fn(&mut ByHost, &Arc<str>, &Arc<Resource>),
    ) {
        let namespace = &object.key.namespace;
        let full = |host: &str| full_host(host, namespace, &settings.domain);
        let mut on_host = |hosts: &mut ByHost, host: Arc<str>| {
            change(hosts, &host, object);
            touched.everything |= host.starts_with('*');
            touched.names.insert(host);
        };
        match &object.spec {
            Spec::VirtualService(spec) => {
                // One host may be written in several ways.
                let hosts: BTreeSet<_> = spec.hosts.iter().map(|host| full(&host.value)).collect();
                let imported = || hosts.iter().any(|host| self.scope.imports(namespace, host));
                if is_for_mesh(spec) && viewer.sees_rule(spec, namespace, settings) && imported() {
                    hosts.into_iter().for_each(|host| on_host(&mut self.claims, host));
                }
                touched.names.insert(self::object(Kind::VirtualService, namespace, &object.key.name));
            }
            Spec::DestinationRule(spec) if applies(spec, namespace, viewer, settings) => {
                on_host(self.rules.entry(Arc::clone(namespace)).or_default(), full(&spec.host.value));
            }
            Spec::AttachedRoute(spec) => {
                let parents = attached::parents(object, spec, &settings.domain);
                parents.into_iter().for_each(|host| on_host(&mut self.attached, host));
            }
            _ if is_peer_policy(object.kind) => (touched.everything, touched.inbound) = (true, true),
            _ if object.kind.is_security() => touched.inbound = true,
            _ => {}
        }
    }

    /// Returns the destination rules for `host` in `namespace`: an exact host beats the longest wildcard.
    pub(super) fn rules(&self, namespace: &str, host: &str) -> &[Arc<Resource>] {
        self.rules.get(namespace).map_or(&[], |rules| rules.covering(host))
    }
}

impl Touched {
    pub(super) fn everything() -> Self {
        Self { names: BTreeSet::new(), everything: true, inbound: true }
    }
}

impl ByHost {
    /// Returns the objects that name `host` itself.
    pub(super) fn of(&self, host: &str) -> &[Arc<Resource>] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// Returns the objects that name `host`, else those that name the longest wildcard covering it.
    pub(super) fn covering(&self, host: &str) -> &[Arc<Resource>] {
        let wildcard = || self.wildcards.iter().find(|pattern| specificity(pattern, host).is_some());
        match self.of(host) {
            [] => wildcard().map_or(&[], |pattern| self.of(pattern)),
            exact => exact,
        }
    }

    /// Returns every host that is named.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_host.keys()
    }

    fn add(&mut self, host: &Arc<str>, object: &Arc<Resource>) {
        if host.starts_with('*') && !self.by_host.contains_key(host) {
            let longer = |other: &Arc<str>| (other.len(), &**host) > (host.len(), &**other);
            let at = self.wildcards.partition_point(longer);
            self.wildcards.insert(at, Arc::clone(host));
        }
        let objects = self.by_host.entry(Arc::clone(host)).or_default();
        let at = objects.partition_point(|other| age(other) <= age(object));
        objects.insert(at, Arc::clone(object));
    }

    fn remove(&mut self, host: &Arc<str>, object: &Arc<Resource>) {
        let Some(objects) = self.by_host.get_mut(host) else { return };
        objects.retain(|other| other.key != object.key);
        if objects.is_empty() {
            self.by_host.remove(host);
            self.wildcards.retain(|pattern| pattern != host);
        }
    }
}

/// Returns the name by which what is compiled depends on an object that is referred to, as a delegate is.
pub(super) fn object(kind: Kind, namespace: &str, name: &str) -> Arc<str> {
    format!("{kind} {namespace}/{name}").into()
}

fn is_peer_policy(kind: Kind) -> bool {
    matches!(kind, Kind::PeerAuthentication | Kind::MeshPolicy | Kind::Policy)
}

/// `mesh` is implied where no gateway is named; a rule without hosts is somebody's delegate.
fn is_for_mesh(spec: &VirtualService) -> bool {
    spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == "mesh")
}

fn applies(rule: &DestinationRule, namespace: &str, viewer: &Viewer, settings: &MeshSettings) -> bool {
    match &rule.workload_selector {
        None => viewer.sees(or_default(&rule.export_to, &settings.destination_rule_export_to), namespace),
        Some(selector) => *namespace == *viewer.namespace && viewer.carries(&selector.labels),
    }
}
