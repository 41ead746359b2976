//! What policy decided, counted: by policy where one denied or was asked to record, in sum where requests were let
//! through. The names come from the configuration, never from a peer.

use super::{
    OVERFLOW,
    text::{Labels, Text},
};
use mesh_core::{
    authenticate::TokenFault,
    config::{Origin, ResourceKey},
};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// What came of asking the policies about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyOutcome {
    /// It was denied: by a policy, or because no policy that allows some allows it.
    Denied,
    /// An AUDIT policy matched.
    Audited,
    /// The policies on trial (`istio.io/dry-run`) would have denied it.
    DeniedOnTrial,
}

/// The counters of one workload.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    allowed: AtomicU64,
    allowed_on_trial: AtomicU64,
    by_policy: Mutex<BTreeMap<PolicyOutcome, BTreeMap<Option<ResourceKey>, u64>>>,
    /// By what was wrong; the faults are words of the code, so there are few.
    tokens_refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Decisions {
    pub(super) fn on_allowed(&self) {
        self.allowed.fetch_add(1, Relaxed);
    }

    pub(super) fn on_allowed_on_trial(&self) {
        self.allowed_on_trial.fetch_add(1, Relaxed);
    }

    /// Counts `outcome` under the policy it rests on, if it rests on one.
    pub(super) fn on_outcome(&self, outcome: PolicyOutcome, policy: Option<&Origin>) {
        let mut by_policy = self.by_policy.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = by_policy.entry(outcome).or_default();
        let policy = policy.map(|policy| &policy.resource);
        let is_known = counts.contains_key(&policy.cloned());
        let policy = match policy {
            // Policies come and go over the life of a process.
            Some(_) if !is_known && counts.len() >= POLICIES_MAX => Some(ResourceKey::new("", "", OVERFLOW)),
            policy => policy.cloned(),
        };
        *counts.entry(policy).or_default() += 1;
    }

    pub(super) fn on_token_refused(&self, fault: TokenFault) {
        let mut refused = self.tokens_refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(fault.text()).or_default() += 1;
    }

    pub(super) fn render(&self, text: &mut Text) {
        let labels = |decision, policy: &str| Labels::new().with("decision", decision).with("policy", policy);
        text.family(
            "mesh_authorization_total",
            "counter",
            "What authorization policies decided about requests.",
        );
        text.sample(&labels("allowed", NO_POLICY), self.allowed.load(Relaxed));
        text.sample(&labels("allowed_on_trial", NO_POLICY), self.allowed_on_trial.load(Relaxed));
        for (outcome, counts) in self.by_policy.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (policy, count) in counts {
                text.sample(&labels(outcome.word(), &name(policy.as_ref())), count);
            }
        }
        text.family(
            "mesh_tokens_refused_total",
            "counter",
            "Tokens of end users refused, by what was wrong.",
        );
        for (fault, count) in self.tokens_refused.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            text.sample(&Labels::new().with("reason", fault), count);
        }
    }
}

impl PolicyOutcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Audited => "audited",
            Self::DeniedOnTrial => "denied_on_trial",
        }
    }
}

/// Returns the policy as Envoy's statistics name it, without its rule.
fn name(policy: Option<&ResourceKey>) -> String {
    match policy {
        None => NO_POLICY.to_owned(),
        Some(key) if key.kind.is_empty() => key.name.to_string(),
        Some(ResourceKey { namespace, name, .. }) => format!("ns[{namespace}]-policy[{name}]"),
    }
}

/// An empty label would count as absent.
const NO_POLICY: &str = "-";
/// More than anybody selects one workload with.
const POLICIES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::config::{Location, Mark};

    #[test]
    fn what_policy_decides_is_counted_by_policy_up_to_a_bound() {
        let decisions = Decisions::default();
        let policy = |name: &str| Origin {
            resource: ResourceKey::new("AuthorizationPolicy", "shop", name),
            location: Location::new(&"".into(), Mark::default()),
        };
        decisions.on_allowed();
        decisions.on_outcome(PolicyOutcome::Denied, None);
        decisions.on_outcome(PolicyOutcome::DeniedOnTrial, Some(&policy("p")));
        decisions.on_token_refused(TokenFault::Expired);
        for n in 0..POLICIES_MAX + 5 {
            decisions.on_outcome(PolicyOutcome::Audited, Some(&policy(&format!("p{n}"))));
        }
        decisions.on_outcome(PolicyOutcome::Audited, Some(&policy("p0")));
        let mut text = Text::default();
        decisions.render(&mut text);
        let text = text.finish();
        for line in [
            "mesh_authorization_total{decision=\"allowed\",policy=\"-\"} 1\n",
            "mesh_authorization_total{decision=\"allowed_on_trial\",policy=\"-\"} 0\n",
            "mesh_authorization_total{decision=\"denied\",policy=\"-\"} 1\n",
            "mesh_authorization_total{decision=\"audited\",policy=\"ns[shop]-policy[p0]\"} 2\n",
            "mesh_authorization_total{decision=\"audited\",policy=\"overflow\"} 5\n",
            "mesh_authorization_total{decision=\"denied_on_trial\",policy=\"ns[shop]-policy[p]\"} 1\n",
            "mesh_tokens_refused_total{reason=\"Jwt is expired\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
        assert!(text.lines().count() <= POLICIES_MAX + 12);
    }
}
