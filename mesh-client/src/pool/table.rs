//! Every pool of a client, by what it connects to.

use super::{Connector, Pool, Protocol, Terms, connect::Believers};
use mesh_core::{balance::Security, registry::Address};
use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::sync::watch;

/// What a pool connects to. Other TLS settings and another protocol are another key: their connections are never shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) cluster: Arc<str>,
    pub(crate) address: Address,
    pub(crate) security: Security,
    pub(crate) protocol: Protocol,
}

// Without security and protocol: an endpoint has rarely more than one, and equality tells them apart.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cluster.hash(state);
        self.address.hash(state);
    }
}

/// Every pool of a client.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) connector: Arc<Connector>,
    mesh: Mutex<HashMap<Key, Arc<Pool>>>,
    unchecked: AtomicBool,
    /// Pools to hosts outside of the mesh; bounded, as their names come from the caller's requests.
    outside: Mutex<HashMap<Key, Arc<Pool>>>,
    outside_terms: Terms,
    identities: watch::Receiver<u64>,
}

impl Pools {
    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        Self {
            mesh: Mutex::default(),
            unchecked: AtomicBool::new(false),
            outside: Mutex::default(),
            outside_terms: Terms::outside(),
            identities: connector.identity.subscribe(),
            connector,
        }
    }

    /// Returns the pool for `key`, the same one for as long as its endpoint is in the snapshot.
    pub(crate) fn get(&self, key: Key) -> Arc<Pool> {
        let open = |key: &Key| {
            self.unchecked.store(true, Relaxed);
            self.open(key)
        };
        Arc::clone(lock(&self.mesh).entry(key).or_insert_with_key(open))
    }

    /// Returns whether pools were added since the last time: a request with an older snapshot may have brought one back
    /// whose endpoint has left.
    pub(crate) fn take_unchecked(&self) -> bool {
        self.unchecked.swap(false, Relaxed)
    }

    /// Returns the pool for a host outside of the mesh. Beyond [`OUTSIDE_MAX`] hosts the connections to another one are
    /// closed for it.
    pub(crate) fn outside(&self, key: Key) -> Arc<Pool> {
        let mut pools = lock(&self.outside);
        if pools.len() >= OUTSIDE_MAX
            && !pools.contains_key(&key)
            && let Some(other) = pools.keys().next().cloned()
            && let Some(pool) = pools.remove(&other)
        {
            pool.drain();
        }
        Arc::clone(pools.entry(key).or_insert_with_key(|key| self.open(key)))
    }

    pub(crate) fn outside_terms(&self) -> &Terms {
        &self.outside_terms
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.mesh).is_empty()
    }

    /// Drains the pools that `keep` does not want. Requests that have one already finish on it.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&Key) -> bool) {
        lock(&self.mesh).retain(|key, pool| {
            let keep = keep(key);
            if !keep {
                tracing::debug!(cluster = %key.cluster, address = %key.address, "endpoint left, draining its connections");
                pool.drain();
            }
            keep
        });
    }

    /// Closes connections that were idle for too long, and those to peers that the identity in force does not believe.
    pub(crate) fn sweep(&self) {
        let now = self.connector.clock.now();
        let identity = Believers { store: &self.connector.identity, generation: *self.identities.borrow() };
        lock(&self.mesh).values().for_each(|pool| pool.sweep(now, &identity));
        lock(&self.outside).retain(|_, pool| {
            pool.sweep(now, &identity);
            !pool.is_unused()
        });
    }

    fn open(&self, key: &Key) -> Arc<Pool> {
        Arc::new(Pool::new(key.clone(), Arc::clone(&self.connector)))
    }
}

fn lock(pools: &Mutex<HashMap<Key, Arc<Pool>>>) -> MutexGuard<'_, HashMap<Key, Arc<Pool>>> {
    pools.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hosts outside of the mesh to which connections are kept at a time.
const OUTSIDE_MAX: usize = 256;
