//! `targetRef` and `targetRefs`: the gateways and waypoints that a policy is attached to. No process is one of them, so
//! such a policy applies to no workload here, and never to its whole namespace instead.
// spec: istio type/v1beta1/selector.proto PolicyTargetReference

use super::common::WorkloadSelector;
use crate::config::{
    decode::{Decoder, Fields, name, shortened, text},
    diagnostic::{Code, Diagnostic},
    tree::Node,
};

/// What a policy is attached to instead of workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyTarget {
    /// `kind`.
    pub kind: String,
    /// `name`, in the namespace of the policy.
    pub name: String,
}

/// Reads the fields that say whom a policy is for: its selector, or its targets.
// spec: istio pkg/config/validation validateOneOfSelectorType
pub(super) fn read(fields: &mut Fields<'_, '_>) -> (Option<WorkloadSelector>, Vec<PolicyTarget>) {
    let selector = fields.get("selector", WorkloadSelector::reader("matchLabels"));
    let mut targets = fields.list("targetRefs", PolicyTarget::read);
    targets.extend(fields.get("targetRef", PolicyTarget::read));
    let written = ["selector", "targetRef"].into_iter().filter(|name| fields.has(name)).count();
    if written + usize::from(fields.count("targetRefs").is_some_and(|count| count > 0)) > 1 {
        let at = fields.at;
        fields.decoder.refuse(at, "only one of selector, targetRef and targetRefs may be set");
    }
    for name in ["targetRef", "targetRefs"] {
        if fields.has(name) && !targets.is_empty() {
            let message = "the policy is for a gateway or waypoint, and applies to no workload here";
            fields.find(name, Diagnostic::warning(Code::INEFFECTIVE_POLICY, message));
        }
    }
    (selector, targets)
}

/// Returns whether a policy can be attached to objects of this kind, of whatever group.
pub(crate) fn is_target_kind(kind: &str) -> bool {
    ALLOWED.iter().any(|(_, allowed)| *allowed == kind)
}

impl PolicyTarget {
    // spec: istio pkg/config/validation validatePolicyTargetReference
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let group = fields.get("group", text).unwrap_or_default();
        let kind = fields.require("kind", name);
        let name = fields.require("name", name);
        if fields.get("namespace", text).is_some_and(|namespace| !namespace.is_empty()) {
            fields.refuse("namespace", "a target is in the namespace of its policy; leave this out");
        }
        if let Some(kind) = kind.as_deref().filter(|kind| !ALLOWED.contains(&(&group, kind))) {
            let written = shortened(&format!("{group}/{kind}"));
            let finding = Diagnostic::error(
                Code::SCHEMA,
                format!("a policy is not attached to a `{}`", written.trim_start_matches('/')),
            );
            let help = "write Service, or ServiceEntry of networking.istio.io, or Gateway or GatewayClass of \
                        gateway.networking.k8s.io";
            fields.find("kind", finding.help(help));
        }
        fields.finish();
        Some(Self { kind: kind?, name: name? })
    }
}

// spec: istio pkg/config/validation allowedTargetRefs
const ALLOWED: [(&str, &str); 5] = [
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];
