//! What still can be read of a security object that is not in order, so that it fails closed where it was meant to act.
//!
//! It is served on as a document that says `malformed`, which no reader takes for a good one.

use super::kinds::api_versions;
use crate::{
    authorize::{DRY_RUN, flag},
    config::{
        istio::policy_target::is_target_kind,
        resource::{Kind, Mark, ResourceKey, Spec},
        tree::{Fault, Node, Value},
    },
};
use std::collections::BTreeMap;

/// The field that marks a document as one that did not read well where it was written.
pub(super) const MARKER: &str = "malformed";

/// A security object that is not in order.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed {
    /// The labels it selects; `None` is its whole namespace.
    selector: Option<BTreeMap<String, String>>,
    /// Whether it is a DENY, or may have been meant as one; of a 1.3 policy, whether it asks for a token. A
    /// RequestAuthentication always denies: nobody knows which tokens it takes, nor which headers tell handlers so.
    deny: bool,
}

impl Malformed {
    /// Returns what is left of `object`; `None` if nothing has to be refused in its stead.
    pub(super) fn of(kind: Kind, object: &Node, faults: &[Fault]) -> Option<Self> {
        if !kind.is_security() {
            return None;
        }
        let is_policy = kind == Kind::AuthorizationPolicy;
        let is_of_tokens = kind == Kind::RequestAuthentication;
        if !faults.is_empty() {
            return Some(Self { selector: None, deny: is_policy || is_of_tokens });
        }
        if let Some(marker) = object.get(MARKER) {
            let deny = is_of_tokens || marker.get("deny").and_then(Node::as_text) != Some("false");
            return Some(Self { selector: marker.get("selector").and_then(labels), deny });
        }
        let spec = object.get("spec");
        let may_be_attached = is_policy || is_of_tokens;
        if is_policy && (is_on_trial(object) || spec.is_some_and(audits))
            || may_be_attached && spec.is_some_and(is_for_a_gateway)
        {
            return None;
        }
        let is_legacy = matches!(kind, Kind::MeshPolicy | Kind::Policy);
        let deny = is_of_tokens
            || is_policy && spec.is_none_or(may_deny)
            || is_legacy && spec.is_some_and(asks_for_token);
        Some(Self { selector: spec.and_then(selector), deny })
    }

    pub(super) fn spec(self) -> Spec {
        Spec::Malformed { selector: self.selector, deny: self.deny }
    }

    /// Returns the document that reads as this.
    pub(super) fn document(&self, key: &ResourceKey, kind: Kind, at: Mark) -> Node {
        let string = |text: &str| Node::string(text, at);
        let mapping = |entries: Vec<(&str, Node)>| {
            Node::mapping(entries.into_iter().map(|(name, node)| (name.to_owned(), node)), at)
        };
        let mut marker = vec![("deny", string(if self.deny { "true" } else { "false" }))];
        if let Some(labels) = &self.selector {
            let labels = labels.iter().map(|(name, value)| (name.clone(), string(value)));
            marker.push(("selector", Node::mapping(labels, at)));
        }
        mapping(vec![
            ("apiVersion", string(api_versions(kind)[0])),
            ("kind", string(kind.as_str())),
            ("metadata", mapping(vec![("name", string(&key.name)), ("namespace", string(&key.namespace))])),
            (MARKER, mapping(marker)),
        ])
    }
}

/// Returns whether a policy is annotated to be tried only.
fn is_on_trial(object: &Node) -> bool {
    let annotation = || object.get("metadata")?.get("annotations")?.get(DRY_RUN)?.as_text();
    annotation().and_then(flag).unwrap_or_default()
}

/// Returns whether a policy, were it in order, would only record.
fn audits(spec: &Node) -> bool {
    spec.get("action").and_then(Node::as_text) == Some("AUDIT")
}

/// Returns whether a policy, were it in order, would be a gateway's or waypoint's and decide nothing about requests to
/// a workload.
fn is_for_a_gateway(spec: &Node) -> bool {
    let targets: Vec<&Node> = match (spec.get("targetRef"), spec.get("targetRefs").map(|node| &node.value)) {
        (Some(target), None) => vec![target],
        (None, Some(Value::Sequence(targets))) => targets.iter().collect(),
        _ => Vec::new(),
    };
    let is_attachable =
        |target: &&Node| target.get("kind").and_then(Node::as_text).is_some_and(is_target_kind);
    spec.get("selector").is_none() && !targets.is_empty() && targets.iter().all(is_attachable)
}

/// Returns whether a policy is a DENY or may have been meant as one: only what clearly is an ALLOW is none.
fn may_deny(spec: &Node) -> bool {
    match spec.get("action") {
        Some(action) => action.as_text() != Some("ALLOW"),
        None => match &spec.value {
            Value::Mapping(entries) => {
                !entries.iter().all(|(key, _)| matches!(&*key.text, "selector" | "rules"))
            }
            _ => true,
        },
    }
}

/// Returns whether a policy of Istio 1.3 asks for a token: without one that is good, nobody would come in.
fn asks_for_token(spec: &Node) -> bool {
    let of_peers = match spec.get("peers").map(|node| &node.value) {
        Some(Value::Sequence(peers)) => peers.iter().any(|peer| peer.get("jwt").is_some()),
        _ => false,
    };
    of_peers || ["origins", "jwts"].into_iter().any(|name| spec.get(name).is_some())
}

fn selector(spec: &Node) -> Option<BTreeMap<String, String>> {
    match &spec.get("selector")?.value {
        Value::Mapping(entries) => match &entries[..] {
            [(key, node)] if matches!(&*key.text, "matchLabels" | "match_labels") => labels(node),
            _ => None,
        },
        _ => None,
    }
}

fn labels(node: &Node) -> Option<BTreeMap<String, String>> {
    let Value::Mapping(entries) = &node.value else { return None };
    let label = |(key, node): &(crate::config::tree::Key, Node)| {
        let value = node.as_text()?;
        (!key.text.contains('*') && !value.contains('*')).then(|| (key.text.to_string(), value.to_owned()))
    };
    entries.iter().map(label).collect()
}
