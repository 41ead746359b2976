//! The configuration as the files say it: which objects are in force, what is wrong with the files, and what was last
//! good when this process was not running yet.
//!
//! Which version of an object is in force is decided by [`Accepted`]; when the files are read, by [`SettledFiles`].

use crate::{ControlError, data::DataDir, lease_entry::Declared, registry::InForce, served::Item};
use mesh_core::config::{Accepted, Level, Options, Resource, accept::LastGood};
use mesh_runtime::{config::SettledFiles, control::wire::Rejection};
use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

/// The files, and what is in force.
#[derive(Debug)]
pub(crate) struct ConfigFiles {
    files: SettledFiles,
    accepted: Accepted,
    logged: BTreeSet<String>,
}

impl ConfigFiles {
    /// Takes the files of `paths`, after what `data` remembers of them.
    pub(crate) fn open(paths: Vec<PathBuf>, data: &DataDir) -> Result<Self, ControlError> {
        for path in &paths {
            fs::metadata(path).map_err(|source| ControlError::io("--config", path, source))?;
        }
        Ok(Self { files: SettledFiles::new(paths), accepted: remembered(data), logged: BTreeSet::new() })
    }

    /// Reads the files if they may have changed. Returns whether something else is in force or refused than before.
    ///
    /// Blocks for a moment where they did change: whoever writes in place is seen in the middle of it otherwise.
    pub(crate) fn poll(&mut self) -> bool {
        let Some(files) = self.files.poll() else { return false };
        self.accepted = self.accepted.update(&files, &Options::default());
        self.log();
        true
    }

    /// Returns what is in force, as it is served.
    pub(crate) fn in_force(&self) -> InForce {
        let Accepted { resources, diagnostics, .. } = &self.accepted;
        let errors = diagnostics.iter().filter(|finding| finding.level == Level::Error);
        InForce {
            items: resources.iter().map(|resource| Arc::new(item(resource))).collect(),
            declared: Declared::read(resources),
            rejected: errors.map(Rejection::from).collect(),
        }
    }

    /// Remembers what is in force, for a start at which a file is broken.
    pub(crate) fn save(&self, data: &DataDir) -> Result<(), ControlError> {
        let last_good: Vec<_> = self.accepted.last_good().collect();
        let json = serde_json::to_vec(&last_good).map_err(|error| ControlError::Data(error.to_string()))?;
        data.replace(LAST_GOOD_FILE, &json)
    }

    /// Logs each finding when it appears, and not again while it lasts.
    fn log(&mut self) {
        let mut current = BTreeSet::new();
        for finding in &self.accepted.diagnostics {
            let line = finding.to_string();
            if !self.logged.contains(&line) {
                match finding.level {
                    Level::Info => tracing::info!("{line}"),
                    Level::Warning | Level::Error => tracing::warn!("{line}"),
                }
            }
            current.insert(line);
        }
        self.logged = current;
    }
}

/// Returns what was in force when this was last saved; nothing if that does not read.
fn remembered(data: &DataDir) -> Accepted {
    let read = || -> Result<Vec<LastGood>, String> {
        match data.read(LAST_GOOD_FILE).map_err(|error| error.to_string())? {
            Some(json) => serde_json::from_slice(&json).map_err(|error| error.to_string()),
            None => Ok(Vec::new()),
        }
    };
    let last_good = read().unwrap_or_else(|error| {
        tracing::warn!("{}: {error}; starting from the files alone", data.path(LAST_GOOD_FILE).display());
        Vec::new()
    });
    Accepted::restore(last_good, &Options::default())
}

fn item(resource: &Resource) -> Item {
    Item::new(&resource.key.kind, &resource.key.namespace, &resource.document.to_json())
}

const LAST_GOOD_FILE: &str = "last-good.json";
