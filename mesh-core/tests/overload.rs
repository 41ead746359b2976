//! A server under three times the load it can answer, simulated: what it still answers in time, and what it would
//! without protection.
//!
//! Its handlers share four cores: while more run, each is slower in proportion. Requests come by chance, take their time
//! by chance, and are worth nothing after 200 ms; then they are ended, as `mesh-server` ends them. Time is an argument
//! and chance comes from a seed, so every run is the same run. `--nocapture` shows the figures.
#![allow(clippy::unwrap_used, clippy::panic)]

use mesh_core::{
    dice::{Dice, Seeded},
    overload::{AdaptiveLimit, Entry, Gate, Gradient, QueueLimits, Ticket},
    time::Time,
};
use std::{collections::BTreeMap, fmt, time::Duration};

#[test]
fn at_three_times_its_capacity_a_server_answers_nine_tenths_of_what_it_answers_at_capacity() {
    for seed in 0..SEEDS {
        let at_capacity = Day::new(seed, Limit::Fixed(CORES)).run(CAPACITY, SECONDS);
        let over = Day::new(seed, Limit::Fixed(CORES)).run(3 * CAPACITY, SECONDS);
        println!("seed {seed}, 4 places:    1x {at_capacity}\n                     3x {over}");
        assert!(10 * over.in_time >= 9 * at_capacity.in_time, "seed {seed}");
        // No place was spent on who could not be answered.
        assert!(1_000 * over.out_of_time <= over.in_time, "seed {seed}");
        assert!(over.took(99) <= 2 * at_capacity.took(99), "seed {seed}");
    }
}

#[test]
fn a_limit_that_nobody_set_right_answers_as_much() {
    for seed in 0..SEEDS {
        let mut day = Day::new(seed, adaptive());
        day.run(CAPACITY, SECONDS);
        let at_capacity = day.run(CAPACITY, SECONDS);
        let over = day.run(3 * CAPACITY, SECONDS);
        println!("seed {seed}, adaptive:    1x {at_capacity}\n                     3x {over}");
        assert!(10 * over.in_time >= 9 * at_capacity.in_time, "seed {seed}");
        assert!(1_000 * over.out_of_time <= over.in_time, "seed {seed}");
        assert!(over.took(99) <= 2 * at_capacity.took(99), "seed {seed}");
        // Perhaps in the middle of a probe.
        assert!((3..=4 * CORES).contains(&day.limit()), "seed {seed}: {} for {CORES} cores", day.limit());
    }
}

/// What it is all for: were this not so, the tests above would prove nothing.
#[test]
fn without_a_limit_a_server_at_three_times_its_capacity_answers_next_to_nothing_in_time() {
    for seed in 0..SEEDS {
        let over = Day::new(seed, Limit::None).run(3 * CAPACITY, SECONDS);
        println!("seed {seed}, no limit:    3x {over}");
        assert!(2 * over.in_time < u64::from(CAPACITY * SECONDS), "seed {seed}");
    }
}

#[test]
fn when_the_load_is_gone_nobody_is_refused_after_five_seconds() {
    for limit in [Limit::Fixed(CORES), adaptive()] {
        let mut day = Day::new(1, limit);
        day.run(CAPACITY, SECONDS);
        day.run(3 * CAPACITY, SECONDS);
        day.run(CAPACITY / 2, 5);
        let after = day.run(CAPACITY / 2, SECONDS);
        println!("half of the load, afterwards: {after}");
        assert!(1_000 * after.refused <= after.offered(), "{after}");
        assert_eq!(after.out_of_time, 0);
    }
}

/// All that queues is refused or answered while it is worth something, so who is refused is told early.
#[test]
fn nine_in_ten_of_the_refused_are_told_at_once() {
    let over = Day::new(1, Limit::Fixed(CORES)).run(3 * CAPACITY, SECONDS);
    assert!(10 * over.refused_at_once >= 9 * over.refused, "{over}");
}

/// An hour-long stream on three of four places must not make the gate believe that all take an hour.
#[test]
fn streams_that_hold_places_for_hours_cost_their_places_and_no_more() {
    let mut day = Day::new(1, Limit::Fixed(CORES));
    let warm = day.run(CAPACITY, SECONDS);
    day.streams(CORES - 1);
    let over = day.run(CAPACITY, SECONDS);
    println!("one place left: {over}");
    // A handler that has four cores to itself is no faster, so a quarter is all there is.
    assert!(10 * over.in_time >= 2 * warm.in_time, "{over}");
    assert!(100 * over.out_of_time <= over.in_time, "{over}");
}

#[test]
fn a_bad_day_leaves_nobody_running_or_waiting_behind() {
    for limit in [Limit::Fixed(CORES), adaptive()] {
        let mut day = Day::new(2, limit);
        day.run(3 * CAPACITY, SECONDS);
        day.run(0, 5);
        assert_eq!((day.gate.running(), day.gate.waiting()), (0, 0));
    }
}

const SEEDS: u64 = 5;
const SECONDS: u32 = 30;
const CORES: u32 = 4;
const WORK: Duration = Duration::from_millis(20);
/// Requests in a second.
const CAPACITY: u32 = 200;
const DEADLINE: Duration = Duration::from_millis(200);

enum Limit {
    None,
    Fixed(u32),
    Adaptive(Box<Gradient>),
}

fn adaptive() -> Limit {
    Limit::Adaptive(Box::new(Gradient::new(AdaptiveLimit::default(), Time::ZERO)))
}

/// One server and all that come to it.
struct Day {
    dice: Seeded,
    now: Time,
    limit: Limit,
    gate: Gate<u64>,
    next: u64,
    running: BTreeMap<u64, Running>,
    waiting: BTreeMap<u64, Waiting>,
    tally: Tally,
}

struct Running {
    arrived: Time,
    since: Time,
    deadline: Time,
    /// Nanoseconds of a core.
    work: f64,
}

struct Waiting {
    arrived: Time,
    ticket: Ticket,
    until: Time,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    in_time: u64,
    out_of_time: u64,
    refused: u64,
    refused_at_once: u64,
    took: Vec<Duration>,
}

impl Day {
    fn new(seed: u64, limit: Limit) -> Self {
        Self {
            dice: Seeded::new(seed),
            now: Time::ZERO,
            limit,
            gate: Gate::new(QueueLimits::default()),
            next: 0,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    fn limit(&self) -> u32 {
        match &self.limit {
            Limit::None => u32::MAX,
            Limit::Fixed(limit) => *limit,
            Limit::Adaptive(gradient) => gradient.limit(),
        }
    }

    /// Lets requests come at `rate` for so many seconds, and returns what became of those that ended in them.
    fn run(&mut self, rate: u32, seconds: u32) -> Tally {
        self.tally = Tally::default();
        let end = self.now + Duration::from_secs(seconds.into());
        let mut arrival = self.next_arrival(rate);
        loop {
            let (event, at) = self.next_event();
            let at = at.min(arrival).min(end);
            self.work_until(at);
            match event {
                _ if at == end => return std::mem::take(&mut self.tally),
                _ if at == arrival => {
                    self.arrive();
                    arrival = self.next_arrival(rate);
                }
                Event::Done(name) => self.leave(name, true),
                Event::Overdue(name) => self.leave(name, false),
                Event::Impatient(name) => self.withdraw(name),
                Event::None => {}
            }
        }
    }

    /// Takes places for longer than anybody looks.
    fn streams(&mut self, count: u32) {
        self.run(0, 1);
        for _ in 0..count {
            assert_eq!(self.gate.enter(self.limit(), self.now, Time::MAX, || 0), Entry::Admitted);
        }
    }

    fn next_arrival(&mut self, rate: u32) -> Time {
        if rate == 0 {
            return Time::MAX;
        }
        self.now + Duration::from_secs(1).div_f64(rate.into()).mul_f64(self.exponential())
    }

    /// A number that is 1 on the average.
    fn exponential(&mut self) -> f64 {
        -((self.dice.below(1 << 53) + 1) as f64 / (1_u64 << 53) as f64).ln()
    }

    /// What happens next if nobody comes.
    fn next_event(&self) -> (Event, Time) {
        let done = self.running.iter().min_by(|a, b| a.1.work.total_cmp(&b.1.work));
        let done = done.map(|(&name, it)| (Event::Done(name), self.now + nanos(it.work / self.speed())));
        let overdue = self.running.iter().min_by_key(|(_, it)| it.deadline);
        let overdue = overdue.map(|(&name, it)| (Event::Overdue(name), it.deadline));
        let impatient = self.waiting.iter().min_by_key(|(_, it)| it.until);
        let impatient = impatient.map(|(&name, it)| (Event::Impatient(name), it.until));
        let all = [done, overdue, impatient].into_iter().flatten();
        all.min_by_key(|&(_, at)| at).unwrap_or((Event::None, Time::MAX))
    }

    /// How much of a core each handler has.
    fn speed(&self) -> f64 {
        (f64::from(CORES) / self.running.len() as f64).min(1.0)
    }

    fn work_until(&mut self, at: Time) {
        let done = at.since(self.now).as_nanos() as f64 * self.speed();
        self.running.values_mut().for_each(|it| it.work -= done);
        self.now = at;
    }

    fn arrive(&mut self) {
        let (name, arrived) = (self.next, self.now);
        self.next += 1;
        match self.gate.enter(self.limit(), self.now, self.now + DEADLINE, || name) {
            Entry::Admitted => self.begin(name, arrived),
            Entry::Waiting { ticket, until } => {
                self.waiting.insert(name, Waiting { arrived, ticket, until });
            }
            Entry::Refused(_) => self.refuse(arrived),
        }
    }

    fn begin(&mut self, name: u64, arrived: Time) {
        // Half of it to one and a half times it, evenly.
        let work = (WORK / 2).as_nanos() as f64 + self.dice.below(WORK.as_nanos() as u64) as f64;
        self.running.insert(name, Running { arrived, since: self.now, deadline: arrived + DEADLINE, work });
    }

    fn leave(&mut self, name: u64, in_time: bool) {
        let it = self.running.remove(&name).unwrap();
        match in_time {
            true => self.tally.in_time += 1,
            false => self.tally.out_of_time += 1,
        }
        self.tally.took.push(self.now.since(it.arrived));
        let running = self.gate.running();
        // The server answers in the place of who is overdue, so that answer is complete.
        self.gate.leave(self.now.since(it.since), true);
        if let Limit::Adaptive(gradient) = &self.limit {
            gradient.on_answer(it.since, self.now, true, running, &mut self.dice);
        }
        while let Some(name) = self.gate.admit_next(self.limit(), self.now) {
            let it = self.waiting.remove(&name).unwrap();
            self.begin(name, it.arrived);
        }
    }

    fn withdraw(&mut self, name: u64) {
        let it = self.waiting.remove(&name).unwrap();
        self.gate.withdraw(it.ticket);
        self.refuse(it.arrived);
    }

    fn refuse(&mut self, arrived: Time) {
        self.tally.refused += 1;
        self.tally.refused_at_once += u64::from(arrived == self.now);
    }
}

enum Event {
    Done(u64),
    Overdue(u64),
    Impatient(u64),
    None,
}

impl Tally {
    fn offered(&self) -> u64 {
        self.in_time + self.out_of_time + self.refused
    }

    fn took(&self, percent: usize) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took.get(took.len() * percent / 100).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_time, out_of_time, refused, .. } = self;
        let (p50, p99) = (self.took(50), self.took(99));
        write!(
            f,
            "{in_time} in time, {out_of_time} too late, {refused} refused, p50 {p50:.1?}, p99 {p99:.1?}"
        )
    }
}

fn nanos(nanos: f64) -> Duration {
    Duration::from_nanos(nanos.max(0.0).ceil() as u64)
}
