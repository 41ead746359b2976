//! The table of states: one state per (cluster, endpoint), never a second one while anybody holds the first.
//!
//! Read when a configuration is compiled, never on the path of a request.

use super::{ClusterState, EndpointState};
use crate::{
    authenticate::{FetchedKeys, KeyLocation},
    registry::Address,
    retry::{Budget, Counts},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Time,
};
use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// Every state, by cluster and endpoint; the retry budgets, by destination host; and the keys of token issuers.
///
/// It holds each state until [`States::sweep`] finds that nobody else does.
#[derive(Debug, Default)]
pub struct States(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    clusters: HashMap<Arc<str>, Arc<ClusterState>>,
    endpoints: HashMap<Arc<str>, HashMap<Address, Arc<EndpointState>>>,
    budgets: HashMap<Arc<str>, Arc<Budget>>,
    recent: HashMap<Arc<str>, Arc<Counts>>,
    keys: HashMap<KeyLocation, Arc<FetchedKeys>>,
}

impl States {
    /// Returns the state of `cluster` (by its name), the same one as long as anybody holds it.
    pub fn cluster(&self, cluster: &str) -> Arc<ClusterState> {
        shared(&mut self.tables().clusters, cluster, || cluster.into())
    }

    /// Returns the state of the endpoint at `address` in `cluster`, likewise; kept for its ejection time after it left.
    pub fn endpoint(&self, cluster: &str, address: &Address) -> Arc<EndpointState> {
        let mut tables = self.tables();
        if let Some(endpoints) = tables.endpoints.get_mut(cluster) {
            return shared(endpoints, address, || address.clone());
        }
        let endpoints = tables.endpoints.entry(cluster.into()).or_default();
        shared(endpoints, address, || address.clone())
    }

    /// Returns the retry budget for the destination `host`, shared by its subsets and ports.
    pub fn budget(&self, host: &str) -> Arc<Budget> {
        shared(&mut self.tables().budgets, host, || host.into())
    }

    /// Returns the count of recent requests to `cluster`, which a `retryBudget` with an interval needs.
    pub fn recent(&self, cluster: &str) -> Arc<Counts> {
        shared(&mut self.tables().recent, cluster, || cluster.into())
    }

    /// Returns what is known of the keys at `location`.
    pub fn keys(&self, location: &KeyLocation) -> Arc<FetchedKeys> {
        shared(&mut self.tables().keys, location, || location.clone())
    }

    /// Forgets what nobody holds, but for endpoints that are ejected: leaving and coming back does not launder them.
    ///
    /// The shell calls it after it replaced a snapshot. What the old one held is then forgotten with the next.
    pub fn sweep(&self, now: Time) {
        let mut tables = self.tables();
        tables.clusters.retain(|_, state| is_held(state));
        tables.budgets.retain(|_, budget| is_held(budget));
        tables.recent.retain(|_, counts| is_held(counts));
        tables.keys.retain(|_, keys| is_held(keys));
        tables.endpoints.retain(|_, endpoints| {
            // Exclusive, so that an ejection by whoever let go of it last is seen.
            endpoints.retain(|_, state| Arc::get_mut(state).is_none_or(|state| state.is_ejected(now)));
            !endpoints.is_empty()
        });
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether anybody but the table holds `state`. New holders come only from the table, whose lock the caller has.
fn is_held<T>(state: &Arc<T>) -> bool {
    Arc::strong_count(state) > 1
}

/// Returns the state for `key`, a new one if there is none. Most are there already: the key is copied only if not.
fn shared<K, Q, V>(table: &mut HashMap<K, Arc<V>>, key: &Q, own: impl FnOnce() -> K) -> Arc<V>
where
    K: Borrow<Q> + Eq + Hash,
    Q: Eq + Hash + ?Sized,
    V: Default,
{
    if let Some(state) = table.get(key) {
        return Arc::clone(state);
    }
    let state = Arc::default();
    table.insert(own(), Arc::clone(&state));
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Time = Time::from_nanos(1_000_000_000);

    #[test]
    fn a_state_is_the_same_one_as_long_as_anybody_holds_it() {
        let states = States::default();
        let (cluster, endpoint, budget) =
            (states.cluster("a"), states.endpoint("a", &address(1)), states.budget("a"));
        states.sweep(NOW);
        assert!(Arc::ptr_eq(&cluster, &states.cluster("a")));
        assert!(Arc::ptr_eq(&endpoint, &states.endpoint("a", &address(1))));
        assert!(Arc::ptr_eq(&budget, &states.budget("a")));
    }

    #[test]
    fn states_of_different_clusters_and_addresses_are_different() {
        let states = States::default();
        let one = states.endpoint("a", &address(1));
        assert!(!Arc::ptr_eq(&one, &states.endpoint("a", &address(2))));
        assert!(!Arc::ptr_eq(&one, &states.endpoint("b", &address(1))));
        assert!(!Arc::ptr_eq(&states.cluster("a"), &states.cluster("b")));
        assert!(!Arc::ptr_eq(&states.budget("a"), &states.budget("b")));
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let states = States::default();
        drop((states.cluster("a"), states.endpoint("a", &address(1)), states.budget("a")));
        let held = states.endpoint("b", &address(1));
        states.sweep(NOW);
        let tables = states.tables();
        assert_eq!((tables.clusters.len(), tables.budgets.len(), tables.endpoints.len()), (0, 0, 1));
        drop(held);
    }

    #[test]
    fn a_request_in_flight_holds_the_state_of_an_endpoint_that_left() {
        let states = States::default();
        let in_flight = states.endpoint("a", &address(1)).begin(NOW);
        states.sweep(NOW);
        assert_eq!(states.endpoint("a", &address(1)).in_flight(), 1);
        drop(in_flight);
        states.sweep(NOW);
        assert_eq!(states.tables().endpoints.len(), 0);
    }

    #[test]
    fn an_ejected_endpoint_that_left_is_still_ejected_when_it_comes_back() {
        let states = States::default();
        let endpoint = states.endpoint("a", &address(1));
        let until = endpoint.eject(endpoint.standing(), NOW + Duration::from_secs(30)).unwrap();
        drop(endpoint);
        states.sweep(NOW);
        assert_eq!(states.endpoint("a", &address(1)).ejected_until(NOW), Some(until));
        states.sweep(until);
        assert_eq!(states.tables().endpoints.len(), 0);
    }

    fn address(host: u8) -> Address {
        Address::Ip(([127, 0, 0, host], 80).into())
    }
}
