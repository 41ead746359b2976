//! Compiles the configuration again when it changes, and only what the change touches.
//!
//! What is compiled of one host is a unit; it knows which hosts and objects were looked at for it. A change touches
//! names, and the units that looked at them are compiled again, into a snapshot that shares the rest with the one
//! before.

use super::{
    Inbound, MeshSettings, Scope, Snapshot, Viewer,
    clusters::ClusterStore,
    hosts::{self, Unit},
    inbound,
    index::{Index, Touched},
    view::View,
};
use crate::{
    config::{Changes, Code, Diagnostic, Kind, Resource},
    health::States,
    registry::Answers,
    route::{HostTable, Ports},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Compiles snapshots for one workload, one after the other.
///
/// ```
/// # use mesh_core::{config::{Accepted, Options, SourceFile}, health::States, snapshot::{Compiler, MeshSettings, Viewer}};
/// # let viewer = Viewer { namespace: "default".into(), service: None, labels: Default::default() };
/// # let settings = MeshSettings::new("cluster.local".parse().unwrap());
/// # let file = |text: &str| [SourceFile { name: "mesh.yaml".into(), text: Ok(text.into()) }];
/// let (mut compiler, states) = (Compiler::new(viewer), States::default());
/// let first = Accepted::default().update(&file(""), &Options::default());
/// let (before, _) = compiler.compile("1", &first.resources, &settings, &states);
/// let text = "{apiVersion: v1, kind: Service, metadata: {name: reviews}, spec: {ports: [{port: 80}]}}";
/// let second = first.update(&file(text), &Options::default());
/// let (after, _) = compiler.compile("2", &second.resources, &settings, &states);
/// assert_eq!((before.hosts().iter().count(), after.clusters().count()), (0, 1));
/// ```
#[derive(Debug)]
pub struct Compiler {
    viewer: Viewer,
    /// What names stand for.
    answers: Answers,
    last: Option<Compiled>,
}

/// What was compiled last, in parts.
#[derive(Debug)]
struct Compiled {
    version: Arc<str>,
    settings: MeshSettings,
    index: Index,
    clusters: ClusterStore,
    units: HashMap<Arc<str>, Unit>,
    /// Which units looked at a name.
    readers: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Which units answer to a name, in the order in which they are asked.
    owners: HashMap<Arc<str>, BTreeSet<Owner>>,
    hosts: HostTable,
    inbound: Inbound,
    about_settings: Vec<Diagnostic>,
}

/// A unit that answers to a name; services come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    is_not_service: bool,
    host: Arc<str>,
}

impl Compiler {
    /// Returns a compiler for `viewer` that has compiled nothing.
    pub fn new(viewer: Viewer) -> Self {
        Self { viewer, answers: Answers::default(), last: None }
    }

    /// Returns this compiler if it compiles for `viewer`, else one that does, and knows as well what names stand for.
    #[must_use]
    pub fn for_viewer(self, viewer: &Viewer) -> Self {
        if self.viewer == *viewer {
            self
        } else {
            Self { answers: self.answers, ..Self::new(viewer.clone()) }
        }
    }

    /// Returns every name whose answer the configuration compiled last wants to be told, in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.last.iter().flat_map(|last| last.index.registry.names())
    }

    /// Compiles `resources`, sorted by key as [`Accepted`](crate::config::Accepted) keeps them. Never fails as a whole:
    /// what cannot be compiled is a finding, and the part of it that reaches a request answers as Envoy answers a
    /// dangling reference, or fails closed.
    ///
    /// What differs from the last time is compiled again; an object is the same if it is the same allocation. The
    /// result is that of compiling it all.
    pub fn compile(
        &mut self,
        version: &str,
        resources: &[Arc<Resource>],
        settings: &MeshSettings,
        states: &States,
    ) -> (Snapshot, Vec<Diagnostic>) {
        let (settings, about_settings) = settings.of(of_kind(resources, Kind::ConfigMap));
        let changes = |last: &Compiled| Changes::between(&last.index.resources, resources);
        let last = self.last.take().filter(|last| last.settings == settings);
        let last =
            last.map(|last| (changes(&last), last)).filter(|(changes, _)| !Index::is_upset_by(changes));
        let mut compiled = match last {
            Some((changes, mut last)) => {
                let touched = last.index.apply(resources, &changes, &self.viewer, &settings);
                last.update(&touched, &self.viewer, states);
                last
            }
            None => {
                let scope = Scope::of(resources, &self.viewer, &settings);
                let mut new = Compiled::of(Index::of(resources, &self.viewer, &settings, scope), settings);
                new.index.registry.resolve(self.answers.clone());
                new.update(&Touched::everything(), &self.viewer, states);
                new
            }
        };
        compiled.about_settings = about_settings;
        compiled.version = version.into();
        let result = (compiled.snapshot(), compiled.findings());
        self.last = Some(compiled);
        result
    }

    /// Takes what names stand for, and compiles again what goes by it; `None` if nothing that was compiled does.
    pub fn resolve(&mut self, answers: Answers, states: &States) -> Option<Snapshot> {
        self.answers = answers;
        let last = self.last.as_mut()?;
        let names = last.index.registry.resolve(self.answers.clone());
        if names.is_empty() {
            return None;
        }
        last.update(&Touched { names, ..Touched::default() }, &self.viewer, states);
        Some(last.snapshot())
    }
}

impl Compiled {
    fn of(index: Index, settings: MeshSettings) -> Self {
        Self {
            version: "".into(),
            settings,
            index,
            clusters: ClusterStore::new(),
            units: HashMap::new(),
            readers: HashMap::new(),
            owners: HashMap::new(),
            hosts: HostTable::default(),
            inbound: Inbound::default(),
            about_settings: Vec::new(),
        }
    }

    fn update(&mut self, touched: &Touched, viewer: &Viewer, states: &States) {
        // Taken out, so that what is compiled can borrow from it while the rest of this changes.
        let (index, settings) = (std::mem::take(&mut self.index), self.settings.clone());
        let view = View::new(&index, viewer, &settings);
        let stale = if touched.everything { self.every_host(&index) } else { self.stale(&touched.names) };
        let refreshed = if touched.everything { &stale } else { &touched.names };
        for host in refreshed {
            self.clusters.refresh(view, states, host);
        }
        let mut names = BTreeSet::new();
        for host in &stale {
            self.recompile(view, states, host, &mut names);
        }
        for name in names {
            self.rename(&name);
        }
        self.clusters.free_unused();
        if touched.inbound {
            self.inbound = inbound::compile(&view, states);
        }
        self.index = index;
    }

    fn every_host(&self, index: &Index) -> BTreeSet<Arc<str>> {
        let known = index.registry.hosts().chain(index.claims.hosts());
        known.chain(index.attached.hosts()).chain(self.units.keys()).cloned().collect()
    }

    /// Returns the hosts whose units looked at one of `names`, or are new.
    fn stale(&self, names: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
        let readers = names.iter().filter_map(|name| self.readers.get(name)).flatten();
        readers.chain(names).cloned().collect()
    }

    /// Compiles the unit of `host` again, and adds the names it answered or answers to to `names`.
    fn recompile(
        &mut self,
        view: View<'_>,
        states: &States,
        host: &Arc<str>,
        names: &mut BTreeSet<Arc<str>>,
    ) {
        let new = hosts::compile(view, &mut self.clusters, states, host);
        if let Some(new) = &new {
            self.clusters.count(&new.clusters, u32::saturating_add);
        }
        if let Some(old) = self.units.remove(host) {
            self.forget(host, &old);
            names.extend(old.names);
        }
        if let Some(new) = new {
            self.learn(host, &new);
            names.extend(new.names.iter().cloned());
            self.units.insert(Arc::clone(host), new);
        }
    }

    fn forget(&mut self, host: &Arc<str>, old: &Unit) {
        self.clusters.count(&old.clusters, u32::saturating_sub);
        for name in &old.depends {
            remove(&mut self.readers, name, host);
        }
        for name in &old.names {
            remove(&mut self.owners, name, &Owner::of(host, old));
        }
    }

    fn learn(&mut self, host: &Arc<str>, new: &Unit) {
        for name in &new.depends {
            self.readers.entry(Arc::clone(name)).or_default().insert(Arc::clone(host));
        }
        for name in &new.names {
            self.owners.entry(Arc::clone(name)).or_default().insert(Owner::of(host, new));
        }
    }

    /// Makes `name` mean what the units that answer to it say.
    fn rename(&mut self, name: &str) {
        let mut ports = Ports::default();
        let owners = self.owners.get(name).into_iter().flatten();
        for unit in owners.filter_map(|owner| self.units.get(&owner.host)) {
            unit.hosts.iter().for_each(|(port, host)| ports.insert(*port, host));
        }
        self.hosts.set(name, ports);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            version: Arc::clone(&self.version),
            hosts: self.hosts.clone(),
            clusters: self.clusters.table.clone(),
            allow_any: self.index.scope.allow_any().unwrap_or(self.settings.allow_any),
            domain: self.settings.domain.clone(),
            inbound: self.inbound.clone(),
            gateway: None,
        }
    }

    /// Returns every finding once, in the order of places: a rule for several hosts and ports is compiled for each.
    fn findings(&self) -> Vec<Diagnostic> {
        let of_hosts = self.units.values().flat_map(|unit| &unit.findings);
        let mut found: Vec<_> =
            of_hosts.chain(self.clusters.findings()).chain(&self.about_settings).cloned().collect();
        found.sort_by(|a, b| {
            let order = a.location.cmp(&b.location).then_with(|| b.level.cmp(&a.level));
            order.then_with(|| (a.code, &a.message, &a.path).cmp(&(b.code, &b.message, &b.path)))
        });
        // A `tls` block that covers ten thousand hosts is one mistake.
        found.dedup_by(|later, first| {
            later == first
                || (later.code, first.code) == (Code::AUTO_MTLS_OFF, Code::AUTO_MTLS_OFF)
                    && later.location == first.location
        });
        found
    }
}

/// Returns the objects of `kind` among `resources`, which are sorted by key.
fn of_kind(resources: &[Arc<Resource>], kind: Kind) -> &[Arc<Resource>] {
    let before = |resource: &Arc<Resource>| &*resource.key.kind < kind.as_str();
    let not_after = |resource: &Arc<Resource>| &*resource.key.kind <= kind.as_str();
    &resources[resources.partition_point(before)..resources.partition_point(not_after)]
}

impl Owner {
    fn of(host: &Arc<str>, unit: &Unit) -> Self {
        Self { is_not_service: !unit.is_service, host: Arc::clone(host) }
    }
}

fn remove<T: Ord>(sets: &mut HashMap<Arc<str>, BTreeSet<T>>, name: &Arc<str>, member: &T) {
    if let Some(set) = sets.get_mut(name) {
        set.remove(member);
        if set.is_empty() {
            sets.remove(name);
        }
    }
}
