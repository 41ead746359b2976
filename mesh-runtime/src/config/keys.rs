//! Keeps the keys of token issuers that the configuration in force names: fetched when they are first named, and again
//! before they are old. The last good ones stay when a fetch fails, and there is never a key that nobody fetched.

mod fetch;

use super::{ConfigStore, resolver::jittered};
use crate::{
    clock::ThreadDice,
    control::backoff::{Backoff, LONGEST},
    task::Task,
};
use fetch::{Fetch, FetchError};
use mesh_core::authenticate::{FetchedKeys, KeyLocation, KeySet};
use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

/// Keeps the keys current, for ever.
pub(crate) async fn run(store: Arc<ConfigStore>) {
    let mut configurations = store.subscribe();
    let mut followed = Followed::default();
    loop {
        configurations.mark_unchanged();
        followed.set(&store);
        if configurations.changed().await.is_err() {
            return;
        }
    }
}

/// The keys that are kept current: one task each, however many rules name them.
#[derive(Debug, Default)]
struct Followed(BTreeMap<KeyLocation, One>);

#[derive(Debug)]
struct One {
    timeout: Duration,
    keys: Weak<FetchedKeys>,
    _task: Task,
}

impl Followed {
    /// Follows what the configuration in force names, and nothing else.
    fn set(&mut self, store: &Arc<ConfigStore>) {
        let snapshot = store.current();
        let mut wanted = BTreeMap::new();
        for (location, timeout, keys) in snapshot.inbound().authenticator.fetched_keys() {
            let (longest, _) = wanted.entry(location.clone()).or_insert((timeout, Arc::downgrade(keys)));
            *longest = timeout.max(*longest);
        }
        self.0.retain(|location, one| {
            wanted
                .get(location)
                .is_some_and(|(timeout, keys)| one.timeout == *timeout && one.keys.ptr_eq(keys))
        });
        for (location, (timeout, keys)) in wanted {
            self.0.entry(location).or_insert_with_key(|location| {
                let fetch = Fetch::new(location.clone(), timeout);
                let (keys_of_task, store) = (Weak::clone(&keys), Arc::clone(store));
                let following = async move {
                    follow(fetch.location(), || fetch.keys(), keys_of_task, || store.on_keys()).await;
                };
                One { timeout, keys, _task: Task::spawn(following) }
            });
        }
    }
}

/// Fetches again and again, as long as anybody holds `keys`, and tells `on_answer` of every end of a fetch.
async fn follow<F: Future<Output = Result<KeySet, FetchError>>>(
    location: &KeyLocation,
    fetch: impl Fn() -> F,
    keys: Weak<FetchedKeys>,
    on_answer: impl Fn(),
) {
    let (mut backoff, mut is_failing) = (Backoff::new(), false);
    loop {
        let fetched = fetch().await;
        let Some(keys) = keys.upgrade() else { return };
        let was_failing = std::mem::replace(&mut is_failing, fetched.is_err());
        let wait = match fetched {
            Ok(set) => {
                if was_failing {
                    tracing::info!(%location, keys = set.len(), "keys of tokens can be fetched again");
                }
                keys.on_keys(set);
                backoff.on_answer();
                jittered(REFRESH, &mut ThreadDice)
            }
            Err(error) => {
                keys.on_failure();
                if !was_failing {
                    let known = keys.known().map_or(0, |keys| keys.len());
                    tracing::warn!(%location, %error, known, "keys of tokens cannot be fetched; the last good ones stay");
                }
                backoff.on_failure(LONGEST, &mut ThreadDice)
            }
        };
        drop(keys);
        on_answer();
        tokio::time::sleep(wait).await;
    }
}

/// How old keys get.
// spec: istio pilot/pkg/features PILOT_JWT_PUB_KEY_REFRESH_INTERVAL
const REFRESH: Duration = Duration::from_secs(20 * 60);

#[cfg(test)]
mod tests;
