use super::*;
use crate::{
    balance::{Endpoint, Security},
    dice::{Dice, Seeded},
    health::Verdict,
    registry::{Address, Locality},
};
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);
const START: Time = Time::from_nanos(1_000_000_000);

/// Rows: answers and failures of each endpoint in an interval, and whom each rule ejects with Envoy's defaults.
#[test]
fn whom_an_interval_ejects_is_a_table() {
    let good = (100, 0);
    for (answers, by_rate, by_percentage) in [
        (vec![good; 10], vec![], vec![]),
        // Mean 95, standard deviation 15: below 66.5.
        (vec![good, good, good, good, good, good, good, good, good, (100, 50)], vec![9], vec![]),
        // Of five the worst is two standard deviations away, by arithmetic.
        (vec![good, good, (100, 1), good, good], vec![2], vec![]),
        (vec![good, good, (100, 86), (100, 84), good], vec![], vec![2]),
        (vec![(100, 85), (100, 85), (100, 85), (100, 85), (100, 90)], vec![4], vec![4, 0, 1, 2, 3]),
        // Too few endpoints, then too few answers of one.
        (vec![good, good, good, (100, 100)], vec![], vec![]),
        (vec![good, good, good, good, (99, 99)], vec![], vec![4]),
        (vec![good, good, good, good, good, (49, 49)], vec![], vec![]),
        (vec![good, good, good, good, good, (0, 0)], vec![], vec![]),
    ] {
        for (policy, cause, expected) in
            [(rate(), Cause::SuccessRate, by_rate), (percentage(), Cause::FailurePercentage, by_percentage)]
        {
            let mut world = World::new(answers.len(), policy);
            world.answer_all(&answers);
            world.now = world.now + policy.interval;
            let until = world.now + policy.base_ejection_time;
            let expected: Vec<_> =
                expected.into_iter().map(|index| (index, Change::Ejected { until, cause })).collect();
            assert_eq!(world.on_time(), expected, "{answers:?}");
        }
    }
}

#[test]
fn the_settings_of_the_rules_are_what_is_judged_by() {
    let volume = Volume { endpoints_min: 2, answers_min: 10 };
    let answers = [(10, 0), (10, 5)];
    // Mean 75, standard deviation 25: below 50 with 1000, below 52.5 with 900.
    for (stdev_factor, ejected) in [(1000, false), (900, true)] {
        let rule = SuccessRate { stdev_factor, volume };
        assert_eq!(is_any_ejected(OutlierPolicy { success_rate: Some(rule), ..off() }, &answers), ejected);
    }
    for (threshold, ejected) in [(51, false), (50, true)] {
        let rule = FailurePercentage { threshold, volume };
        assert_eq!(
            is_any_ejected(OutlierPolicy { failure_percentage: Some(rule), ..off() }, &answers),
            ejected
        );
    }
}

#[test]
fn an_endpoint_that_both_rules_name_is_ejected_once() {
    let policy = OutlierPolicy { failure_percentage: percentage().failure_percentage, ..rate() };
    let mut world = World::new(10, policy);
    world.fail_in_an_interval(3);
    let [(3, Change::Ejected { cause: Cause::SuccessRate, .. })] = world.on_time()[..] else { panic!() };
}

#[test]
fn of_many_bad_endpoints_the_worst_are_ejected_as_far_as_the_percentage_allows() {
    let policy = OutlierPolicy { max_ejection_percent: 40, ..percentage() };
    let mut world = World::new(5, policy);
    world.answer_all(&[(100, 90), (100, 100), (100, 95), (100, 0), (100, 99)]);
    world.now = world.now + policy.interval;
    let changes = world.on_time();
    let cause = Cause::FailurePercentage;
    let spared = changes.iter().filter(|(_, change)| *change == Change::Spared { cause });
    assert_eq!(spared.map(|&(index, _)| index).collect::<Vec<_>>(), [2, 0]);
    assert_eq!((0..5).filter(|&index| world.is_ejected(index)).collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn an_ejection_begins_when_its_interval_ended_and_grows_unless_a_whole_interval_lies_between() {
    let policy = OutlierPolicy { base_ejection_time: 25 * SECOND, ..percentage() };
    let mut world = World::new(10, policy);
    let mut lasted = Vec::new();
    for _ in 0..3 {
        world.fail_in_an_interval(3);
        let ended = world.now;
        // Nobody calls for a while: the judgement is late, and the ejection is not.
        world.now = world.now + 4 * SECOND;
        let [(3, Change::Ejected { until, .. })] = world.on_time()[..] else { panic!("{:?}", world.now) };
        lasted.push(ended.until(until).as_secs());
        world.now = until;
    }
    // Back in the middle of an interval, then at the beginning of one.
    assert_eq!(lasted, [25, 50, 50]);
    let last = world.state(3).last_ejection().unwrap();
    assert_eq!((last.cause, last.count, last.until), (Cause::FailurePercentage, 3, world.now));
    assert_eq!(last.since.until(last.until).as_secs(), 50);
}

#[test]
fn what_was_too_long_ago_ejects_nobody() {
    let policy = percentage();
    let mut world = World::new(10, policy);
    world.fail_in_an_interval(3);
    world.now = world.now + policy.base_ejection_time;
    assert_eq!(world.on_time(), []);
    assert_eq!(world.state(3).last_ejection(), None);
}

#[test]
fn an_interval_forgets_what_was_answered_before_it() {
    let policy = percentage();
    let mut world = World::new(10, policy);
    world.answer_all(&[(49, 49); 10]);
    world.now = world.now + policy.interval;
    assert_eq!(world.on_time(), []);
    world.answer_all(&[(49, 49); 10]);
    world.now = world.now + policy.interval;
    assert_eq!(world.on_time(), []);
}

#[test]
fn who_is_ejected_is_neither_counted_nor_judged() {
    let policy = OutlierPolicy { consecutive_5xx: 50, ..percentage() };
    let mut world = World::new(10, policy);
    world.answer_all(&[(50, 50); 1]);
    assert!(world.is_ejected(0));
    world.answer_all(&[(100, 100), (100, 0), (100, 0), (100, 0), (100, 0)]);
    world.now = world.now + policy.interval;
    assert_eq!(world.on_time(), []);
}

// spec: envoy intro/arch_overview/upstream/outlier, split_external_local_origin_errors
#[test]
fn failures_to_connect_count_unless_they_are_split() {
    for (split_local_origin, ejected) in [(false, true), (true, false)] {
        for verdict in [Verdict::LocalFailure, Verdict::Timeout] {
            let policy = OutlierPolicy { split_local_origin, consecutive_local_origin: 0, ..percentage() };
            let mut world = World::new(10, policy);
            world.answer_all(&[(0, 0), (50, 0), (50, 0), (50, 0), (50, 0)]);
            (0..50).for_each(|_| world.answer(0, verdict));
            world.now = world.now + policy.interval;
            world.on_time();
            assert_eq!(world.is_ejected(0), ejected, "{verdict:?}, split: {split_local_origin}");
        }
    }
}

#[test]
fn of_many_threads_that_see_the_end_of_an_interval_one_judges_it() {
    for _ in 0..50 {
        let mut world = World::new(10, percentage());
        world.fail_in_an_interval(3);
        let changes: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| world.on_time().len())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(changes, 1);
    }
}

#[test]
fn a_full_tally_keeps_its_share_and_the_last_number_is_followed_by_the_first() {
    let tally = Tally::default();
    for n in 0..COUNT_MAX + 10 {
        tally.on_answer(7, n % 2 == 0);
    }
    assert_eq!(tally.of(7), (1_048_575, 524_288));
    assert_eq!(tally.of(8), (0, 0));
    let interval = Interval(AtomicU64::new(NUMBER_MAX));
    assert_eq!(interval.next(SECOND, START), Some((NUMBER_MAX as u32, Time::ZERO)));
    assert_eq!((interval.number(), interval.end()), (0, START + SECOND));
}

/// A slow and obvious model, which keeps every answer and sweeps at the end of each interval, runs beside the machine
/// through random days.
#[test]
fn over_random_days_intervals_eject_whom_a_model_that_sweeps_ejects() {
    for seed in 0..30 {
        let mut dice = Seeded::new(seed);
        let volume = |dice: &mut Seeded| Volume {
            endpoints_min: 1 + dice.below(4) as u32,
            answers_min: 1 + dice.below(6) as u32,
        };
        let policy = OutlierPolicy {
            success_rate: Some(SuccessRate {
                stdev_factor: 500 + dice.below(1500) as u32,
                volume: volume(&mut dice),
            }),
            failure_percentage: Some(FailurePercentage {
                threshold: 50 + dice.below(50) as u8,
                volume: volume(&mut dice),
            }),
            interval: 5 * SECOND,
            base_ejection_time: (6 + dice.below(5) as u32) * SECOND,
            max_ejection_time: 20 * SECOND,
            ..off()
        };
        let mut world = World::new(6, policy);
        let mut model: Vec<Model> = (0..6).map(|_| Model::default()).collect();
        for second in 0..600 {
            if second % 5 == 0 {
                sweep(&mut model, &policy, world.now);
            }
            world.on_time();
            for _ in 0..dice.below(12) {
                let index = dice.below(6) as usize;
                let failed = dice.below(12) < 2 * index as u64;
                world.answer(index, Verdict::Status(if failed { 500 } else { 200 }));
                model[index].on_answer(failed, world.now);
            }
            for (index, host) in model.iter().enumerate() {
                let context = format!("seed {seed}, second {second}, endpoint {index}");
                assert_eq!(world.is_ejected(index), host.is_ejected(world.now), "{context}");
            }
            world.now = world.now + SECOND;
        }
        assert!(model.iter().any(|host| host.until > Time::ZERO), "seed {seed}: a day without an ejection");
    }
}

#[derive(Default)]
struct Model {
    answers: Vec<bool>,
    growth: u32,
    until: Time,
}

impl Model {
    fn is_ejected(&self, now: Time) -> bool {
        now < self.until
    }

    fn on_answer(&mut self, failed: bool, now: Time) {
        if !self.is_ejected(now) {
            self.answers.push(failed);
        }
    }

    fn success(&self) -> f64 {
        100.0 * self.answers.iter().filter(|&&failed| !failed).count() as f64 / self.answers.len() as f64
    }
}

fn sweep(model: &mut [Model], policy: &OutlierPolicy, now: Time) {
    let (rate, percentage) = (policy.success_rate.unwrap(), policy.failure_percentage.unwrap());
    let judged = |volume: Volume| -> Vec<usize> {
        let is_enough =
            |host: &Model| !host.is_ejected(now) && host.answers.len() >= volume.answers_min as usize;
        let hosts: Vec<_> = (0..model.len()).filter(|&index| is_enough(&model[index])).collect();
        if hosts.len() < volume.endpoints_min as usize { Vec::new() } else { hosts }
    };
    let by_rate = judged(rate.volume);
    let rates: Vec<_> = by_rate.iter().map(|&index| model[index].success()).collect();
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let deviation = (rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64).sqrt();
    let least = mean - deviation * f64::from(rate.stdev_factor) / 1000.0;
    let mut out: Vec<_> =
        by_rate.into_iter().filter(|&index| model[index].success() < least - 1e-9).collect();
    let is_bad = |index: &usize| 100.0 - model[*index].success() >= f64::from(percentage.threshold);
    out.extend(judged(percentage.volume).into_iter().filter(is_bad));
    for (index, host) in model.iter_mut().enumerate() {
        // The growth falls by one for each interval in service.
        let intervals = now.since(host.until).as_secs() / 5;
        if out.contains(&index) {
            host.growth = host.growth.saturating_sub(intervals as u32);
            let longest = policy.max_ejection_time + policy.base_ejection_time;
            host.growth += u32::from(policy.base_ejection_time * host.growth < longest);
            host.until = now + (policy.base_ejection_time * host.growth).min(policy.max_ejection_time);
        }
        host.answers.clear();
    }
}

struct World {
    cluster: ClusterState,
    set: EndpointSet,
    policy: OutlierPolicy,
    now: Time,
}

impl World {
    /// The first interval begins at [`START`].
    fn new(endpoints: usize, policy: OutlierPolicy) -> Self {
        let endpoint = |index| Endpoint {
            address: Address::Ip(([10, 0, 0, 1], u16::try_from(index).unwrap()).into()),
            labels: Arc::default(),
            locality: Locality::default(),
            weight: 1,
            security: Security::Plaintext,
            state: Arc::default(),
        };
        let set = EndpointSet::new((0..endpoints).map(endpoint).collect());
        let world = Self { cluster: ClusterState::default(), set, policy, now: START };
        assert_eq!(world.on_time(), []);
        world
    }

    fn on_time(&self) -> Vec<(usize, Change)> {
        self.cluster.on_time(&self.policy, &self.set, self.now)
    }

    fn answer(&self, index: usize, verdict: Verdict) {
        let request = self.state(index).begin(self.now);
        self.cluster.on_answer(&request, verdict, &self.policy, &self.set, self.now);
    }

    /// So many answers of each endpoint, and so many of them failures.
    fn answer_all(&self, answers: &[(u32, u32)]) {
        for (index, &(answers, failures)) in answers.iter().enumerate() {
            for n in 0..answers {
                self.answer(index, Verdict::Status(if n < failures { 503 } else { 200 }));
            }
        }
    }

    /// All answer for an interval, and `bad` fails; then the interval is over.
    fn fail_in_an_interval(&mut self, bad: usize) {
        self.on_time();
        let answers: Vec<_> =
            (0..self.set.len()).map(|index| (100, if index == bad { 100 } else { 0 })).collect();
        self.answer_all(&answers);
        self.now = self.cluster.interval.end();
    }

    fn state(&self, index: usize) -> &Arc<EndpointState> {
        &self.set.as_slice()[index].state
    }

    fn is_ejected(&self, index: usize) -> bool {
        self.state(index).is_ejected(self.now)
    }
}

fn is_any_ejected(policy: OutlierPolicy, answers: &[(u32, u32)]) -> bool {
    let mut world = World::new(answers.len(), policy);
    world.answer_all(answers);
    world.now = world.now + policy.interval;
    world.on_time().iter().any(|(_, change)| matches!(change, Change::Ejected { .. }))
}

fn rate() -> OutlierPolicy {
    OutlierPolicy { success_rate: Some(SuccessRate::default()), ..off() }
}

fn percentage() -> OutlierPolicy {
    OutlierPolicy { failure_percentage: Some(FailurePercentage::default()), ..off() }
}

/// Every endpoint may go, and none does for failures in a row.
fn off() -> OutlierPolicy {
    OutlierPolicy { consecutive_5xx: 0, max_ejection_percent: 100, ..OutlierPolicy::default() }
}
