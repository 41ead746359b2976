//! Which objects one workload sees, and in which order.

use super::{MeshSettings, Viewer};
use crate::{
    config::{
        Kind, Resource, Spec,
        istio::{DestinationRule, VirtualService, WorkloadSelector},
    },
    registry::{Registry, Service, full_host},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The configuration as one workload sees it, indexed once per compilation.
pub(super) struct View<'a> {
    pub(super) resources: &'a [Arc<Resource>],
    pub(super) registry: &'a Registry,
    pub(super) viewer: &'a Viewer,
    pub(super) settings: &'a MeshSettings,
    /// The objects that set the mutual TLS mode of servers.
    pub(super) peer_policies: Vec<&'a Arc<Resource>>,
    rules: HashMap<&'a str, Rules<'a>>,
}

/// The destination rules of one namespace, each list in the order of age.
#[derive(Default)]
struct Rules<'a> {
    exact: HashMap<Arc<str>, Vec<Rule<'a>>>,
    /// The longest first.
    wildcards: Vec<(Arc<str>, Vec<Rule<'a>>)>,
}

type Rule<'a> = Typed<'a, DestinationRule>;

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
    pub(super) fn new(
        resources: &'a [Arc<Resource>],
        registry: &'a Registry,
        viewer: &'a Viewer,
        settings: &'a MeshSettings,
    ) -> Self {
        let is_peer_policy = |resource: &&Arc<Resource>| {
            matches!(resource.kind, Kind::PeerAuthentication | Kind::MeshPolicy | Kind::Policy)
        };
        let peer_policies = resources.iter().filter(is_peer_policy).collect();
        let mut view = Self { resources, registry, viewer, settings, peer_policies, rules: HashMap::new() };
        view.rules = view.rules_by_namespace();
        view
    }

    fn rules_by_namespace(&self) -> HashMap<&'a str, Rules<'a>> {
        let specs = self.resources.iter().filter_map(|resource| match &resource.spec {
            Spec::DestinationRule(spec) => Some(Typed { resource, spec }),
            _ => None,
        });
        let mut rules: Vec<_> = specs.filter(|rule| self.rule_applies(rule.resource, rule.spec)).collect();
        rules.sort_by(|a, b| age(a.resource).cmp(&age(b.resource)));
        let mut namespaces: HashMap<&str, Rules<'_>> = HashMap::new();
        for rule in rules {
            let namespace = &rule.resource.key.namespace;
            let host = full_host(&rule.spec.host.value, namespace, &self.settings.domain);
            namespaces.entry(namespace).or_default().exact.entry(host).or_default().push(rule);
        }
        for rules in namespaces.values_mut() {
            rules.exact.values_mut().for_each(keep_selecting);
            rules.wildcards = rules.exact.extract_if(|host, _| host.starts_with('*')).collect();
            rules.wildcards.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        }
        namespaces
    }

    /// Returns the virtual services that apply to calls of this workload, oldest first.
    // spec: istio pilot/pkg/model/virtualservice.go: the oldest rule of a host wins
    pub(super) fn virtual_services(&self) -> Vec<Typed<'a, VirtualService>> {
        let specs = self.resources.iter().filter_map(|resource| match &resource.spec {
            Spec::VirtualService(spec) => Some(Typed { resource, spec }),
            _ => None,
        });
        let mut visible: Vec<_> = specs
            .filter(|vs| {
                vs.spec.gateways.is_empty() || vs.spec.gateways.iter().any(|gateway| gateway == "mesh")
            })
            .filter(|vs| self.sees(&vs.spec.export_to, &vs.resource.key.namespace))
            .collect();
        visible.sort_by(|a, b| age(a.resource).cmp(&age(b.resource)));
        visible
    }

    /// Returns the destination rules for `service` of the first namespace that has one: the caller's, the service's,
    /// the root. Within it an exact host beats the longest wildcard; rules of one host come in the order of age.
    // spec: istio pilot/pkg/model/push_context.go destinationRule
    pub(super) fn destination_rules(&self, service: &Service) -> &[Rule<'a>] {
        let (own, root) = (self.viewer.namespace.as_str(), self.settings.root_namespace.as_str());
        let levels = [(own != root).then_some(own), Some(&*service.namespace), Some(root)];
        let of_level = |namespace: &str| self.rules.get(namespace)?.covering(&service.host);
        levels.into_iter().flatten().find_map(of_level).unwrap_or_default()
    }

    fn rule_applies(&self, resource: &Resource, rule: &DestinationRule) -> bool {
        match &rule.workload_selector {
            None => self.sees(&rule.export_to, &resource.key.namespace),
            Some(selector) => *resource.key.namespace == *self.viewer.namespace && self.selected(selector),
        }
    }

    /// Returns whether this workload carries every label of `selector`.
    pub(super) fn selected(&self, selector: &WorkloadSelector) -> bool {
        carries(&self.viewer.labels, &selector.labels)
    }

    /// Returns whether this workload sees `service`.
    pub(super) fn sees_service(&self, service: &Service) -> bool {
        self.sees(&service.export_to, &service.namespace)
    }

    /// Returns whether an object of `namespace` with this `exportTo` is visible here.
    pub(super) fn sees(&self, export_to: &[String], namespace: &str) -> bool {
        let own = self.viewer.namespace.as_str();
        export_to.is_empty()
            || export_to.iter().any(|scope| match scope.as_str() {
                "*" => true,
                "." => namespace == own,
                "~" => false,
                named => named == own,
            })
    }
}

impl<'a> Rules<'a> {
    fn covering(&self, host: &str) -> Option<&[Rule<'a>]> {
        let wildcard = || self.wildcards.iter().find(|(pattern, _)| specificity(pattern, host).is_some());
        self.exact.get(host).or_else(|| wildcard().map(|(_, rules)| rules)).map(Vec::as_slice)
    }
}

/// A rule that selects this workload stands apart from older ones for the same host; younger ones still add to it.
// spec: istio pilot/pkg/model/destination_rule.go mergeDestinationRule, sidecar.go DestinationRule
fn keep_selecting(rules: &mut Vec<Rule<'_>>) {
    if let Some(first) = rules.iter().position(|rule| rule.spec.workload_selector.is_some()) {
        rules.drain(..first);
    }
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
