//! The table of states: one state per (cluster, endpoint), never a second one while anybody holds the first.

use crate::{registry::Address, retry::Budget, time::Time};
use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// What is known of one endpoint of one cluster.
#[derive(Debug, Default)]
pub struct EndpointState {
    in_flight: AtomicU32,
    ejected_until: AtomicU64,
}

impl EndpointState {
    /// Returns how many requests it is answering for this process.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Counts a request until the returned value is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Returns until when it is ejected, if it is.
    pub fn ejected_until(&self, now: Time) -> Option<Time> {
        let until = Time::from_nanos(self.ejected_until.load(Relaxed));
        (now < until).then_some(until)
    }
}

/// A request in flight to an endpoint; dropping it ends the count.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// What is known of one cluster: how much of its limits is in use.
#[derive(Debug, Default)]
pub struct ClusterState {
    pub(super) requests: AtomicU32,
    pub(super) pending: AtomicU32,
    pub(super) connections: AtomicU32,
    pub(super) retries: AtomicU32,
}

/// Every state, by cluster and endpoint; and the retry budgets, by destination host.
#[derive(Debug, Default)]
pub struct States {}

impl States {
    /// Returns the state of `cluster` (by its name), the same one as long as anybody holds it.
    pub fn cluster(&self, cluster: &str) -> Arc<ClusterState> {
        let _ = cluster;
        todo!()
    }

    /// Returns the state of the endpoint at `address` in `cluster`, likewise; kept for its ejection time after it left.
    pub fn endpoint(&self, cluster: &str, address: &Address) -> Arc<EndpointState> {
        let _ = (cluster, address);
        todo!()
    }

    /// Returns the retry budget for the destination `host`, shared by its subsets and ports.
    pub fn budget(&self, host: &str) -> Arc<Budget> {
        let _ = host;
        todo!()
    }
}
