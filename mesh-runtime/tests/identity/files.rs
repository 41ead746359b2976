//! Identity from PEM files: what is read, what is refused, and what a change of the files does.

use crate::authority::{Authority, Issued, order};
use mesh_runtime::identity::{IdentityError, IdentityFiles, IdentityStore};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

#[test]
fn files_that_belong_together_are_an_identity() {
    let dir = Directory::new();
    let (a, b) = (Authority::new("a"), Authority::new("b"));
    dir.write(&a.issue(order()), &a);
    std::fs::write(dir.path("b.pem"), b.pem()).unwrap();
    let mut files = dir.files();
    files.bundles.push(("b".to_owned(), dir.path("b.pem")));
    let identity = files.read().unwrap();
    assert_eq!(identity.svid.id().as_str(), crate::authority::ID);
    assert_eq!(
        identity.bundles.trust_domains().map(|domain| domain.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn an_error_names_the_file() {
    let dir = Directory::new();
    let a = Authority::new("a");
    for (file, content, complaint) in [
        ("cert.pem", None, "No such file"),
        ("key.pem", None, "No such file"),
        ("bundle.pem", None, "No such file"),
        ("cert.pem", Some(""), "there is no `-----BEGIN CERTIFICATE-----` in it"),
        ("key.pem", Some("-----BEGIN PRIVATE KEY-----\nAAAA"), "a PEM block has no end"),
        ("bundle.pem", Some("-----BEGIN CERTIFICATE-----"), "a PEM block has no end"),
    ] {
        dir.write(&a.issue(order()), &a);
        match content {
            Some(content) => std::fs::write(dir.path(file), content).unwrap(),
            None => std::fs::remove_file(dir.path(file)).unwrap(),
        }
        let error = dir.files().read().unwrap_err().to_string();
        let place = dir.path(file).display().to_string();
        assert!(error.contains(&place) && error.contains(complaint), "{file}: {error}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_with_both_files_named() {
    let dir = Directory::new();
    let a = Authority::new("a");
    dir.write(&a.issue(order()), &a);
    std::fs::write(dir.path("key.pem"), a.issue(order()).key_pem()).unwrap();
    let error = dir.files().read().unwrap_err();
    assert!(matches!(error, IdentityError::KeyMismatch { .. }));
    assert!(error.to_string().contains("cert.pem") && error.to_string().contains("key.pem"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_new_pair_is_put_in_force_and_half_a_one_is_not() {
    let dir = Directory::new();
    let a = Authority::new("a");
    let (first, second) = (a.issue(order()), a.issue(order()));
    dir.write(&first, &a);
    let following = Following::start(dir.files());
    following.until_serial_is(&first).await;

    std::fs::write(dir.path("cert.pem"), second.chain_pem()).unwrap();
    following.looks_go_by().await;
    assert_eq!(following.serial(), first.svid().serial());

    std::fs::write(dir.path("key.pem"), second.key_pem()).unwrap();
    following.until_serial_is(&second).await;
}

#[tokio::test(start_paused = true)]
async fn files_that_vanish_or_break_leave_the_old_identity_in_force() {
    let dir = Directory::new();
    let a = Authority::new("a");
    let issued = a.issue(order());
    dir.write(&issued, &a);
    let following = Following::start(dir.files());
    following.until_serial_is(&issued).await;
    std::fs::remove_file(dir.path("key.pem")).unwrap();
    following.looks_go_by().await;
    std::fs::write(dir.path("bundle.pem"), "").unwrap();
    following.looks_go_by().await;
    assert_eq!(following.serial(), issued.svid().serial());

    let renewed = a.issue(order());
    dir.write(&renewed, &a);
    following.until_serial_is(&renewed).await;
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_swapped_symlink_is_a_change() {
    let dir = Directory::new();
    let a = Authority::new("a");
    let (first, second) = (a.issue(order()), a.issue(order()));
    // As a ConfigMap is mounted: the files are links into `..data`, which is a link to the version.
    let version = |name: &str, issued: &Issued| {
        std::fs::create_dir(dir.path(name)).unwrap();
        write(&dir.path(name), issued, &a);
    };
    version("v1", &first);
    version("v2", &second);
    std::os::unix::fs::symlink("v1", dir.path("..data")).unwrap();
    for file in ["cert.pem", "key.pem", "bundle.pem"] {
        std::os::unix::fs::symlink(Path::new("..data").join(file), dir.path(file)).unwrap();
    }
    let following = Following::start(dir.files());
    following.until_serial_is(&first).await;
    std::os::unix::fs::symlink("v2", dir.path("..tmp")).unwrap();
    std::fs::rename(dir.path("..tmp"), dir.path("..data")).unwrap();
    following.until_serial_is(&second).await;
}

#[tokio::test(start_paused = true)]
async fn files_that_say_the_same_as_before_start_no_new_generation() {
    let dir = Directory::new();
    let a = Authority::new("a");
    let issued = a.issue(order());
    dir.write(&issued, &a);
    let store = Arc::new(IdentityStore::empty());
    store.publish(dir.files().read().unwrap());
    let seen = store.subscribe();
    let following = Following::with(dir.files(), Arc::clone(&store));
    following.looks_go_by().await;
    std::fs::write(dir.path("bundle.pem"), format!("# a comment\n{}", a.pem())).unwrap();
    following.looks_go_by().await;
    assert!(!seen.has_changed().unwrap());
}

struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn files(&self) -> IdentityFiles {
        IdentityFiles {
            cert: self.path("cert.pem"),
            key: self.path("key.pem"),
            bundles: vec![("a".to_owned(), self.path("bundle.pem"))],
        }
    }

    fn write(&self, issued: &Issued, authority: &Authority) {
        write(self.0.path(), issued, authority);
    }
}

fn write(dir: &Path, issued: &Issued, authority: &Authority) {
    std::fs::write(dir.join("cert.pem"), issued.chain_pem()).unwrap();
    std::fs::write(dir.join("key.pem"), issued.key_pem()).unwrap();
    std::fs::write(dir.join("bundle.pem"), authority.pem()).unwrap();
}

/// A store that follows files, under paused time.
struct Following {
    store: Arc<IdentityStore>,
    task: tokio::task::JoinHandle<()>,
}

impl Following {
    fn start(files: IdentityFiles) -> Self {
        Self::with(files, Arc::new(IdentityStore::empty()))
    }

    fn with(files: IdentityFiles, store: Arc<IdentityStore>) -> Self {
        let task = tokio::spawn(files.follow(Arc::clone(&store)));
        Self { store, task }
    }

    fn serial(&self) -> String {
        self.store.current().unwrap().svid.serial().to_owned()
    }

    /// Waits until several looks at the files are done: paused time stands still while one is being taken.
    async fn looks_go_by(&self) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!self.task.is_finished());
    }

    async fn until_serial_is(&self, issued: &Issued) {
        let mut changes = self.store.subscribe();
        let expected = issued.svid().serial().to_owned();
        let arrived = async {
            while self.store.current().is_none_or(|identity| identity.svid.serial() != expected) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("the new identity is in force");
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}
