//! What must hold after every step, counted anew from who holds what.

use crate::day::{Day, Place};
use mesh_core::health::{ClusterState, EndpointState, Overflow};
use std::{collections::HashMap, sync::Arc};

/// What the calls of all processes hold, by the state that counts it.
#[derive(Default)]
struct Counts {
    requests: HashMap<usize, u32>,
    retries: HashMap<usize, u32>,
    in_flight: HashMap<usize, u32>,
}

impl Day {
    /// Everything that is counted is held by somebody, and the other way round; nothing is there twice.
    pub(crate) fn check(&self) {
        let counts = self.counts();
        for call in self.calls.values() {
            counts.check_cluster(&call.cluster.name, &call.cluster.state);
            if let Some(held) = call.held() {
                counts.check_endpoint(held.in_flight.endpoint());
            }
            let cluster = &*call.cluster;
            let endpoint = call.held().map(|held| &cluster.endpoints.as_slice()[held.index]);
            let endpoint = endpoint.map(|endpoint| (&endpoint.address, &endpoint.state));
            let caller = &self.processes[call.caller];
            caller.check_only_one(cluster, (&cluster.state, &cluster.budget), endpoint);
        }
        for cluster in self.processes.iter().flat_map(|process| process.clusters()) {
            counts.check_cluster(&cluster.name, &cluster.state);
            cluster.endpoints.as_slice().iter().for_each(|it| counts.check_endpoint(&it.state));
        }
        self.check_gates();
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for call in self.calls.values() {
            let state = Arc::as_ptr(&call.cluster.state).addr();
            if call.has_retry_place() {
                *counts.retries.entry(state).or_default() += 1;
            }
            if let Some(held) = call.held() {
                *counts.requests.entry(state).or_default() += 1;
                *counts.in_flight.entry(Arc::as_ptr(held.in_flight.endpoint()).addr()).or_default() += 1;
            }
        }
        counts
    }

    fn check_gates(&self) {
        let mut at = vec![(0, 0); self.processes.len()];
        for served in self.served.values() {
            match served.place {
                Place::Running(_) => at[served.server].0 += 1,
                Place::Waiting(_) => at[served.server].1 += 1,
            }
        }
        for (process, counted) in self.processes.iter().zip(at) {
            assert_eq!((process.gate.running(), process.gate.waiting()), counted, "at {}", process.address);
        }
    }
}

impl Counts {
    fn check_cluster(&self, name: &str, state: &Arc<ClusterState>) {
        let key = Arc::as_ptr(state).addr();
        let of = |counts: &HashMap<usize, u32>| counts.get(&key).copied().unwrap_or(0);
        assert_eq!(state.in_use(Overflow::Requests), of(&self.requests), "requests of {name}");
        assert_eq!(state.in_use(Overflow::Retries), of(&self.retries), "retries of {name}");
    }

    fn check_endpoint(&self, state: &Arc<EndpointState>) {
        let held = self.in_flight.get(&Arc::as_ptr(state).addr()).copied().unwrap_or(0);
        assert_eq!(state.in_flight(), held, "requests in flight");
    }
}
