use super::*;
use crate::{
    balance::Security,
    dice::{Highest, Lowest, Seeded},
    health::{ClusterState, EndpointState, InFlight, OutlierPolicy, Verdict},
    registry::{Address, Locality},
};
use std::{sync::Arc, time::Duration};

const POLICIES: [Policy; 3] = [Policy::LeastRequest, Policy::RoundRobin, Policy::Random];

#[test]
fn an_empty_set_has_nothing_to_pick() {
    for policy in POLICIES {
        assert_eq!(pick(&set(&[]), policy, &Tried::default(), NOW, &mut Seeded::new(1)), None);
    }
}

#[test]
fn a_single_endpoint_is_picked_always_even_if_tried() {
    for policy in POLICIES {
        let mut tried = Tried::default();
        tried.on_attempt(0);
        assert_eq!(pick(&set(&[1]), policy, &tried, NOW, &mut Seeded::new(1)), Some(0));
    }
}

#[test]
fn every_policy_spreads_an_idle_cluster_evenly() {
    for policy in POLICIES {
        assert_shares(&shares(&set(&[7; 5]), policy), &[0.2; 5], policy);
    }
}

#[test]
fn weights_are_honoured_by_all_but_random_in_an_idle_cluster() {
    for policy in [Policy::LeastRequest, Policy::RoundRobin] {
        assert_shares(&shares(&set(&[1, 2, 7]), policy), &[0.1, 0.2, 0.7], policy);
    }
    assert_shares(&shares(&set(&[1, 2, 7]), Policy::Random), &[1.0 / 3.0; 3], Policy::Random);
}

#[test]
fn of_two_draws_the_one_with_fewer_requests_in_flight_is_picked() {
    let set = set(&[1, 1, 1]);
    let _busy = busy(&set, 0, 3);
    let _less = busy(&set, 1, 1);
    // With replacement: the busiest only where both draws are it, the next unless one draw is the idle one.
    assert_shares(
        &shares(&set, Policy::LeastRequest),
        &[1.0 / 9.0, 3.0 / 9.0, 5.0 / 9.0],
        Policy::LeastRequest,
    );
}

#[test]
fn of_two_equally_busy_endpoints_the_first_drawn_is_picked() {
    let set = set(&[1, 1]);
    for (first, second, expected) in [(0, u64::MAX, 0), (u64::MAX, 0, 1)] {
        let mut dice = Script(vec![second, first]);
        assert_eq!(pick(&set, Policy::LeastRequest, &Tried::default(), NOW, &mut dice), Some(expected));
    }
}

#[test]
fn requests_in_flight_are_compared_by_weight_where_weights_differ() {
    let set = set(&[1, 4]);
    let _one = busy(&set, 0, 1);
    let _three = busy(&set, 1, 3);
    // 1/1 against 3/4: the heavier one is freer, and loses only where both draws (1/5 each) are the other.
    assert_shares(&shares(&set, Policy::LeastRequest), &[0.04, 0.96], Policy::LeastRequest);
}

/// Requests that take the same time everywhere: what is in flight settles at the weights.
#[test]
fn a_busy_cluster_has_requests_in_flight_in_proportion_to_its_weights() {
    let set = set(&[1, 2, 5]);
    let mut dice = Seeded::new(5);
    let mut running = std::collections::VecDeque::new();
    for _ in 0..20_000 {
        let index = pick(&set, Policy::LeastRequest, &Tried::default(), NOW, &mut dice).unwrap();
        running.push_back(set.as_slice()[index].state.begin(NOW));
        if running.len() > 800 {
            running.pop_front();
        }
    }
    let in_flight: Vec<_> = set.as_slice().iter().map(|it| it.state.in_flight()).collect();
    for (count, expected) in in_flight.iter().zip([100, 200, 500]) {
        assert!(count.abs_diff(expected) <= 20, "seed 5: {in_flight:?}");
    }
}

#[test]
fn round_robin_visits_each_endpoint_once_per_turn() {
    let set = set(&[3; 4]);
    let mut dice = Seeded::new(2);
    for _ in 0..100 {
        let mut turn: Vec<_> = (0..4).map(|_| round_robin(&set, &mut dice)).collect();
        turn.sort_unstable();
        assert_eq!(turn, [0, 1, 2, 3]);
    }
}

#[test]
fn round_robin_starts_anywhere() {
    let starts: std::collections::BTreeSet<_> =
        (0..64).map(|seed| round_robin(&set(&[1; 4]), &mut Seeded::new(seed))).collect();
    assert_eq!(starts.len(), 4);
}

#[test]
fn weighted_round_robin_never_strays_far_from_its_weights() {
    let weights = [1, 2, 5, 12];
    for seed in 0..20 {
        let (set, mut dice) = (set(&weights), Seeded::new(seed));
        let mut seen = [0_u32; 4];
        for picks in 1..=2_000_u32 {
            seen[round_robin(&set, &mut dice)] += 1;
            for (count, weight) in seen.iter().zip(weights) {
                let due = f64::from(picks * weight) / 20.0;
                let stray = (f64::from(*count) - due).abs();
                assert!(stray < 4.0, "seed {seed}: {seen:?} after {picks}");
            }
        }
    }
}

#[test]
fn an_ejected_endpoint_is_not_picked_and_the_others_share_evenly() {
    for policy in POLICIES {
        let set = set(&[1; 5]);
        eject(&set, &[1, 3]);
        assert_shares(&shares(&set, policy), &[1.0 / 3.0, 0.0, 1.0 / 3.0, 0.0, 1.0 / 3.0], policy);
    }
}

#[test]
fn the_last_healthy_endpoint_of_many_is_always_found() {
    for policy in POLICIES {
        let set = set(&[1; 200]);
        eject(&set, &(0..199).collect::<Vec<_>>());
        for seed in 0..100 {
            let picked = pick(&set, policy, &Tried::default(), NOW, &mut Seeded::new(seed));
            assert_eq!(picked, Some(199), "{policy:?}, seed {seed}");
        }
    }
}

#[test]
fn the_few_healthy_endpoints_of_many_share_by_weight() {
    let mut weights = [1; 200];
    weights[0] = 9;
    for policy in [Policy::LeastRequest, Policy::RoundRobin] {
        let set = set(&weights);
        eject(&set, &(2..200).collect::<Vec<_>>());
        let mut expected = [0.0; 200];
        (expected[0], expected[1]) = (0.9, 0.1);
        assert_shares(&shares(&set, policy), &expected, policy);
    }
}

#[test]
fn with_all_ejected_nothing_is_picked_until_the_first_is_back() {
    for policy in POLICIES {
        let set = set(&[1; 3]);
        eject(&set, &[0, 1, 2]);
        assert_eq!(pick(&set, policy, &Tried::default(), NOW, &mut Seeded::new(1)), None);
        let back = set.as_slice()[0].state.ejected_until(NOW).unwrap();
        assert!(pick(&set, policy, &Tried::default(), back, &mut Seeded::new(1)).is_some());
    }
}

#[test]
fn below_the_minimum_health_all_endpoints_are_used() {
    for policy in POLICIES {
        let four = || set(&[1; 4]);
        let panicking = four().with_min_health_percent(51);
        eject(&panicking, &[0, 1]);
        assert_shares(&shares(&panicking, policy), &[0.25; 4], policy);

        let calm = four().with_min_health_percent(50);
        eject(&calm, &[0, 1]);
        assert_shares(&shares(&calm, policy), &[0.0, 0.0, 0.5, 0.5], policy);
    }
}

#[test]
fn an_endpoint_already_tried_is_avoided() {
    for policy in POLICIES {
        let set = set(&[1; 4]);
        let mut tried = Tried::default();
        tried.on_attempt(2);
        let again = shares_with(&set, policy, &tried)[2];
        // Six draws of four: all of them the same one in (1/4)^6 at most.
        assert!(again < 0.002, "{policy:?}: {again}");
    }
}

#[test]
fn when_every_endpoint_was_tried_one_is_picked_nevertheless() {
    let mut tried = Tried::default();
    (0..3).for_each(|index| tried.on_attempt(index));
    for policy in [Policy::LeastRequest, Policy::Random] {
        assert_shares(&shares_with(&set(&[1; 3]), policy, &tried), &[1.0 / 3.0; 3], policy);
    }
    assert!(pick(&set(&[1; 3]), Policy::RoundRobin, &tried, NOW, &mut Seeded::new(1)).is_some());
}

#[test]
fn dice_at_either_end_pick_within_the_set() {
    for policy in POLICIES {
        for weights in [&[1, 1, 1][..], &[1, 2, 3], &[u32::MAX, u32::MAX, 1], &[0, 0, 5]] {
            let set = set(weights);
            assert!(pick(&set, policy, &Tried::default(), NOW, &mut Lowest).unwrap() < 3);
            assert!(pick(&set, policy, &Tried::default(), NOW, &mut Highest).unwrap() < 3);
        }
    }
}

const NOW: Time = Time::from_nanos(1_000_000_000);
const PICKS: u32 = 60_000;
const SEED: u64 = 42;

fn set(weights: &[u32]) -> EndpointSet {
    let endpoint = |(index, &weight): (usize, &u32)| Endpoint {
        address: Address::Ip(([10, 0, 0, 1], 1_000 + u16::try_from(index).unwrap()).into()),
        labels: Arc::default(),
        locality: Locality::default(),
        weight,
        security: Security::Plaintext,
        state: Arc::new(EndpointState::default()),
    };
    EndpointSet::new(weights.iter().enumerate().map(endpoint).collect())
}

fn busy(set: &EndpointSet, index: usize, requests: usize) -> Vec<InFlight> {
    (0..requests).map(|_| set.as_slice()[index].state.begin(NOW)).collect()
}

fn eject(set: &EndpointSet, indices: &[usize]) {
    let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierPolicy::default() };
    let start = NOW - Duration::from_millis(1);
    for &index in indices {
        let request = set.as_slice()[index].state.begin(start);
        ClusterState::default().on_answer(&request, Verdict::Status(500), &policy, set, start);
        assert!(set.as_slice()[index].state.is_ejected(NOW));
    }
}

fn round_robin(set: &EndpointSet, dice: &mut impl Dice) -> usize {
    pick(set, Policy::RoundRobin, &Tried::default(), NOW, dice).unwrap()
}

fn shares(set: &EndpointSet, policy: Policy) -> Vec<f64> {
    shares_with(set, policy, &Tried::default())
}

fn shares_with(set: &EndpointSet, policy: Policy, tried: &Tried) -> Vec<f64> {
    let mut dice = Seeded::new(SEED);
    let mut seen = vec![0_u32; set.len()];
    (0..PICKS).for_each(|_| seen[pick(set, policy, tried, NOW, &mut dice).unwrap()] += 1);
    seen.into_iter().map(|count| f64::from(count) / f64::from(PICKS)).collect()
}

fn assert_shares(shares: &[f64], expected: &[f64], policy: Policy) {
    for (share, expected) in shares.iter().zip(expected) {
        // Five standard deviations of 60,000 draws are one per cent.
        assert!((share - expected).abs() < 0.0103, "{policy:?}, seed {SEED}: {shares:?}");
    }
}

/// Dice that roll what they are told, the last number first, then the highest.
struct Script(Vec<u64>);

impl Dice for Script {
    fn roll(&mut self) -> u64 {
        self.0.pop().unwrap_or(u64::MAX)
    }
}
