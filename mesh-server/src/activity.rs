//! What a connection is busy with, told by its requests and read by whoever waits for it.

use mesh_core::time::Time;
use mesh_runtime::Clock;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// The requests of one connection. All of it is counting: nothing is ordered by it, so every access is relaxed.
#[derive(Debug)]
pub(crate) struct Activity {
    clock: Clock,
    started: AtomicU64,
    in_flight: AtomicU32,
    /// When the last request ended, in nanoseconds of `clock`.
    idle_since: AtomicU64,
    forbidden: AtomicBool,
}

/// A request in flight, until dropped: that is when its answer is out, or nobody wants it any more.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

impl Activity {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            started: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            idle_since: AtomicU64::new(clock.now().as_nanos()),
            forbidden: AtomicBool::new(false),
        })
    }

    /// Counts a request in.
    pub(crate) fn on_request(self: &Arc<Self>) -> InFlight {
        self.started.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Returns how many requests there have been.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// Returns whether a request is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    /// Returns since when nothing has been in flight; if something is, since now.
    pub(crate) fn idle_since(&self) -> Time {
        if self.is_busy() { self.clock.now() } else { Time::from_nanos(self.idle_since.load(Relaxed)) }
    }

    /// Policy forbids the peer: no further request is to be served.
    pub(crate) fn forbid(&self) {
        self.forbidden.store(true, Relaxed);
    }

    /// Returns whether policy has forbidden the peer.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.forbidden.load(Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let activity = &self.0;
        activity.idle_since.store(activity.clock.now().as_nanos(), Relaxed);
        activity.in_flight.fetch_sub(1, Relaxed);
    }
}
