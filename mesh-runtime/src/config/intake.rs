//! The way in for configuration, whichever source it comes from: files become accepted objects, these a snapshot.
//!
//! It decides nothing about objects (that is `mesh_core::config::accept`) and nothing about sources.

use super::ConfigStore;
use crate::progress::{InForce, Progress};
use mesh_core::{
    config::{Accepted, Diagnostic, Level, Options, SourceFile},
    identity::TrustDomain,
    snapshot::{MeshSettings, Viewer},
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::Instant;

/// Puts in force what the files of one source say, object by object.
#[derive(Debug)]
pub(crate) struct Intake {
    store: Arc<ConfigStore>,
    progress: Arc<Progress>,
    viewer: Viewer,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    accepted: Accepted,
    findings: Arc<[Diagnostic]>,
}

/// One state of a source.
#[derive(Debug)]
pub(crate) struct Edition {
    pub(crate) version: Arc<str>,
    /// All files, not only the changed ones.
    pub(crate) files: Vec<SourceFile>,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) from_cache: bool,
    /// What the source itself found.
    pub(crate) notes: Vec<Diagnostic>,
}

impl Intake {
    pub(crate) fn new(store: Arc<ConfigStore>, progress: Arc<Progress>, viewer: Viewer) -> Self {
        Self { store, progress, viewer, last: Mutex::default() }
    }

    /// Puts `edition` in force and returns what was found. Takes as long as compiling takes: not for the request path.
    pub(crate) fn apply(&self, edition: Edition) -> Arc<[Diagnostic]> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = last.accepted.update(&edition.files, &Options::default());
        let settings = MeshSettings::new(edition.trust_domain);
        let compiled = self.store.compile(&edition.version, &accepted.resources, &self.viewer, &settings);
        let findings: Arc<[_]> =
            edition.notes.into_iter().chain(accepted.diagnostics.iter().cloned()).chain(compiled).collect();
        log_news(&last.findings, &findings);
        *last = Last { accepted, findings: Arc::clone(&findings) };
        tracing::info!(version = %edition.version, objects = last.accepted.resources.len(), "configuration in force");
        self.progress.on_config(InForce {
            version: edition.version,
            since: Instant::now(),
            from_cache: edition.from_cache,
            findings: Arc::clone(&findings),
        });
        findings
    }

    /// Applies `edition` on a thread that may take its time.
    pub(crate) async fn apply_aside(self: &Arc<Self>, edition: Edition) -> Arc<[Diagnostic]> {
        let intake = Arc::clone(self);
        let applied = tokio::task::spawn_blocking(move || intake.apply(edition)).await;
        applied.unwrap_or_else(|e| {
            if e.is_panic() {
                tracing::error!(
                    "this configuration could not be compiled (a defect); the one before stays in force"
                );
            }
            self.last.lock().unwrap_or_else(PoisonError::into_inner).findings.clone()
        })
    }
}

/// Logs each finding once, not with every edition it is still true of.
fn log_news(known: &[Diagnostic], findings: &[Diagnostic]) {
    let told: HashSet<_> = known.iter().map(ToString::to_string).collect();
    for finding in findings.iter().filter(|finding| !told.contains(&finding.to_string())) {
        match finding.level {
            Level::Error => tracing::error!("{finding}"),
            Level::Warning => tracing::warn!("{finding}"),
            Level::Info => tracing::info!("{finding}"),
        }
    }
    let still: HashSet<_> = findings.iter().map(ToString::to_string).collect();
    let errors = known.iter().filter(|finding| finding.level == Level::Error);
    for gone in errors.filter(|finding| !still.contains(&finding.to_string())) {
        tracing::info!(code = %gone.code, resource = gone.resource.as_ref().map(tracing::field::display), "resolved");
    }
}
