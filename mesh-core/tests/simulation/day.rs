//! A cluster through one day: who calls, what happens on the way, and what breaks meanwhile.

use crate::{
    call::{Call, Next, Phase, Start},
    files::{self, Edit, Files, SERVICES},
    process::{Edition, Process, RUNNING_MAX, Weather, head, some_weather},
    tally::Tally,
};
use http::{HeaderMap, Method, StatusCode};
use mesh_core::{
    balance::Security,
    deadline,
    dice::{Dice, Seeded},
    overload::{Entry, Ticket},
    registry::Address,
    retry::{GiveUp, Outcome, Provenance},
    route::Decision,
    time::Time,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// An attempt: the number of its call, and which of its attempts it is.
pub(crate) type Key = (u64, u32);

/// Everything there is.
pub(crate) struct Day {
    pub(crate) dice: Seeded,
    pub(crate) now: Time,
    pub(crate) processes: Vec<Process>,
    pub(crate) calls: BTreeMap<u64, Call>,
    /// Requests at servers.
    pub(crate) served: BTreeMap<Key, Served>,
    pub(crate) tally: Tally,
    files: Files,
    edition: Arc<Edition>,
    queue: BTreeMap<(Time, u64), Event>,
    next: u64,
    /// Between two calls of one caller, on average; `None` is that nobody calls any more and nothing changes.
    gap: Option<Duration>,
}

/// A request at a server.
pub(crate) struct Served {
    pub(crate) server: usize,
    pub(crate) place: Place,
    /// The call that its handler makes.
    child: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Waiting(Ticket),
    Running(Time),
}

/// What happens next.
enum Event {
    Arrival(usize),
    WeatherChange,
    LeaseChange,
    FileEdit,
    Heard(usize, Arc<Edition>),
    Ended(Key, Outcome),
    WaitOver(Key),
    TryTimeout(Key),
    BodyEnd(u64, Outcome, Provenance),
    Deadline(u64),
    HangUp(u64),
    Handled(Key),
    QueueTimeout(Key),
}

impl Day {
    /// Returns a cluster of three tiers and two callers, in which each caller calls so often.
    pub(crate) fn new(
        seed: u64,
        gap: Duration,
        policy: impl Fn(&str, &mut Seeded) -> [(String, String); 2],
    ) -> Self {
        let mut dice = Seeded::new(seed);
        let mut files = Files::default();
        let leases: BTreeMap<_, _> =
            (0..SERVICES.len()).map(|tier| (SERVICES[tier], leases_of(tier))).collect();
        for (service, leases) in &leases {
            files.write(service, files::entry(service, leases));
            for (name, text) in policy(service, &mut dice) {
                files.write(&name, text);
            }
        }
        let edition = Arc::new(Edition::of(1, &mut files, leases));
        let mut processes: Vec<_> = (0..2).map(|number| Process::new(None, number, &edition)).collect();
        for (tier, count) in SIZES.into_iter().enumerate() {
            processes.extend((1..=count).map(|number| Process::new(Some(tier), number, &edition)));
        }
        let mut day = Self {
            dice,
            now: Time::ZERO + Duration::from_secs(1),
            processes,
            calls: BTreeMap::new(),
            served: BTreeMap::new(),
            tally: Tally::default(),
            files,
            edition,
            queue: BTreeMap::new(),
            next: 0,
            gap: Some(gap),
        };
        (0..2).for_each(|caller| day.after(Duration::ZERO, Event::Arrival(caller)));
        day
    }

    /// From here on weather, leases and files change.
    pub(crate) fn unsettle(&mut self) {
        for event in [Event::WeatherChange, Event::LeaseChange, Event::FileEdit] {
            self.after(Duration::from_millis(100), event);
        }
    }

    /// Nobody calls any more, and nothing changes.
    pub(crate) fn calm(&mut self) {
        self.gap = None;
    }

    /// Does what happens next; returns whether there was anything.
    pub(crate) fn step(&mut self) -> bool {
        let Some(((now, _), event)) = self.queue.pop_first() else { return false };
        self.now = now;
        match event {
            Event::Arrival(caller) => self.on_arrival(caller),
            Event::WeatherChange => self.on_weather(),
            Event::LeaseChange => self.on_lease(),
            Event::FileEdit => self.on_edit(),
            Event::Heard(process, edition) => self.on_heard(process, &edition),
            Event::Ended(key, outcome) if self.is_attempting(key) => self.on_ended(key.0, outcome),
            Event::WaitOver(key) if self.is_waiting(key) => self.on_wait_over(key.0),
            Event::TryTimeout(key) if self.served.contains_key(&key) => self.on_try_timeout(key),
            Event::BodyEnd(id, outcome, provenance) => self.end(id, outcome, provenance),
            Event::Deadline(id) => self.on_deadline(id),
            Event::HangUp(id) if self.calls.contains_key(&id) => {
                self.tally.hung_up += 1;
                self.drop_call(id);
            }
            Event::Handled(key) if self.served.contains_key(&key) => self.on_handled(key),
            Event::QueueTimeout(key) => self.on_queue_timeout(key),
            // Of an attempt, or of a call, that is over.
            Event::Ended(..)
            | Event::WaitOver(..)
            | Event::TryTimeout(..)
            | Event::HangUp(..)
            | Event::Handled(..) => {}
        }
        true
    }

    // ---- those who call

    fn on_arrival(&mut self, caller: usize) {
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
    fn start(&mut self, mut start: Start) -> Option<u64> {
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

    fn on_ended(&mut self, id: u64, outcome: Outcome) {
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

    fn on_wait_over(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.retry();
        self.tally.on_retry(&call.cluster);
        self.attempt(id);
    }

    fn on_try_timeout(&mut self, key: Key) {
        self.tally.try_timeouts += 1;
        self.cancel(key);
        self.on_ended(key.0, Outcome::PerTryTimeout { sent: true });
    }

    fn on_deadline(&mut self, id: u64) {
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
    fn end(&mut self, id: u64, outcome: Outcome, provenance: Provenance) {
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

    // ---- those who are called

    fn arrive(&mut self, key: Key, address: &Address) {
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

    fn on_handled(&mut self, key: Key) {
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
    fn answer(&mut self, key: Key, outcome: Outcome) {
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
    fn cancel(&mut self, key: Key) {
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

    fn on_queue_timeout(&mut self, key: Key) {
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

    fn reply(&mut self, key: Key, outcome: Outcome) {
        let wait = self.millis(1, 3);
        self.after(wait, Event::Ended(key, outcome));
    }

    // ---- what changes

    fn on_weather(&mut self) {
        let Some(_) = self.gap else { return };
        let server = 2 + self.dice.below(self.processes.len() as u64 - 2) as usize;
        let weather = some_weather(&mut self.dice);
        self.set_weather(server, weather);
        if weather == Weather::Down && self.one_in(3) {
            self.restart(server);
        }
        let wait = self.millis(10, 500);
        self.after(wait, Event::WeatherChange);
    }

    pub(crate) fn set_weather(&mut self, server: usize, weather: Weather) {
        self.processes[server].weather = weather;
        if weather == Weather::Down {
            let at_it = |(key, served): (&Key, &Served)| (served.server == server).then_some(*key);
            let broken: Vec<_> = self.served.iter().filter_map(at_it).collect();
            for key in broken {
                self.cancel(key);
                self.reply(key, Outcome::Reset { sent: true });
            }
        }
    }

    /// A process is started anew: nobody waits for what it did.
    fn restart(&mut self, server: usize) {
        let of_it = |(id, call): (&u64, &Call)| (call.caller == server).then_some(*id);
        let orphans: Vec<_> = self.calls.iter().filter_map(of_it).collect();
        orphans.into_iter().for_each(|id| self.drop_call(id));
        self.check();
        self.processes[server].restart(self.now);
        self.tally.restarts += 1;
    }

    /// Somebody's lease ends, or begins again, perhaps with another version. The last of a service stays.
    fn on_lease(&mut self) {
        let Some(_) = self.gap else { return };
        let server = 2 + self.dice.below(self.processes.len() as u64 - 2) as usize;
        let tier = self.processes[server].tier;
        let others = self.processes.iter().filter(|it| it.tier == tier && it.lease.is_some()).count();
        let version = ["v1", "v2"][self.dice.below(2) as usize];
        let process = &mut self.processes[server];
        process.lease = match process.lease {
            Some(_) if others > 1 => None,
            _ => Some(version),
        };
        self.publish();
        let wait = self.millis(10, 700);
        self.after(wait, Event::LeaseChange);
    }

    fn on_edit(&mut self) {
        let Some(_) = self.gap else { return };
        match self.files.edit(&mut self.dice) {
            Edit::Good => self.tally.good_edits += 1,
            Edit::Bad => self.tally.bad_edits += 1,
            Edit::Gone => {}
        }
        self.publish();
        let wait = self.millis(10, 400);
        self.after(wait, Event::FileEdit);
    }

    /// Everybody hears of the configuration as it stands, each in its own time.
    fn publish(&mut self) {
        let mut leases: BTreeMap<_, _> = SERVICES.map(|service| (service, BTreeMap::new())).into();
        for process in &self.processes {
            if let (Some(tier), Some(version)) = (process.tier, process.lease)
                && let Some(leases) = leases.get_mut(SERVICES[tier])
            {
                leases.insert(process.address.clone(), version);
            }
        }
        for (service, leases) in &leases {
            self.files.write(service, files::entry(service, leases));
        }
        self.edition = Arc::new(Edition::of(self.edition.number + 1, &mut self.files, leases));
        for process in 0..self.processes.len() {
            let (wait, edition) = (self.millis(0, 100), Arc::clone(&self.edition));
            self.after(wait, Event::Heard(process, edition));
        }
    }

    fn on_heard(&mut self, process: usize, edition: &Arc<Edition>) {
        let is_compared = self.one_in(4);
        let process = &mut self.processes[process];
        if edition.number <= process.edition.number {
            return;
        }
        process.on_edition(edition, self.now);
        self.tally.reloads += 1;
        if is_compared {
            process.check_compiled();
        }
    }

    pub(crate) fn last_edit(&self) -> &str {
        &self.files.last_edit
    }

    // ---- time and chance

    fn is_attempting(&self, key: Key) -> bool {
        self.calls.get(&key.0).is_some_and(|call| {
            call.attempt == key.1 && matches!(call.phase, Phase::Attempting(_) | Phase::Between)
        })
    }

    fn is_waiting(&self, key: Key) -> bool {
        self.calls
            .get(&key.0)
            .is_some_and(|call| call.attempt == key.1 && matches!(call.phase, Phase::Waiting(_)))
    }

    fn after(&mut self, wait: Duration, event: Event) {
        let number = self.number();
        self.queue.insert((self.now + wait, number), event);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.dice.below(many) == 0
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(1_000 * from + self.dice.below(1_000 * (to - from)))
    }
}

/// How many processes serve each service in the beginning.
const SIZES: [u8; 3] = [3, 3, 5];

fn leases_of(tier: usize) -> BTreeMap<Address, &'static str> {
    let version = |number: u8| if number.is_multiple_of(2) { "v1" } else { "v2" };
    (1..=SIZES[tier]).map(|number| (crate::process::address(Some(tier), number), version(number))).collect()
}

/// Returns who serves `subset` of a service by the leases of `edition`.
fn servers(edition: &Edition, tier: usize, subset: &str) -> BTreeSet<Address> {
    let leases = edition.leases[SERVICES[tier]].iter();
    leases.filter(|(_, version)| subset.is_empty() || **version == subset).map(|(it, _)| it.clone()).collect()
}

fn answer(status: StatusCode, provenance: Provenance) -> Outcome {
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
