//! What processes hold on to, as /proc tells it, and the panics of this one.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What one process holds at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Resident memory, in KiB.
    pub(crate) resident_kib: f64,
    /// Open file descriptors.
    pub(crate) descriptors: f64,
    /// Threads.
    pub(crate) threads: f64,
    /// Tasks of its runtime; 0 where nobody tells.
    pub(crate) tasks: f64,
}

impl Usage {
    /// Returns what the process holds now; `None` if it is gone.
    pub(crate) fn of(process: u32, tasks: usize) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let number = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Self {
            resident_kib: number("VmRSS:")?,
            threads: number("Threads:")?,
            descriptors: std::fs::read_dir(format!("/proc/{process}/fd")).ok()?.count() as f64,
            tasks: tasks as f64,
        })
    }

    /// Returns what this process holds now.
    pub(crate) fn own() -> Option<Self> {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        Self::of(std::process::id(), tasks)
    }
}

/// From now on panics of this process are counted, besides being shown.
pub(crate) fn count_panics() {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Relaxed);
        shown(info);
    }));
}

/// Returns how many there were.
pub(crate) fn panics() -> usize {
    PANICS.load(Relaxed)
}

static PANICS: AtomicUsize = AtomicUsize::new(0);
