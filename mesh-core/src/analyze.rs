//! What is wrong with a configuration before it is served: everything that reading, accepting and compiling it finds, for
//! every namespace that it concerns, and what objects say about each other.

use crate::{
    config::{Accepted, Code, Diagnostic, Kind, Level, Location, Options, Resource, SourceFile, Spec},
    health::States,
    registry::{Registry, full_host},
    snapshot::{MeshSettings, Viewer, compile, lint_security},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

/// Returns what is to be said about `files`, in the order of places, worst first.
///
/// They are taken for the whole configuration. What they refer to and do not define is an error if they define services
/// at all; if not, a service is a warning, as workloads may bring theirs when they register, and so is a subset if no
/// DestinationRule is among them: then they are a part of a configuration.
pub fn analyze(files: &[SourceFile], options: &Options, settings: &MeshSettings) -> Vec<Diagnostic> {
    let accepted = Accepted::default().update(files, options);
    let registry = accepted.resources.iter().any(|object| object.kind.is_registry());
    let missing = if registry { Level::Error } else { Level::Warning };
    let mut findings = Findings::new(accepted.diagnostics);
    if !registry && !accepted.resources.iter().any(|object| object.kind == Kind::DestinationRule) {
        findings.set_level(Code::REFERENCE_NOT_FOUND, Level::Warning);
    }
    for viewer in viewers(&accepted.resources) {
        let (_, found) = compile("", &accepted.resources, &viewer, settings, &States::default());
        found.into_iter().for_each(|finding| findings.add(finding, missing));
    }
    let (settings, _) = settings.of(&accepted.resources);
    let known = Registry::build(&accepted.resources, &settings.domain);
    for finding in lint_security::findings(&accepted.resources, &known, &settings) {
        findings.add(finding, missing);
    }
    for finding in
        accepted.resources.iter().filter_map(|object| rule_for_another_name(object, &known, &settings))
    {
        findings.add(finding, missing);
    }
    findings.all.sort_by(|a, b| a.location.cmp(&b.location).then_with(|| b.level.cmp(&a.level)));
    findings.all
}

/// One workload without labels in each namespace that objects stand in: what is found for a caller depends on little
/// else.
fn viewers(resources: &[Arc<Resource>]) -> impl Iterator<Item = Viewer> {
    let namespaces: BTreeSet<_> = resources.iter().map(|object| object.key.namespace.to_string()).collect();
    namespaces.into_iter().map(|namespace| Viewer { namespace, service: None, labels: BTreeMap::new() })
}

/// Returns a warning if `object` is a DestinationRule for a name that stands for another host.
// spec: istio pilot/pkg/model/push_context.go resolveServiceAliases: a request to an alias goes to the target's cluster
fn rule_for_another_name(object: &Resource, known: &Registry, settings: &MeshSettings) -> Option<Diagnostic> {
    let Spec::DestinationRule(rule) = &object.spec else { return None };
    let written = full_host(&rule.host.value, &object.key.namespace, &settings.domain);
    let host = &known.get(&written).filter(|service| service.host != written)?.host;
    let message = format!(
        "{written} only is another name for {host}: rules for that host apply, and this one never does"
    );
    let finding = Diagnostic::warning(Code::NO_EFFECT, message).about(&object.key).path("spec.host");
    Some(finding.at(object.locate(rule.host.at)).help(format!("write `host: {host}`")))
}

/// Findings; one of each code for a place.
struct Findings {
    all: Vec<Diagnostic>,
    known: HashSet<(Code, Option<Location>)>,
}

impl Findings {
    fn new(all: Vec<Diagnostic>) -> Self {
        let known = all.iter().map(|finding| (finding.code, finding.location.clone())).collect();
        Self { all, known }
    }

    fn set_level(&mut self, code: Code, level: Level) {
        self.all.iter_mut().filter(|finding| finding.code == code).for_each(|finding| finding.level = level);
    }

    /// A dangling subset has been judged over the whole set already, with the better message.
    fn add(&mut self, mut finding: Diagnostic, missing: Level) {
        if finding.code == Code::REFERENCE_NOT_FOUND {
            finding.level = missing;
        }
        if self.known.insert((finding.code, finding.location.clone())) {
            self.all.push(finding);
        }
    }
}
