//! What is written to the data directory while the endpoint runs: leases, certificates and their serial numbers. Off the
//! request path, and never an older state over a newer one.

use crate::{
    ControlError, certified::Certified, data::DataDir, leases::SavedLease, locked, metrics::Metrics,
    registry::Registry,
};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::{Mutex, atomic::Ordering::Relaxed};
use tokio::sync::Notify;

/// The data directory and what it has not been told yet.
#[derive(Debug)]
pub(crate) struct Disk {
    data: DataDir,
    pending: Mutex<Pending>,
    wanted: Notify,
    /// Held while the disk is written to.
    writing: Mutex<()>,
}

/// What the disk has not been told yet.
#[derive(Debug, Default)]
struct Pending {
    leases: bool,
    certified: bool,
    issued: Vec<String>,
}

/// What the disk remembers of an earlier run.
#[derive(Debug)]
pub(crate) struct Memory {
    /// `None` if there is no record of leases, or none that reads.
    pub(crate) leases: Option<Vec<SavedLease>>,
    pub(crate) certified: Certified,
    /// Whether a certificate was ever issued.
    pub(crate) was_used: bool,
}

impl Disk {
    pub(crate) fn new(data: DataDir) -> Self {
        Self { data, pending: Mutex::default(), wanted: Notify::new(), writing: Mutex::new(()) }
    }

    pub(crate) fn data(&self) -> &DataDir {
        &self.data
    }

    /// Returns what is remembered; what does not read is said, and is as if it were not there.
    pub(crate) fn memory(&self) -> Memory {
        Memory {
            leases: restored(&self.data, LEASES_FILE),
            certified: restored(&self.data, CERTIFIED_FILE).unwrap_or_default(),
            was_used: self.data.path(ISSUED_FILE).exists(),
        }
    }

    /// Notes that leases changed.
    pub(crate) fn on_leases(&self) {
        locked(&self.pending).leases = true;
        self.wanted.notify_one();
    }

    /// Notes a certificate, described by `line`.
    pub(crate) fn on_issued(&self, line: String) {
        let mut pending = locked(&self.pending);
        pending.certified = true;
        pending.issued.push(line);
        self.wanted.notify_one();
    }

    /// Ends when there is something to write.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Writes what is pending.
    pub(crate) fn flush(&self, registry: &Mutex<Registry>, metrics: &Metrics) {
        let _writing = locked(&self.writing);
        let pending = std::mem::take(&mut *locked(&self.pending));
        if pending.leases {
            let leases = locked(registry).leases().save();
            wrote(self.save(LEASES_FILE, &leases), metrics);
        }
        if pending.certified {
            let certified = locked(registry).certified().clone();
            wrote(self.save(CERTIFIED_FILE, &certified), metrics);
        }
        if !pending.issued.is_empty() {
            wrote(self.data.append(ISSUED_FILE, &pending.issued.join("\n"), ISSUED_BYTES_MAX), metrics);
        }
    }

    fn save(&self, name: &str, content: &impl Serialize) -> Result<(), ControlError> {
        let json =
            serde_json::to_vec(content).map_err(|error| ControlError::Data(format!("{name}: {error}")))?;
        self.data.replace(name, &json)
    }
}

/// Counts and says what the disk refused. A full disk stops no workload.
pub(crate) fn wrote(result: Result<(), ControlError>, metrics: &Metrics) {
    if let Err(error) = result {
        metrics.writes_failed.fetch_add(1, Relaxed);
        tracing::warn!("{error}; this will be missing after a restart");
    }
}

fn restored<T: DeserializeOwned>(data: &DataDir, name: &str) -> Option<T> {
    let json = match data.read(name) {
        Ok(json) => json?,
        Err(error) => {
            tracing::warn!("{error}; starting without it");
            return None;
        }
    };
    serde_json::from_slice(&json)
        .inspect_err(|error| {
            tracing::warn!("{}: {error}; starting without it", data.path(name).display());
        })
        .ok()
}

const LEASES_FILE: &str = "leases.json";
const CERTIFIED_FILE: &str = "certified.json";
const ISSUED_FILE: &str = "issued";
/// About 10,000 certificates, twice.
const ISSUED_BYTES_MAX: u64 = 1 << 20;
