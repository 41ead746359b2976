//! Configuration files, polled: read at the start, and put in force again whenever their content has changed and settled.

use super::{
    SettledFiles,
    intake::{Edition, Intake},
};
use crate::crypto;
use mesh_core::{
    config::{Diagnostic, SourceFile},
    identity::TrustDomain,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};

/// The files of one workload.
#[derive(Debug)]
pub(crate) struct WatchedFiles {
    files: Arc<Mutex<SettledFiles>>,
    intake: Arc<Intake>,
    trust_domain: TrustDomain,
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
        let files = Arc::new(Mutex::new(SettledFiles::new(paths.to_vec())));
        let watched = Self { files, intake, trust_domain };
        let mut files = poll(&watched.files).await.unwrap_or_default();
        if files.is_empty() && !paths.is_empty() {
            files = paths.iter().map(|path| missing(path)).collect();
        }
        let unread = files.iter().all(|file| file.text.is_err()) && !files.is_empty();
        let findings = watched.apply(files).await;
        if unread { Err(findings.to_vec()) } else { Ok(watched) }
    }

    /// Watches for ever.
    pub(crate) async fn run(self) {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(files) = poll(&self.files).await {
                self.apply(files).await;
            }
        }
    }

    async fn apply(&self, files: Vec<SourceFile>) -> Arc<[Diagnostic]> {
        let version = version_of(&files).into();
        let trust_domain = self.trust_domain.clone();
        self.intake
            .apply_aside(Edition { version, files, trust_domain, from_cache: false, notes: Vec::new() })
            .await
    }
}

/// Looks at the files on a thread that may wait for the disk, and for who writes.
async fn poll(files: &Arc<Mutex<SettledFiles>>) -> Option<Vec<SourceFile>> {
    let files = Arc::clone(files);
    let look = move || files.lock().unwrap_or_else(PoisonError::into_inner).poll();
    // A look that panics (it has no way to) or a runtime that shuts down: nothing has changed.
    tokio::task::spawn_blocking(look).await.ok().flatten()
}

fn missing(path: &std::path::Path) -> SourceFile {
    let text = Err("no such file or directory, or a directory without .yaml, .yml or .json files".to_owned());
    SourceFile { name: path.display().to_string(), text }
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

/// Half of the second within which an edit must be live; a deletion takes a second more, to be believed.
const POLL: Duration = Duration::from_millis(500);
