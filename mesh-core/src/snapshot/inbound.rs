//! What comes in: the mutual TLS mode of a workload, and the authorization policies that select it.
//!
//! The workload scope beats the namespace, the namespace the mesh; within a scope the oldest object wins; UNSET
//! inherits; a malformed object is STRICT in its scope. PeerAuthentication is asked before the 1.3 kinds of its scope.
// spec: istio security/v1beta1/peer_authentication.proto; pilot/pkg/security/authn/policy_applier.go

use super::{
    Inbound,
    view::{View, age, carries},
};
use crate::{
    authorize::Authorizer,
    config::{
        Kind, Resource, Spec,
        istio::{LegacyPolicy, MtlsMode, PeerAuthentication},
    },
    registry::full_host,
};
use std::{collections::BTreeMap, sync::Arc};

/// A workload as server-side policy sees it.
pub(super) struct Target<'a> {
    pub(super) namespace: &'a str,
    /// The full host of its service; empty if it is none.
    pub(super) service: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    /// The port it listens on.
    pub(super) port: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Mesh,
    Namespace,
    Workload,
}

/// Returns the rules for what comes in to the viewer.
pub(super) fn compile(view: &View<'_>) -> Inbound {
    let viewer = view.viewer;
    let host =
        viewer.service.as_deref().map(|name| full_host(name, &viewer.namespace, &view.settings.domain));
    let target = |port| Target {
        namespace: &viewer.namespace,
        service: host.as_deref().unwrap_or_default(),
        labels: &viewer.labels,
        port,
    };
    let named = view.peer_policies.iter().filter_map(|resource| match &resource.spec {
        Spec::PeerAuthentication(spec) => Some(spec.ports.keys().copied()),
        _ => None,
    });
    let ports = named.flatten().map(|port| (port, mode(view, &target(port)))).collect();
    Inbound { mode: mode(view, &target(0)), ports, authorizer: Arc::new(authorizer(view)) }
}

/// Returns the mutual TLS mode of `target`; never `Unset`.
pub(super) fn mode(view: &View<'_>, target: &Target<'_>) -> MtlsMode {
    let mut found: Vec<_> = view
        .peer_policies
        .iter()
        .filter_map(|resource| Some((scope(view, resource, target)?, resource)))
        .collect();
    // Widest scope last, PeerAuthentication before the 1.3 kinds, the oldest first.
    found.sort_by(|(a, x), (b, y)| {
        b.cmp(a).then_with(|| is_legacy(x.kind).cmp(&is_legacy(y.kind))).then_with(|| age(x).cmp(&age(y)))
    });
    // Of one scope only the first object counts: UNSET inherits from the next scope, not from the next object.
    found.dedup_by_key(|(scope, _)| *scope);
    let mut modes = found.into_iter().map(|(_, resource)| said(resource, target.port));
    modes.find(|mode| *mode != MtlsMode::Unset).unwrap_or(view.settings.default_mtls)
}

fn is_legacy(kind: Kind) -> bool {
    kind != Kind::PeerAuthentication
}

fn scope(view: &View<'_>, resource: &Resource, target: &Target<'_>) -> Option<Scope> {
    let in_namespace = *resource.key.namespace == *target.namespace;
    let mesh_wide =
        resource.kind == Kind::PeerAuthentication && *resource.key.namespace == *view.settings.root_namespace;
    match narrowed(view, resource, target) {
        _ if resource.kind == Kind::MeshPolicy => Some(Scope::Mesh),
        // spec: istio pilot/pkg/security/authn ComposePeerAuthentication ignores selectors in the root namespace
        Some(_) if mesh_wide => None,
        Some(selected) => (in_namespace && selected).then_some(Scope::Workload),
        None if mesh_wide => Some(Scope::Mesh),
        None => in_namespace.then_some(Scope::Namespace),
    }
}

/// Returns whether the selector or the targets of `resource` pick `target`; `None` if it has neither.
fn narrowed(view: &View<'_>, resource: &Resource, target: &Target<'_>) -> Option<bool> {
    let labels = match &resource.spec {
        Spec::PeerAuthentication(PeerAuthentication { selector: Some(selector), .. }) => &selector.labels,
        Spec::Malformed { selector: Some(labels), .. } => labels,
        Spec::LegacyPolicy(LegacyPolicy { targets, .. }) if !targets.is_empty() => {
            let host = |name: &str| full_host(name, &resource.key.namespace, &view.settings.domain);
            return Some(targets.iter().any(|service| *host(&service.name) == *target.service));
        }
        _ => return None,
    };
    (!labels.is_empty()).then(|| carries(target.labels, labels))
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

fn authorizer(view: &View<'_>) -> Authorizer {
    let policies = view.resources.iter().filter(|resource| resource.kind == Kind::AuthorizationPolicy);
    let selected = policies.filter(|resource| {
        let namespace = &*resource.key.namespace;
        let reaches = namespace == view.settings.root_namespace || namespace == view.viewer.namespace;
        reaches && selects(view, resource)
    });
    Authorizer::new(selected)
}

fn selects(view: &View<'_>, resource: &Resource) -> bool {
    match &resource.spec {
        Spec::AuthorizationPolicy(policy) => {
            policy.selector.as_ref().is_none_or(|selector| view.selected(selector))
        }
        Spec::Malformed { selector: Some(labels), .. } => carries(&view.viewer.labels, labels),
        _ => true,
    }
}
