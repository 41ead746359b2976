//! The last good state on disk: files of mode 0600 in one locked directory per namespace, service, account and version.
//!
//! A file is written whole or not at all. One that does not read is reported and ignored: the cache is a convenience for
//! the day the control endpoint is gone, never a reason not to start.

pub(super) mod lock;

pub(crate) use lock::Lock;

use super::carry::Items;
use crate::settings::Settings;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::{Zeroize as _, Zeroizing};

/// The cache of one workload: nobody else's as long as its [`Lock`] is held.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

/// What a cache file holds.
pub(crate) trait Cached: Serialize + DeserializeOwned {
    const FILE: &'static str;
    /// Whether it is worth waiting for the disk: a file that a crash of the machine cuts is reported and ignored, but a
    /// lost key cannot be asked for again without a token.
    const DURABLE: bool;
}

/// The configuration in force.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CachedResources {
    pub(crate) version: String,
    /// Missing if what is in force is not exactly what the endpoint sent.
    pub(crate) etag: Option<String>,
    pub(crate) trust_domain: String,
    pub(crate) items: Arc<Items>,
}

/// An SVID with its key, and what came with it.
#[derive(Serialize, Deserialize)]
pub(crate) struct CachedIdentity {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) bundles: BTreeMap<String, String>,
    pub(crate) renewal: Option<String>,
}

impl Drop for CachedIdentity {
    fn drop(&mut self) {
        self.key.zeroize();
        self.renewal.zeroize();
    }
}

/// Shows nothing of what it holds.
impl fmt::Debug for CachedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CachedIdentity(..)")
    }
}

impl Cached for CachedResources {
    const FILE: &'static str = "resources.json";
    const DURABLE: bool = false;
}

impl Cached for CachedIdentity {
    const FILE: &'static str = "identity.json";
    const DURABLE: bool = true;
}

impl Cache {
    /// Opens the directory of this workload below `root`, creating it.
    ///
    /// A second process with the same names gets a directory of its own beside it. The lock is the workload's, not that of
    /// the tasks that write: these may take a moment to end, and a new workload must find the directory free.
    ///
    /// # Errors
    ///
    /// Returns why no directory could be made or locked.
    pub(crate) fn open(root: &Path, settings: &Settings) -> io::Result<(Self, Lock)> {
        create_private(root)?;
        for slot in 1..=SLOTS_MAX {
            let directory = root.join(directory_name(settings, slot));
            create_private(&directory)?;
            if let Some(lock) = Lock::take(&directory.join("lock"))? {
                return Ok((Self { directory }, lock));
            }
        }
        Err(io::Error::other(format!(
            "all {SLOTS_MAX} caches of this workload are in use by other processes"
        )))
    }

    #[cfg(test)]
    fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads a file; `None` if it was never written.
    ///
    /// # Errors
    ///
    /// Returns why it does not read, to be reported.
    pub(crate) fn load<T: Cached>(&self) -> Result<Option<T>, String> {
        let path = self.directory.join(T::FILE);
        let text = match fs::read(&path) {
            // It may hold a key.
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        // serde_json's errors name places, not content: the file may hold a key.
        serde_json::from_slice(&text).map(Some).map_err(|e| {
            let (line, column) = (e.line(), e.column());
            format!("{}:{line}:{column}: not what this version of the mesh writes", path.display())
        })
    }

    /// Writes a file whole or not at all.
    ///
    /// # Errors
    ///
    /// Returns why it could not be written; what was there stays.
    pub(crate) fn store<T: Cached>(&self, value: &T) -> io::Result<()> {
        let path = self.directory.join(T::FILE);
        // A name of its own: with a fixed one, of two who write at once the first to finish would put the half of the
        // other in force.
        let next = path.with_extension(format!("{:016x}.next", fastrand::u64(..)));
        let write = || {
            let mut file = lock::create_private(&next)?;
            file.write_all(&Zeroizing::new(serde_json::to_vec(value)?))?;
            if T::DURABLE {
                file.sync_data()?;
            }
            fs::rename(&next, &path)
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&next);
        }
        written.map_err(|e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
    }
}

/// Names cannot hold a `+`, and a label value no `/`, so no two workloads share a name and none leaves the root.
fn directory_name(settings: &Settings, slot: usize) -> String {
    let Settings { namespace, service, service_account, labels, .. } = settings;
    let version = labels.get("version").map_or("", String::as_str);
    let suffix = if slot == 1 { String::new() } else { format!("+{slot}") };
    format!("{namespace}+{service}+{service_account}+{version}{suffix}")
}

fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", directory.display())))
}

/// More replicas of one version on one machine than this are no cache's business.
const SLOTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_loaded_by_the_next_process() {
        let root = tempfile::tempdir().unwrap();
        let (cache, lock) = open(&root);
        assert!(cache.load::<CachedResources>().unwrap().is_none());
        cache.store(&resources("1")).unwrap();
        cache.store(&resources("2")).unwrap();
        drop(lock);
        assert_eq!(open(&root).0.load::<CachedResources>().unwrap().unwrap().version, "2");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_a_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let (cache, _lock) = open(&root);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        cache.store(&identity()).unwrap();
        assert_eq!(mode(&cache.directory().join("identity.json")), 0o600);
        assert_eq!(mode(&cache.directory().join("lock")), 0o600);
        assert_eq!(mode(cache.directory()), 0o700);
    }

    #[test]
    fn of_many_who_write_at_once_every_reader_sees_one_whole() {
        let root = tempfile::tempdir().unwrap();
        let (cache, _lock) = open(&root);
        let mut long = identity();
        long.chain = "c".repeat(200_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25).for_each(|_| cache.store(&long).unwrap()));
            }
            cache.store(&long).unwrap();
            for _ in 0..200 {
                assert_eq!(cache.load::<CachedIdentity>().unwrap().unwrap().chain.len(), 200_000);
            }
        });
        let left = fs::read_dir(cache.directory()).unwrap().count();
        assert_eq!(left, 2, "the lock and the file are all that is left");
    }

    #[test]
    fn a_second_holder_gets_a_directory_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let ((first, lock), (second, _lock)) = (open(&root), open(&root));
        assert_ne!(first.directory(), second.directory());
        drop(lock);
        assert_eq!(open(&root).0.directory(), first.directory());
    }

    #[test]
    fn different_workloads_never_share_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let mut names = std::collections::BTreeSet::new();
        for (namespace, service, version) in
            [("a", "b", ""), ("a", "b", "v1"), ("a.b", "b", ""), ("a", "b.v1", ""), ("a", "b", "..")]
        {
            let mut settings = Settings::for_service(service);
            settings.namespace = namespace.to_owned();
            settings.labels.insert("version".to_owned(), version.to_owned());
            names.insert(Cache::open(root.path(), &settings).unwrap().0.directory().to_owned());
        }
        assert_eq!(names.len(), 5);
        assert!(names.iter().all(|name| name.parent() == Some(root.path())));
    }

    #[test]
    fn a_file_that_does_not_read_is_reported_without_its_content() {
        let root = tempfile::tempdir().unwrap();
        let (cache, _lock) = open(&root);
        for content in ["", "{", "null", "{\"chain\":\"SECRET", "[\"SECRET\"]"] {
            fs::write(cache.directory().join("identity.json"), content).unwrap();
            let error = cache.load::<CachedIdentity>().unwrap_err();
            assert!(error.contains("identity.json:") && !error.contains("SECRET"), "{error}");
        }
        fs::write(cache.directory().join("resources.json"), [0xff, 0xfe]).unwrap();
        assert!(cache.load::<CachedResources>().is_err());
    }

    #[test]
    fn a_root_that_is_no_directory_is_an_error_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Cache::open(file.path(), &Settings::for_service("a")).unwrap_err();
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    }

    fn open(root: &tempfile::TempDir) -> (Cache, Lock) {
        Cache::open(root.path(), &Settings::for_service("checkout")).unwrap()
    }

    fn resources(version: &str) -> CachedResources {
        CachedResources {
            version: version.to_owned(),
            etag: None,
            trust_domain: "cluster.local".to_owned(),
            items: Arc::default(),
        }
    }

    fn identity() -> CachedIdentity {
        CachedIdentity { chain: String::new(), key: String::new(), bundles: BTreeMap::new(), renewal: None }
    }
}
