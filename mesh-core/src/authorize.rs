//! May this request be made? AUDIT, DENY and ALLOW policies over peer, addresses, method, host, path, port, headers and
//! the claims of a token. Which policies select a workload is decided before; what a policy means in the words of Istio
//! is decided here, once, when it is compiled.
//!
//! Every doubt goes towards the denial: a condition that cannot be judged is one an ALLOW does not meet and a DENY does.
// spec: istio security/v1beta1/authorization_policy.proto; order: CUSTOM, DENY, then ALLOW. A CUSTOM is refused when it
// is read, and then is a DENY of everything.

mod claims;
mod foresee;
mod pattern;
mod principal;
mod rule;
mod story;
mod trust;

pub use claims::Claims;
pub use foresee::{Foreseen, Recorded};
pub use story::{Story, TriedPolicy, TriedRule};
pub use trust::TrustDomains;

use crate::{
    config::{
        Location, Mark, Origin, Resource, ResourceKey, Spec,
        istio::{AuthorizationAction, AuthorizationRule, Lists, Operation, Source},
    },
    identity::SpiffeId,
};
use http::{HeaderMap, Method};
use pattern::Pattern;
use rule::Rule;
use std::{fmt, net::IpAddr, sync::Arc};

/// What is known of a request when it is judged: the very bytes that the handler will see.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The verified peer.
    pub peer: Option<&'a SpiffeId>,
    /// The address of the direct peer.
    pub source: Option<IpAddr>,
    /// The address of the first caller, as trusted proxies tell it; without such proxies that of the direct peer.
    pub remote: Option<IpAddr>,
    /// The address that the request came in on.
    pub destination: Option<IpAddr>,
    /// The port of the workload that the request came in on.
    pub port: u16,
    /// The server name that the peer asked for in its handshake; `None` if it named none, or spoke no TLS.
    pub sni: Option<&'a str>,
    /// The method.
    pub method: &'a Method,
    /// The host, normalised, with the port that the request names, if it names one: `reviews` or `reviews:9080`.
    pub host: &'a str,
    /// The path, normalised, without query.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The claims of the verified token: those of [`Claims::default`] if there is none, and `None` if nobody verifies
    /// tokens, so that nobody knows.
    pub claims: Option<&'a Claims>,
}

/// The outcome, and on what it rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let through; `None` if there is no ALLOW policy at all.
    Allowed(Option<Grounds>),
    /// Denied by a policy.
    Denied(Grounds),
    /// There are ALLOW policies, and none matches.
    NotAllowed,
}

/// The policy and the rule of it that matched. Displays as Envoy names it: `ns[shop]-policy[viewers]-rule[0]`.
// spec: istio pilot/pkg/security/authz/builder policyName
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// The policy.
    pub policy: Arc<Origin>,
    /// The index of the rule; `None` for a policy that could not be read, and so matches as a whole.
    pub rule: Option<usize>,
}

/// The policies of one workload, compiled.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    audit: Vec<Policy>,
    enforced: Policies,
    on_trial: Policies,
}

/// The policies that decide together.
#[derive(Clone, Debug, Default)]
struct Policies {
    deny: Vec<Policy>,
    allow: Vec<Policy>,
}

#[derive(Clone, Debug)]
struct Policy {
    action: AuthorizationAction,
    source: Arc<Origin>,
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

impl Decision {
    /// Returns whether the request is let through.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// Returns the rule that decided, if one did.
    pub const fn grounds(&self) -> Option<&Grounds> {
        match self {
            Self::Allowed(Some(grounds)) | Self::Denied(grounds) => Some(grounds),
            Self::Allowed(None) | Self::NotAllowed => None,
        }
    }
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResourceKey { namespace, name, .. } = &self.policy.resource;
        write!(f, "ns[{namespace}]-policy[{name}]")?;
        self.rule.map_or(Ok(()), |rule| write!(f, "-rule[{rule}]"))
    }
}

impl Authorizer {
    /// Compiles the policies that select a workload: AuthorizationPolicy objects already filtered by namespace and
    /// selector. A malformed one fails closed: as an ALLOW it matches nothing, as a DENY it denies everything.
    pub fn new<'a>(
        policies: impl IntoIterator<Item = &'a Arc<Resource>>,
        trust_domains: &TrustDomains<'_>,
    ) -> Self {
        let mut authorizer = Self::default();
        for resource in policies {
            if let Some(policy) = Policy::of(resource, trust_domains) {
                authorizer.add(policy, is_on_trial(resource));
            }
        }
        authorizer
    }

    /// Returns the authorizer of a workload that has no configuration yet: nothing is allowed, because nobody knows what
    /// the policy will be.
    pub fn closed() -> Self {
        let resource = ResourceKey::new("AuthorizationPolicy", "", "none-yet");
        let location = Location::new(&"".into(), Mark::default());
        let mut authorizer = Self::default();
        authorizer.enforced.allow.push(Policy {
            action: AuthorizationAction::Allow,
            source: Arc::new(Origin { resource, location }),
            rules: Rules::Unreadable { matches: false },
        });
        authorizer
    }

    /// Denies requests without a verified token on `ports`, because the object `source` demands one.
    pub(crate) fn demand_token(
        &mut self,
        source: Origin,
        ports: Lists<u16>,
        trust_domains: &TrustDomains<'_>,
    ) {
        let not_values = vec!["*".to_owned()];
        let request_principals = Lists { not_values, ..Lists::default() };
        let operation = (!ports.is_empty()).then(|| Operation { ports, ..Operation::default() });
        let rule = AuthorizationRule {
            from: vec![Source { request_principals, ..Source::default() }],
            to: operation.into_iter().collect(),
            ..AuthorizationRule::default()
        };
        let rules = [Rule::new(&rule, AuthorizationAction::Deny, trust_domains, source.location.clone())];
        self.enforced.deny.push(Policy {
            action: AuthorizationAction::Deny,
            source: Arc::new(source),
            rules: Rules::AnyOf(rules.into()),
        });
    }

    fn add(&mut self, policy: Policy, on_trial: bool) {
        let policies = if on_trial { &mut self.on_trial } else { &mut self.enforced };
        match policy.action {
            AuthorizationAction::Audit => self.audit.push(policy),
            AuthorizationAction::Deny => policies.deny.push(policy),
            AuthorizationAction::Allow => policies.allow.push(policy),
        }
    }

    /// Returns whether `request` may be made. Does not allocate.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        self.enforced.decide(request, |_, _| {})
    }

    /// Returns what the policies on trial would decide by themselves; `None` if there are none. Does not allocate.
    // spec: istio annotations, istio.io/dry-run; envoy extensions/filters/http/rbac shadow_rules
    pub fn decide_on_trial(&self, request: &Request<'_>) -> Option<Decision> {
        (!self.on_trial.is_empty()).then(|| self.on_trial.decide(request, |_, _| {}))
    }

    /// Returns the first AUDIT rule that `request` matches. Does not allocate.
    pub fn audit(&self, request: &Request<'_>) -> Option<Grounds> {
        first_match(&self.audit, request, &mut |_, _| {})
    }

    /// Returns how the decision on `request` comes about: every policy that is tried, and why it matches or not.
    pub fn explain(&self, request: &Request<'_>) -> Story {
        let mut story = Story::default();
        first_match(&self.audit, request, &mut |policy, matched| story.on_policy(policy, matched, request));
        let decision =
            self.enforced.decide(request, |policy, matched| story.on_policy(policy, matched, request));
        story.on_decision(&decision);
        if !self.on_trial.is_empty() {
            let tell = |policy: &Policy, matched: Option<&Grounds>| story.on_trial(policy, matched, request);
            let decision = self.on_trial.decide(request, tell);
            story.on_trial_decision(&decision);
        }
        story
    }
}

impl Policies {
    fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty()
    }

    /// Decides, and tells `tell` of every policy that is tried and what of it matched.
    fn decide(&self, request: &Request<'_>, mut tell: impl FnMut(&Policy, Option<&Grounds>)) -> Decision {
        if let Some(grounds) = first_match(&self.deny, request, &mut tell) {
            return Decision::Denied(grounds);
        }
        if self.allow.is_empty() {
            return Decision::Allowed(None);
        }
        match first_match(&self.allow, request, &mut tell) {
            Some(grounds) => Decision::Allowed(Some(grounds)),
            None => Decision::NotAllowed,
        }
    }
}

fn first_match(
    policies: &[Policy],
    request: &Request<'_>,
    tell: &mut impl FnMut(&Policy, Option<&Grounds>),
) -> Option<Grounds> {
    policies.iter().find_map(|policy| {
        let grounds = policy.grounds(request);
        tell(policy, grounds.as_ref());
        grounds
    })
}

impl Policy {
    /// Returns the policy that `resource` holds; an object of another kind is none.
    fn of(resource: &Resource, trust_domains: &TrustDomains<'_>) -> Option<Self> {
        let (action, rules) = match &resource.spec {
            Spec::AuthorizationPolicy(spec) => {
                let location = |rule: &AuthorizationRule| resource.locate(rule.at);
                let compile = |rule| Rule::new(rule, spec.action, trust_domains, location(rule));
                (spec.action, Rules::AnyOf(spec.rules.iter().map(compile).collect()))
            }
            Spec::Malformed { deny: true, .. } => {
                (AuthorizationAction::Deny, Rules::Unreadable { matches: true })
            }
            Spec::Malformed { deny: false, .. } => {
                (AuthorizationAction::Allow, Rules::Unreadable { matches: false })
            }
            _ => return None,
        };
        let source = Origin { resource: resource.key.clone(), location: resource.location.clone() };
        Some(Self { action, source: Arc::new(source), rules })
    }

    /// Returns the first rule that `request` matches.
    fn grounds(&self, request: &Request<'_>) -> Option<Grounds> {
        let rule = match &self.rules {
            Rules::Unreadable { matches } => matches.then_some(None)?,
            Rules::AnyOf(rules) => Some(rules.iter().position(|rule| rule.matches(request))?),
        };
        Some(Grounds { policy: Arc::clone(&self.source), rule })
    }
}

/// Returns whether a policy is annotated to be tried only.
fn is_on_trial(resource: &Resource) -> bool {
    resource.meta.annotations.get(DRY_RUN).and_then(|text| flag(text)).unwrap_or_default()
}

/// Reads a boolean as Go's `strconv.ParseBool` does.
pub(crate) fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The annotation that puts a policy on trial.
// spec: istio annotations, istio.io/dry-run
pub(crate) const DRY_RUN: &str = "istio.io/dry-run";

/// Returns whether `path` can be compared with a path: a text, or a path template in order.
pub(crate) fn is_path(path: &str) -> bool {
    Pattern::path(path).is_some()
}

#[cfg(test)]
mod tests;
