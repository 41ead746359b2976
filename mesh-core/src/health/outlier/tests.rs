use super::*;
use crate::{
    balance::{Endpoint, Security},
    dice::{Dice, Seeded},
    registry::{Address, Locality},
};
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);
const START: Time = Time::from_nanos(1_000_000_000);

/// Every state with every event. The columns are what becomes of the state and what is reported.
#[test]
fn every_state_meets_every_event() {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum State {
        Admitted,
        OneShort,
        Ejected,
    }
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Success,
        Failure,
        FailureWhenTooManyAreEjected,
        AnswerFromBefore,
        TimePasses,
    }
    use {Event::*, State::*};
    let table = [
        (Admitted, Success, Admitted, "none"),
        (Admitted, Failure, OneShort, "none"),
        (Admitted, FailureWhenTooManyAreEjected, OneShort, "none"),
        (Admitted, AnswerFromBefore, Admitted, "none"),
        (Admitted, TimePasses, Admitted, "none"),
        (OneShort, Success, Admitted, "none"),
        (OneShort, Failure, Ejected, "ejected"),
        (OneShort, FailureWhenTooManyAreEjected, Admitted, "spared"),
        (OneShort, AnswerFromBefore, OneShort, "none"),
        (OneShort, TimePasses, OneShort, "none"),
        (Ejected, Success, Ejected, "none"),
        (Ejected, Failure, Ejected, "none"),
        (Ejected, FailureWhenTooManyAreEjected, Ejected, "none"),
        (Ejected, AnswerFromBefore, Ejected, "none"),
        (Ejected, TimePasses, Admitted, "none"),
    ];
    for (state, event, expected, reported) in table {
        let mut world = World::new(10, OutlierPolicy { consecutive_5xx: 2, ..all_may_go() });
        // A request from before an ejection that is over: its answer must never count.
        let old = world.begin(0);
        assert!(matches!(world.fail(0, 2), Change::Ejected { .. }));
        world.now = world.now + 1_000 * SECOND;
        match state {
            Admitted => {}
            OneShort => assert_eq!(world.fail(0, 1), Change::None),
            Ejected => assert!(matches!(world.fail(0, 2), Change::Ejected { .. })),
        }
        let change = match event {
            Success => world.answer(0, Verdict::Status(200)),
            Failure => world.fail(0, 1),
            FailureWhenTooManyAreEjected => {
                world.policy.max_ejection_percent = 9;
                world.fail(0, 1)
            }
            AnswerFromBefore => world.on_answer(&old, Verdict::Status(500)),
            TimePasses => {
                world.now = world.now + 1_000 * SECOND;
                Change::None
            }
        };
        let word = match change {
            Change::None => "none",
            Change::Ejected { .. } => "ejected",
            Change::Spared { .. } => "spared",
        };
        assert_eq!(word, reported, "{state:?} on {event:?}");
        world.policy.max_ejection_percent = 100;
        let reached = match world.is_ejected(0) {
            true => Ejected,
            false if matches!(world.fail(0, 1), Change::Ejected { .. }) => OneShort,
            false => Admitted,
        };
        assert_eq!(reached, expected, "{state:?} on {event:?}");
    }
}

/// Rows: the verdicts, and which row of failures they complete with a limit of three for each kind.
#[test]
fn rows_of_failures_are_counted_as_envoy_counts_them() {
    use Verdict::{LocalFailure as Local, Status, Timeout};
    let http = Some(Cause::Consecutive5xx);
    let gateway = Some(Cause::ConsecutiveGateway);
    let local = Some(Cause::ConsecutiveLocalOrigin);
    let table: &[(&[Verdict], bool, Option<Cause>)] = &[
        (&[Status(500), Status(501), Status(599)], false, http),
        (&[Status(500), Status(500)], false, None),
        (&[Status(500), Status(500), Status(200), Status(500)], false, None),
        (&[Status(500), Status(500), Status(404), Status(500)], false, None),
        (&[Status(500), Status(500), Status(499), Status(500)], false, None),
        (&[Status(502), Status(503), Status(504)], false, gateway),
        (&[Status(502), Status(500), Status(503)], false, http),
        (&[Local, Local, Local], false, gateway),
        (&[Timeout, Timeout, Timeout], false, gateway),
        (&[Local, Timeout, Status(503)], false, gateway),
        (&[Local, Status(200), Local, Timeout], false, None),
        (&[Local, Timeout, Local], true, local),
        (&[Local, Local, Status(500), Local], true, None),
        (&[Status(500), Status(500), Local, Status(500)], true, http),
        (&[Status(503), Local, Status(503), Timeout, Status(503)], true, gateway),
    ];
    for (verdicts, split_local_origin, cause) in table {
        let limits = OutlierPolicy {
            consecutive_5xx: 3,
            consecutive_gateway: 3,
            consecutive_local_origin: 3,
            split_local_origin: *split_local_origin,
            ..all_may_go()
        };
        let world = World::new(1, limits);
        let changes: Vec<_> = verdicts.iter().map(|&verdict| world.answer(0, verdict)).collect();
        let (last, before) = changes.split_last().unwrap();
        assert!(before.iter().all(|&change| change == Change::None), "{verdicts:?}: {changes:?}");
        let reached = match *last {
            Change::Ejected { cause, .. } => Some(cause),
            _ => None,
        };
        assert_eq!(reached, *cause, "{verdicts:?}, split: {split_local_origin}");
    }
}

#[test]
fn a_limit_of_zero_is_off() {
    let off = OutlierPolicy { consecutive_5xx: 0, consecutive_gateway: 0, ..all_may_go() };
    let world = World::new(1, off);
    assert!((0..1_000).all(|_| world.fail(0, 1) == Change::None));
}

// spec: istio networking/v1alpha3/destination_rule.proto OutlierDetection.outlier_detection_http_error_codes
#[test]
fn where_statuses_are_listed_those_are_the_failures_and_others_are_successes() {
    let listed = OutlierPolicy { error_codes: [429, 502].into_iter().collect(), ..all_may_go() };
    for (statuses, cause) in [
        ([429, 429], Some(Cause::Consecutive5xx)),
        ([429, 502], Some(Cause::Consecutive5xx)),
        ([500, 500], None),
        ([429, 500], None),
        ([429, 200], None),
    ] {
        let world = World::new(1, OutlierPolicy { consecutive_5xx: 2, ..listed });
        let changes = statuses.map(|status| world.answer(0, Verdict::Status(status)));
        let ejected = matches!(changes[1], Change::Ejected { cause: c, .. } if Some(c) == cause);
        assert_eq!(ejected, cause.is_some(), "{statuses:?}: {changes:?}");
    }
    let world = World::new(1, OutlierPolicy { consecutive_5xx: 1, ..listed });
    assert!(matches!(world.answer(0, Verdict::LocalFailure), Change::Ejected { .. }), "has no status");
}

#[test]
fn a_limit_lowered_below_what_was_counted_ejects_at_the_next_failure() {
    let mut world = World::new(1, OutlierPolicy { consecutive_5xx: 10, ..all_may_go() });
    assert_eq!(world.fail(0, 8), Change::None);
    world.policy.consecutive_5xx = 3;
    assert!(matches!(world.fail(0, 1), Change::Ejected { .. }));
}

// spec: envoy source/common/upstream/outlier_detection_impl.cc ejectHost
#[test]
fn one_may_always_be_ejected_where_the_policy_says_so_and_no_second_beyond_the_percentage() {
    for (endpoints, percent, expected) in [(1, 10, 1), (9, 10, 1), (19, 10, 1), (20, 10, 2), (3, 0, 1)] {
        let policy = OutlierPolicy {
            consecutive_5xx: 1,
            max_ejection_percent: percent,
            always_eject_one: true,
            ..all_may_go()
        };
        let world = World::new(endpoints, policy);
        let ejected = (0..endpoints).filter(|&n| matches!(world.fail(n, 1), Change::Ejected { .. })).count();
        assert_eq!(ejected, expected, "{percent} % of {endpoints}");
    }
}

/// `100 * (ejected + 1) / hosts <= maxEjectionPercent`, with the numbers people write.
#[test]
fn no_more_endpoints_are_ejected_than_the_percentage_allows() {
    for (endpoints, percent, expected) in [
        (1, 10, 0),
        (9, 10, 0),
        (10, 10, 1),
        (19, 10, 1),
        (20, 10, 2),
        (3, 33, 0),
        (3, 34, 1),
        (4, 50, 2),
        (3, 100, 3),
        (3, 0, 0),
    ] {
        let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: percent, ..all_may_go() };
        let world = World::new(endpoints, policy);
        let ejected = (0..endpoints).filter(|&n| matches!(world.fail(n, 1), Change::Ejected { .. })).count();
        assert_eq!(ejected, expected, "{percent} % of {endpoints}");
        let made = world.cluster.ejections().made(Cause::Consecutive5xx);
        assert_eq!(
            (made, world.cluster.ejections().spared()),
            (expected as u64, (endpoints - expected) as u64)
        );
        let spared = (0..endpoints).filter(|&n| !world.is_ejected(n)).count();
        assert_eq!(spared, endpoints - expected);
    }
}

#[test]
fn each_ejection_is_longer_by_the_base_until_the_longest_and_shrinks_with_time_in_service() {
    let mut world = World::new(1, OutlierPolicy { consecutive_5xx: 1, ..all_may_go() });
    // Straight back out after each return: 30, 60, 90 … 300, 300 s.
    let times: Vec<_> = (0..12).map(|_| world.eject_and_wait(0)).collect();
    assert_eq!(times, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    // Envoy counts one step beyond the longest; four intervals in service take four steps off, the ejection adds one.
    world.now = world.now + 45 * SECOND;
    assert_eq!(world.eject_and_wait(0), 240);
    // A long time in service: as if it had never been out.
    world.now = world.now + 1_000 * SECOND;
    assert_eq!(world.eject_and_wait(0), 30);
}

/// Istio has a field for the first ejection and none for the longest.
#[test]
fn a_first_ejection_longer_than_the_longest_is_the_longest() {
    let base_ejection_time = 600 * SECOND;
    let mut world = World::new(1, OutlierPolicy { consecutive_5xx: 1, base_ejection_time, ..all_may_go() });
    let times: Vec<_> = (0..3).map(|_| world.eject_and_wait(0)).collect();
    assert_eq!(times, [600, 600, 600]);
}

#[test]
fn a_request_sent_to_an_ejected_endpoint_in_a_panic_is_no_verdict_when_it_is_back() {
    let mut world = World::new(1, OutlierPolicy { consecutive_5xx: 1, ..all_may_go() });
    assert!(matches!(world.fail(0, 1), Change::Ejected { .. }));
    let during = world.begin(0);
    world.now = world.now + 1_000 * SECOND;
    assert_eq!(world.on_answer(&during, Verdict::Status(500)), Change::None);
    assert!(!world.is_ejected(0));
}

#[test]
fn an_endpoint_that_is_back_has_a_clean_record() {
    let limits = OutlierPolicy { consecutive_5xx: 3, consecutive_gateway: 2, ..all_may_go() };
    let mut world = World::new(1, limits);
    world.fail(0, 1);
    assert!(matches!(world.fail(0, 1), Change::Ejected { cause: Cause::ConsecutiveGateway, .. }));
    world.now = world.now + 1_000 * SECOND;
    assert_eq!(world.fail(0, 1), Change::None);
}

/// Nobody waits for the answer of one probe: there is none.
#[test]
fn a_probe_whose_answer_never_comes_wedges_no_endpoint() {
    let mut world = World::new(1, OutlierPolicy { consecutive_5xx: 1, ..all_may_go() });
    assert!(matches!(world.fail(0, 1), Change::Ejected { .. }));
    world.now = world.now + 1_000 * SECOND;
    let (hangs, dropped) = (world.begin(0), world.begin(0));
    drop(dropped);
    assert!(!world.is_ejected(0), "it is back, whatever became of the first requests");
    let next = world.begin(0);
    assert!(matches!(world.on_answer(&next, Verdict::Status(500)), Change::Ejected { .. }));
    drop(hangs);
}

#[test]
fn a_stale_verdict_is_not_taken_for_that_of_a_probe() {
    let mut world = World::new(1, OutlierPolicy { consecutive_5xx: 2, ..all_may_go() });
    let (good, bad) = (world.begin(0), world.begin(0));
    assert!(matches!(world.fail(0, 2), Change::Ejected { .. }));
    assert_eq!(world.on_answer(&good, Verdict::Status(200)), Change::None);
    assert!(world.is_ejected(0), "a success from before the ejection ends it early");
    world.now = world.now + 1_000 * SECOND;
    assert_eq!(world.fail(0, 1), Change::None);
    assert_eq!(world.on_answer(&bad, Verdict::Status(500)), Change::None);
    assert_eq!(world.on_answer(&good, Verdict::Status(200)), Change::None);
    assert!(matches!(world.fail(0, 1), Change::Ejected { .. }), "a success from before ended the row");
}

/// As when one thread counts a failure while another, at the end of the same row, ejects.
#[test]
fn a_stale_failure_that_is_counted_after_the_ejection_lengthens_no_row_of_the_endpoint_that_is_back() {
    let (row, state) = (Row::default(), EndpointState::default());
    let before = state.standing();
    state.eject(before, START);
    let after = state.standing();
    assert!(!row.lengthen(before, 2));
    assert!(!row.lengthen(after, 2), "the first under the new standing");
    assert!(row.lengthen(after, 2));
}

#[test]
fn of_many_threads_whose_endpoints_fail_at_once_only_the_allowed_number_is_ejected() {
    for _ in 0..50 {
        let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 50, ..all_may_go() };
        let world = World::new(8, policy);
        std::thread::scope(|scope| {
            for index in 0..8 {
                let world = &world;
                scope.spawn(move || world.fail(index, 1));
            }
        });
        assert_eq!((0..8).filter(|&index| world.is_ejected(index)).count(), 4);
    }
}

#[test]
fn the_panic_rule_is_a_table() {
    for (healthy, total, minimum, expected) in [
        (0, 10, 0, false),
        (4, 10, 50, true),
        (5, 10, 50, false),
        (0, 10, 1, true),
        (9, 10, 100, true),
        (10, 10, 100, false),
        (0, 0, 50, false),
        (usize::MAX, usize::MAX, 100, false),
    ] {
        assert_eq!(is_panic(healthy, total, minimum), expected, "{healthy} of {total}, at least {minimum} %");
    }
}

/// A slow and obvious model, which sweeps every second as Envoy does, runs beside the machine through random days.
#[test]
fn over_random_days_ejections_are_those_of_a_model_that_sweeps() {
    for seed in 0..40 {
        let mut dice = Seeded::new(seed);
        let policy = OutlierPolicy {
            consecutive_5xx: 1 + dice.below(4) as u32,
            interval: SECOND,
            base_ejection_time: (1 + dice.below(5) as u32) * SECOND,
            max_ejection_time: (1 + dice.below(20) as u32) * SECOND,
            max_ejection_percent: 40,
            ..OutlierPolicy::default()
        };
        let mut world = World::new(6, policy);
        let mut model: Vec<Model> = (0..6).map(|_| Model::default()).collect();
        for second in 0..600 {
            model.iter_mut().for_each(|host| host.sweep(world.now, &policy));
            for _ in 0..dice.below(12) {
                let index = dice.below(6) as usize;
                let status = if dice.below(10) < 7 { 500 } else { 200 };
                world.answer(index, Verdict::Status(status));
                let ejected = model.iter().filter(|host| host.ejected_at.is_some()).count();
                model[index].on_answer(status, ejected, 6, world.now, &policy);
            }
            for (index, host) in model.iter().enumerate() {
                let context = format!("seed {seed}, second {second}, endpoint {index}");
                assert_eq!(world.is_ejected(index), host.ejected_at.is_some(), "{context}");
            }
            world.now = world.now + SECOND;
        }
    }
}

#[derive(Default)]
struct Model {
    failures: u32,
    growth: u32,
    ejected_at: Option<Time>,
}

impl Model {
    fn longest(policy: &OutlierPolicy) -> Duration {
        policy.max_ejection_time.max(policy.base_ejection_time)
    }

    fn sweep(&mut self, now: Time, policy: &OutlierPolicy) {
        match self.ejected_at {
            None => self.growth = self.growth.saturating_sub(1),
            Some(at) => {
                let time = (policy.base_ejection_time * self.growth).min(Self::longest(policy));
                if now.since(at) >= time {
                    (self.ejected_at, self.failures) = (None, 0);
                }
            }
        }
    }

    fn on_answer(&mut self, status: u16, ejected: usize, hosts: usize, now: Time, policy: &OutlierPolicy) {
        if self.ejected_at.is_some() {
            return;
        }
        self.failures = if status >= 500 { self.failures + 1 } else { 0 };
        if self.failures < policy.consecutive_5xx {
            return;
        }
        self.failures = 0;
        if 100.0 * (ejected + 1) as f64 / hosts as f64 <= f64::from(policy.max_ejection_percent) {
            self.ejected_at = Some(now);
            if policy.base_ejection_time * self.growth < Self::longest(policy) + policy.base_ejection_time {
                self.growth += 1;
            }
        }
    }
}

struct World {
    cluster: ClusterState,
    set: EndpointSet,
    policy: OutlierPolicy,
    now: Time,
}

impl World {
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
        Self { cluster: ClusterState::default(), set, policy, now: START }
    }

    fn begin(&self, index: usize) -> InFlight {
        self.set.as_slice()[index].state.begin(self.now)
    }

    fn on_answer(&self, request: &InFlight, verdict: Verdict) -> Change {
        self.cluster.on_answer(request, verdict, &self.policy, &self.set, self.now)
    }

    fn answer(&self, index: usize, verdict: Verdict) -> Change {
        self.on_answer(&self.begin(index), verdict)
    }

    /// Fails so often in a row, and returns what the last failure changed.
    fn fail(&self, index: usize, times: u32) -> Change {
        (0..times).map(|_| self.answer(index, Verdict::Status(503))).last().unwrap()
    }

    /// Ejects, waits until the endpoint is back, and returns after how many seconds that was.
    fn eject_and_wait(&mut self, index: usize) -> u64 {
        let Change::Ejected { until, .. } = self.fail(index, 1) else {
            panic!("not ejected at {:?}", self.now)
        };
        let out = self.now.until(until).as_secs();
        self.now = until;
        out
    }

    fn is_ejected(&self, index: usize) -> bool {
        self.set.as_slice()[index].state.is_ejected(self.now)
    }
}

fn all_may_go() -> OutlierPolicy {
    OutlierPolicy { max_ejection_percent: 100, ..OutlierPolicy::default() }
}
