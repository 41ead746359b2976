//! What the route decided for one call, and what the steps below need besides the request.
//!
//! It borrows from the plan that the call loaded once; no step asks a second time.

use crate::{
    affinity::Affinity,
    body::Upload,
    breaker::Limited,
    journal::Journal,
    plan::Plan,
    retry::Retried,
    timeout::{Bounded, Bounds},
};
use http::uri::Authority;
use mesh_core::{
    deadline,
    health::{ClusterState, Limits},
    retry::{Ceiling, GiveUp, RetryPolicy},
    route::ClusterId,
    snapshot::Cluster,
    time::Time,
};
use mesh_runtime::Clock;
use std::sync::{Arc, OnceLock};

/// The way of one call.
#[derive(Debug)]
pub(crate) struct Path<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) id: ClusterId,
    pub(crate) cluster: &'a Cluster,
    pub(crate) retry: &'a RetryPolicy,
    pub(crate) authority: Authority,
    pub(crate) affinity: Affinity,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
    pub(crate) bounds: Bounds,
    /// By when the answer must be complete if the request ends at once; what endpoints are told.
    pub(crate) until: Time,
    /// By when it must be complete in any case.
    pub(crate) deadline: Time,
    /// The body that was still to come when the call began, if the timeout begins with its end.
    pub(crate) upload: OnceLock<Upload>,
    pub(crate) grpc: bool,
    /// Whether the caller asked for `https`: then nothing goes out in plaintext.
    pub(crate) https: bool,
}

impl Bounded for Path<'_> {
    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn on_elapsed(&self) {
        self.journal.on_elapsed();
    }

    fn on_upload(&self, upload: &Upload) {
        let _only_once = self.upload.set(upload.clone());
    }
}

impl Retried for Path<'_> {
    fn policy(&self) -> &RetryPolicy {
        self.retry
    }

    fn ceiling(&self) -> Ceiling<'_> {
        let cluster = self.cluster;
        Ceiling {
            budget: Some(&cluster.budget),
            written: cluster.retry_budget.as_ref(),
            cluster: &cluster.state,
            limits: &cluster.limits,
        }
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    /// While the body is still to come nobody knows when the timeout begins.
    fn deadline(&self) -> Time {
        match self.upload.get().and_then(Upload::ended) {
            Some(ended) => deadline::shorten(self.deadline, self.clock.time(ended), self.bounds.timeout),
            None => self.deadline,
        }
    }

    fn on_give_up(&self, reason: GiveUp) {
        self.journal.on_give_up(reason);
    }
}

impl Limited for Path<'_> {
    fn limits(&self) -> &Limits {
        &self.cluster.limits
    }

    fn in_use(&self) -> &Arc<ClusterState> {
        &self.cluster.state
    }

    fn name(&self) -> &str {
        &self.cluster.name
    }
}
