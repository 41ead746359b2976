//! What a connection is busy with, told by its requests and read by whoever waits for it; and their record.

use crate::overload::Permit;
use mesh_core::{
    event::{Flag, Flags},
    time::Time,
};
use mesh_runtime::{Clock, telemetry::RequestMetrics};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// The requests of one connection. All of it is counting: nothing is ordered by it, so every access is relaxed.
#[derive(Debug)]
pub(crate) struct Activity {
    clock: Clock,
    metrics: Arc<RequestMetrics>,
    started: AtomicU64,
    in_flight: AtomicU32,
    /// When the last request ended, in nanoseconds of `clock`.
    idle_since: AtomicU64,
    forbidden: AtomicBool,
}

impl Activity {
    pub(crate) fn new(clock: Clock, metrics: Arc<RequestMetrics>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            metrics,
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
        InFlight {
            activity: Arc::clone(self),
            since: self.clock.now(),
            status: 0,
            head: Flags::NONE,
            broken: Some(Flag::DC),
            permit: None,
        }
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

/// A request in flight, until dropped: that is when its answer is out, or nobody wants it any more. Then it is recorded.
//  asked (0, DC) --answer--> whole, as far as known (status, -) --piece--> (status, DC) --end--> (status, -)
#[derive(Debug)]
pub(crate) struct InFlight {
    activity: Arc<Activity>,
    since: Time,
    /// What the caller was told; 0 before that.
    status: u16,
    /// What is recorded of the answer's head.
    head: Flags,
    /// Why it is not whole, if it ends here.
    broken: Option<Flag>,
    /// Its place, where places are limited.
    permit: Option<Permit>,
}

impl InFlight {
    /// It runs, in this place.
    pub(crate) fn on_place(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// The head of the answer is there. A body that nobody asks for (HEAD, 304) is none.
    pub(crate) fn on_answer(&mut self, status: http::StatusCode, flags: Flags) {
        (self.status, self.head, self.broken) = (status.as_u16(), flags, None);
    }

    /// A piece of the body is out, and more to come: if it ends here, the caller went away.
    pub(crate) fn on_piece(&mut self) {
        self.broken = Some(Flag::DC);
    }

    /// The body ended, whole or for a reason of ours.
    pub(crate) fn on_end(&mut self, broken: Option<Flag>) {
        self.broken = broken;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let activity = &self.activity;
        let now = activity.clock.now();
        let flags = self.broken.map_or(self.head, |broken| self.head.with(broken));
        activity.metrics.on_answer(self.status, flags, now.since(self.since));
        activity.idle_since.store(now.as_nanos(), Relaxed);
        activity.in_flight.fetch_sub(1, Relaxed);
        if let Some(permit) = self.permit.take() {
            permit.on_end(self.broken.is_none());
        }
    }
}
