//! Who calls this workload, how, and for what: what an operator must know before mutual TLS is demanded, and what a
//! policy on trial would have denied.
//!
//! Recorded is what was let through, and who was closed out for want of mutual TLS. Everything is bounded: beyond the
//! bounds there are sums, and who has not been seen for a day makes room. Headers, queries and bodies are not recorded.

mod asked;
mod trials;

use crate::{
    clock::Clock,
    config::ConfigStore,
    control::wire::{CallerRecord, Callers as Report, CallsBy},
};
use asked::Asked;
use http::Method;
use mesh_core::{authorize::Grounds, identity::Evidence, time::Time};
use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use trials::Trials;

/// The callers of one workload.
#[derive(Debug)]
pub struct Callers {
    clock: Clock,
    since: Time,
    config: Arc<ConfigStore>,
    /// Apart from the others, so that nobody who proves nothing takes their place.
    proven: Table,
    unproven: Table,
    trials: Mutex<Trials>,
}

/// One caller, on one port; held by its connections.
#[derive(Debug)]
pub struct Caller {
    clock: Clock,
    by: CallsBy,
    /// `None` is everybody for whom there was no room.
    who: Option<Who>,
    port: u16,
    connections: AtomicU64,
    refused: AtomicU64,
    requests: AtomicU64,
    /// When it was last seen, in nanoseconds of `clock`.
    seen: AtomicU64,
    asked: Mutex<Asked>,
}

/// What a caller is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Identity(Arc<str>),
    Address(IpAddr),
}

/// A request as far as it is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host, with the port that the request names, if it names one.
    pub host: &'a str,
    /// The path, without query.
    pub path: &'a str,
}

impl Callers {
    /// Returns a record without callers.
    pub(crate) fn new(clock: Clock, config: Arc<ConfigStore>) -> Self {
        Self {
            clock,
            since: clock.now(),
            config,
            proven: Table::new(PROVEN_MAX),
            unproven: Table::new(UNPROVEN_MAX),
            trials: Mutex::default(),
        }
    }

    /// Counts a connection to `port` and returns its caller; to be resolved once per connection, and kept.
    pub fn on_connection(&self, evidence: &Evidence, address: IpAddr, port: u16) -> Arc<Caller> {
        let caller = self.caller(evidence, address, port);
        caller.connections.fetch_add(1, Relaxed);
        caller
    }

    /// Counts a connection to `port` that was closed because policy demands mutual TLS.
    pub fn on_refused(&self, evidence: &Evidence, address: IpAddr, port: u16) {
        self.caller(evidence, address, port).refused.fetch_add(1, Relaxed);
    }

    /// Counts a request that policies on trial would have denied: `by` a rule, or because none allows it.
    pub fn on_denied_on_trial(&self, by: Option<&Grounds>, caller: &Caller, seen: Seen<'_>) {
        self.trials().on_denied(by, caller, seen, self.clock.now());
    }

    /// Returns everything that is recorded, in order.
    pub fn report(&self) -> Report {
        let now = self.clock.now();
        let (denied_on_trial, denied_on_trial_more) = self.trials().records(now);
        // Who comes to an edge from outside is no caller that STRICT would cut off.
        let is_edge = self.config.current().gateway().is_some();
        let unproven = if is_edge { Vec::new() } else { self.unproven.all(now) };
        let all = unproven.into_iter().chain(self.proven.all(now));
        let mut callers: Vec<_> = all.map(|caller| caller.record(now)).collect();
        callers.sort_by(|a, b| a.by.cmp(&b.by).then_with(|| key(a).cmp(&key(b))));
        Report {
            recorded_seconds: now.since(self.since).as_secs(),
            callers,
            denied_on_trial,
            denied_on_trial_more,
        }
    }

    /// Returns what the policies in force have denied on trial; what others did says nothing of them.
    fn trials(&self) -> MutexGuard<'_, Trials> {
        let mut trials = locked(&self.trials);
        trials.keep_those_of(&self.config.current().inbound().authorizer);
        trials
    }

    fn caller(&self, evidence: &Evidence, address: IpAddr, port: u16) -> Arc<Caller> {
        let (by, table) = match evidence {
            Evidence::Plaintext => (CallsBy::Plaintext, &self.unproven),
            Evidence::Anonymous => (CallsBy::Anonymous, &self.unproven),
            Evidence::Svid(_) => (CallsBy::MutualTls, &self.proven),
        };
        let who = match evidence {
            Evidence::Svid(id) => Who::Identity(id.as_str().into()),
            Evidence::Plaintext | Evidence::Anonymous => Who::Address(address.to_canonical()),
        };
        let caller = table.resolve(by, who, port, self.clock);
        caller.seen.store(self.clock.now().as_nanos(), Relaxed);
        caller
    }
}

fn key(record: &CallerRecord) -> (&Option<String>, &Option<String>, u16) {
    (&record.identity, &record.address, record.port)
}

impl Caller {
    /// Counts a request that was let through.
    pub fn on_request(&self, seen: Seen<'_>) {
        self.requests.fetch_add(1, Relaxed);
        self.seen.store(self.clock.now().as_nanos(), Relaxed);
        // While another request of this caller is written down, this one need not wait: its like will come again.
        if let Ok(mut asked) = self.asked.try_lock() {
            asked.on_request(seen);
        }
    }

    fn is_forgotten(&self, now: Time) -> bool {
        now.since(Time::from_nanos(self.seen.load(Relaxed))) > FORGOTTEN_AFTER
    }

    fn record(&self, now: Time) -> CallerRecord {
        let (asked, asked_more) = locked(&self.asked).records(self.requests.load(Relaxed));
        let (identity, address) = match &self.who {
            Some(Who::Identity(id)) => (Some(id.to_string()), None),
            Some(Who::Address(address)) => (None, Some(address.to_string())),
            None => (None, None),
        };
        CallerRecord {
            by: self.by,
            identity,
            address,
            port: self.port,
            connections: self.connections.load(Relaxed),
            refused: self.refused.load(Relaxed),
            requests: self.requests.load(Relaxed),
            last_seen_seconds: now.since(Time::from_nanos(self.seen.load(Relaxed))).as_secs(),
            asked,
            asked_more,
        }
    }
}

/// Its identity, or its address.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Some(Who::Identity(id)) => f.write_str(id),
            Some(Who::Address(address)) => write!(f, "{address}"),
            None => f.write_str("others"),
        }
    }
}

/// So many callers, and one that stands for the rest of each kind.
#[derive(Debug)]
struct Table {
    known: Mutex<Known>,
    max: usize,
}

/// By how they come, who they are, and the port.
type Known = HashMap<(CallsBy, Option<Who>, u16), Arc<Caller>>;

impl Table {
    fn new(max: usize) -> Self {
        Self { known: Mutex::default(), max }
    }

    fn resolve(&self, by: CallsBy, who: Who, port: u16, clock: Clock) -> Arc<Caller> {
        let mut known = locked(&self.known);
        let mut key = (by, Some(who), port);
        if known.len() >= self.max && !known.contains_key(&key) {
            forget(&mut known, clock.now());
            if known.len() >= self.max {
                key = (by, None, 0);
            }
        }
        let (_, who, port) = key.clone();
        Arc::clone(known.entry(key).or_insert_with(|| Arc::new(Caller::new(clock, by, who, port))))
    }

    fn all(&self, now: Time) -> Vec<Arc<Caller>> {
        let mut known = locked(&self.known);
        forget(&mut known, now);
        known.values().cloned().collect()
    }
}

/// Whoever is still connected stays, however silent.
fn forget(known: &mut Known, now: Time) {
    known.retain(|_, caller| Arc::strong_count(caller) > 1 || !caller.is_forgotten(now));
}

impl Caller {
    fn new(clock: Clock, by: CallsBy, who: Option<Who>, port: u16) -> Self {
        Self {
            clock,
            by,
            who,
            port,
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            asked: Mutex::default(),
        }
    }
}

/// Every critical section here leaves its data whole, so a panic elsewhere is no reason to stop recording.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// What a day shows, a nightly job included.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

// A service with more callers than that has many of one kind; each costs at most 4 KiB here and 3 KiB in a report.
const PROVEN_MAX: usize = 96;

// Anybody who reaches the port gets one of these; the rest of the strangers are one sum.
const UNPROVEN_MAX: usize = 32;

#[cfg(test)]
mod tests;
