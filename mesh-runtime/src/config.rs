//! The snapshot in force: compiled from whatever source, read once per request.

mod files;
pub(crate) mod intake;
mod settled;
pub(crate) mod watched;

pub use files::read_files;
pub use settled::SettledFiles;

use crate::Clock;
use arc_swap::ArcSwap;
use mesh_core::{
    config::Resource,
    health::States,
    snapshot::{Compiler, MeshSettings, Snapshot, Viewer},
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
    compiler: Mutex<Option<Compiler>>,
    clock: Clock,
    changed: watch::Sender<u64>,
}

impl ConfigStore {
    /// Returns a store in which `first` is in force; its states are kept by `clock`.
    pub fn new(first: Snapshot, clock: Clock) -> Self {
        Self {
            current: ArcSwap::from_pointee(first),
            states: States::default(),
            compiler: Mutex::default(),
            clock,
            changed: watch::channel(0).0,
        }
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
    }

    /// Compiles `resources`, sorted by key, for `viewer` and puts the result in force. Returns what was found.
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
        let mut ours = compiler
            .take()
            .filter(|last| last.viewer() == viewer)
            .unwrap_or_else(|| Compiler::new(viewer.clone()));
        let (snapshot, found) = ours.compile(version, resources, settings, &self.states);
        *compiler = Some(ours);
        self.publish(snapshot);
        found
    }

    /// Returns a receiver that sees every publication.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl fmt::Debug for ConfigStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigStore").field("version", self.current.load().version()).finish_non_exhaustive()
    }
}
