//! One running workload: its settings, its configuration, its identity, and the tasks that keep them current.

use crate::{
    clock::Clock,
    config::ConfigStore,
    identity::{IdentityError, IdentityStore},
    settings::{Settings, SettingsError},
    telemetry::Telemetry,
};
use mesh_core::config::Diagnostic;
use std::{net::SocketAddr, sync::Arc};

/// A running workload. Clones share it; when the last one is dropped its tasks end and its lease runs out.
#[derive(Clone, Debug)]
pub struct Workload {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    clock: Clock,
    config: Arc<ConfigStore>,
    identity: Arc<IdentityStore>,
    telemetry: Arc<Telemetry>,
}

/// Why a workload did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting does not read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The identity files do not read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The configuration files do not read, and there is nothing to fall back to.
    #[error("configuration: {}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Config(Vec<Diagnostic>),
    /// A listener could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Why a workload is not ready, for `/readyz` and for the error of a call made meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has configuration, and an identity if one is due.
    Ready,
    /// Not yet (or no more): the reason.
    NotReady(Arc<str>),
}

impl Workload {
    /// Starts a workload: reads its sources, or its cache where the control endpoint does not answer, and keeps them
    /// current from then on.
    ///
    /// A control endpoint that does not answer is no error: the workload starts, is not ready, and fails calls at once
    /// with the reason.
    ///
    /// # Errors
    ///
    /// Returns what in the settings or the files makes a start pointless.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let _ = settings;
        todo!()
    }

    /// Returns its settings.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Returns its clock.
    pub fn clock(&self) -> Clock {
        self.inner.clock
    }

    /// Returns the configuration in force.
    pub fn config(&self) -> &Arc<ConfigStore> {
        &self.inner.config
    }

    /// Returns the identity in force.
    pub fn identity(&self) -> &Arc<IdentityStore> {
        &self.inner.identity
    }

    /// Returns the recorder.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.inner.telemetry
    }

    /// Returns whether it is ready, and if not, why.
    pub fn readiness(&self) -> Readiness {
        todo!()
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        todo!()
    }

    /// Registers this workload as an endpoint that listens on `listening`, and renews the lease until the returned
    /// registration is withdrawn. Without a control endpoint it does nothing.
    pub async fn register(&self, listening: SocketAddr) -> Registration {
        let _ = listening;
        todo!()
    }

    /// Marks the workload as draining: not ready from now on.
    pub fn drain(&self) {
        todo!()
    }
}

/// A lease that is kept alive.
#[derive(Debug)]
pub struct Registration {}

impl Registration {
    /// Takes the endpoint out of the registry, before the drain.
    pub async fn withdraw(self) {
        todo!()
    }
}
