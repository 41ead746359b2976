//! Every order in which threads can come to the states that requests share, and what must hold in each.
//!
//! `cargo xtask check loom` runs it. Only loads and stores of [`std::sync::atomic`] and locks are tried in every order:
//! the counts of an `Arc` are not, and are read under the lock of the table of states only.
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::panic)]

use loom::thread;
use mesh_core::{
    balance::{Endpoint, EndpointSet, Policy, Security, SetPolicy, Wish, pick},
    dice::Lowest,
    health::{
        Change, ClusterState, EndpointState, FailurePercentage, InFlight, Limits, OutlierPolicy, Overflow,
        States, Verdict, Volume,
    },
    overload::{Entry, Gate, QueueLimits, RateLimit, TokenBucket},
    registry::{Address, Locality},
    retry::{
        Attempt, Budget, Ceiling, Counts, Loan, Outcome, PushBack, Recent, RetryBudget, RetryPolicy,
        Underway, Verdict as Decision,
    },
    time::Time,
};
use std::{sync::Arc, time::Duration};

#[test]
fn the_last_place_within_a_limit_goes_to_one_of_two_and_comes_back() {
    loom::model(|| {
        let cluster = Arc::new(ClusterState::default());
        let limits = Limits { requests_max: 1, ..Limits::default() };
        let admit = {
            let cluster = Arc::clone(&cluster);
            move || {
                let permit = cluster.admit(Overflow::Requests, &limits);
                assert!(cluster.in_use(Overflow::Requests) <= 1);
                permit.is_ok()
            }
        };
        let (one, two) = at_once(admit.clone(), admit);
        assert!(one || two, "a place that is free is given to somebody");
        assert_eq!(cluster.in_use(Overflow::Requests), 0);
    });
}

#[test]
fn requests_in_flight_that_begin_and_end_at_once_are_all_counted_and_all_given_back() {
    loom::model(|| {
        let endpoint = Arc::new(EndpointState::default());
        let request = {
            let endpoint = Arc::clone(&endpoint);
            move || {
                let _in_flight = endpoint.begin(NOW);
                assert!((1..=2).contains(&endpoint.in_flight()));
            }
        };
        at_once(request.clone(), request);
        assert_eq!(endpoint.in_flight(), 0);
    });
}

#[test]
fn of_two_endpoints_that_fail_at_once_one_is_ejected_where_one_may_be() {
    loom::model(|| {
        let cluster = Cluster::of(2);
        let policy =
            OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 50, ..OutlierPolicy::default() };
        let fail = |index| {
            let (cluster, request) = (cluster.clone(), cluster.begin(index));
            move || cluster.fail(&request, &policy)
        };
        let (one, two) = at_once(fail(0), fail(1));
        let ejected = [one, two].into_iter().filter(is_ejection).count();
        assert_eq!((ejected, cluster.set.healthy(NOW)), (1, 1), "{one:?}, {two:?}");
    });
}

#[test]
fn no_failure_of_a_row_is_lost_and_the_row_ejects_once() {
    loom::model(|| {
        let cluster = Cluster::of(1);
        let policy =
            OutlierPolicy { consecutive_5xx: 2, max_ejection_percent: 100, ..OutlierPolicy::default() };
        let fail = || {
            let (cluster, request) = (cluster.clone(), cluster.begin(0));
            move || cluster.fail(&request, &policy)
        };
        let (one, two) = at_once(fail(), fail());
        let ejected = [one, two].into_iter().filter(is_ejection).count();
        assert_eq!((ejected, cluster.state(0).last_ejection().unwrap().count), (1, 1), "{one:?}, {two:?}");
    });
}

/// The other failure was on its way when the endpoint was ejected: however late it comes, and however early it was looked
/// at, it says nothing of the endpoint that is back.
#[test]
fn a_stale_verdict_is_not_held_against_an_endpoint_that_is_back() {
    loom::model(|| {
        let cluster = Cluster::of(1);
        let policy =
            OutlierPolicy { consecutive_5xx: 2, max_ejection_percent: 100, ..OutlierPolicy::default() };
        let requests = [cluster.begin(0), cluster.begin(0), cluster.begin(0)];
        assert_eq!(cluster.fail(&requests[0], &policy), Change::None);
        let [_, second, third] = requests;
        let fail = |request: InFlight| {
            let cluster = cluster.clone();
            move || cluster.fail(&request, &policy)
        };
        let (one, two) = at_once(fail(second), fail(third));
        assert_eq!([one, two].into_iter().filter(is_ejection).count(), 1, "{one:?}, {two:?}");
        let back = cluster.state(0).ejected_until(NOW).unwrap();
        let request = cluster.state(0).begin(back);
        let change = cluster.state.on_answer(&request, FAILURE, &policy, &cluster.set, back);
        assert_eq!(change, Change::None, "one failure is no row of two");
    });
}

#[test]
fn of_two_that_see_the_end_of_an_interval_one_judges_it() {
    loom::model(|| {
        let cluster = Cluster::of(1);
        let volume = Volume { endpoints_min: 1, answers_min: 2 };
        let failures = FailurePercentage { threshold: 50, volume };
        let policy = OutlierPolicy {
            consecutive_5xx: 0,
            max_ejection_percent: 100,
            failure_percentage: Some(failures),
            ..OutlierPolicy::default()
        };
        cluster.state.on_time(&policy, &cluster.set, NOW);
        let fail = || {
            let (cluster, request) = (cluster.clone(), cluster.begin(0));
            move || cluster.fail(&request, &policy)
        };
        at_once(fail(), fail());
        let judge = || {
            let cluster = cluster.clone();
            move || cluster.state.on_time(&policy, &cluster.set, NOW + policy.interval).len()
        };
        let (one, two) = at_once(judge(), judge());
        assert_eq!(one + two, 1, "both answers are counted, and judged once");
    });
}

#[test]
fn the_last_token_is_lent_once_and_what_is_given_back_can_be_lent_again() {
    loom::model(|| {
        let budget = Arc::new(Budget::default());
        (0..9).for_each(|_| drop(budget.borrow(NOW)));
        let useful = Arc::clone(&budget);
        let futile = Arc::clone(&budget);
        let (_, spent) = at_once(
            move || useful.borrow(NOW).map(Loan::on_success).is_some(),
            move || futile.borrow(NOW).is_some(),
        );
        assert_eq!(budget.available(), u64::from(!spent));
    });
}

#[test]
fn deposits_at_the_turn_of_a_second_are_all_counted_and_none_twice() {
    loom::model(|| {
        let budget = Arc::new(Budget::default());
        (0..10).for_each(|_| drop(budget.borrow(NOW)));
        (0..3).for_each(|_| budget.deposit(NOW));
        let deposit = |at| {
            let budget = Arc::clone(&budget);
            move || budget.deposit(at)
        };
        at_once(deposit(NOW), deposit(NOW + Duration::from_secs(1)));
        let later = NOW + Duration::from_secs(1);
        assert_eq!(std::iter::from_fn(|| budget.borrow(later)).count(), 1, "five requests buy one retry");
    });
}

#[test]
fn a_retry_holds_one_token_and_one_place_and_both_are_accounted_for() {
    loom::model(|| {
        let (budget, cluster) = (Arc::new(Budget::default()), Arc::new(ClusterState::default()));
        let limits = Limits { retries_max: 1, ..Limits::default() };
        let retry = || {
            let (budget, cluster) = (Arc::clone(&budget), Arc::clone(&cluster));
            move || {
                let ceiling =
                    Ceiling { budget: Some(&budget), written: None, cluster: &cluster, limits: &limits };
                let underway = decide(&ceiling).is_some();
                assert!(cluster.in_use(Overflow::Retries) <= 1);
                underway
            }
        };
        let (one, two) = at_once(retry(), retry());
        assert!(one || two);
        let spent = u64::from(one) + u64::from(two);
        assert_eq!((budget.available(), cluster.in_use(Overflow::Retries)), (10 - spent, 0));
    });
}

#[test]
fn requests_that_begin_a_tenth_of_an_interval_at_once_are_both_counted() {
    loom::model(|| {
        let recent = Recent { interval: Duration::from_secs(1), counts: Arc::<Counts>::default() };
        let written = RetryBudget { percent: 100.0, retries_min: 0, recent: Some(recent) };
        let cluster = Arc::new(ClusterState::default());
        let limits = Limits::default();
        let call = |at| {
            let (written, cluster) = (written.clone(), Arc::clone(&cluster));
            move || {
                Ceiling { budget: None, written: Some(&written), cluster: &cluster, limits: &limits }
                    .on_call(at)
            }
        };
        // The tenth that runs takes the place of one that is an interval old.
        call(NOW - Duration::from_secs(1))();
        at_once(call(NOW), call(NOW));
        let ceiling = Ceiling { budget: None, written: Some(&written), cluster: &cluster, limits: &limits };
        // Each retry is counted as a request, so that all are allowed from the first on; none without a request.
        assert!(decide(&ceiling).is_some());
        let held: Vec<_> = (0..2).map_while(|_| cluster.admit(Overflow::Retries, &limits).ok()).collect();
        assert!(decide(&ceiling).is_some(), "three are counted, and two are under way");
        drop(held);
    });
}

#[test]
fn the_last_token_of_a_rate_goes_to_one_of_two() {
    loom::model(|| {
        let bucket = Arc::new(TokenBucket::new(RateLimit::per_second(1).unwrap(), NOW));
        let take = || {
            let bucket = Arc::clone(&bucket);
            move || bucket.take(NOW)
        };
        let (one, two) = at_once(take(), take());
        assert!(one ^ two);
    });
}

#[test]
fn two_picks_at_once_take_different_turns() {
    loom::model(|| {
        let cluster = Cluster::of(2);
        let turn = || {
            let cluster = cluster.clone();
            move || pick(&cluster.set, &Wish::default(), NOW, &mut Lowest).unwrap()
        };
        let (one, two) = at_once(turn(), turn());
        assert_ne!(one, two);
    });
}

#[test]
fn a_state_is_never_there_twice_while_the_table_is_swept() {
    loom::model(|| {
        let states = Arc::new(States::default());
        let ask = || {
            let states = Arc::clone(&states);
            move || states.endpoint("a", &address(0))
        };
        let sweep = {
            let states = Arc::clone(&states);
            thread::spawn(move || states.sweep(NOW))
        };
        let (one, two) = at_once(ask(), ask());
        sweep.join().unwrap();
        assert!(Arc::ptr_eq(&one, &two));
    });
}

#[test]
fn who_waits_for_a_place_gets_it_from_who_leaves_at_that_moment() {
    loom::model(|| {
        let gate = Arc::new(Gate::<()>::new(QueueLimits::default()));
        let request = || {
            let gate = Arc::clone(&gate);
            move || match gate.enter(1, NOW, Time::MAX, || ()) {
                Entry::Admitted => serve(&gate),
                Entry::Waiting { .. } => 0,
                Entry::Refused(why) => panic!("{why:?}"),
            }
        };
        let (one, two) = at_once(request(), request());
        assert_eq!((one + two, gate.running(), gate.waiting()), (2, 0, 0));
    });
}

#[test]
fn who_withdraws_while_a_place_comes_is_either_admitted_or_gone() {
    loom::model(|| {
        let gate = Arc::new(Gate::<()>::new(QueueLimits::default()));
        assert_eq!(gate.enter(1, NOW, Time::MAX, || ()), Entry::Admitted);
        let Entry::Waiting { ticket, .. } = gate.enter(1, NOW, Time::MAX, || ()) else {
            panic!("there is one place")
        };
        let (leaving, withdrawing) = (Arc::clone(&gate), Arc::clone(&gate));
        let (served, withdrawn) = at_once(move || serve(&leaving), move || withdrawing.withdraw(ticket));
        assert_eq!((served, gate.running(), gate.waiting()), (1 + u32::from(!withdrawn), 0, 0));
    });
}

/// Ends the request that runs, and whoever gets its place; returns how many those were.
fn serve(gate: &Gate<()>) -> u32 {
    gate.leave(Duration::from_millis(1), true);
    match gate.admit_next(1, NOW) {
        Some(()) => 1 + serve(gate),
        None => 1,
    }
}

const NOW: Time = Time::from_nanos(100_000_000_000);
const FAILURE: Verdict = Verdict::Status(500);

fn at_once<A, B>(one: impl FnOnce() -> A + 'static, two: impl FnOnce() -> B) -> (A, B)
where
    A: 'static,
{
    let one = thread::spawn(one);
    let two = two();
    (one.join().unwrap(), two)
}

fn is_ejection(change: &Change) -> bool {
    matches!(change, Change::Ejected { .. })
}

fn decide(ceiling: &Ceiling<'_>) -> Option<Underway> {
    let attempt = Attempt {
        outcome: &Outcome::ConnectFailure,
        method: &http::Method::GET,
        retries: 0,
        replayable: true,
        push_back: PushBack::None,
    };
    match RetryPolicy::default().decide(&attempt, ceiling, NOW, Time::MAX, &mut Lowest) {
        Decision::Retry { reservation, .. } => Some(reservation.begin()),
        Decision::GiveUp(_) => None,
    }
}

/// A cluster of endpoints that take turns.
#[derive(Clone)]
struct Cluster {
    state: Arc<ClusterState>,
    set: Arc<EndpointSet>,
}

impl Cluster {
    fn of(endpoints: u8) -> Self {
        let endpoint = |host| Endpoint {
            address: address(host),
            labels: Arc::default(),
            locality: Locality::default(),
            weight: 1,
            security: Security::Plaintext,
            state: Arc::default(),
        };
        let policy = SetPolicy { policy: Policy::RoundRobin, ..SetPolicy::default() };
        let set = EndpointSet::build((0..endpoints).map(endpoint).collect(), &policy);
        Self { state: Arc::default(), set: Arc::new(set) }
    }

    fn state(&self, index: usize) -> &Arc<EndpointState> {
        &self.set.as_slice()[index].state
    }

    fn begin(&self, index: usize) -> InFlight {
        self.state(index).begin(NOW)
    }

    fn fail(&self, request: &InFlight, policy: &OutlierPolicy) -> Change {
        self.state.on_answer(request, FAILURE, policy, &self.set, NOW)
    }
}

fn address(host: u8) -> Address {
    Address::Ip(([10, 0, 0, host], 80).into())
}
