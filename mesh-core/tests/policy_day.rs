//! A bad day, simulated: picks, retries, ejections and the budget together, as a client uses them, second by second.
//!
//! Time is an argument and chance comes from a seed, so every run is the same run.
#![allow(clippy::unwrap_used, clippy::panic)]

use mesh_core::{
    balance::{Endpoint, EndpointSet, Security, Tried, Wish, pick},
    dice::{Dice, Seeded},
    health::{Limits, OutlierPolicy, Overflow, States},
    registry::{Address, Locality},
    retry::{Attempt, Budget, Ceiling, GiveUp, Outcome, PushBack, RetryPolicy, Underway, Verdict},
    time::Time,
};
use std::{sync::Arc, time::Duration};

/// One of ten endpoints refuses connections for a minute.
#[test]
fn callers_do_not_see_that_one_endpoint_of_ten_is_down() {
    for seed in 0..SEEDS {
        let mut day = Day::new(seed);
        day.run(5, |_| true);
        let before = day.tally;
        day.run(60, |index| index != 3);
        let down = day.tally.since(&before);
        assert_eq!((down.failed, down.refused_by_budget), (0, 0), "seed {seed}: {down:?}");
        // Five failures in a row eject it, for 30 s and then for 60 s.
        assert_eq!(down.attempts_at[3], 10, "seed {seed}: {down:?}");
    }
}

#[test]
fn an_endpoint_that_recovers_has_its_share_again_when_its_ejection_ends() {
    for seed in 0..SEEDS {
        let mut day = Day::new(seed);
        day.run(5, |index| index != 3);
        assert!(day.set.as_slice()[3].state.is_ejected(day.now), "seed {seed}");
        day.run(31, |_| true);
        let before = day.tally;
        day.run(60, |_| true);
        let share = f64::from(day.tally.since(&before).attempts_at[3]) / f64::from(60 * RATE);
        assert!((0.08..0.12).contains(&share), "seed {seed}: {share}");
    }
}

#[test]
fn a_service_that_is_down_for_ten_seconds_gets_a_quarter_more_load_at_most() {
    for seed in 0..SEEDS {
        let mut day = Day::new(seed);
        day.run(30, |_| true);
        let before = day.tally;
        day.run(10, |_| false);
        let down = day.tally.since(&before);
        assert!(4 * down.attempts <= 5 * down.requests, "seed {seed}: {down:?}");
        assert!(down.refused_by_budget > 0, "seed {seed}: {down:?}");
    }
}

#[test]
fn a_service_that_is_down_loses_one_endpoint_of_ten_and_gets_it_back() {
    for seed in 0..SEEDS {
        let mut day = Day::new(seed);
        day.run(20, |_| false);
        assert_eq!(day.set.healthy(day.now), 9, "seed {seed}");
        day.run(30, |_| true);
        assert_eq!(day.set.healthy(day.now), 10, "seed {seed}");
    }
}

#[test]
fn a_bad_day_leaves_nothing_in_flight_behind() {
    let mut day = Day::new(1);
    for second in 0..100 {
        day.run(1, |index| index % 2 == second % 2);
    }
    assert!(day.set.as_slice().iter().all(|endpoint| endpoint.state.in_flight() == 0));
    let cluster = day.states.cluster(CLUSTER);
    assert_eq!((cluster.in_use(Overflow::Requests), cluster.in_use(Overflow::Retries)), (0, 0));
}

const SEEDS: u64 = 20;
const RATE: u32 = 200;
const CLUSTER: &str = "outbound|80||payment.default.svc.cluster.local";

/// One caller, ten endpoints.
struct Day {
    seed: u64,
    dice: Seeded,
    now: Time,
    states: States,
    set: EndpointSet,
    budget: Arc<Budget>,
    outlier: OutlierPolicy,
    retry: RetryPolicy,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    requests: u32,
    attempts: u32,
    failed: u32,
    refused_by_budget: u32,
    attempts_at: [u32; 10],
}

impl Day {
    fn new(seed: u64) -> Self {
        let states = States::default();
        let endpoint = |port| {
            let address = Address::Ip(([10, 0, 0, 1], port).into());
            Endpoint {
                state: states.endpoint(CLUSTER, &address),
                address,
                labels: Arc::default(),
                locality: Locality::default(),
                weight: 1,
                security: Security::Plaintext,
            }
        };
        Self {
            seed,
            dice: Seeded::new(seed),
            now: Time::ZERO,
            set: EndpointSet::new((0..10).map(endpoint).collect()),
            budget: states.budget("payment.default.svc.cluster.local"),
            states,
            outlier: OutlierPolicy::default(),
            retry: RetryPolicy::default(),
            tally: Tally::default(),
        }
    }

    /// Sends requests for so many seconds; `is_up` says which endpoints take connections.
    fn run(&mut self, seconds: u32, is_up: impl Fn(usize) -> bool) {
        let end = self.now + Duration::from_secs(seconds.into());
        while self.now < end {
            self.request(&is_up);
            let gap_max = 2 * Duration::from_secs(1) / RATE;
            self.now = self.now + Duration::from_nanos(self.dice.below(gap_max.as_nanos() as u64));
        }
    }

    fn request(&mut self, is_up: &impl Fn(usize) -> bool) {
        let cluster = self.states.cluster(CLUSTER);
        let limits = Limits::default();
        let _permit = cluster.admit(Overflow::Requests, &limits).unwrap();
        let (mut tried, mut retries, mut now) = (Tried::default(), 0, self.now);
        let mut underway: Option<Underway> = None;
        self.budget.deposit(now);
        self.tally.requests += 1;
        loop {
            let index =
                pick(&self.set, &Wish { avoid: Some(&tried), ..Wish::default() }, now, &mut self.dice)
                    .unwrap_or_else(|| panic!("seed {}: nothing to pick at {now:?}", self.seed));
            tried.on_attempt(index);
            self.tally.attempts += 1;
            self.tally.attempts_at[index] += 1;
            let in_flight = self.set.as_slice()[index].state.begin(now);
            let outcome = if is_up(index) { answer() } else { Outcome::ConnectFailure };
            let verdict = outcome.verdict().unwrap();
            cluster.on_answer(&in_flight, verdict, &self.outlier, &self.set, now);
            let attempt = Attempt {
                outcome: &outcome,
                method: &http::Method::POST,
                retries,
                replayable: true,
                push_back: PushBack::None,
            };
            let ceiling =
                Ceiling { budget: Some(&self.budget), written: None, cluster: &cluster, limits: &limits };
            match self.retry.decide(&attempt, &ceiling, now, Time::MAX, &mut self.dice) {
                Verdict::Retry { at, reservation, .. } => {
                    underway = Some(reservation.begin());
                    (now, retries) = (at, retries + 1);
                }
                Verdict::GiveUp(GiveUp::NotNamed) => {
                    return underway.into_iter().for_each(Underway::on_success);
                }
                Verdict::GiveUp(reason) => {
                    self.tally.failed += 1;
                    self.tally.refused_by_budget += u32::from(reason == GiveUp::Budget);
                    return;
                }
            }
        }
    }
}

impl Tally {
    fn since(&self, before: &Self) -> Self {
        let mut attempts_at = self.attempts_at;
        attempts_at.iter_mut().zip(before.attempts_at).for_each(|(now, before)| *now -= before);
        Self {
            requests: self.requests - before.requests,
            attempts: self.attempts - before.attempts,
            failed: self.failed - before.failed,
            refused_by_budget: self.refused_by_budget - before.refused_by_budget,
            attempts_at,
        }
    }
}

fn answer() -> Outcome {
    Outcome::Answer {
        status: http::StatusCode::OK,
        grpc: None,
        ratelimited: false,
        provenance: mesh_core::retry::Provenance::NONE,
    }
}
