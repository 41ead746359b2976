//! May this request be made? ALLOW and DENY policies over peer, address, method, host, path and port. Which policies
//! select a workload is decided before; what a policy means in the words of Istio is decided here, once, when it is
//! compiled.
//!
//! Every doubt goes towards the denial: a condition that cannot be judged is one an ALLOW does not meet and a DENY does.
// spec: istio security/v1beta1/authorization_policy.proto; order: DENY, then ALLOW

mod pattern;
mod rule;

use crate::{
    config::{
        Resource, ResourceKey, Spec,
        istio::{AuthorizationAction, AuthorizationPolicy},
    },
    identity::SpiffeId,
};
use http::Method;
use pattern::Pattern;
use rule::Rule;
use std::{net::IpAddr, sync::Arc};

/// What is known of a request when it is judged: the very bytes that the handler will see.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The verified peer.
    pub peer: Option<&'a SpiffeId>,
    /// The address of the direct peer.
    pub source: Option<IpAddr>,
    /// The method.
    pub method: &'a Method,
    /// The host, normalised, without port.
    pub host: &'a str,
    /// The path, normalised, without query.
    pub path: &'a str,
    /// The port of the workload that the request came in on.
    pub port: u16,
}

/// The outcome, with the policy that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let through; `None` if there is no ALLOW policy at all.
    Allowed(Option<ResourceKey>),
    /// Denied by this policy.
    Denied(ResourceKey),
    /// There are ALLOW policies, and none matches.
    NotAllowed,
}

/// The policies of one workload, compiled.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    deny: Box<[Policy]>,
    allow: Box<[Policy]>,
}

#[derive(Clone, Debug)]
struct Policy {
    key: ResourceKey,
    rules: Rules,
}

#[derive(Clone, Debug)]
enum Rules {
    /// A malformed object has no rules to go by: as a DENY it matches every request, as an ALLOW none.
    Unreadable {
        matches: bool,
    },
    AnyOf(Box<[Rule]>),
}

/// Which way a rule decides, and so which way it must err.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

impl Authorizer {
    /// Compiles the policies that select a workload: AuthorizationPolicy objects already filtered by namespace and
    /// selector. A malformed one fails closed: as an ALLOW it matches nothing, as a DENY it denies everything.
    pub fn new<'a>(policies: impl IntoIterator<Item = &'a Arc<Resource>>) -> Self {
        let (mut deny, mut allow) = (Vec::new(), Vec::new());
        for (effect, policy) in policies.into_iter().filter_map(|resource| Policy::of(resource)) {
            match effect {
                Effect::Deny => deny.push(policy),
                Effect::Allow => allow.push(policy),
            }
        }
        Self { deny: deny.into(), allow: allow.into() }
    }

    /// Returns the authorizer of a workload that has no configuration yet: nothing is allowed, because nobody knows what
    /// the policy will be.
    pub fn closed() -> Self {
        let key = ResourceKey::new("AuthorizationPolicy", "", "none-yet");
        Self {
            deny: Box::default(),
            allow: [Policy { key, rules: Rules::Unreadable { matches: false } }].into(),
        }
    }

    /// Returns whether `request` may be made. Does not allocate.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        if let Some(policy) = self.deny.iter().find(|policy| policy.matches(request)) {
            return Decision::Denied(policy.key.clone());
        }
        if self.allow.is_empty() {
            return Decision::Allowed(None);
        }
        match self.allow.iter().find(|policy| policy.matches(request)) {
            Some(policy) => Decision::Allowed(Some(policy.key.clone())),
            None => Decision::NotAllowed,
        }
    }
}

impl Policy {
    /// Returns the policy that `resource` holds; an object of another kind is none.
    fn of(resource: &Resource) -> Option<(Effect, Self)> {
        let (effect, rules) = match &resource.spec {
            Spec::AuthorizationPolicy(spec) => Rules::of(spec),
            Spec::Malformed { deny: true, .. } => (Effect::Deny, Rules::Unreadable { matches: true }),
            Spec::Malformed { deny: false, .. } => (Effect::Allow, Rules::Unreadable { matches: false }),
            _ => return None,
        };
        Some((effect, Self { key: resource.key.clone(), rules }))
    }

    fn matches(&self, request: &Request<'_>) -> bool {
        match &self.rules {
            Rules::Unreadable { matches } => *matches,
            Rules::AnyOf(rules) => rules.iter().any(|rule| rule.matches(request)),
        }
    }
}

impl Rules {
    fn of(spec: &AuthorizationPolicy) -> (Effect, Self) {
        let effect = match spec.action {
            AuthorizationAction::Allow => Effect::Allow,
            AuthorizationAction::Deny => Effect::Deny,
        };
        (effect, Self::AnyOf(spec.rules.iter().map(|rule| Rule::new(rule, effect)).collect()))
    }
}

/// Returns whether `path` can be compared with a path: a text, or a path template in order.
pub(crate) fn is_path(path: &str) -> bool {
    Pattern::path(path).is_some()
}

#[cfg(test)]
mod tests;
