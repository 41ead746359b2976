//! The configuration as the files say it: which objects are in force, what is wrong with the files, and what was last
//! good when this process was not running yet.
//!
//! Which version of an object is in force is decided by [`Accepted`]; here are only the files and when they are read.

use crate::{ControlError, data::DataDir, lease_entry::Declared, registry::InForce, served::Item};
use mesh_core::config::{Accepted, Level, Options, Resource, SourceFile, accept::LastGood};
use mesh_runtime::{config::read_files, control::wire::Rejection};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

/// The files, and what is in force.
#[derive(Debug)]
pub(crate) struct ConfigFiles {
    paths: Vec<PathBuf>,
    prints: Vec<Print>,
    /// The content that was judged last; `None` before the first look.
    judged: Option<Vec<SourceFile>>,
    /// Since when a file that held something has held nothing.
    emptied: Option<Instant>,
    accepted: Accepted,
    logged: BTreeSet<String>,
}

/// What tells one state of a file from the next without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

impl ConfigFiles {
    /// Takes the files of `paths`, after what `data` remembers of them.
    pub(crate) fn open(paths: Vec<PathBuf>, data: &DataDir) -> Result<Self, ControlError> {
        for path in &paths {
            fs::metadata(path).map_err(|source| ControlError::io("--config", path, source))?;
        }
        Ok(Self {
            paths,
            prints: Vec::new(),
            judged: None,
            emptied: None,
            accepted: remembered(data),
            logged: BTreeSet::new(),
        })
    }

    /// Reads the files if they may have changed. Returns whether something else is in force or refused than before.
    ///
    /// Blocks for a moment where they did change: whoever writes in place is seen in the middle of it otherwise.
    pub(crate) fn poll(&mut self) -> bool {
        let prints = prints(&self.paths);
        if self.judged.is_some() && prints == self.prints && prints.iter().all(Print::is_settled) {
            return false;
        }
        let files = read_files(&self.paths);
        if let Some(judged) = &self.judged {
            if is_same(judged, &files) {
                (self.prints, self.emptied) = (prints, None);
                return false;
            }
            thread::sleep(WRITE_GAP);
            if !is_same(&files, &read_files(&self.paths)) || !self.is_meant(&files) {
                return false;
            }
        }
        self.accepted = self.accepted.update(&files, &Options::default());
        (self.prints, self.judged, self.emptied) = (prints, Some(files), None);
        self.log();
        true
    }

    /// Returns what is in force, as it is served.
    pub(crate) fn in_force(&self) -> InForce {
        let Accepted { resources, diagnostics } = &self.accepted;
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

    /// Returns whether `files` are what somebody wanted. A file that is gone or blank may be one that is being replaced,
    /// and with it every policy in it would be gone: it must stay so for a while.
    fn is_meant(&mut self, files: &[SourceFile]) -> bool {
        let judged = self.judged.as_deref().unwrap_or_default();
        let held = judged.iter().filter(|file| !is_blank(file));
        let mut now = held.map(|file| files.iter().find(|other| other.name == file.name));
        if now.all(|now| now.is_some_and(|file| !is_blank(file))) {
            self.emptied = None;
            return true;
        }
        self.emptied.get_or_insert_with(Instant::now).elapsed() >= EMPTIED_MIN
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

impl Print {
    fn of(path: &Path) -> Self {
        let meta = fs::metadata(path).ok();
        Self {
            path: path.to_owned(),
            length: meta.as_ref().map_or(0, fs::Metadata::len),
            modified: meta.and_then(|meta| meta.modified().ok()),
        }
    }

    /// Returns whether a write since would show: within the clock's grain it may leave length and time as they were.
    fn is_settled(&self) -> bool {
        let age = self.modified.and_then(|at| SystemTime::now().duration_since(at).ok());
        age.is_some_and(|age| age > CLOCK_GRAIN)
    }
}

/// Returns the prints of `paths` and of what is in them.
fn prints(paths: &[PathBuf]) -> Vec<Print> {
    let inside = |path: &PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut inside: Vec<_> = entries.map(|entry| Print::of(&entry.path())).collect();
        inside.sort_by(|a, b| a.path.cmp(&b.path));
        inside
    };
    paths.iter().flat_map(|path| std::iter::once(Print::of(path)).chain(inside(path))).collect()
}

fn is_same(old: &[SourceFile], new: &[SourceFile]) -> bool {
    old.len() == new.len()
        && old.iter().zip(new).all(|(old, new)| old.name == new.name && old.text == new.text)
}

fn is_blank(file: &SourceFile) -> bool {
    file.text.as_ref().is_ok_and(|text| text.trim().is_empty())
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
/// The coarsest file time in use, FAT's.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);
/// Longer than one process takes from truncating a file to having written it.
const WRITE_GAP: Duration = Duration::from_millis(30);
/// Longer than an editor or a checkout takes from deleting a file to having it back.
const EMPTIED_MIN: Duration = Duration::from_secs(1);
