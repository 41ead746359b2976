//! What processes hold on to, as /proc tells it, and the panics of this one.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

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

/// Returns how much of the processors a process has used since it began; `None` if it is gone.
pub(crate) fn cpu(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // What comes before the last parenthesis is its name, which may hold anything.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    // Linux shows a hundred ticks a second, whatever it counts in itself.
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

/// Returns how many descriptors this process may open.
pub(crate) fn descriptors_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
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
