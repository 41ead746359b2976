//! What the files say about each object, and which of them is right.

use super::{Objects, readings::Reading};
use crate::config::{
    diagnostic::{Code, Diagnostic, Level},
    resource::{Kind, Resource, ResourceKey, Spec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What one document says about an object.
enum Claim {
    /// It read well.
    Good(Arc<Resource>),
    /// It could not be read, but its file held this before.
    Kept(Arc<Resource>),
    /// It is there, and did not read well; if it is a security object, this is how it fails closed.
    Broken { file: Arc<str>, malformed: Option<Arc<Resource>> },
}

/// What all files say, in their order.
pub(super) struct Claims<'b> {
    before: &'b Objects,
    /// What failed closed before.
    closed: &'b Objects,
    by_key: BTreeMap<ResourceKey, Vec<Claim>>,
    findings: Vec<Diagnostic>,
}

impl<'b> Claims<'b> {
    pub(super) fn new(before: &'b Objects, closed: &'b Objects) -> Self {
        Self { before, closed, by_key: BTreeMap::new(), findings: Vec::new() }
    }

    /// Adds what `file` says.
    pub(super) fn on_file(&mut self, file: &Arc<str>, reading: &Reading) {
        let (kept, closed) = match reading.complete {
            true => (Vec::new(), Vec::new()),
            false => (lacking(self.before, file, reading), lacking(self.closed, file, reading)),
        };
        for finding in &reading.diagnostics {
            let mut finding = finding.clone();
            if !reading.complete && finding.is_error() && finding.resource.is_none() {
                finding.kept = Some(describe(&kept, &closed));
            }
            self.findings.push(finding);
        }
        let is_malformed = |resource: &&Arc<Resource>| matches!(resource.spec, Spec::Malformed { .. });
        let (malformed, good): (Vec<_>, Vec<_>) = reading.resources.iter().partition(is_malformed);
        for resource in good {
            self.claim(resource.key.clone(), Claim::Good(Arc::clone(resource)));
        }
        let malformed: BTreeMap<_, _> = malformed.into_iter().map(|object| (&object.key, object)).collect();
        for key in &reading.broken {
            let malformed = malformed.get(key).map(|object| Arc::clone(object));
            // A nameless object may be the very one that was kept, before its name was lost.
            let kind = malformed.as_ref().map(|object| object.kind);
            if key.is_nameless() && kept.iter().any(|kept| Some(kept.kind) == kind) {
                continue;
            }
            self.claim(key.clone(), Claim::Broken { file: Arc::clone(file), malformed });
        }
        for resource in kept {
            self.claim(resource.key.clone(), Claim::Kept(resource));
        }
        for malformed in closed {
            let file = Arc::clone(&malformed.location.file);
            self.claim(malformed.key.clone(), Claim::Broken { file, malformed: Some(malformed) });
        }
    }

    fn claim(&mut self, key: ResourceKey, claim: Claim) {
        self.by_key.entry(key).or_default().push(claim);
    }

    /// Returns the objects that are in force as far as each is judged by itself, and the findings.
    pub(super) fn settle(self) -> (Objects, Vec<Diagnostic>) {
        let Self { before, by_key, mut findings, .. } = self;
        let mut objects = Objects::new();
        let mut kept = BTreeMap::new();
        for (key, claims) in by_key {
            let chosen = choose(&claims, before.get(&key));
            findings.extend(duplicates(&key, &claims, chosen.as_ref()));
            if claims.iter().any(|claim| matches!(claim, Claim::Broken { .. })) {
                kept.insert(key.clone(), describe_chosen(&key, chosen.as_ref(), before));
            }
            objects.extend(chosen.map(|resource| (key, resource)));
        }
        for finding in findings.iter_mut().filter(|finding| finding.is_error() && finding.kept.is_none()) {
            finding.kept = finding.resource.as_ref().and_then(|key| kept.get(key)).cloned();
        }
        (objects, findings)
    }
}

/// Returns what of `before` `file` held and `reading`, which is not all of it, lacks. A directory that cannot be listed is
/// one file, and held what its files held.
fn lacking(before: &Objects, file: &str, reading: &Reading) -> Vec<Arc<Resource>> {
    let named: BTreeSet<_> =
        reading.resources.iter().map(|resource| &resource.key).chain(&reading.broken).collect();
    let lost = |old: &&Arc<Resource>| is_within(&old.location.file, file) && !named.contains(&old.key);
    before.values().filter(lost).cloned().collect()
}

/// Returns the version that is in force: that of the first document which has one, in the order of the files.
///
/// A document that is broken has the last good version, if that came from its file; else a good one elsewhere is
/// better than an old one.
fn choose(claims: &[Claim], last: Option<&Arc<Resource>>) -> Option<Arc<Resource>> {
    let version = |claim: &Claim| match claim {
        Claim::Good(resource) | Claim::Kept(resource) => Some(Arc::clone(resource)),
        Claim::Broken { file, .. } => last.filter(|last| last.location.file == *file).cloned(),
    };
    let fail_closed = |claim: &Claim| match claim {
        Claim::Broken { malformed, .. } => malformed.clone(),
        Claim::Good(_) | Claim::Kept(_) => None,
    };
    let first_version = claims.iter().find_map(version);
    first_version.or_else(|| last.cloned()).or_else(|| claims.iter().find_map(fail_closed))
}

/// Returns a finding for every good document that another one of the same object precedes.
fn duplicates(key: &ResourceKey, claims: &[Claim], chosen: Option<&Arc<Resource>>) -> Vec<Diagnostic> {
    let Some(chosen) = chosen else { return Vec::new() };
    let second = |claim: &Claim| match claim {
        Claim::Good(resource) if !Arc::ptr_eq(resource, chosen) => {
            let alike = resource.document.says_the_same(&chosen.document);
            let level = if alike { Level::Warning } else { Level::Error };
            let message = format!("{key} is defined at {} already", chosen.location);
            let finding = Diagnostic::new(Code::DUPLICATE_OBJECT, level, message).about(key);
            let finding = finding.help("remove one of them").at(resource.location.clone());
            Some(finding.kept(format!("the one at {} is in force", chosen.location)))
        }
        _ => None,
    };
    claims.iter().filter_map(second).collect()
}

fn describe_chosen(key: &ResourceKey, chosen: Option<&Arc<Resource>>, before: &Objects) -> String {
    match chosen {
        None => "nothing is in force: there is no earlier version".to_owned(),
        Some(chosen) if before.get(key).is_some_and(|last| Arc::ptr_eq(last, chosen)) => {
            still_in_force(chosen)
        }
        Some(chosen) => match (&chosen.spec, chosen.kind) {
            (Spec::Malformed { selector, deny }, Kind::AuthorizationPolicy) => {
                let reach = reach(selector.as_ref(), key);
                let consequence = if *deny { "denied" } else { "denied unless another policy allows it" };
                format!("there is no earlier version: every request to {reach} is {consequence}")
            }
            (Spec::Malformed { selector, .. }, Kind::RequestAuthentication) => {
                let reach = reach(selector.as_ref(), key);
                format!("there is no earlier version: every request to {reach} is denied")
            }
            (Spec::Malformed { selector, deny }, _) => {
                let reach = reach(selector.as_ref(), key);
                let more = if *deny { ", and every request denied, as it asks for a token" } else { "" };
                format!("there is no earlier version: mutual TLS is STRICT for {reach}{more}")
            }
            _ => format!("the one at {} is in force", chosen.location),
        },
    }
}

fn reach(selector: Option<&BTreeMap<String, String>>, key: &ResourceKey) -> String {
    match selector {
        Some(labels) if !labels.is_empty() => {
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("the workloads {} of namespace {}", labels.join(","), key.namespace)
        }
        _ if &*key.kind == Kind::MeshPolicy.as_str() => "the whole mesh".to_owned(),
        _ => format!("namespace {} (the whole mesh, if that is the root namespace)", key.namespace),
    }
}

pub(super) fn still_in_force(last: &Resource) -> String {
    format!("the version read before, of {}, stays in force", last.location)
}

fn describe(kept: &[Arc<Resource>], closed: &[Arc<Resource>]) -> String {
    let (all, count) = (kept.iter().chain(closed), kept.len() + closed.len());
    let mut names: Vec<_> = all.take(NAMED_MAX).map(|resource| resource.key.to_string()).collect();
    if count > NAMED_MAX {
        names.push(format!("{} more", count - NAMED_MAX));
    }
    match &names[..] {
        [] => "nothing: no object of this file that it lacks now was read before".to_owned(),
        _ => format!("what was read from this file before stays in force: {}", names.join(", ")),
    }
}

/// A line of a log holds as many.
const NAMED_MAX: usize = 5;

/// Returns whether `file` is `path`, or below it.
fn is_within(file: &str, path: &str) -> bool {
    let rest = file.strip_prefix(path.trim_end_matches(SEPARATORS));
    rest.is_some_and(|rest| file == path || rest.starts_with(SEPARATORS))
}

const SEPARATORS: [char; 2] = ['/', std::path::MAIN_SEPARATOR];
