//! The snapshot in force: compiled from whatever source, read once per request.

mod files;
pub(crate) mod intake;
pub(crate) mod keys;
pub(crate) mod resolver;
mod settled;
pub(crate) mod watched;

pub use files::read_files;
pub use settled::SettledFiles;

use crate::Clock;
use arc_swap::ArcSwap;
use mesh_core::{
    config::Resource,
    health::States,
    registry::Answers,
    snapshot::{Compiler, EdgeCompiler, MeshSettings, Snapshot, Viewer},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// The snapshot in force and the states that outlive it.
pub struct ConfigStore {
    current: ArcSwap<Snapshot>,
    states: States,
    /// Compiles what comes next, for the workload that it compiled for last.
    compiler: Mutex<Option<Compiling>>,
    clock: Clock,
    changed: watch::Sender<u64>,
    names: watch::Sender<Names>,
    key_answers: watch::Sender<u64>,
}

/// Who compiles what comes next.
#[derive(Debug)]
enum Compiling {
    Workload(Box<Compiler>),
    Edge(Box<EdgeCompiler>),
}

/// Names to resolve, in order.
pub(crate) type Names = Arc<[Arc<str>]>;

impl ConfigStore {
    /// Returns a store in which `first` is in force; its states are kept by `clock`.
    pub fn new(first: Snapshot, clock: Clock) -> Self {
        Self {
            current: ArcSwap::from_pointee(first),
            states: States::default(),
            compiler: Mutex::default(),
            clock,
            changed: watch::channel(0).0,
            names: watch::Sender::new(Names::default()),
            key_answers: watch::channel(0).0,
        }
    }

    /// Returns a store as [`Self::new`] does, whose snapshots are those of the edge that the Gateway `namespace/name`
    /// describes.
    pub fn of_edge(first: Snapshot, clock: Clock, (namespace, name): (String, String)) -> Self {
        let edge = Compiling::Edge(Box::new(EdgeCompiler::new(namespace, name)));
        Self { compiler: Mutex::new(Some(edge)), ..Self::new(first, clock) }
    }

    /// Returns the snapshot in force. A request calls this once and keeps what it got.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Returns whether `snapshot` is still the one in force; cheaper than [`Self::current`].
    pub fn is_current(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.current.load(), snapshot)
    }

    /// Returns the states beside the snapshots.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// Puts `snapshot` in force, and forgets the states that neither it nor any request holds.
    pub fn publish(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
        self.states.sweep(self.clock.now());
        self.changed.send_modify(|n| *n += 1);
        // Who waited for keys may need others, or none.
        self.on_keys();
    }

    /// A fetch of keys has ended: whoever waits for it looks again.
    pub(crate) fn on_keys(&self) {
        self.key_answers.send_modify(|n| *n += 1);
    }

    /// Returns what a request that came in on workload port `port` must wait for before it can be judged: the first
    /// answer about the keys of its token. Mostly nothing. Afterwards it is to be asked again.
    pub fn keys_awaited(
        &self,
        head: &http::request::Parts,
        port: u16,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let is_awaited = || self.current.load().inbound().authenticator.awaits_keys(head, port);
        if !is_awaited() {
            return None;
        }
        let mut answers = self.key_answers.subscribe();
        // It may have come while this subscribed.
        is_awaited().then_some(async move {
            // An error is a store that is gone, and nobody waits for it any more.
            let _ = answers.changed().await;
        })
    }

    /// Compiles `resources`, sorted by key, for `viewer` (or for the edge this store is of) and puts the result in force. Returns what was found.
    ///
    /// Only what differs from the last time is compiled again.
    pub fn compile(
        &self,
        version: &str,
        resources: &[Arc<Resource>],
        viewer: &Viewer,
        settings: &MeshSettings,
    ) -> Vec<mesh_core::config::Diagnostic> {
        let mut compiler = self.compiler.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ours = match compiler.take() {
            Some(Compiling::Workload(last)) => Compiling::Workload(Box::new(last.for_viewer(viewer))),
            Some(edge) => edge,
            None => Compiling::Workload(Box::new(Compiler::new(viewer.clone()))),
        };
        let (snapshot, found) = match &mut ours {
            Compiling::Workload(ours) => ours.compile(version, resources, settings, &self.states),
            Compiling::Edge(ours) => ours.compile(version, resources, settings, &self.states),
        };
        self.publish(snapshot);
        self.want(ours.names());
        *compiler = Some(ours);
        found
    }

    /// Takes what names stand for, and puts in force what follows from it.
    pub fn resolve(&self, answers: Answers) {
        let mut compiler = self.compiler.lock().unwrap_or_else(PoisonError::into_inner);
        let resolved = match compiler.as_mut() {
            Some(Compiling::Workload(ours)) => ours.resolve(answers, &self.states),
            Some(Compiling::Edge(ours)) => ours.resolve(answers, &self.states),
            None => None,
        };
        if let Some(snapshot) = resolved {
            self.publish(snapshot);
        }
    }

    /// Returns the names whose answers the configuration in force wants to be told.
    pub(crate) fn names(&self) -> watch::Receiver<Names> {
        self.names.subscribe()
    }

    fn want(&self, names: Names) {
        self.names.send_if_modified(|known| {
            let differs = *known != names;
            *known = names;
            differs
        });
    }

    /// Returns a receiver that sees every publication.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Compiling {
    fn names(&self) -> Names {
        match self {
            Self::Workload(ours) => ours.names().cloned().collect(),
            Self::Edge(ours) => ours.names().cloned().collect(),
        }
    }
}

impl fmt::Debug for ConfigStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigStore").field("version", self.current.load().version()).finish_non_exhaustive()
    }
}
