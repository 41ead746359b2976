//! What comes in: the mutual TLS mode of the viewer, the authorization policies that select it, and the rules about
//! tokens.

use super::{
    Inbound,
    mutual_tls::{self, Target},
    view::{View, carries},
};
use crate::{
    authenticate::Authenticator,
    authorize::{Authorizer, TrustDomains},
    config::{
        Kind, Origin, Resource, Spec,
        istio::{LegacyTokens, Lists, PolicyTarget, WorkloadSelector},
    },
    health::States,
    registry::full_host,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Returns the rules for what comes in to the viewer.
pub(super) fn compile(view: &View<'_>, states: &States) -> Inbound {
    let viewer = view.viewer;
    let host =
        viewer.service.as_deref().map(|name| full_host(name, &viewer.namespace, &view.settings.domain));
    let target = |port| Target {
        namespace: &viewer.namespace,
        service: host.as_deref().unwrap_or_default(),
        labels: &viewer.labels,
        port,
        service_port: None,
    };
    let special: BTreeSet<_> = mutual_tls::special_ports(view, &target(0)).into_iter().collect();
    let (mut ports, mut port_sources) = (BTreeMap::new(), BTreeMap::new());
    for port in special {
        let (mode, by) = mutual_tls::decided(view, &target(port));
        ports.insert(port, mode);
        port_sources.extend(by.map(|by| (port, origin(by))));
    }
    let (mode, by) = mutual_tls::decided(view, &target(0));
    let legacy = legacy_tokens(view, &target(0));
    Inbound {
        mode,
        source: by.map(|by| origin(by)),
        ports,
        port_sources,
        authorizer: Arc::new(authorizer(view, &legacy)),
        authenticator: Arc::new(authenticator(view, &legacy, states)),
        path_normalization: view.settings.path_normalization,
        pools: view.scope.inbound().clone(),
        tls_version_min: view.settings.tls_version_min,
    }
}

/// What a policy of Istio 1.3 says of tokens on some ports.
struct LegacyDemand<'a> {
    source: Origin,
    tokens: &'a LegacyTokens,
    ports: Lists<u16>,
}

/// Returns what the 1.3 policies say of tokens: on each port the narrowest policy alone.
// spec: istio 1.3.0 authentication/v1alpha1/policy.proto: a narrower policy replaces a wider one
fn legacy_tokens<'a>(view: &View<'a>, target: &Target<'_>) -> Vec<LegacyDemand<'a>> {
    let (mut demands, mut taken) = (Vec::new(), Vec::new());
    for hit in mutual_tls::legacy_policies(view, target) {
        let own: Option<Vec<u16>> =
            hit.ports.map(|ports| ports.into_iter().filter(|port| !taken.contains(port)).collect());
        let is_shadowed = own.as_ref().is_some_and(Vec::is_empty);
        if let Some(tokens) = hit.policy.tokens.as_ref().filter(|_| !is_shadowed) {
            let ports = match &own {
                Some(own) => Lists { values: own.clone(), not_values: Vec::new() },
                None => Lists { values: Vec::new(), not_values: taken.clone() },
            };
            demands.push(LegacyDemand { source: origin(hit.resource), tokens, ports });
        }
        match own {
            Some(mut own) => taken.append(&mut own),
            None => break,
        }
    }
    demands
}

fn origin(resource: &Resource) -> Origin {
    Origin { resource: resource.key.clone(), location: resource.location.clone() }
}

fn authorizer(view: &View<'_>, legacy: &[LegacyDemand<'_>]) -> Authorizer {
    let settings = view.settings;
    let domains = TrustDomains { own: &settings.trust_domain, aliases: &settings.trust_domain_aliases };
    let denying = denying_legacy(view).chain(unreadable_tokens(view));
    let policies = selecting(view, Kind::AuthorizationPolicy).chain(denying);
    let mut authorizer = Authorizer::new(policies, &domains);
    for demand in legacy.iter().filter(|demand| !demand.tokens.optional) {
        authorizer.demand_token(demand.source.clone(), demand.ports.clone(), &domains);
    }
    authorizer
}

/// Returns the 1.3 policies that could not be read and ask for a token.
fn denying_legacy<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Arc<Resource>> {
    let own = view.viewer.namespace.as_str();
    view.resources.iter().filter(move |resource| {
        matches!(resource.spec, Spec::Malformed { deny: true, .. })
            && (resource.kind == Kind::MeshPolicy
                || resource.kind == Kind::Policy && *resource.key.namespace == *own)
    })
}

/// Returns the RequestAuthentication objects that could not be read. Nobody knows which tokens they take, and which
/// headers say so to handlers that believe them: they deny everything.
fn unreadable_tokens<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Arc<Resource>> {
    let is_unreadable = |resource: &&Arc<Resource>| matches!(resource.spec, Spec::Malformed { .. });
    selecting(view, Kind::RequestAuthentication).filter(is_unreadable)
}

fn authenticator(view: &View<'_>, legacy: &[LegacyDemand<'_>], states: &States) -> Authenticator {
    let mut authenticator = Authenticator::default();
    for resource in selecting(view, Kind::RequestAuthentication) {
        if let Spec::RequestAuthentication(spec) = &resource.spec {
            authenticator.add(&spec.rules, &Lists::default(), states);
        }
    }
    for demand in legacy {
        authenticator.add(&demand.tokens.rules, &demand.ports, states);
    }
    authenticator
}

/// Returns the policies of `kind` that select the viewer: those of its namespace and of the root namespace, by their
/// labels. One that is attached to a gateway or waypoint selects no workload.
fn selecting<'a>(view: &View<'a>, kind: Kind) -> impl Iterator<Item = &'a Arc<Resource>> {
    let (own, root) = (view.viewer.namespace.as_str(), view.settings.root_namespace.as_str());
    let labels = &view.viewer.labels;
    view.resources.iter().filter(move |resource| {
        let namespace = &*resource.key.namespace;
        let selected = |selector: &Option<WorkloadSelector>, targets: &[PolicyTarget]| {
            targets.is_empty() && selector.as_ref().is_none_or(|selector| carries(labels, &selector.labels))
        };
        resource.kind == kind
            && (namespace == root || namespace == own)
            && match &resource.spec {
                Spec::AuthorizationPolicy(policy) => selected(&policy.selector, &policy.targets),
                Spec::RequestAuthentication(policy) => selected(&policy.selector, &policy.targets),
                Spec::Malformed { selector: Some(wanted), .. } => carries(labels, wanted),
                _ => true,
            }
    })
}
