//! Identity from PEM files, polled for change. Knows nothing of where the files come from: ConfigMap-style symlink
//! swaps, bind mounts and NFS look alike.

use super::{
    Bundles, Identity, IdentityError, IdentityStore, Svid,
    svid::{self, unreadable},
};
use crate::crypto;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tracing::{info, warn};
use zeroize::Zeroizing;

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The PKCS#8 key.
    pub key: PathBuf,
    /// Bundles by trust domain.
    pub bundles: Vec<(String, PathBuf)>,
}

impl IdentityFiles {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Returns which file does not read, and why; or that certificate and key do not belong together, as they may not
    /// while they are being replaced.
    pub fn read(&self) -> Result<Identity, IdentityError> {
        self.texts()?.identity(self)
    }

    /// Keeps `store` current with the files, for ever: looks at them every second, publishes what has changed and reads
    /// whole, and otherwise keeps what is in force and says so once. Ends when the future is dropped.
    pub async fn follow(self, store: Arc<IdentityStore>) {
        let files = Arc::new(self);
        let mut seen = None;
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            poll.tick().await;
            let reading = Arc::clone(&files);
            // A panic of the reader, which is not expected, is one look missed.
            let Ok((fingerprint, identity)) = tokio::task::spawn_blocking(move || reading.look(seen)).await
            else {
                continue;
            };
            if seen.replace(fingerprint) == Some(fingerprint) {
                continue;
            }
            match identity {
                Some(Ok(identity)) => put_in_force(&store, identity),
                Some(Err(error)) => {
                    warn!(%error, "the identity files changed and do not read; the old identity stays in force");
                }
                None => {}
            }
        }
    }

    /// Returns a fingerprint of the files, and what they say if it differs from `seen`.
    fn look(&self, seen: Option<Fingerprint>) -> (Fingerprint, Option<Result<Identity, IdentityError>>) {
        let texts = self.texts();
        let fingerprint = Fingerprint::of(&texts);
        if seen == Some(fingerprint) {
            return (fingerprint, None);
        }
        (fingerprint, Some(texts.and_then(|texts| texts.identity(self))))
    }

    /// Reads every file each time: three small files cost less than the cases in which size and time of change lie.
    fn texts(&self) -> Result<Texts, IdentityError> {
        Ok(Texts {
            cert: read(&self.cert)?,
            key: Zeroizing::new(read(&self.key)?),
            bundles: self.bundles.iter().map(|(_, path)| read(path)).collect::<Result<_, _>>()?,
        })
    }
}

fn put_in_force(store: &IdentityStore, identity: Identity) {
    if store.current().is_some_and(|current| current.is_same(&identity)) {
        return;
    }
    let (id, serial) = (identity.svid.id().clone(), identity.svid.serial().to_owned());
    store.publish(identity);
    info!(%id, serial, "identity read from files");
}

/// The content of the files.
struct Texts {
    cert: String,
    key: Zeroizing<String>,
    bundles: Vec<String>,
}

impl Texts {
    fn identity(&self, files: &IdentityFiles) -> Result<Identity, IdentityError> {
        let svid = Svid::from_pem(&self.cert, &self.key).map_err(|error| match error {
            IdentityError::Unreadable { what, why } if what == svid::KEY => in_file(&files.key, &what, why),
            IdentityError::Unreadable { what, why } => in_file(&files.cert, &what, why),
            IdentityError::KeyMismatch { id } => IdentityError::KeyMismatch {
                id: format!("{id} (key in {}, certificate in {})", files.key.display(), files.cert.display()),
            },
            error => error,
        })?;
        let bundles = || {
            let bundles = files.bundles.iter().zip(&self.bundles);
            bundles.map(|((name, path), text)| (path, (name.as_str(), text.as_str())))
        };
        // Each by itself, so that the error can name the file, before all together.
        for (path, bundle) in bundles() {
            Bundles::from_pem([bundle]).map_err(|error| match error {
                IdentityError::Unreadable { what, why } => in_file(path, &what, why),
                error => error,
            })?;
        }
        Ok(Identity { svid, bundles: Bundles::from_pem(bundles().map(|(_, bundle)| bundle))? })
    }
}

fn in_file(path: &Path, what: &str, why: String) -> IdentityError {
    unreadable(format!("{what} in {}", path.display()), why)
}

/// Stands for the content of the files, or for the way in which they could not be read; keeps no key in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(texts: &Result<Texts, IdentityError>) -> Self {
        let mut content = Vec::new();
        match texts {
            Ok(texts) => {
                for text in [&texts.cert, &*texts.key].into_iter().chain(&texts.bundles) {
                    content.extend_from_slice(&crypto::sha256(text.as_bytes()));
                }
            }
            Err(error) => content.extend_from_slice(error.to_string().as_bytes()),
        }
        Self(crypto::sha256(&content))
    }
}

fn read(path: &Path) -> Result<String, IdentityError> {
    let what = || path.display().to_string();
    let metadata = std::fs::metadata(path).map_err(|why| unreadable(what(), why))?;
    // A pipe would hold the reader up for ever.
    if !metadata.is_file() {
        return Err(unreadable(what(), "it is no file"));
    }
    if metadata.len() > FILE_LEN_MAX {
        let why = format!("it has {} bytes; at most {FILE_LEN_MAX} are read", metadata.len());
        return Err(unreadable(what(), why));
    }
    std::fs::read_to_string(path).map_err(|why| unreadable(what(), why))
}

// A second behind a rotation that happens at half life is nothing; three small reads a second are nothing either.
const POLL: Duration = Duration::from_secs(1);

// A bundle of a hundred roots has 200 KiB.
const FILE_LEN_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_files_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
            bundles: Vec::new(),
        };
        let (missing, told) = files.look(None);
        assert!(matches!(told, Some(Err(_))));
        let (still_missing, told) = files.look(Some(missing));
        assert!(missing == still_missing && told.is_none());
        for file in [&files.cert, &files.key] {
            std::fs::write(file, "nonsense").unwrap();
        }
        let (nonsense, told) = files.look(Some(missing));
        assert!(matches!(told, Some(Err(_))));
        assert!(files.look(Some(nonsense)).1.is_none());
    }
}
