//! Those who call: a call begins, tries, waits, ends, or is given up.

use crate::{
    call::{Call, Next, Phase, Start},
    day::{Day, Event, Key},
    files::SERVICES,
    process::{Edition, head},
    servers::answer,
};
use http::{HeaderMap, Method, StatusCode};
use mesh_core::{
    deadline,
    dice::{Dice, Seeded},
    registry::Address,
    retry::{GiveUp, Outcome, Provenance},
    route::Decision,
    time::Time,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

impl Day {
    pub(crate) fn on_arrival(&mut self, caller: usize) {
        let Some(gap) = self.gap else { return };
        let wait = Duration::from_nanos(self.dice.below(2 * gap.as_nanos() as u64));
        self.after(wait, Event::Arrival(caller));
        let patience = Duration::from_millis(if self.one_in(8) { self.dice.below(300) } else { 20_000 });
        let deadline = if self.one_in(4) { self.now + self.millis(1, 500) } else { Time::MAX };
        let method = if self.one_in(3) { Method::POST } else { Method::GET };
        let path = ["/", "/", "/", "/second", "/admin"][self.dice.below(5) as usize];
        let start = Start {
            caller,
            tier: 0,
            parent: None,
            method,
            path,
            is_kept: !self.one_in(8),
            deadline,
            now: self.now,
            seed: self.dice.roll(),
        };
        self.tally.calls += 1;
        if let Some(id) = self.start(start) {
            self.after(patience, Event::HangUp(id));
        }
    }

    /// Routes a call and makes its first attempt; `None` if it ended at once.
    pub(crate) fn start(&mut self, mut start: Start) -> Option<u64> {
        let snapshot = Arc::clone(&self.processes[start.caller].snapshot);
        let headers = HeaderMap::new();
        let head = head(SERVICES[start.tier], start.path, &headers);
        let Decision::Forward { forward, target, .. } = snapshot.route(&head, &mut Seeded::new(start.seed))
        else {
            panic!("{} has no route", SERVICES[start.tier])
        };
        let cluster = Arc::clone(snapshot.cluster(target.cluster.expect("routes name what is there")));
        start.deadline = deadline::shorten(start.deadline, self.now, forward.timeout);
        let servers = servers(&self.processes[start.caller].edition, start.tier, &cluster.subset);
        let (id, due, policy) = (self.number(), start.deadline, forward.retry.clone());
        if due <= self.now {
            return None;
        }
        self.tally.on_call(&cluster);
        if due < Time::MAX {
            self.queue.insert((due, id), Event::Deadline(id));
        }
        self.calls.insert(id, Call::new(start, Arc::clone(&snapshot), cluster, policy, servers));
        self.attempt(id);
        Some(id)
    }

    fn attempt(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let result = call.attempt(self.now, &mut self.dice);
        let key = (id, call.attempt);
        match result {
            Ok(index) => {
                let address = call.cluster.endpoints.as_slice()[index].address.clone();
                let timeout = call.policy.per_try_timeout;
                self.tally.attempts[call.tier] += 1;
                if let Some(timeout) = timeout {
                    self.after(timeout, Event::TryTimeout(key));
                }
                self.arrive(key, &address);
            }
            // Not in this very moment: what called this must first know that there is a call.
            Err(outcome) => self.after(Duration::ZERO, Event::Ended(key, outcome)),
        }
    }

    pub(crate) fn on_ended(&mut self, id: u64, outcome: Outcome) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (had_retry, bounded) = (call.is_retry(), call.cluster.retry_budget.is_none());
        let (next, changes) = call.on_outcome(outcome, self.now, &mut self.dice);
        self.tally.on_changes(&changes);
        match next {
            Next::RetryAt(at) => {
                let key = (id, call.attempt);
                self.tally.reserved += 1;
                self.after(self.now.until(at), Event::WaitOver(key));
            }
            Next::Settled { outcome, provenance, reason } => {
                let is_answer = matches!(call.phase, Phase::Answering(_));
                let is_useful = reason == Some(GiveUp::NotNamed) && outcome.is_help();
                if had_retry && is_useful && bounded {
                    self.tally.on_useful(&call.cluster);
                }
                self.tally.on_settled(reason);
                let wait = if is_answer { self.millis(0, 20) } else { Duration::ZERO };
                self.after(wait, Event::BodyEnd(id, outcome, provenance));
            }
        }
    }

    pub(crate) fn on_wait_over(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.retry();
        self.tally.on_retry(&call.cluster);
        self.attempt(id);
    }

    pub(crate) fn on_try_timeout(&mut self, key: Key) {
        self.tally.try_timeouts += 1;
        self.cancel(key);
        self.on_ended(key.0, Outcome::PerTryTimeout { sent: true });
    }

    pub(crate) fn on_deadline(&mut self, id: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        self.tally.deadlines += 1;
        let mut changes = Vec::new();
        if let Phase::Attempting(held) = &call.phase {
            changes = call.report(held, &Outcome::Timeout, self.now);
        }
        self.tally.on_changes(&changes);
        self.end(id, Outcome::Timeout, Provenance::NONE);
    }

    /// The call is over, with its body; whoever made it in the course of a request answers that.
    pub(crate) fn end(&mut self, id: u64, outcome: Outcome, provenance: Provenance) {
        let Some(call) = self.calls.get(&id) else { return };
        self.tally.longest = self.tally.longest.max(self.now.since(call.begun));
        assert!(self.now <= call.deadline, "a call went on after its deadline");
        let parent = call.parent;
        self.check_route(id);
        self.drop_call(id);
        let Some(parent) = parent else { return };
        let status = match outcome {
            Outcome::Answer { status, .. } => status,
            Outcome::Timeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        self.answer(parent, answer(status, provenance));
    }

    /// Whatever was reloaded meanwhile: its snapshot routes it as it did.
    fn check_route(&self, id: u64) {
        let call = &self.calls[&id];
        let headers = HeaderMap::new();
        let head = head(SERVICES[call.tier], call.path, &headers);
        match call.snapshot.route(&head, &mut Seeded::new(call.seed)) {
            Decision::Forward { forward, target, .. } => {
                let cluster = target.cluster.map(|id| call.snapshot.cluster(id));
                assert!(cluster.is_some_and(|it| Arc::ptr_eq(it, &call.cluster)), "a snapshot has changed");
                assert_eq!(forward.retry, call.policy, "a snapshot has changed");
            }
            other => panic!("a snapshot has changed: {other:?}"),
        }
    }

    /// Whoever waited for it went away: it ends wherever it is, with all that was done for it.
    pub(crate) fn drop_call(&mut self, id: u64) {
        if let Some(call) = self.calls.remove(&id) {
            let key = (id, call.attempt);
            drop(call);
            self.cancel(key);
        }
    }
}

/// Returns who serves `subset` of a service by the leases of `edition`.
fn servers(edition: &Edition, tier: usize, subset: &str) -> BTreeSet<Address> {
    let leases = edition.leases[SERVICES[tier]].iter();
    leases.filter(|(_, version)| subset.is_empty() || **version == subset).map(|(it, _)| it.clone()).collect()
}
