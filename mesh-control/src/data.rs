//! The data directory: private files that are there whole or not at all, whoever races or crashes.
//!
//! It knows names and bytes; what they mean is for its users to say.

use crate::{ControlError, authority};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The content of a secret file, overwritten when it is dropped.
pub(crate) type Secret = Zeroizing<Vec<u8>>;

/// An open data directory.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    temporary: bool,
}

impl DataDir {
    /// Opens `path`, which is created with mode 0700 if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, ControlError> {
        create_private_dir(path)
            .map_err(|source| ControlError::io("creating the data directory", path, source))?;
        Ok(Self { path: path.to_owned(), temporary: false })
    }

    /// Opens `path`, which must be the directory of an authority.
    pub(crate) fn open_existing(path: &Path) -> Result<Self, ControlError> {
        if authority::exists(path) {
            return Self::open(path);
        }
        Err(ControlError::Data(format!(
            "{} is no data directory of a control endpoint: it has no ca.key",
            path.display()
        )))
    }

    /// Opens a new directory that is removed when this is dropped.
    pub(crate) fn temporary() -> Result<Self, ControlError> {
        let path = std::env::temp_dir().join(format!("mesh-control-{}", crate::random_hex::<16>()?));
        let mut data = Self::open(&path)?;
        data.temporary = true;
        Ok(data)
    }

    /// Returns where `name` is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns the content of `name`, or `None` if there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ControlError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ControlError::io("reading", &path, source)),
        }
    }

    /// Returns the content of the secret `name`, or `None` if there is no such file.
    ///
    /// A secret that others can read is refused, not repaired: whoever could read it may have, and silence would hide
    /// that. (ssh treats its keys alike.)
    pub(crate) fn read_secret(&self, name: &str) -> Result<Option<Secret>, ControlError> {
        let content = self.read(name)?.map(Secret::new);
        match content.is_some().then(|| mode_for_others(&self.path(name))).flatten() {
            Some(mode) => Err(ControlError::Data(format!(
                "{path}: mode {mode:04o} lets others read this secret; if nobody else has used this machine, run \
                 `chmod 600 {path}`, otherwise delete it: a new one is made, and tokens and certificates with it",
                path = self.path(name).display(),
            ))),
            None => Ok(content),
        }
    }

    /// Creates `name` with `content` unless it is there, and returns what is there afterwards: the winner's, if several
    /// processes try at once.
    pub(crate) fn create_secret(&self, name: &str, content: &[u8]) -> Result<Secret, ControlError> {
        let path = self.path(name);
        let draft = self.draft(name, content)?;
        // A link appears with its content or not at all, and never replaces: neither `rename` nor `create_new` is both.
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft).map_err(|source| ControlError::io("removing", &draft, source))?;
        match linked {
            Ok(()) => Ok(Secret::new(content.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self
                .read_secret(name)?
                .ok_or_else(|| ControlError::Data(format!("{}: it came and went", path.display()))),
            Err(source) => Err(ControlError::io("creating", &path, source)),
        }
    }

    /// Replaces `name` as a whole.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) -> Result<(), ControlError> {
        let path = self.path(name);
        let draft = self.draft(name, content)?;
        fs::rename(&draft, &path).map_err(|source| ControlError::io("replacing", &path, source))
    }

    /// Returns whether there is a file `name`.
    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Removes `name`, if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), ControlError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ControlError::io("removing", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Puts `from` in the place of `to`.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), ControlError> {
        let path = self.path(from);
        fs::rename(&path, self.path(to)).map_err(|source| ControlError::io("renaming", &path, source))
    }

    /// Appends `line` to the log `name`, of which one predecessor is kept when it outgrows `bytes_max`.
    pub(crate) fn append(&self, name: &str, line: &str, bytes_max: u64) -> Result<(), ControlError> {
        let path = self.path(name);
        let failed = |source| ControlError::io("appending to", &path, source);
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > bytes_max) {
            fs::rename(&path, self.path(&format!("{name}.1"))).map_err(failed)?;
        }
        let mut file = private(OpenOptions::new().create(true).append(true)).open(&path).map_err(failed)?;
        file.write_all(format!("{line}\n").as_bytes()).map_err(failed)
    }

    fn draft(&self, name: &str, content: &[u8]) -> Result<PathBuf, ControlError> {
        let path = self.path(&format!(".{name}.{}", crate::random_hex::<8>()?));
        let write = || -> io::Result<()> {
            let mut file: File = private(OpenOptions::new().write(true).create_new(true)).open(&path)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(|source| ControlError::io("writing", &path, source))?;
        Ok(path)
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(unix)]
fn create_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Returns the mode of `path` if it grants anything to group or others.
#[cfg(unix)]
fn mode_for_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn mode_for_others(_: &Path) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_who_create_a_secret_at_once_all_see_the_same_one() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("data")).unwrap();
        let seen: Vec<_> = std::thread::scope(|scope| {
            let data = &data;
            let racers: Vec<_> =
                (0..8u8).map(|n| scope.spawn(move || data.create_secret("key", &[n; 32]).unwrap())).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(data.read_secret("key").unwrap().as_deref(), Some(&*seen[0]));
        assert_eq!(fs::read_dir(dir.path().join("data")).unwrap().count(), 1, "drafts are left behind");
    }

    #[cfg(unix)]
    #[test]
    fn files_are_for_their_owner_only_and_a_secret_for_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("data")).unwrap();
        data.create_secret("a", b"1").unwrap();
        data.replace("b", b"2").unwrap();
        data.append("c", "3", 10).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("data")), 0o700);
        assert_eq!(["a", "b", "c"].map(|name| mode(&data.path(name))), [0o600; 3]);

        fs::set_permissions(data.path("a"), fs::Permissions::from_mode(0o640)).unwrap();
        let refusal = data.read_secret("a").unwrap_err().to_string();
        assert!(refusal.contains("0640") && refusal.contains("chmod 600"), "{refusal}");
    }

    #[test]
    fn an_append_log_keeps_itself_and_one_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        for n in 0..100 {
            data.append("log", &format!("line {n:02}"), 50).unwrap();
        }
        assert!(fs::metadata(data.path("log")).unwrap().len() <= 50 + 8);
        assert!(fs::metadata(data.path("log.1")).unwrap().len() <= 50 + 8);
        assert!(fs::read_to_string(data.path("log")).unwrap().ends_with("line 99\n"));
    }

    #[test]
    fn a_temporary_directory_ends_with_its_owner() {
        let data = DataDir::temporary().unwrap();
        let path = data.path("x");
        data.replace("x", b"1").unwrap();
        assert!(path.exists());
        drop(data);
        assert!(!path.exists());
    }
}
