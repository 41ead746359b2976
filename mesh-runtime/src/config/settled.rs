//! The files of a configuration as whoever edits them means them: a state in the middle of being written is none.
//!
//! Whoever saves in place truncates first and writes then, and whoever replaces a file may delete it first. To take either
//! at its word for a moment would delete every policy in it. What the files mean is not judged here.

use super::read_files;
use mesh_core::config::SourceFile;
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// The files of some paths, and which state of them was taken last.
#[derive(Debug)]
pub struct SettledFiles {
    paths: Vec<PathBuf>,
    prints: Vec<Print>,
    /// `None` before the first look.
    taken: Option<Vec<SourceFile>>,
    /// Since when a file that held something has held nothing.
    emptied: Option<Instant>,
}

/// What tells one state of a file from the next without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
    /// On Unix the time and the inode, which no copy that keeps the times keeps.
    changed: Option<(SystemTime, u64)>,
}

impl SettledFiles {
    /// Watches the files and directories named, as [`read_files`] reads them. Touches nothing yet.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, prints: Vec::new(), taken: None, emptied: None }
    }

    /// Returns the files if they are others than before and settled: they read the same twice, 30 ms apart, and what is
    /// suddenly blank or gone has been so for a second. The first look takes them as they are.
    ///
    /// Blocks for as long as reading takes, and for the 30 ms where something changed.
    pub fn poll(&mut self) -> Option<Vec<SourceFile>> {
        let paths = self.paths.clone();
        self.look(|| read_files(&paths))
    }

    fn look(&mut self, mut read: impl FnMut() -> Vec<SourceFile>) -> Option<Vec<SourceFile>> {
        let prints = prints(&self.paths);
        if self.taken.is_some() && prints == self.prints && prints.iter().all(Print::is_settled) {
            return None;
        }
        let files = read();
        if let Some(taken) = &self.taken {
            if is_same(taken, &files) {
                (self.prints, self.emptied) = (prints, None);
                return None;
            }
            thread::sleep(WRITE_GAP);
            if !is_same(&files, &read()) || !self.is_meant(&files) {
                return None;
            }
        }
        (self.prints, self.taken, self.emptied) = (prints, Some(files.clone()), None);
        Some(files)
    }

    /// Returns whether `files` are what somebody wanted. A file that is gone or blank may be one that is being replaced,
    /// and with it every policy in it would be gone: it must stay so for a while.
    fn is_meant(&mut self, files: &[SourceFile]) -> bool {
        let taken = self.taken.as_deref().unwrap_or_default();
        let held = taken.iter().filter(|file| !is_blank(file));
        let mut now = held.map(|file| files.iter().find(|other| other.name == file.name));
        if now.all(|now| now.is_some_and(|file| !is_blank(file))) {
            self.emptied = None;
            return true;
        }
        // What is in a directory that cannot be listed, as where no descriptor is left, nobody knows.
        let is_watched = |name: &str| self.paths.iter().any(|path| path.display().to_string() == *name);
        let unlisted = |file: &SourceFile| {
            file.text.is_err() && is_watched(&file.name) && !taken.iter().any(|it| it.name == file.name)
        };
        if files.iter().any(unlisted) {
            return false;
        }
        self.emptied.get_or_insert_with(Instant::now).elapsed() >= EMPTIED_MIN
    }
}

impl Print {
    fn of(path: &Path) -> Self {
        let meta = fs::metadata(path).ok();
        Self {
            path: path.to_owned(),
            length: meta.as_ref().map_or(0, fs::Metadata::len),
            changed: meta.as_ref().and_then(changed),
            modified: meta.and_then(|meta| meta.modified().ok()),
        }
    }

    /// Returns whether a write since would show: within the clock's grain it may leave length and times as they were.
    fn is_settled(&self) -> bool {
        let old = |at: SystemTime| SystemTime::now().duration_since(at).is_ok_and(|age| age > CLOCK_GRAIN);
        self.modified.is_some_and(old) && self.changed.is_none_or(|(at, _)| old(at))
    }
}

#[cfg(unix)]
fn changed(meta: &fs::Metadata) -> Option<(SystemTime, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let since = Duration::new(meta.ctime().try_into().ok()?, meta.ctime_nsec().try_into().ok()?);
    Some((SystemTime::UNIX_EPOCH.checked_add(since)?, meta.ino()))
}

#[cfg(not(unix))]
fn changed(_: &fs::Metadata) -> Option<(SystemTime, u64)> {
    None
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

/// The coarsest file time in use, FAT's.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);
/// Longer than one process takes from truncating a file to having written it.
const WRITE_GAP: Duration = Duration::from_millis(30);
/// Longer than an editor or a checkout takes from deleting a file to having it back.
const EMPTIED_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_save_in_place_is_never_seen_as_a_deletion() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mesh.yaml");
        fs::write(&file, "policy").unwrap();
        let mut files = SettledFiles::new(vec![directory.path().to_owned()]);
        assert_eq!(texts(files.poll()), ["policy"]);
        for truncated in [Some(""), Some("\n"), None] {
            match truncated {
                Some(text) => fs::write(&file, text).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            assert!(files.poll().is_none(), "{truncated:?} was taken at its word at once");
            fs::write(&file, format!("policy after {truncated:?}")).unwrap();
            assert_eq!(texts(files.poll()), [format!("policy after {truncated:?}")]);
        }
        assert!(files.poll().is_none());
    }

    #[test]
    fn what_stays_empty_is_meant() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mesh.yaml");
        fs::write(&file, "policy").unwrap();
        let mut files = SettledFiles::new(vec![directory.path().to_owned()]);
        files.poll().unwrap();
        fs::remove_file(&file).unwrap();
        assert!(files.poll().is_none());
        files.emptied = files.emptied.unwrap().checked_sub(EMPTIED_MIN);
        assert_eq!(texts(files.poll()), [""; 0]);
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_not_taken_for_an_empty_one() {
        let file = |name: &str, text: Result<&str, &str>| SourceFile {
            name: name.to_owned(),
            text: text.map(str::to_owned).map_err(str::to_owned),
        };
        let mut files = SettledFiles::new(vec!["etc".into()]);
        files.look(|| vec![file("etc/a.yaml", Ok("policy"))]).unwrap();
        let unreadable = || vec![file("etc", Err("too many open files"))];
        for _ in 0..3 {
            assert!(files.look(unreadable).is_none());
            files.emptied = files.emptied.map(|since| since.checked_sub(EMPTIED_MIN).unwrap());
        }
        assert_eq!(texts(files.look(|| vec![file("etc/a.yaml", Ok("policy 2"))])), ["policy 2"]);
    }

    #[test]
    fn a_file_that_reads_differently_twice_is_not_taken() {
        let file = |text: &str| vec![SourceFile { name: "mesh.yaml".to_owned(), text: Ok(text.to_owned()) }];
        // A path that is not there is looked at each time.
        let mut files = SettledFiles::new(vec!["gone".into()]);
        assert_eq!(texts(files.look(|| file("whole"))), ["whole"]);
        let mut reads = ["ha", "half"].into_iter();
        assert!(files.look(|| file(reads.next().unwrap())).is_none());
        assert_eq!(texts(files.look(|| file("half"))), ["half"]);
    }

    fn texts(files: Option<Vec<SourceFile>>) -> Vec<String> {
        files.expect("nothing was taken").into_iter().map(|file| file.text.unwrap()).collect()
    }
}
