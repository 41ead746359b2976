//! Those who are called: a request comes in by the gate, is handled, answered, or given up.

use crate::{
    call::{Call, Start},
    day::{Day, Event, Key, Place, Served},
    files::SERVICES,
    process::{RUNNING_MAX, Weather},
};
use http::{Method, StatusCode};
use mesh_core::{
    balance::Security,
    dice::Dice,
    overload::Entry,
    registry::Address,
    retry::{Outcome, Provenance},
};

impl Day {
    pub(crate) fn arrive(&mut self, key: Key, address: &Address) {
        let server = self.processes.iter().position(|it| it.address == *address && it.tier.is_some());
        let server = server.expect("every lease is a process's");
        match self.processes[server].weather {
            Weather::Down => return self.reply(key, Outcome::ConnectFailure),
            Weather::Refuses => return self.reply(key, Outcome::RefusedStream),
            _ => {}
        }
        let call = self.calls.get_mut(&key.0).expect("it makes the attempt");
        assert!(call.is_kept || !call.is_read, "a body that was not kept is sent again");
        call.is_read = true;
        let deadline = call.deadline;
        match self.processes[server].gate.enter(RUNNING_MAX, self.now, deadline, || key) {
            Entry::Admitted => {
                self.served.insert(key, Served { server, place: Place::Running(self.now), child: None });
                self.handle(key);
            }
            Entry::Waiting { ticket, until } => {
                self.served.insert(key, Served { server, place: Place::Waiting(ticket), child: None });
                self.after(self.now.until(until), Event::QueueTimeout(key));
            }
            Entry::Refused(_) => {
                self.tally.refused_at_the_door += 1;
                self.reply(key, answer(StatusCode::SERVICE_UNAVAILABLE, Provenance::NONE));
            }
        }
    }

    /// The handler runs: by policy, and only if it may run again.
    fn handle(&mut self, key: Key) {
        let server = self.served[&key].server;
        let call = self.calls.get_mut(&key.0).expect("who gives up is taken out of the queue");
        let process = &self.processes[server];
        if !process.admits(call.path) {
            return self.answer(key, answer(StatusCode::FORBIDDEN, Provenance::NONE));
        }
        assert!(call.path != "/admin" || !process.edition.is_admin_denied, "/admin was let through");
        call.executions += 1;
        let may_repeat = call.method == Method::GET || call.policy.explicit;
        assert!(call.executions == 1 || may_repeat, "a POST was executed again, and nobody asked for it");
        self.tally.repeated += u64::from(call.executions > 1);
        let (deadline, method, path, is_kept) = (call.deadline, call.method.clone(), call.path, call.is_kept);
        let (weather, tier) = (process.weather, process.tier.expect("who serves is a service"));
        let took = match weather {
            Weather::Hangs => return,
            Weather::Slow => self.millis(20, 400),
            _ => self.millis(1, 20),
        };
        if tier + 1 == SERVICES.len() || weather != Weather::Fine {
            return self.after(took, Event::Handled(key));
        }
        let (now, seed) = (self.now, self.dice.roll());
        let start = Start {
            caller: server,
            tier: tier + 1,
            parent: Some(key),
            method,
            path,
            is_kept,
            deadline,
            now,
            seed,
        };
        match self.start(start) {
            Some(child) => {
                if let Some(served) = self.served.get_mut(&key) {
                    served.child = Some(child);
                }
            }
            None => self.answer(key, answer(StatusCode::GATEWAY_TIMEOUT, Provenance::NONE)),
        }
    }

    pub(crate) fn on_handled(&mut self, key: Key) {
        let outcome = match self.processes[self.served[&key].server].weather {
            Weather::Erring => self.failure(),
            Weather::Resets => {
                self.cancel(key);
                return self.reply(key, Outcome::Reset { sent: true });
            }
            _ => answer(StatusCode::OK, Provenance::NONE),
        };
        self.answer(key, outcome);
    }

    fn failure(&mut self) -> Outcome {
        let (status, grpc) = match self.dice.below(4) {
            0 => (StatusCode::INTERNAL_SERVER_ERROR, None),
            1 => (StatusCode::BAD_GATEWAY, None),
            2 => (StatusCode::SERVICE_UNAVAILABLE, None),
            _ => (StatusCode::OK, Some(UNAVAILABLE)),
        };
        Outcome::Answer { status, grpc, ratelimited: false, provenance: Provenance::NONE }
    }

    /// The server answers, and the place is the next one's.
    pub(crate) fn answer(&mut self, key: Key, outcome: Outcome) {
        let Some(served) = self.served.remove(&key) else { return };
        if let Place::Running(since) = served.place {
            self.processes[served.server].gate.leave(self.now.since(since), true);
        }
        let outcome = if self.is_verified(key) { outcome } else { without_provenance(outcome) };
        self.reply(key, outcome);
        self.hand_on(served.server);
    }

    /// Only a verified peer is believed what it says of retries.
    fn is_verified(&self, key: Key) -> bool {
        let endpoint = |call: &Call| Some(call.cluster.endpoints.as_slice()[call.held()?.index].clone());
        let endpoint = self.calls.get(&key.0).and_then(endpoint);
        endpoint.is_some_and(|it| matches!(it.security, Security::Mutual(_)))
    }

    /// The request is given up; so is what its handler does.
    pub(crate) fn cancel(&mut self, key: Key) {
        let Some(served) = self.served.remove(&key) else { return };
        let gate = &self.processes[served.server].gate;
        match served.place {
            Place::Waiting(ticket) => assert!(gate.withdraw(ticket), "it waited"),
            Place::Running(since) => gate.leave(self.now.since(since), false),
        }
        if let Some(child) = served.child {
            self.drop_call(child);
        }
        self.hand_on(served.server);
    }

    pub(crate) fn on_queue_timeout(&mut self, key: Key) {
        if matches!(self.served.get(&key), Some(Served { place: Place::Waiting(_), .. })) {
            self.cancel(key);
            self.reply(key, answer(StatusCode::SERVICE_UNAVAILABLE, Provenance::NONE));
        }
    }

    fn hand_on(&mut self, server: usize) {
        while let Some(key) = self.processes[server].gate.admit_next(RUNNING_MAX, self.now) {
            self.tally.waited += 1;
            self.served.get_mut(&key).expect("who gives up withdraws").place = Place::Running(self.now);
            self.handle(key);
        }
    }

    pub(crate) fn reply(&mut self, key: Key, outcome: Outcome) {
        let wait = self.millis(1, 3);
        self.after(wait, Event::Ended(key, outcome));
    }
}

pub(crate) fn answer(status: StatusCode, provenance: Provenance) -> Outcome {
    Outcome::Answer { status, grpc: None, ratelimited: false, provenance }
}

fn without_provenance(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Answer { status, grpc, ratelimited, .. } => {
            Outcome::Answer { status, grpc, ratelimited, provenance: Provenance::NONE }
        }
        other => other,
    }
}

/// Of gRPC; named by the retry policy that is in force without any.
const UNAVAILABLE: u32 = 14;
