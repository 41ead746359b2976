use super::*;
use crate::{
    dice::{Highest, Lowest, Seeded},
    health::{ClusterState, Limits, Overflow},
    retry::{Budget, Provenance},
};
use http::StatusCode;
use std::sync::Arc;

#[test]
fn a_failure_that_was_retried_a_hop_deeper_is_not_retried_again() {
    let policy = RetryPolicy { on: RetryOn::parse("5xx").unwrap(), explicit: true, ..RetryPolicy::default() };
    for (provenance, tried) in
        [(Provenance::NONE, true), (Provenance::RETRIED, false), (Provenance::BUDGET_SPENT, false)]
    {
        let outcome = Outcome::Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            grpc: None,
            ratelimited: false,
            provenance,
        };
        let (budget, cluster, limits) = (Arc::new(Budget::default()), Arc::default(), Limits::default());
        let ceiling = Ceiling { budget: Some(&budget), written: None, cluster: &cluster, limits: &limits };
        let attempt = failed(&outcome, &Method::GET);
        let verdict = policy.decide(&attempt, &ceiling, Time::ZERO, Time::MAX, &mut Lowest);
        assert_eq!(matches!(verdict, Verdict::Retry { .. }), tried, "{provenance:?}: {verdict:?}");
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_connect_failure_is_retried_twice_by_default_and_then_stands() {
    let world = World::default();
    for retries in 0..2 {
        let attempt = Attempt { retries, ..failed(&Outcome::ConnectFailure, &Method::POST) };
        let verdict = world.decide(&RetryPolicy::default(), &attempt);
        assert!(
            matches!(verdict, Verdict::Retry { condition: Condition::ConnectFailure, .. }),
            "{verdict:?}"
        );
    }
    let attempt = Attempt { retries: 2, ..failed(&Outcome::ConnectFailure, &Method::POST) };
    assert_eq!(give_up(world.decide(&RetryPolicy::default(), &attempt)), GiveUp::Attempts);
}

#[test]
fn zero_attempts_switch_retries_off() {
    let policy = RetryPolicy { retries_max: 0, ..RetryPolicy::default() };
    let attempt = failed(&Outcome::ConnectFailure, &Method::GET);
    assert_eq!(give_up(World::default().decide(&policy, &attempt)), GiveUp::Attempts);
}

#[test]
fn a_success_is_never_retried() {
    let outcome = answer(200, None);
    let verdict = World::default().decide(&explicit("5xx,reset,503"), &failed(&outcome, &Method::GET));
    assert_eq!(give_up(verdict), GiveUp::NotNamed);
}

#[test]
fn overflow_and_the_timeout_of_the_call_are_never_retried() {
    let everything = Condition::ALL.map(Condition::as_str).join(",");
    for outcome in [Outcome::Overflow, Outcome::Timeout, Outcome::Refused, Outcome::Body] {
        let verdict = World::default().decide(&explicit(&everything), &failed(&outcome, &Method::GET));
        assert_eq!(give_up(verdict), GiveUp::NotNamed, "{outcome:?}");
    }
}

/// Invariant 5 as a table: every method, what may have been executed and what cannot have been, asked for or not.
#[test]
fn what_may_have_been_executed_is_repeated_only_if_idempotent_or_asked_for() {
    let methods = [
        (Method::GET, true),
        (Method::HEAD, true),
        (Method::OPTIONS, true),
        (Method::PUT, true),
        (Method::DELETE, true),
        (Method::TRACE, true),
        (Method::POST, false),
        (Method::PATCH, false),
        (Method::CONNECT, false),
        (Method::from_bytes(b"PURGE").unwrap(), false),
        (Method::from_bytes(b"get").unwrap(), false),
    ];
    let outcomes = [
        (Outcome::Reset { sent: true }, "reset", true),
        (Outcome::Reset { sent: false }, "reset", false),
        (Outcome::PerTryTimeout { sent: true }, "5xx", true),
        (Outcome::PerTryTimeout { sent: false }, "5xx", false),
        (Outcome::Protocol, "gateway-error", true),
        (Outcome::ConnectFailure, "connect-failure", false),
        (Outcome::RefusedStream, "refused-stream", false),
        (answer(503, None), "503", true),
        (answer(200, Some(14)), "unavailable", true),
        (answer(200, Some(1)), "cancelled", true),
    ];
    for (method, idempotent) in &methods {
        for (outcome, on, executed) in &outcomes {
            for asked in [true, false] {
                let policy = RetryPolicy { explicit: asked, ..explicit(on) };
                let verdict = World::default().decide(&policy, &failed(outcome, method));
                let repeated = matches!(verdict, Verdict::Retry { .. });
                let expected = !executed || *idempotent || asked;
                assert_eq!(repeated, expected, "{method} {outcome:?}, asked for: {asked}");
                if !repeated {
                    assert_eq!(give_up(verdict), GiveUp::MayHaveBeenExecuted);
                }
            }
        }
    }
}

#[test]
fn what_one_call_adds_to_a_list_that_nobody_wrote_is_repeated_for_any_method_and_the_rest_is_not() {
    let decided = |added: &str, outcome, method| {
        let asked = RetryOn::parse(added).unwrap();
        let mut policy = RetryPolicy::default();
        policy.on.add(&asked);
        policy.asked = Some(Box::new(asked));
        match World::default().decide(&policy, &failed(&outcome, &method)) {
            Verdict::Retry { condition, .. } => Ok(condition),
            Verdict::GiveUp(reason) => Err(reason),
        }
    };
    let (unavailable, executed) = (answer(200, Some(14)), Err(GiveUp::MayHaveBeenExecuted));
    assert_eq!(decided("connect-failure", unavailable, Method::POST), executed, "nobody asked for that");
    assert_eq!(decided("unavailable", unavailable, Method::POST), Ok(Condition::Unavailable));
    assert_eq!(decided("503", answer(503, None), Method::POST), Ok(Condition::RetriableStatusCodes));
    assert_eq!(decided("503", unavailable, Method::GET), Ok(Condition::Unavailable), "the list holds too");
    assert_eq!(decided("503", Outcome::Vanished, Method::GET), Ok(Condition::Reset), "and so does this");
}

#[test]
fn an_idempotent_request_to_a_peer_that_vanished_is_made_again_unless_the_user_lists_what_is() {
    let reset = Ok(Condition::Reset);
    for (policy, method, expected) in [
        (RetryPolicy::default(), Method::GET, reset),
        (RetryPolicy::default(), Method::POST, Err(GiveUp::NotNamed)),
        (explicit("connect-failure"), Method::GET, Err(GiveUp::NotNamed)),
        (explicit("reset"), Method::GET, reset),
        (explicit("reset"), Method::POST, reset),
    ] {
        let decided = match World::default().decide(&policy, &failed(&Outcome::Vanished, &method)) {
            Verdict::Retry { condition, .. } => Ok(condition),
            Verdict::GiveUp(reason) => Err(reason),
        };
        assert_eq!(decided, expected, "{method} {}", policy.on);
    }
}

#[test]
fn a_condition_that_the_user_did_not_name_is_not_retried_even_if_harmless() {
    let verdict = World::default().decide(&explicit("5xx"), &failed(&answer(409, None), &Method::GET));
    assert_eq!(give_up(verdict), GiveUp::NotNamed);
}

#[test]
fn a_body_that_cannot_be_replayed_is_not_retried() {
    let attempt = Attempt { replayable: false, ..failed(&Outcome::ConnectFailure, &Method::PUT) };
    let verdict = World::default().decide(&RetryPolicy::default(), &attempt);
    assert_eq!(give_up(verdict), GiveUp::NotReplayable);
}

#[test]
fn a_retry_that_would_start_after_the_deadline_is_not_made_and_holds_nothing() {
    let world = World { deadline: NOW + 10 * MS, ..World::default() };
    let attempt = failed(&Outcome::ConnectFailure, &Method::GET);
    let verdict = world.decide_with(&RetryPolicy::default(), &attempt, &mut Highest);
    assert_eq!(give_up(verdict), GiveUp::Deadline);
    assert_eq!((world.budget.available(), world.cluster.in_use(Overflow::Retries)), (10, 0));
}

#[test]
fn a_retry_waits_between_zero_and_its_bound() {
    let world = World::default();
    let at = |retries, dice: &mut dyn Dice| {
        let attempt = Attempt { retries, ..failed(&Outcome::ConnectFailure, &Method::GET) };
        let policy = RetryPolicy { retries_max: 9, ..RetryPolicy::default() };
        match world.decide_with(&policy, &attempt, &mut { dice }) {
            Verdict::Retry { at, .. } => NOW.until(at),
            Verdict::GiveUp(reason) => panic!("{reason:?}"),
        }
    };
    let nano = Duration::from_nanos(1);
    assert_eq!((at(0, &mut Lowest), at(8, &mut Lowest)), (Duration::ZERO, Duration::ZERO));
    assert_eq!((at(0, &mut Highest), at(8, &mut Highest)), (25 * MS - nano, 250 * MS - nano));
}

/// Rows: what the server asks for, how long is left, and the wait or why there is none. The back-off is just below 25 ms.
#[test]
fn the_wait_is_the_longer_of_the_back_off_and_what_the_server_asks_for_within_the_deadline_and_a_bound() {
    let nano = Duration::from_nanos(1);
    let (asked, minute) = (PushBack::After, 60_000 * MS);
    for (push_back, left, expected) in [
        (PushBack::None, Duration::MAX, Ok(25 * MS - nano)),
        (asked(Duration::ZERO), Duration::MAX, Ok(25 * MS - nano)),
        (asked(10 * MS), Duration::MAX, Ok(25 * MS - nano)),
        (asked(10 * MS), 20 * MS, Err(GiveUp::Deadline)),
        (asked(3_000 * MS), Duration::MAX, Ok(3_000 * MS)),
        (asked(3_000 * MS), 3_000 * MS + nano, Ok(3_000 * MS)),
        (asked(3_000 * MS), 3_000 * MS, Err(GiveUp::LongWait)),
        (asked(minute), Duration::MAX, Ok(minute)),
        (asked(minute + nano), Duration::MAX, Err(GiveUp::LongWait)),
        (asked(Duration::MAX), Duration::MAX, Err(GiveUp::LongWait)),
        (PushBack::Never, Duration::MAX, Err(GiveUp::PushedBack)),
    ] {
        let world = World { deadline: NOW + left, ..World::default() };
        let attempt = Attempt { push_back, ..failed(&Outcome::ConnectFailure, &Method::GET) };
        let decided = match world.decide_with(&RetryPolicy::default(), &attempt, &mut Highest) {
            Verdict::Retry { at, .. } => Ok(NOW.until(at)),
            Verdict::GiveUp(reason) => Err(reason),
        };
        assert_eq!(decided, expected, "{push_back:?}, {left:?} left");
        assert_eq!((world.budget.available(), world.cluster.in_use(Overflow::Retries)), (10, 0));
    }
}

#[test]
fn what_is_not_retried_is_not_asked_when() {
    let success = answer(200, None);
    let attempt = Attempt { push_back: PushBack::Never, ..failed(&success, &Method::GET) };
    assert_eq!(give_up(World::default().decide(&explicit("5xx"), &attempt)), GiveUp::NotNamed);
    let unavailable = answer(503, None);
    let attempt = Attempt { retries: 2, push_back: PushBack::Never, ..failed(&unavailable, &Method::GET) };
    assert_eq!(give_up(World::default().decide(&explicit("5xx"), &attempt)), GiveUp::Attempts);
}

#[test]
fn without_budget_or_place_the_failure_stands_and_says_why() {
    let attempt = failed(&Outcome::ConnectFailure, &Method::GET);
    let world = World { limits: Limits { retries_max: 0, ..Limits::default() }, ..World::default() };
    assert_eq!(give_up(world.decide(&RetryPolicy::default(), &attempt)), GiveUp::Overflow);

    let world = World::default();
    for _ in 0..10 {
        let Verdict::Retry { reservation, .. } = world.decide(&RetryPolicy::default(), &attempt) else {
            panic!("the budget is too small");
        };
        drop(reservation.begin());
    }
    assert_eq!(give_up(world.decide(&RetryPolicy::default(), &attempt)), GiveUp::Budget);
}

#[test]
fn with_the_budget_switched_off_only_the_policy_limits_retries() {
    let world = World::default();
    let ceiling = Ceiling { budget: None, written: None, cluster: &world.cluster, limits: &world.limits };
    for _ in 0..100 {
        let attempt = failed(&Outcome::ConnectFailure, &Method::GET);
        let verdict = RetryPolicy::default().decide(&attempt, &ceiling, NOW, Time::MAX, &mut Lowest);
        let Verdict::Retry { reservation, .. } = verdict else { panic!("{verdict:?}") };
        drop(reservation.begin());
    }
}

#[test]
fn only_used_up_retries_and_full_ceilings_add_a_flag() {
    let table = [
        (GiveUp::NotNamed, None),
        (GiveUp::MayHaveBeenExecuted, None),
        (GiveUp::NotReplayable, None),
        (GiveUp::PushedBack, None),
        (GiveUp::LongWait, None),
        (GiveUp::Attempts, Some(Flag::URX)),
        (GiveUp::Deadline, None),
        (GiveUp::Overflow, Some(Flag::UO)),
        (GiveUp::Budget, Some(Flag::UO)),
    ];
    for (reason, flag) in table {
        assert_eq!(reason.flag(), flag, "{reason:?}");
    }
}

const NOW: Time = Time::from_nanos(5_000_000_000);

struct World {
    budget: Arc<Budget>,
    cluster: Arc<ClusterState>,
    limits: Limits,
    deadline: Time,
}

impl Default for World {
    fn default() -> Self {
        Self {
            budget: Arc::default(),
            cluster: Arc::default(),
            limits: Limits::default(),
            deadline: Time::MAX,
        }
    }
}

impl World {
    fn decide(&self, policy: &RetryPolicy, attempt: &Attempt<'_>) -> Verdict {
        self.decide_with(policy, attempt, &mut Seeded::new(1))
    }

    fn decide_with(&self, policy: &RetryPolicy, attempt: &Attempt<'_>, dice: &mut impl Dice) -> Verdict {
        let Self { budget, cluster, limits, .. } = self;
        let ceiling = Ceiling { budget: Some(budget), written: None, cluster, limits };
        policy.decide(attempt, &ceiling, NOW, self.deadline, dice)
    }
}

fn failed<'a>(outcome: &'a Outcome, method: &'a Method) -> Attempt<'a> {
    Attempt { outcome, method, retries: 0, replayable: true, push_back: PushBack::None }
}

fn explicit(on: &str) -> RetryPolicy {
    RetryPolicy { on: RetryOn::parse(on).unwrap(), explicit: true, ..RetryPolicy::default() }
}

fn answer(status: u16, grpc: Option<u32>) -> Outcome {
    Outcome::Answer {
        status: StatusCode::from_u16(status).unwrap(),
        grpc,
        ratelimited: false,
        provenance: Provenance::NONE,
    }
}

fn give_up(verdict: Verdict) -> GiveUp {
    match verdict {
        Verdict::GiveUp(reason) => reason,
        Verdict::Retry { .. } => panic!("retried: {verdict:?}"),
    }
}
