//! The mutual TLS mode of a server, ours or another's.
//!
//! The workload scope beats the namespace, the namespace the mesh; within a scope the oldest object wins; UNSET
//! inherits; a malformed object is STRICT in its scope. PeerAuthentication is asked before the 1.3 kinds of its scope.
// spec: istio security/v1beta1/peer_authentication.proto; pilot/pkg/security/authn/policy_applier.go

use super::{
    MeshSettings,
    view::{View, age, carries},
};
use crate::{
    config::{
        Kind, Resource, Spec,
        istio::{LegacyPolicy, LegacyTarget, MtlsMode, PeerAuthentication},
    },
    registry::{Service, full_host},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// A workload as server-side policy sees it.
pub(super) struct Target<'a> {
    pub(super) namespace: &'a str,
    /// The full host of its service; empty if it is none.
    pub(super) service: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    /// The port it listens on.
    pub(super) port: u16,
    /// The port of the service that this one stands for, where that is known.
    pub(super) service_port: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Mesh,
    Namespace,
    Workload,
}

/// The objects that set modes, found by what they are for: a mesh has as many of them as workloads.
#[derive(Debug, Default)]
pub(super) struct PeerPolicies {
    /// Those without selector and targets, and those that are for the whole mesh.
    wide: HashMap<Arc<str>, Vec<Arc<Resource>>>,
    /// By namespace, and the name and value of one of the labels they select.
    by_label: HashMap<Arc<str>, ByLabel>,
    /// By the full host of the service they name.
    by_service: HashMap<Arc<str>, Vec<Arc<Resource>>>,
}

/// By the name of a label, and its value.
type ByLabel = HashMap<String, HashMap<String, Vec<Arc<Resource>>>>;

impl PeerPolicies {
    pub(super) fn new(resources: &[Arc<Resource>], settings: &MeshSettings) -> Self {
        let mut policies = Self::default();
        for resource in resources {
            if matches!(resource.kind, Kind::PeerAuthentication | Kind::MeshPolicy | Kind::Policy) {
                policies.add(resource, settings);
            }
        }
        policies
    }

    fn add(&mut self, resource: &Arc<Resource>, settings: &MeshSettings) {
        let namespace = &*resource.key.namespace;
        if resource.kind == Kind::MeshPolicy {
            self.wide.entry(WHOLE_MESH.into()).or_default().push(Arc::clone(resource));
            return;
        }
        if let Some(labels) = selected_labels(resource) {
            // spec: istio pilot/pkg/security/authn ComposePeerAuthentication ignores selectors in the root namespace
            if namespace != settings.root_namespace || resource.kind != Kind::PeerAuthentication {
                self.add_by_label(resource, labels);
            }
            return;
        }
        let targets = targets(resource);
        for target in targets {
            let host = full_host(&target.name, namespace, &settings.domain);
            let named = self.by_service.entry(host).or_default();
            if named.last().is_none_or(|last| !Arc::ptr_eq(last, resource)) {
                named.push(Arc::clone(resource));
            }
        }
        if targets.is_empty() {
            let is_mesh_wide =
                resource.kind == Kind::PeerAuthentication && namespace == settings.root_namespace;
            let scope = if is_mesh_wide { WHOLE_MESH } else { namespace };
            self.wide.entry(scope.into()).or_default().push(Arc::clone(resource));
        }
    }

    /// Under the label that the fewest others are found by: `version: v1` may stand in each of them.
    fn add_by_label(&mut self, resource: &Arc<Resource>, labels: &BTreeMap<String, String>) {
        let namespace = self.by_label.entry(Arc::clone(&resource.key.namespace)).or_default();
        let others = |(name, value): &(&String, &String)| {
            namespace.get(*name).and_then(|values| values.get(*value)).map_or(0, Vec::len)
        };
        if let Some((name, value)) = labels.iter().min_by_key(others) {
            let values = namespace.entry(name.clone()).or_default();
            values.entry(value.clone()).or_default().push(Arc::clone(resource));
        }
    }

    /// Returns the objects that are for `target`, as far as its port does not matter.
    fn of(&self, target: &Target<'_>) -> Vec<(Scope, &Arc<Resource>)> {
        let by_label = self.by_label.get(target.namespace);
        let selecting = target.labels.iter().filter_map(|(name, value)| by_label?.get(name)?.get(value));
        let selecting = selecting.flatten();
        let selecting = selecting.filter(|resource| {
            selected_labels(resource).is_some_and(|wanted| carries(target.labels, wanted))
        });
        let naming = self.by_service.get(target.service).into_iter().flatten();
        let naming = naming.filter(|resource| *resource.key.namespace == *target.namespace);
        let workload = selecting.chain(naming).map(|resource| (Scope::Workload, resource));
        let namespace = self.wide(target.namespace).iter().map(|resource| (Scope::Namespace, resource));
        let mesh = self.wide(WHOLE_MESH).iter().map(|resource| (Scope::Mesh, resource));
        workload.chain(namespace).chain(mesh).collect()
    }

    fn wide(&self, scope: &str) -> &[Arc<Resource>] {
        self.wide.get(scope).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Returns the mutual TLS mode of `target`; never `Unset`.
pub(super) fn mode(view: &View<'_>, target: &Target<'_>) -> MtlsMode {
    decided(view, target).0
}

/// Returns the mutual TLS mode of `target`, and the object that says so; `None` is the default of the mesh.
pub(super) fn decided<'a>(view: &View<'a>, target: &Target<'_>) -> (MtlsMode, Option<&'a Arc<Resource>>) {
    let mut found = view.peer_policies.of(target);
    found.retain(|(_, resource)| reaches_port(view, resource, target));
    sort(&mut found);
    // Of one scope only the first object counts: UNSET inherits from the next scope, not from the next object.
    found.dedup_by_key(|(scope, _)| *scope);
    let mut modes = found.into_iter().map(|(_, resource)| (said(resource, target.port), Some(resource)));
    modes.find(|(mode, _)| *mode != MtlsMode::Unset).unwrap_or((view.settings.default_mtls, None))
}

/// Returns the ports of `target` about which some object says something of their own.
pub(super) fn special_ports(view: &View<'_>, target: &Target<'_>) -> Vec<u16> {
    let service = view.registry.get(target.service);
    let of_policy = |resource: &Resource| match &resource.spec {
        Spec::PeerAuthentication(spec) => spec.ports.keys().copied().collect(),
        Spec::LegacyPolicy(_) => {
            let named = named_ports(view, resource, target);
            service.into_iter().flat_map(|service| workload_ports(service, &named)).collect()
        }
        _ => Vec::new(),
    };
    view.peer_policies.of(target).into_iter().flat_map(|(_, resource)| of_policy(resource)).collect()
}

/// A policy of Istio 1.3 that is for some workload.
pub(super) struct LegacyHit<'a> {
    pub(super) resource: &'a Resource,
    pub(super) policy: &'a LegacyPolicy,
    /// The ports of the workload that it is for; `None` is all of them.
    pub(super) ports: Option<Vec<u16>>,
}

/// Returns the 1.3 policies for `target`, the narrowest and oldest first.
pub(super) fn legacy_policies<'a>(view: &View<'a>, target: &Target<'_>) -> Vec<LegacyHit<'a>> {
    let mut found = view.peer_policies.of(target);
    sort(&mut found);
    let hit = |(_, resource): (_, &'a Arc<Resource>)| match &resource.spec {
        Spec::LegacyPolicy(policy) => {
            let named = named_ports(view, resource, target);
            // Where nobody knows which ports are meant, all are.
            let service = view.registry.get(target.service).filter(|_| !named.is_empty());
            let narrowed = service.filter(|service| !covers(service, &named));
            let ports = narrowed.map(|service| workload_ports(service, &named).collect());
            Some(LegacyHit { resource, policy, ports })
        }
        _ => None,
    };
    found.into_iter().filter_map(hit).collect()
}

/// Widest scope last, PeerAuthentication before the 1.3 kinds, the oldest first.
fn sort(found: &mut [(Scope, &Arc<Resource>)]) {
    found.sort_by(|(a, x), (b, y)| {
        b.cmp(a).then_with(|| is_legacy(x.kind).cmp(&is_legacy(y.kind))).then_with(|| age(x).cmp(&age(y)))
    });
}

fn is_legacy(kind: Kind) -> bool {
    kind != Kind::PeerAuthentication
}

/// Returns the labels that `resource` selects; `None` if it selects none.
fn selected_labels(resource: &Resource) -> Option<&BTreeMap<String, String>> {
    let labels = match &resource.spec {
        Spec::PeerAuthentication(PeerAuthentication { selector: Some(selector), .. }) => &selector.labels,
        Spec::Malformed { selector: Some(labels), .. } => labels,
        _ => return None,
    };
    (!labels.is_empty()).then_some(labels)
}

fn targets(resource: &Resource) -> &[LegacyTarget] {
    match &resource.spec {
        Spec::LegacyPolicy(policy) => &policy.targets,
        _ => &[],
    }
}

/// Returns whether `resource`, which is for `target`, is for its port, too.
///
/// The ports of a 1.3 policy are those of the service. Where nobody knows which port of the workload they stand for, the
/// policy counts if it demands mutual TLS.
fn reaches_port(view: &View<'_>, resource: &Resource, target: &Target<'_>) -> bool {
    let named = named_ports(view, resource, target);
    match (target.service_port, view.registry.get(target.service)) {
        _ if named.is_empty() => true,
        (Some(port), _) => named.contains(&port),
        (None, Some(service)) => {
            covers(service, &named) || workload_ports(service, &named).any(|port| port == target.port)
        }
        (None, None) => said(resource, target.port) == MtlsMode::Strict,
    }
}

/// Returns the service ports of `target` that the 1.3 policy `resource` names; none is all of them.
fn named_ports(view: &View<'_>, resource: &Resource, target: &Target<'_>) -> Vec<u16> {
    let is_it = |named: &&LegacyTarget| {
        *full_host(&named.name, &resource.key.namespace, &view.settings.domain) == *target.service
    };
    let mut entries = targets(resource).iter().filter(is_it);
    if entries.clone().any(|entry| entry.ports.is_empty()) {
        return Vec::new();
    }
    entries.by_ref().flat_map(|entry| entry.ports.iter().copied()).collect()
}

/// Returns whether `ports` are all the ports `service` has, so that whatever a workload of it listens on is one of them.
fn covers(service: &Service, ports: &[u16]) -> bool {
    !service.ports.is_empty() && service.ports.iter().all(|port| ports.contains(&port.number))
}

/// Returns where workloads of `service` listen for its ports `numbers`.
fn workload_ports<'s>(service: &'s Service, numbers: &'s [u16]) -> impl Iterator<Item = u16> + use<'s> {
    let named = service.ports.iter().filter(|port| numbers.contains(&port.number));
    named.flat_map(|port| {
        let of_instances = service.instances.iter().filter_map(|instance| service.address(instance, port));
        of_instances.map(|address| address.port()).chain([port.target_number()])
    })
}

fn said(resource: &Resource, port: u16) -> MtlsMode {
    match &resource.spec {
        Spec::PeerAuthentication(spec) => match spec.ports.get(&port) {
            None | Some(MtlsMode::Unset) => spec.mode,
            Some(mode) => *mode,
        },
        Spec::LegacyPolicy(spec) => spec.mode,
        _ => MtlsMode::Strict,
    }
}

/// A namespace that nobody can have.
const WHOLE_MESH: &str = "";
