//! The configuration as the files say it: which objects are in force, what is wrong with the files, and what was last
//! good when this process was not running yet.
//!
//! Which version of an object is in force is decided by [`mesh_core::config::Accepted`]; here are only the files.

use crate::{ControlError, data::DataDir, lease_entry::Declared, registry::InForce, served::Item};
use mesh_core::config::{Accepted, Diagnostic, Level, Options, Resource, SourceFile, Spec};
use mesh_runtime::{config::read_files, control::wire::Rejection};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The files, and what is in force.
#[derive(Debug)]
pub(crate) struct ConfigFiles {
    paths: Vec<PathBuf>,
    seen: Vec<Print>,
    /// What was read last; equal content is not judged again.
    files: Option<Vec<(String, Result<String, String>)>>,
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

/// The documents of a file that were in force last.
#[derive(Debug, Serialize, Deserialize)]
struct LastGood {
    file: String,
    documents: Vec<Value>,
}

impl ConfigFiles {
    /// Takes the files of `paths`, after what `data` remembers of them.
    pub(crate) fn open(paths: Vec<PathBuf>, data: &DataDir) -> Result<Self, ControlError> {
        for path in &paths {
            fs::metadata(path).map_err(|source| ControlError::io("--config", path, source))?;
        }
        let accepted = remembered(data);
        Ok(Self { paths, seen: Vec::new(), files: None, accepted, logged: BTreeSet::new() })
    }

    /// Reads the files if they changed. Returns whether that changed anything.
    pub(crate) fn poll(&mut self) -> bool {
        let seen = prints(&self.paths);
        // A write within the clock's grain of the last look may leave length and time as they were.
        let settled = seen.iter().all(|print| {
            let age = print.modified.and_then(|at| SystemTime::now().duration_since(at).ok());
            age.is_some_and(|age| age > CLOCK_GRAIN)
        });
        if seen == self.seen && settled && self.files.is_some() {
            return false;
        }
        let files = read_files(&self.paths);
        let content = Some(files.iter().map(|file| (file.name.clone(), file.text.clone())).collect());
        self.seen = seen;
        if content == self.files {
            return false;
        }
        self.files = content;
        self.accepted = self.accepted.update(&files, &Options::default());
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
            rejected: errors.map(rejection).collect(),
        }
    }

    /// Remembers what is in force, for a start at which a file is broken.
    pub(crate) fn save(&self, data: &DataDir) -> Result<(), ControlError> {
        let mut by_file: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for resource in &self.accepted.resources {
            // What fails closed is no last good version.
            if !matches!(resource.spec, Spec::Malformed { .. }) {
                by_file.entry(&resource.location.file).or_default().push(document(resource));
            }
        }
        let last_good: Vec<_> = by_file
            .into_iter()
            .map(|(file, documents)| LastGood { file: file.to_owned(), documents })
            .collect();
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
    let files: Vec<_> = last_good
        .into_iter()
        .map(|LastGood { file, documents }| {
            // JSON is YAML, one document after the other.
            let text = documents.iter().map(|document| format!("---\n{document}\n")).collect();
            SourceFile { name: file, text: Ok(text) }
        })
        .collect();
    // Lenient: what a stricter reader would refuse was in force, and stays so until the file itself is read.
    let mut options = Options::default();
    options.lenient = true;
    Accepted { diagnostics: Vec::new(), ..Accepted::default().update(&files, &options) }
}

fn item(resource: &Resource) -> Item {
    Item::new(&resource.key.kind, &resource.key.namespace, &document(resource))
}

/// Returns the document with the namespace it was read for: a workload's own default may be another.
fn document(resource: &Resource) -> Value {
    let mut document = resource.document.to_json();
    if let Some(Value::Object(metadata)) = document.get_mut("metadata") {
        metadata.entry("namespace").or_insert_with(|| Value::from(&*resource.key.namespace));
    }
    document
}

fn rejection(finding: &Diagnostic) -> Rejection {
    let place = finding.location.as_ref();
    let path = if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
    let help = finding.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
    Rejection {
        resource: finding.resource.as_ref().map(ToString::to_string).unwrap_or_default(),
        file: place.map(|place| place.file.to_string()).unwrap_or_default(),
        line: place.map_or(0, |place| place.line),
        column: place.map_or(0, |place| place.column),
        code: finding.code.to_string(),
        message: format!("{path}{}{help}", finding.message),
        kept: finding.kept.clone().unwrap_or_else(|| "nothing is in force for it".to_owned()),
    }
}

/// Returns the prints of the files of `paths`, those in directories included.
fn prints(paths: &[PathBuf]) -> Vec<Print> {
    let mut prints = Vec::new();
    for path in paths {
        prints.push(print(path));
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut inside: Vec<_> = entries.map(|entry| print(&entry.path())).collect();
        inside.sort_by(|a, b| a.path.cmp(&b.path));
        prints.append(&mut inside);
    }
    prints
}

fn print(path: &std::path::Path) -> Print {
    let meta = fs::metadata(path).ok();
    Print {
        path: path.to_owned(),
        length: meta.as_ref().map_or(0, fs::Metadata::len),
        modified: meta.and_then(|meta| meta.modified().ok()),
    }
}

const LAST_GOOD_FILE: &str = "last-good.json";
/// The coarsest file time in use, FAT's.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);
