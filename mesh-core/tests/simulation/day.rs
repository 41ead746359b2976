//! A cluster through one day: who calls, what happens on the way, and what breaks meanwhile.

use crate::{
    call::{Call, Phase},
    files::{self, Files, SERVICES},
    process::{Edition, Process, address},
    tally::Tally,
};
use mesh_core::{
    dice::{Dice, Seeded},
    overload::Ticket,
    registry::Address,
    retry::{Outcome, Provenance},
    time::Time,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    pub(crate) files: Files,
    /// The configuration that everybody will have heard of.
    pub(crate) edition: Arc<Edition>,
    pub(crate) queue: BTreeMap<(Time, u64), Event>,
    next: u64,
    /// Between two calls of one caller, on average; `None` is that nobody calls any more and nothing changes.
    pub(crate) gap: Option<Duration>,
}

/// A request at a server.
pub(crate) struct Served {
    pub(crate) server: usize,
    pub(crate) place: Place,
    /// The call that its handler makes.
    pub(crate) child: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Waiting(Ticket),
    Running(Time),
}

/// What happens next.
pub(crate) enum Event {
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

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        let number = self.number();
        self.queue.insert((self.now + wait, number), event);
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.dice.below(many) == 0
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(1_000 * from + self.dice.below(1_000 * (to - from)))
    }
}

/// How many processes serve each service in the beginning.
const SIZES: [u8; 3] = [3, 3, 5];

fn leases_of(tier: usize) -> BTreeMap<Address, &'static str> {
    let version = |number: u8| if number.is_multiple_of(2) { "v1" } else { "v2" };
    (1..=SIZES[tier]).map(|number| (address(Some(tier), number), version(number))).collect()
}
