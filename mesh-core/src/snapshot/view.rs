//! The configuration as one workload sees it while it is compiled.

use super::{MeshSettings, Scope, Viewer, attached::Attached, index::Index, mutual_tls::PeerPolicies};
use crate::{
    config::{
        Kind, Resource, Spec,
        istio::{DestinationRule, VirtualService},
    },
    registry::{Registry, Service, is_exported},
};
use std::{collections::BTreeMap, sync::Arc};

/// The objects, the workload, and what applies to the whole mesh.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) index: &'a Index,
    pub(super) resources: &'a [Arc<Resource>],
    pub(super) registry: &'a Registry,
    pub(super) viewer: &'a Viewer,
    pub(super) settings: &'a MeshSettings,
    /// The objects that set the mutual TLS mode of servers.
    pub(super) peer_policies: &'a PeerPolicies,
    /// What a Sidecar lets the workload see.
    pub(super) scope: &'a Scope,
}

/// An object beside its typed content.
pub(super) struct Typed<'a, T> {
    pub(super) resource: &'a Arc<Resource>,
    pub(super) spec: &'a T,
}

impl<T> Clone for Typed<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Typed<'_, T> {}

impl<'a> View<'a> {
    pub(super) fn new(index: &'a Index, viewer: &'a Viewer, settings: &'a MeshSettings) -> Self {
        let Index { resources, registry, peer_policies, scope, .. } = index;
        Self { index, resources, registry, viewer, settings, peer_policies, scope }
    }

    /// Returns the virtual services for `host`, the one that rules it first: the oldest of those that name it. If there
    /// is none, a service has those of the longest wildcard that covers it.
    // spec: istio pilot/pkg/model/virtualservice.go: the oldest rule of a host wins
    pub(super) fn virtual_services(
        &self,
        host: &str,
        is_service: bool,
    ) -> impl Iterator<Item = Typed<'a, VirtualService>> {
        let claims = &self.index.claims;
        typed(if is_service { claims.covering(host) } else { claims.of(host) }, |spec| match spec {
            Spec::VirtualService(spec) => Some(spec),
            _ => None,
        })
    }

    /// Returns the virtual service of a namespace and name.
    pub(super) fn virtual_service(&self, namespace: &str, name: &str) -> Option<Typed<'a, VirtualService>> {
        let key = |resource: &Arc<Resource>| {
            let key = &resource.key;
            (&*key.kind, &*key.namespace, &*key.name).cmp(&(Kind::VirtualService.as_str(), namespace, name))
        };
        let found = self.resources.binary_search_by(key).ok()?;
        match &self.resources[found].spec {
            Spec::VirtualService(spec) => Some(Typed { resource: &self.resources[found], spec }),
            _ => None,
        }
    }

    /// Returns the HTTPRoutes and GRPCRoutes that are attached to the service `host`.
    pub(super) fn attached(&self, host: &str) -> Vec<Attached<'a>> {
        let as_route = |spec: &'a Spec| match spec {
            Spec::AttachedRoute(spec) => Some(spec),
            _ => None,
        };
        let attached = typed(self.index.attached.of(host), as_route);
        attached.map(|Typed { resource, spec }| Attached { resource, spec }).collect()
    }

    /// Returns the destination rules for `service` of the first namespace that has one: the caller's, the service's,
    /// the root. Within it an exact host beats the longest wildcard; rules of one host come in the order of age.
    // spec: istio pilot/pkg/model/push_context.go destinationRule
    pub(super) fn destination_rules(&self, service: &Service) -> Vec<Typed<'a, DestinationRule>> {
        let (own, root) = (self.viewer.namespace.as_str(), self.settings.root_namespace.as_str());
        let levels = [(own != root).then_some(own), Some(&*service.namespace), Some(root)];
        let of_level = |namespace: &str| Some(self.index.rules(namespace, &service.host));
        let rules = levels.into_iter().flatten().filter_map(of_level).find(|rules| !rules.is_empty());
        let as_rule = |spec: &'a Spec| match spec {
            Spec::DestinationRule(spec) => Some(spec),
            _ => None,
        };
        typed(from_selecting(rules.unwrap_or_default()), as_rule).collect()
    }

    /// Returns whether this workload sees `service`.
    pub(super) fn sees_service(&self, service: &Service) -> bool {
        self.scope.sees(&service.namespace, &service.host) && self.is_exported(service)
    }

    /// Returns the service with this full host, to which a rule may send whether or not it is seen by its own name.
    pub(super) fn destination(&self, host: &str) -> Option<&'a Arc<Service>> {
        self.registry.get(host).filter(|service| self.is_exported(service))
    }

    fn is_exported(&self, service: &Service) -> bool {
        let export_to = or_default(&service.export_to, &self.settings.service_export_to);
        self.viewer.sees(export_to, &service.namespace)
    }

    /// Returns whether this workload sees `rule`.
    pub(super) fn sees_rule(&self, rule: &Typed<'_, VirtualService>) -> bool {
        self.viewer.sees_rule(rule.spec, &rule.resource.key.namespace, self.settings)
    }
}

impl Viewer {
    /// Returns whether an object of `namespace` with this `exportTo` is visible to the workload.
    pub(super) fn sees(&self, export_to: &[String], namespace: &str) -> bool {
        is_exported(export_to, namespace, &self.namespace)
    }

    /// Returns whether `rule`, an object of `namespace`, is visible to the workload.
    pub(super) fn sees_rule(&self, rule: &VirtualService, namespace: &str, settings: &MeshSettings) -> bool {
        self.sees(or_default(&rule.export_to, &settings.virtual_service_export_to), namespace)
    }

    /// Returns whether the workload has every one of `labels`.
    pub(super) fn carries(&self, labels: &BTreeMap<String, String>) -> bool {
        carries(&self.labels, labels)
    }
}

fn typed<'a, T: 'a>(
    objects: &'a [Arc<Resource>],
    of: impl Fn(&'a Spec) -> Option<&'a T>,
) -> impl Iterator<Item = Typed<'a, T>> {
    objects.iter().filter_map(move |resource| Some(Typed { resource, spec: of(&resource.spec)? }))
}

/// Returns `written`, or the mesh's `default` if nothing is written.
pub(super) fn or_default<'a>(written: &'a [String], default: &'a [String]) -> &'a [String] {
    if written.is_empty() { default } else { written }
}

/// A rule that selects this workload stands apart from older ones for the same host; younger ones still add to it.
// spec: istio pilot/pkg/model/destination_rule.go mergeDestinationRule, sidecar.go DestinationRule
fn from_selecting(rules: &[Arc<Resource>]) -> &[Arc<Resource>] {
    let selects = |rule: &Arc<Resource>| matches!(&rule.spec, Spec::DestinationRule(spec) if spec.workload_selector.is_some());
    &rules[rules.iter().position(selects).unwrap_or(0)..]
}

/// Returns whether `labels` holds every one of `wanted`.
pub(super) fn carries(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// Sorts objects by age: the oldest first, those without a time last, ties by name and namespace.
pub(super) fn age(resource: &Resource) -> (bool, Option<&str>, &str, &str) {
    let created = resource.meta.created.as_deref();
    (created.is_none(), created, &resource.key.name, &resource.key.namespace)
}

/// Returns how specifically `pattern` covers `host`: `None` if not at all, an exact name above any wildcard.
pub(super) fn specificity(pattern: &str, host: &str) -> Option<usize> {
    match pattern.strip_prefix('*') {
        None => (pattern == host).then_some(usize::MAX),
        Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some(suffix.len()),
    }
}
