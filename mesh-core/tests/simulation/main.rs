//! A cluster under virtual time that replays from a seed: three tiers of services and their callers, made of the pieces
//! of mesh-core that the real client and server use. Endpoints fail, slow down, hang and come back; leases come and go;
//! files are edited, well and badly, while calls are under way. After every step all that must be true is checked.
//!
//! A failure prints its seed and its step; `MESH_SIMULATION_SEED=7 cargo test -p mesh-core --test simulation` lives that
//! day again. `MESH_SIMULATION_SEEDS=500` lives so many days, of `MESH_SIMULATION_STEPS` steps each.
//!
//! It is no test of sockets, pools, bodies or the code between the pieces: mesh-client awaits where this has events, and
//! draws from the dice of its thread. That little is repeated in `call`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod call;
mod callers;
mod changes;
mod check;
mod day;
mod files;
mod process;
mod servers;
mod tally;

use day::Day;
use mesh_core::dice::Seeded;
use process::Weather;
use std::{collections::BTreeMap, ops::Range, time::Duration};

#[test]
fn whatever_happens_all_that_must_be_true_is_true_after_every_step() {
    let mut seen = BTreeMap::new();
    for seed in seeds() {
        let mut day = bad_day(seed);
        live(seed, &mut day, steps());
        add(&mut seen, &day);
    }
    // A day on which something never happens proves nothing of it.
    let never = EVENTS.iter().filter(|event| !seen.contains_key(*event)).collect::<Vec<_>>();
    assert!(!is_default() || never.is_empty(), "never happened: {never:?} in {seen:#?}");
}

#[test]
fn the_same_seed_is_the_same_day() {
    let day = |seed| {
        let mut day = bad_day(seed);
        live(seed, &mut day, 600);
        (day.now, day.tally.counts())
    };
    assert_eq!(day(1), day(1));
    assert_ne!(day(1), day(2));
}

/// However a service fails, three tiers that each try four times at a hundred calls a second add a quarter to its load.
#[test]
fn three_tiers_above_a_service_that_is_down_for_ten_seconds_add_a_quarter_to_its_load_at_most() {
    for weather in [Weather::Down, Weather::Erring, Weather::Resets, Weather::Refuses] {
        let mut day = Day::new(1, Duration::from_millis(20), |service, _| {
            [
                (format!("routes-{service}"), files::eager_routes(service)),
                (format!("rule-{service}"), plain(service)),
            ]
        });
        let second = |day: &mut Day, count: u32| {
            let end = day.now + count * Duration::from_secs(1);
            while day.now < end && day.step() {}
        };
        second(&mut day, 20);
        let (calls, attempts) = (day.tally.calls, day.tally.attempts[2]);
        let servers = 0..day.processes.len();
        let of_the_last =
            |day: &Day| servers.clone().filter(|&it| day.processes[it].tier == Some(2)).collect::<Vec<_>>();
        of_the_last(&day).into_iter().for_each(|it| day.set_weather(it, weather));
        second(&mut day, 10);
        let (calls, attempts) = (day.tally.calls - calls, day.tally.attempts[2] - attempts);
        assert!(4 * attempts <= 5 * calls, "{weather:?}: {attempts} attempts of {calls} calls");
        assert!(attempts > calls / 2, "{weather:?}: {attempts} attempts of {calls} calls are no load");
        of_the_last(&day).into_iter().for_each(|it| day.set_weather(it, Weather::Fine));
        second(&mut day, 1);
        let before = day.tally.counts();
        second(&mut day, 5);
        assert_eq!(before.get("budget"), day.tally.counts().get("budget"), "{weather:?} is over");
    }
}

/// Lives a day: so many steps of it, and then until everything has come to rest.
fn live(seed: u64, day: &mut Day, steps: u64) {
    let mut place = Place { seed, step: 0, last_edit: String::new() };
    while place.step < steps && day.step() {
        place.step += 1;
        day.last_edit().clone_into(&mut place.last_edit);
        day.check();
    }
    day.calm();
    while day.step() {
        place.step += 1;
        day.check();
    }
    assert!(day.calls.is_empty() && day.served.is_empty(), "{} calls never ended", day.calls.len());
}

fn bad_day(seed: u64) -> Day {
    let policy = |service: &str, dice: &mut Seeded| {
        [
            (format!("routes-{service}"), files::routes(service, dice)),
            (format!("rule-{service}"), files::rule(service, dice)),
        ]
    };
    let mut day = Day::new(seed, Duration::from_millis(15), policy);
    day.unsettle();
    day
}

/// A rule without outlier detection: nobody is spared any load.
fn plain(service: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {service}}}, \
         spec: {{host: {service}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}}}"
    )
}

/// Where a day stands; told if a test fails there.
struct Place {
    seed: u64,
    step: u64,
    last_edit: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, step, last_edit } = self;
            eprintln!("seed {seed}, step {step}, after the edit {last_edit}");
            eprintln!("to replay: MESH_SIMULATION_SEED={seed} cargo test -p mesh-core --test simulation");
        }
    }
}

fn add(seen: &mut BTreeMap<&'static str, u64>, day: &Day) {
    for (event, count) in day.tally.counts().into_iter().filter(|(_, count)| *count > 0) {
        *seen.entry(event).or_default() += count;
    }
}

fn seeds() -> Range<u64> {
    match number("MESH_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MESH_SIMULATION_SEEDS").unwrap_or(8),
    }
}

/// Whether these are the days that everybody runs.
fn is_default() -> bool {
    let variables = ["MESH_SIMULATION_SEED", "MESH_SIMULATION_SEEDS", "MESH_SIMULATION_STEPS"];
    variables.into_iter().all(|variable| number(variable).is_none())
}

fn steps() -> u64 {
    number("MESH_SIMULATION_STEPS").unwrap_or(2_000)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, and no number")))
}

/// What must have happened in the days that everybody runs.
const EVENTS: &[&str] = &[
    "retries",
    "handlers run again",
    "useful retries",
    "ejections",
    "endpoints spared",
    "callers hung up",
    "deadlines",
    "tries timed out",
    "refused at the door",
    "waited at the door",
    "restarts",
    "reloads",
    "good edits",
    "bad edits",
    "not_named",
    "may_have_been_executed",
    "settled_deeper",
    "not_replayable",
    "attempts",
    "deadline",
    "overflow",
    "budget",
];
