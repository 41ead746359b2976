//! How a decision came about, for people.

use super::{AuthorizationAction, Decision, Grounds, Policy, Request, Rule, Rules};
use crate::{config::Origin, explain::Place};
use serde::Serialize;

/// Every policy that was tried, in order, and the outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Whether the request is let through.
    pub allowed: bool,
    /// The rule that decided, as Envoy names it; `None` if no ALLOW matched, or there is none.
    pub decided_by: Option<String>,
    /// What the policies on trial would have decided; `None` if there are none.
    pub allowed_on_trial: Option<bool>,
    /// The policies that were tried: AUDIT, DENY, ALLOW, then those on trial.
    pub tried: Vec<TriedPolicy>,
}

/// A policy that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriedPolicy {
    /// `AUDIT`, `DENY` or `ALLOW`.
    pub action: &'static str,
    /// Whether it is on trial, and decided nothing.
    pub on_trial: bool,
    /// Whether one of its rules matched.
    pub matched: bool,
    /// Why it has no rules to try.
    pub reason: Option<&'static str>,
    /// Its rules, up to the one that matched.
    pub rules: Vec<TriedRule>,
    /// The object.
    pub place: Place,
}

/// A rule that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriedRule {
    /// Its index in `rules`.
    pub rule: usize,
    /// Whether it matched.
    pub matched: bool,
    /// The first condition that failed; of several `from` or `to`, that of each.
    pub failed: Option<String>,
    /// Its place.
    pub place: Place,
}

impl Story {
    pub(super) fn on_policy(&mut self, policy: &Policy, matched: Option<&Grounds>, request: &Request<'_>) {
        self.tried.push(TriedPolicy::new(policy, matched, request));
    }

    pub(super) fn on_trial(&mut self, policy: &Policy, matched: Option<&Grounds>, request: &Request<'_>) {
        self.tried.push(TriedPolicy { on_trial: true, ..TriedPolicy::new(policy, matched, request) });
    }

    pub(super) fn on_decision(&mut self, decision: &Decision) {
        self.allowed = decision.is_allowed();
        self.decided_by = decision.grounds().map(ToString::to_string);
    }

    pub(super) fn on_trial_decision(&mut self, decision: &Decision) {
        self.allowed_on_trial = Some(decision.is_allowed());
    }
}

impl TriedPolicy {
    fn new(policy: &Policy, matched: Option<&Grounds>, request: &Request<'_>) -> Self {
        let (reason, rules) = match &policy.rules {
            Rules::Unreadable { matches: true } => {
                (Some("it could not be read, and denies everything"), &[][..])
            }
            Rules::Unreadable { matches: false } => {
                (Some("it could not be read, and allows nothing"), &[][..])
            }
            Rules::AnyOf(rules) if rules.is_empty() => {
                (Some("it has no rules, and matches nothing"), &[][..])
            }
            Rules::AnyOf(rules) => (None, &**rules),
        };
        let matched_rule = matched.and_then(|grounds| grounds.rule);
        let tried = rules.iter().take(matched_rule.map_or(rules.len(), |index| index + 1));
        Self {
            action: word(policy.action),
            on_trial: false,
            matched: matched.is_some(),
            reason,
            rules: tried
                .enumerate()
                .map(|(index, rule)| TriedRule::new(index, rule, &policy.source, request))
                .collect(),
            place: Place::of(&policy.source),
        }
    }
}

impl TriedRule {
    fn new(index: usize, rule: &Rule, policy: &Origin, request: &Request<'_>) -> Self {
        let failed = rule.failed(request).map(|part| part.tell(request));
        let origin = Origin { resource: policy.resource.clone(), location: rule.location.clone() };
        Self { rule: index, matched: failed.is_none(), failed, place: Place::of(&origin) }
    }
}

const fn word(action: AuthorizationAction) -> &'static str {
    match action {
        AuthorizationAction::Allow => "ALLOW",
        AuthorizationAction::Deny => "DENY",
        AuthorizationAction::Audit => "AUDIT",
    }
}
