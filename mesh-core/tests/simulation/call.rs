//! One call: the steps of mesh-client in their order, and what the call holds while it is in each.
//!
//! Retry, breaker and balance of mesh-client are a few lines each around the pieces of mesh-core, and await between
//! them. Here the same lines stand between two events: [`Call::attempt`] is what `breaker.rs`, `balance.rs` and the
//! beginning of `endpoint/watched.rs` do, [`Call::on_outcome`] the end of `watched.rs` and the loop of `retry.rs`.

use http::Method;
use mesh_core::{
    balance::{self, Tried, Wish},
    dice::Seeded,
    health::{Change, InFlight, OutlierPolicy, Overflow, Permit},
    registry::Address,
    retry::{
        Attempt, Ceiling, GiveUp, Outcome, Provenance, PushBack, Reservation, RetryPolicy, Underway, Verdict,
    },
    snapshot::{Cluster, Snapshot},
    time::Time,
};
use std::{collections::BTreeSet, sync::Arc};

/// One call of one process to one service.
pub(crate) struct Call {
    /// The process that makes it.
    pub(crate) caller: usize,
    /// The service it is made to.
    pub(crate) tier: usize,
    /// The request in whose course it is made.
    pub(crate) parent: Option<(u64, u32)>,
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// Whether its body is small enough to be kept for another attempt.
    pub(crate) is_kept: bool,
    /// Whether any of its body was read to be sent.
    pub(crate) is_read: bool,
    pub(crate) deadline: Time,
    pub(crate) begun: Time,
    /// What it reads, from its first step to its last.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) policy: RetryPolicy,
    /// By which its route was drawn.
    pub(crate) seed: u64,
    /// Who serves the subset by the leases that its caller knew when it began.
    pub(crate) servers: BTreeSet<Address>,
    /// The number of the attempt, from 1.
    pub(crate) attempt: u32,
    /// How often a handler was run for it.
    pub(crate) executions: u32,
    pub(crate) phase: Phase,
    tried: Tried,
    last: Option<usize>,
    retries: u32,
    underway: Option<Underway>,
}

/// Where a call is, and what it holds there.
pub(crate) enum Phase {
    /// An attempt begins, or was refused at once.
    Between,
    /// An attempt is made.
    Attempting(Held),
    /// A retry waits.
    Waiting(Reservation),
    /// The head of its answer is there, and its body comes.
    Answering(Held),
    /// It failed.
    Over,
}

/// What a call holds while an endpoint works for it.
pub(crate) struct Held {
    _permit: Permit,
    pub(crate) in_flight: InFlight,
    pub(crate) index: usize,
}

/// What became of an attempt.
pub(crate) enum Next {
    /// Another one, then.
    RetryAt(Time),
    /// The call is over but for its body.
    Settled { outcome: Outcome, provenance: Provenance, reason: Option<GiveUp> },
}

/// What a call is made of when it begins.
pub(crate) struct Start {
    pub(crate) caller: usize,
    pub(crate) tier: usize,
    pub(crate) parent: Option<(u64, u32)>,
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) is_kept: bool,
    pub(crate) deadline: Time,
    pub(crate) now: Time,
    pub(crate) seed: u64,
}

impl Call {
    pub(crate) fn new(
        start: Start,
        snapshot: Arc<Snapshot>,
        cluster: Arc<Cluster>,
        policy: RetryPolicy,
        servers: BTreeSet<Address>,
    ) -> Self {
        let Start { caller, tier, parent, method, path, is_kept, deadline, now, seed } = start;
        let call = Self {
            caller,
            tier,
            parent,
            method,
            path,
            is_kept,
            is_read: false,
            deadline,
            begun: now,
            snapshot,
            cluster,
            policy,
            seed,
            servers,
            attempt: 0,
            executions: 0,
            phase: Phase::Between,
            tried: Tried::default(),
            last: None,
            retries: 0,
            underway: None,
        };
        call.ceiling().on_call(now);
        call
    }

    fn ceiling(&self) -> Ceiling<'_> {
        let cluster = &self.cluster;
        Ceiling {
            budget: Some(&cluster.budget),
            written: cluster.retry_budget.as_ref(),
            cluster: &cluster.state,
            limits: &cluster.limits,
        }
    }

    /// Begins an attempt; returns which endpoint it goes to, or what became of it at once.
    pub(crate) fn attempt(&mut self, now: Time, dice: &mut Seeded) -> Result<usize, Outcome> {
        assert!(now < self.deadline, "an attempt at {now:?} after the deadline {:?}", self.deadline);
        let cluster = Arc::clone(&self.cluster);
        self.attempt += 1;
        let permit =
            cluster.state.admit(Overflow::Requests, &cluster.limits).map_err(|_| Outcome::Overflow)?;
        if let Some(last) = self.last.take() {
            self.tried.on_attempt(last);
        }
        let hash = cluster.endpoints.policy().is_hash().then_some(self.seed);
        let wish = Wish {
            hash,
            avoid: self.policy.avoid_previous_hosts.then_some(&self.tried),
            leave: self.policy.leave_localities.then_some(&self.tried),
        };
        let picked = balance::pick(&cluster.endpoints, &wish, now, dice);
        check_pick(&cluster, picked, now);
        let index = picked.ok_or(Outcome::Refused)?;
        self.last = Some(index);
        let endpoint = &cluster.endpoints.as_slice()[index];
        assert!(self.servers.contains(&endpoint.address), "{} does not serve it", endpoint.address);
        let in_flight = endpoint.state.begin(now);
        self.phase = Phase::Attempting(Held { _permit: permit, in_flight, index });
        Ok(index)
    }

    /// Begins the retry whose wait is over, and its attempt.
    pub(crate) fn retry(&mut self) {
        let Phase::Waiting(reservation) = std::mem::replace(&mut self.phase, Phase::Between) else {
            unreachable!("only who waits is told that its wait is over")
        };
        self.underway = Some(reservation.begin());
        self.retries += 1;
    }

    /// The attempt ended by itself.
    pub(crate) fn on_outcome(
        &mut self,
        outcome: Outcome,
        now: Time,
        dice: &mut Seeded,
    ) -> (Next, Vec<Change>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Between);
        let changes = match &phase {
            Phase::Attempting(held) => self.report(held, &outcome, now),
            _ => Vec::new(),
        };
        (self.decide(phase, outcome, now, dice), changes)
    }

    fn decide(&mut self, phase: Phase, outcome: Outcome, now: Time, dice: &mut Seeded) -> Next {
        if self.policy.retries_max == 0 {
            return self.settle(phase, outcome, None);
        }
        if let Some(retry) = &mut self.underway {
            retry.on_answer();
        }
        let attempt = Attempt {
            outcome: &outcome,
            method: &self.method,
            retries: self.retries,
            replayable: self.is_kept || !self.is_read,
            push_back: PushBack::None,
        };
        match self.policy.decide(&attempt, &self.ceiling(), now, self.deadline, dice) {
            Verdict::Retry { at, reservation, condition } => {
                assert!(self.policy.on.has(condition), "{condition} is not named");
                drop((phase, self.underway.take()));
                self.phase = Phase::Waiting(reservation);
                Next::RetryAt(at)
            }
            Verdict::GiveUp(reason) => self.settle(phase, outcome, Some(reason)),
        }
    }

    fn settle(&mut self, phase: Phase, outcome: Outcome, reason: Option<GiveUp>) -> Next {
        let deeper = match outcome {
            Outcome::Answer { provenance, .. } => provenance,
            _ => Provenance::NONE,
        };
        let has_helped = reason == Some(GiveUp::NotNamed) && outcome.is_help();
        match self.underway.take() {
            Some(retry) if has_helped => retry.on_success(),
            retry => drop(retry),
        }
        self.phase = match (&outcome, phase) {
            (Outcome::Answer { .. }, Phase::Attempting(held)) => Phase::Answering(held),
            _ => Phase::Over,
        };
        let provenance = reason.map_or(Provenance::NONE, GiveUp::provenance).and(deeper);
        Next::Settled { outcome, provenance, reason }
    }

    /// Tells the outlier detection, which may eject; returns what that changed.
    pub(crate) fn report(&self, held: &Held, outcome: &Outcome, now: Time) -> Vec<Change> {
        let cluster = &*self.cluster;
        let (Some(policy), Some(verdict)) = (&cluster.outlier, outcome.verdict()) else { return Vec::new() };
        let mut changes: Vec<_> = cluster
            .state
            .on_time(policy, &cluster.endpoints, now)
            .into_iter()
            .map(|(_, change)| change)
            .collect();
        changes.push(cluster.state.on_answer(&held.in_flight, verdict, policy, &cluster.endpoints, now));
        if changes.iter().any(|change| matches!(change, Change::Ejected { .. })) {
            check_ejected(cluster, policy, now);
        }
        changes
    }

    /// Whether a retry of it may be useful or futile, and it is not known yet which.
    pub(crate) fn is_retry(&self) -> bool {
        self.retries > 0
    }

    pub(crate) fn has_retry_place(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_)) || self.underway.is_some()
    }

    /// What has a place among the requests of the cluster, and at which endpoint.
    pub(crate) fn held(&self) -> Option<&Held> {
        match &self.phase {
            Phase::Attempting(held) | Phase::Answering(held) => Some(held),
            Phase::Between | Phase::Waiting(_) | Phase::Over => None,
        }
    }
}

/// Who is picked is in the set, and ejected only in a panic; nobody is picked only if nobody may be.
fn check_pick(cluster: &Cluster, picked: Option<usize>, now: Time) {
    let endpoints = cluster.endpoints.as_slice();
    let healthy = endpoints.iter().filter(|it| !it.state.is_ejected(now)).count();
    let minimum = cluster.outlier.map_or(0, |policy| usize::from(policy.min_health_percent));
    let is_panic = 100 * healthy < minimum * endpoints.len() && 7 * healthy < 5 * endpoints.len();
    match picked {
        Some(index) => {
            let is_ejected = endpoints[index].state.is_ejected(now);
            assert!(!is_ejected || is_panic, "{} is ejected, and was picked", endpoints[index].address);
        }
        None => assert!(healthy == 0 && !is_panic, "nobody was picked of {healthy} healthy endpoints"),
    }
}

fn check_ejected(cluster: &Cluster, policy: &OutlierPolicy, now: Time) {
    let endpoints = cluster.endpoints.as_slice();
    let ejected = endpoints.iter().filter(|it| it.state.is_ejected(now)).count();
    let percent = usize::from(policy.max_ejection_percent);
    assert!(100 * ejected <= percent * endpoints.len(), "{ejected} of {} are ejected", endpoints.len());
}
