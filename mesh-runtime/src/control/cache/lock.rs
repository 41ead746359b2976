//! A lock file that a dead process does not hold: it names the process by what no later one can share.
//!
//! It keeps two processes of one machine from sharing a directory by accident, and no more. It does not see a holder in
//! another PID namespace (two containers with one volume) or on another machine (a network file system): such a holder
//! looks dead, and its lock is taken over. Neither does it settle the narrow race between two that take over the same
//! stale lock at once. In all of these both write to one directory: each file is written whole, under a name of its own
//! until then, so that what is read is one holder's, but the files need not be all of the same one.

use std::{
    collections::BTreeSet,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process,
    sync::{Mutex, PoisonError},
};

/// The locks that this process holds: two workloads in one process are two holders.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A lock that is held until this is dropped, or the process ends however it ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
}

impl Lock {
    /// Takes the lock at `path`; `None` if somebody else holds it.
    ///
    /// # Errors
    ///
    /// Returns why the file can be neither read nor made.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        // Two names of one directory must not look like two locks.
        let path = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => parent.canonicalize()?.join(name),
            _ => path.to_owned(),
        };
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains(&path) || !seize(&path)? {
            return Ok(None);
        }
        held.insert(path.clone());
        Ok(Some(Self { path }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        // The file goes first: whoever sees no holder must find no lock either.
        let _ = fs::remove_file(&self.path);
        held.remove(&self.path);
    }
}

/// Creates the file, or takes it over from a process that is no more.
fn seize(path: &Path) -> io::Result<bool> {
    for _ in 0..2 {
        match create_private(path) {
            Ok(mut file) => return file.write_all(name_of(process::id()).as_bytes()).map(|()| true),
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            Err(_) => {}
        }
        let holder = fs::read_to_string(path).unwrap_or_default();
        if is_alive(&holder) {
            return Ok(false);
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(false)
}

/// Creates a file that only its owner can read, the lock too: whoever looks for others finds none.
pub(super) fn create_private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Returns whether the process that wrote `holder` still runs. This process is not asked for: it knows what it holds,
/// so a file with its name is one that a process before it left behind under the same number.
fn is_alive(holder: &str) -> bool {
    let pid = holder.split(' ').next().and_then(|pid| pid.parse().ok());
    pid.is_some_and(|pid: u32| pid != process::id() && name_of(pid) == holder)
}

/// Returns the number, the start time and the boot of process `pid`, as this process sees them. Numbers come back after a
/// restart of the machine or the container; with the other two they do not. Of a process that is not in this PID namespace
/// it can say nothing, and calls it gone. Without a `/proc` nobody can be told to be alive, and a lock left
/// behind never stands in the way.
fn name_of(pid: u32) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let boot = read("/proc/sys/kernel/random/boot_id");
    let stat = read(&format!("/proc/{pid}/stat"));
    // The name in parentheses may hold spaces; field 22 counts from the front, so 20 from behind it.
    let started = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
    match started {
        Some(started) => format!("{pid} {started} {}", boot.trim()),
        None => "gone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_free_when_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        assert!(Lock::take(&directory.path().join(".").join("lock")).unwrap().is_none());
        drop(lock);
        assert!(Lock::take(&path).unwrap().is_some());
    }

    #[test]
    fn what_a_dead_process_left_behind_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let own = process::id();
        for left in
            [String::new(), "no number".to_owned(), "gone".to_owned(), format!("{own} 1 x"), name_of(own)]
        {
            fs::write(&path, &left).unwrap();
            assert!(Lock::take(&path).unwrap().is_some(), "`{left}`");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_living_process_keeps_its_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let parent = std::os::unix::process::parent_id();
        fs::write(&path, name_of(parent)).unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        // The same number, started at another time: another process.
        fs::write(&path, format!("{parent} 1 elsewhere")).unwrap();
        assert!(Lock::take(&path).unwrap().is_some());
    }
}
