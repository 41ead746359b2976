//! Configuration files, polled: read at the start, and put in force again whenever their content changes.

use super::{
    files::read_files,
    intake::{Edition, Intake},
};
use crate::crypto;
use mesh_core::{
    config::{Diagnostic, SourceFile},
    identity::TrustDomain,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// The files of one workload.
#[derive(Debug)]
pub(crate) struct WatchedFiles {
    paths: Arc<[PathBuf]>,
    intake: Arc<Intake>,
    trust_domain: TrustDomain,
    seen: Vec<SourceFile>,
}

impl WatchedFiles {
    /// Reads `paths` for the first time and puts them in force.
    ///
    /// # Errors
    ///
    /// Returns the findings if nothing could be read and something should have been: there is no last good version.
    pub(crate) async fn open(
        paths: &[PathBuf],
        intake: Arc<Intake>,
        trust_domain: TrustDomain,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut watched = Self { paths: paths.into(), intake, trust_domain, seen: Vec::new() };
        let mut files = watched.read().await;
        if files.is_empty() && !paths.is_empty() {
            files = paths.iter().map(|path| missing(path)).collect();
        }
        let unread = files.iter().all(|file| file.text.is_err()) && !files.is_empty();
        let findings = watched.apply(files).await;
        if unread { Err(findings.to_vec()) } else { Ok(watched) }
    }

    /// Watches for ever.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let files = self.read().await;
            if !is_same(&self.seen, &files) {
                self.apply(files).await;
            }
        }
    }

    async fn read(&self) -> Vec<SourceFile> {
        let paths = Arc::clone(&self.paths);
        // A read that panics (it has no way to) or a runtime that shuts down: nothing has changed.
        tokio::task::spawn_blocking(move || read_files(&paths)).await.unwrap_or_else(|_| self.seen.clone())
    }

    async fn apply(&mut self, files: Vec<SourceFile>) -> Arc<[Diagnostic]> {
        self.seen.clone_from(&files);
        let version = version_of(&files).into();
        let trust_domain = self.trust_domain.clone();
        self.intake
            .apply_aside(Edition { version, files, trust_domain, from_cache: false, notes: Vec::new() })
            .await
    }
}

fn missing(path: &std::path::Path) -> SourceFile {
    let text = Err("no such file or directory, or a directory without .yaml, .yml or .json files".to_owned());
    SourceFile { name: path.display().to_string(), text }
}

fn is_same(old: &[SourceFile], new: &[SourceFile]) -> bool {
    old.len() == new.len()
        && old.iter().zip(new).all(|(old, new)| old.name == new.name && old.text == new.text)
}

/// Returns a name for exactly this content, the same in every process that reads it.
fn version_of(files: &[SourceFile]) -> String {
    let mut content = Vec::new();
    for SourceFile { name, text } in files {
        let (mark, text) = text.as_ref().map_or_else(|why| (b'!', why), |text| (b'=', text));
        content.extend_from_slice(&crypto::sha256(name.as_bytes()));
        content.push(mark);
        content.extend_from_slice(&crypto::sha256(text.as_bytes()));
    }
    crypto::sha256(&content)[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Half of the second within which an edit must be live.
const POLL: Duration = Duration::from_millis(500);
