//! Judges Sidecars over the whole set: of those that select a workload only the oldest applies to it.
// spec: istio pkg/config/analysis/analyzers/sidecar

use super::Objects;
use crate::config::{
    diagnostic::{Code, Diagnostic},
    istio::Sidecar,
    resource::{Resource, Spec},
};
use std::collections::{BTreeMap, HashMap};

/// Adds what is found about Sidecars that select the same workloads.
pub(super) fn judge(objects: &Objects, findings: &mut Vec<Diagnostic>) {
    let mut by_namespace: BTreeMap<&str, Vec<(&Resource, &Sidecar)>> = BTreeMap::new();
    for resource in objects.values() {
        if let Spec::Sidecar(spec) = &resource.spec {
            by_namespace.entry(&resource.key.namespace).or_default().push((resource, spec));
        }
    }
    for mut sidecars in by_namespace.into_values() {
        sidecars.sort_by_key(|(resource, _)| age(resource));
        without_selector(&sidecars, findings);
        same_selection(&sidecars, findings);
    }
}

/// The oldest first, those without a time last.
fn age<'a>(resource: &&'a Resource) -> (bool, Option<&'a str>, &'a str) {
    let created = resource.meta.created.as_deref();
    (created.is_none(), created, &resource.key.name)
}

fn without_selector(sidecars: &[(&Resource, &Sidecar)], findings: &mut Vec<Diagnostic>) {
    let mut all = sidecars.iter().filter(|(_, spec)| spec.workload_selector.is_none());
    let Some((oldest, _)) = all.next() else { return };
    for (resource, _) in all {
        let message = format!("{} selects every workload of the namespace already", oldest.key);
        let finding = Diagnostic::error(Code::SIDECARS_WITHOUT_SELECTOR, message);
        findings.push(finish(finding, resource, oldest, "spec"));
    }
}

fn same_selection(sidecars: &[(&Resource, &Sidecar)], findings: &mut Vec<Diagnostic>) {
    let selecting = sidecars
        .iter()
        .filter_map(|(resource, spec)| Some((*resource, &spec.workload_selector.as_ref()?.labels)));
    let selecting: Vec<Selecting<'_>> = selecting.collect();
    let mut wider: HashMap<Option<Label<'_>>, Vec<usize>> = HashMap::new();
    for (index, (_, labels)) in selecting.iter().enumerate() {
        wider.entry(labels.first_key_value()).or_default().push(index);
    }
    for (index, (resource, labels)) in selecting.iter().enumerate() {
        let firsts = labels.iter().map(Some).chain([None]);
        let candidates = firsts.filter_map(|first| wider.get(&first)).flatten();
        for other in candidates.filter(|other| **other != index) {
            let (known, wanted) = selecting[*other];
            let covers = wanted.iter().all(|(name, value)| labels.get(name) == Some(value));
            // Of two that select the very same, one is told of it.
            if covers && (wanted.len() < labels.len() || *other < index) {
                let message = format!("{} selects the workloads that this one selects, too", known.key);
                let finding = Diagnostic::error(Code::CONFLICTING_SIDECARS, message);
                let oldest = if *other < index { known } else { resource };
                findings.push(finish(finding, resource, oldest, "spec.workloadSelector"));
            }
        }
    }
}

/// A Sidecar and the labels that it selects.
type Selecting<'a> = (&'a Resource, &'a BTreeMap<String, String>);

type Label<'a> = (&'a String, &'a String);

fn finish(finding: Diagnostic, resource: &Resource, oldest: &Resource, path: &str) -> Diagnostic {
    finding
        .about(&resource.key)
        .at(resource.location.clone())
        .path(path)
        .help("let every workload be selected by one Sidecar")
        .kept(format!("where both select, {} applies: it is the older", oldest.key))
}
