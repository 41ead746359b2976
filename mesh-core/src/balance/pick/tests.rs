use super::*;
use crate::{
    balance::{Security, SetPolicy, WarmUp},
    dice::{Highest, Lowest, Seeded},
    health::{ClusterState, EndpointState, InFlight, OutlierPolicy, Verdict},
    registry::{Address, Locality},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Those that spread requests evenly, to a fraction of a per cent.
const EVEN: [Policy; 4] = [Policy::LeastRequest, Policy::RoundRobin, Policy::Random, Policy::PeakEwma];
const HASHES: [Policy; 2] =
    [Policy::RingHash { minimum_size: 1_024 }, Policy::Maglev { table_size: TableSize::DEFAULT }];

fn every_policy() -> impl Iterator<Item = Policy> {
    EVEN.into_iter().chain(HASHES)
}

#[test]
fn an_empty_set_has_nothing_to_pick() {
    for policy in every_policy() {
        assert_eq!(pick(&set(policy, &[]), &Wish::default(), NOW, &mut Seeded::new(1)), None);
    }
}

#[test]
fn a_single_endpoint_is_picked_always_even_if_tried() {
    for policy in every_policy() {
        let tried = tried(&[0]);
        assert_eq!(pick(&set(policy, &[1]), &avoiding(&tried), NOW, &mut Seeded::new(1)), Some(0));
    }
}

#[test]
fn every_policy_spreads_an_idle_cluster_evenly() {
    for policy in EVEN {
        assert_shares(&shares(&set(policy, &[7; 5])), &[0.2; 5], policy);
    }
}

#[test]
fn weights_are_honoured_by_all_but_random_in_an_idle_cluster() {
    for policy in [Policy::LeastRequest, Policy::RoundRobin] {
        assert_shares(&shares(&set(policy, &[1, 2, 7])), &[0.1, 0.2, 0.7], policy);
    }
    assert_shares(&shares(&set(Policy::Random, &[1, 2, 7])), &[1.0 / 3.0; 3], Policy::Random);
}

#[test]
fn of_two_draws_the_one_with_fewer_requests_in_flight_is_picked() {
    let set = set(Policy::LeastRequest, &[1, 1, 1]);
    let _busy = busy(&set, 0, 3);
    let _less = busy(&set, 1, 1);
    // With replacement: the busiest only where both draws are it, the next unless one draw is the idle one.
    assert_shares(&shares(&set), &[1.0 / 9.0, 3.0 / 9.0, 5.0 / 9.0], Policy::LeastRequest);
}

#[test]
fn of_two_equally_busy_endpoints_the_first_drawn_is_picked() {
    let set = set(Policy::LeastRequest, &[1, 1]);
    for (first, second, expected) in [(0, u64::MAX, 0), (u64::MAX, 0, 1)] {
        let mut dice = Script(vec![second, first]);
        assert_eq!(pick(&set, &Wish::default(), NOW, &mut dice), Some(expected));
    }
}

#[test]
fn requests_in_flight_are_compared_by_weight_where_weights_differ() {
    let set = set(Policy::LeastRequest, &[1, 4]);
    let _one = busy(&set, 0, 1);
    let _three = busy(&set, 1, 3);
    // 1/1 against 3/4: the heavier one is freer, and loses only where both draws (1/5 each) are the other.
    assert_shares(&shares(&set), &[0.04, 0.96], Policy::LeastRequest);
}

/// Requests that take the same time everywhere: what is in flight settles at the weights.
#[test]
fn a_busy_cluster_has_requests_in_flight_in_proportion_to_its_weights() {
    let set = set(Policy::LeastRequest, &[1, 2, 5]);
    let mut dice = Seeded::new(5);
    let mut running = std::collections::VecDeque::new();
    for _ in 0..20_000 {
        let index = pick(&set, &Wish::default(), NOW, &mut dice).unwrap();
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
    let set = set(Policy::RoundRobin, &[3; 4]);
    let mut dice = Seeded::new(2);
    for _ in 0..100 {
        let mut turn: Vec<_> = (0..4).map(|_| next(&set, &mut dice)).collect();
        turn.sort_unstable();
        assert_eq!(turn, [0, 1, 2, 3]);
    }
}

#[test]
fn round_robin_starts_anywhere() {
    let starts: BTreeSet<_> =
        (0..64).map(|seed| next(&set(Policy::RoundRobin, &[1; 4]), &mut Seeded::new(seed))).collect();
    assert_eq!(starts.len(), 4);
}

#[test]
fn weighted_round_robin_never_strays_far_from_its_weights() {
    let weights = [1, 2, 5, 12];
    for seed in 0..20 {
        let (set, mut dice) = (set(Policy::RoundRobin, &weights), Seeded::new(seed));
        let mut seen = [0_u32; 4];
        for picks in 1..=2_000_u32 {
            seen[next(&set, &mut dice)] += 1;
            for (count, weight) in seen.iter().zip(weights) {
                let due = f64::from(picks * weight) / 20.0;
                let stray = (f64::from(*count) - due).abs();
                assert!(stray < 4.0, "seed {seed}: {seen:?} after {picks}");
            }
        }
    }
}

/// The order of turns is compared with a model in `schedule`; here, that they are taken one by one, from anywhere.
#[test]
fn weighted_round_robin_repeats_one_round() {
    for seed in 0..20 {
        let (set, mut dice) = (set(Policy::RoundRobin, &[1, 2, 5]), Seeded::new(seed));
        let picks: Vec<_> = (0..24).map(|_| next(&set, &mut dice)).collect();
        let round = [2, 2, 1, 2, 2, 0, 1, 2];
        let is_round = |start: usize| (0..24).all(|turn| picks[turn] == round[(start + turn) % 8]);
        assert!((0..8).any(is_round), "seed {seed}: {picks:?}");
    }
}

/// On servers as fast as they weigh, at nine tenths of what they can do: docs/decisions/0009 quotes the numbers.
#[test]
fn weighted_least_request_keeps_the_busiest_endpoint_less_busy_than_envoys_schedule_would() {
    for seed in 0..5 {
        for weights in [&[1, 2, 5][..], &[1, 9], &[3, 3, 4, 30]] {
            let ours = busiest(weights, seed, next);
            let mut schedule = EdfModel::new(weights);
            let theirs = busiest(weights, seed, |set, _| schedule.pick(set));
            assert!(ours < 0.8 * theirs, "seed {seed}, {weights:?}: {ours} per weight, {theirs} by EDF");
        }
    }
}

#[test]
fn an_ejected_endpoint_is_not_picked_and_the_others_share_evenly() {
    for policy in EVEN {
        let set = set(policy, &[1; 5]);
        eject(&set, &[1, 3]);
        assert_shares(&shares(&set), &[1.0 / 3.0, 0.0, 1.0 / 3.0, 0.0, 1.0 / 3.0], policy);
    }
}

#[test]
fn the_last_healthy_endpoint_of_many_is_always_found() {
    for policy in every_policy() {
        let set = set(policy, &[1; 200]);
        eject(&set, &(0..199).collect::<Vec<_>>());
        for seed in 0..100 {
            let picked = pick(&set, &Wish::default(), NOW, &mut Seeded::new(seed));
            assert_eq!(picked, Some(199), "{policy:?}, seed {seed}");
        }
    }
}

#[test]
fn the_few_healthy_endpoints_of_many_share_by_weight() {
    let mut weights = [1; 200];
    weights[0] = 9;
    for policy in [Policy::LeastRequest, Policy::RoundRobin] {
        let set = set(policy, &weights);
        eject(&set, &(2..200).collect::<Vec<_>>());
        let mut expected = [0.0; 200];
        (expected[0], expected[1]) = (0.9, 0.1);
        assert_shares(&shares(&set), &expected, policy);
    }
}

#[test]
fn with_all_ejected_nothing_is_picked_until_the_first_is_back() {
    for policy in every_policy() {
        let set = set(policy, &[1; 3]);
        eject(&set, &[0, 1, 2]);
        assert_eq!(pick(&set, &Wish::default(), NOW, &mut Seeded::new(1)), None);
        let back = set.as_slice()[0].state.ejected_until(NOW).unwrap();
        assert!(pick(&set, &Wish::default(), back, &mut Seeded::new(1)).is_some());
    }
}

#[test]
fn below_the_minimum_health_all_endpoints_are_used() {
    for policy in EVEN {
        let four = || set(policy, &[1; 4]);
        let panicking = four().with_min_health_percent(51);
        eject(&panicking, &[0, 1]);
        assert_shares(&shares(&panicking), &[0.25; 4], policy);

        let calm = four().with_min_health_percent(50);
        eject(&calm, &[0, 1]);
        assert_shares(&shares(&calm), &[0.0, 0.0, 0.5, 0.5], policy);
    }
}

/// Envoy's rule: with 140 % of them healthy there are enough.
#[test]
fn five_sevenths_of_the_endpoints_are_enough_whatever_the_minimum_health() {
    let set = set(Policy::RoundRobin, &[1; 7]).with_min_health_percent(100);
    eject(&set, &[0, 1]);
    let expected = [0.0, 0.0, 0.2, 0.2, 0.2, 0.2, 0.2];
    assert_shares(&shares(&set), &expected, Policy::RoundRobin);
    eject(&set, &[2]);
    assert_shares(&shares(&set), &[1.0 / 7.0; 7], Policy::RoundRobin);
}

#[test]
fn a_hash_goes_to_the_same_endpoint_whatever_the_dice_and_the_load() {
    for policy in HASHES {
        let set = set(policy, &[1; 100]);
        let mut picked = BTreeSet::new();
        for hash in (0..200).map(|number| Seeded::new(number).roll()) {
            let wish = Wish { hash: Some(hash), ..Wish::default() };
            let first = pick(&set, &wish, NOW, &mut Lowest);
            let _busy = busy(&set, first.unwrap(), 10);
            assert_eq!(pick(&set, &wish, NOW, &mut Highest), first, "{policy:?}");
            picked.insert(first);
        }
        assert!(picked.len() > 70, "{policy:?}: {} of 100 endpoints for 200 hashes", picked.len());
    }
}

#[test]
fn without_a_hash_any_endpoint_is_picked() {
    for policy in HASHES {
        let shares = shares(&set(policy, &[1; 3]));
        assert!(shares.iter().all(|share| (0.28..0.39).contains(share)), "{policy:?}: {shares:?}");
    }
}

#[test]
fn an_ejection_moves_only_the_requests_of_the_ejected_endpoint_and_spreads_them() {
    for policy in HASHES {
        let set = set(policy, &[1; 10]);
        let wishes: Vec<_> = (0..5_000)
            .map(|number| Wish { hash: Some(Seeded::new(number).roll()), ..Wish::default() })
            .collect();
        let all =
            || wishes.iter().map(|wish| pick(&set, wish, NOW, &mut Lowest).unwrap()).collect::<Vec<_>>();
        let before = all();
        eject(&set, &[4]);
        let after = all();
        let mut heirs = BTreeSet::new();
        for (before, after) in before.into_iter().zip(after) {
            match before {
                4 => drop(heirs.insert(after)),
                other => assert_eq!(after, other, "{policy:?}"),
            }
        }
        assert_eq!(heirs.len(), 9, "{policy:?}: {heirs:?}");
    }
}

#[test]
fn a_retry_that_avoids_an_endpoint_moves_on_in_the_table() {
    for policy in HASHES {
        let set = set(policy, &[1; 10]);
        for hash in (0..200).map(|number| Seeded::new(number).roll()) {
            let wish = Wish { hash: Some(hash), ..Wish::default() };
            let first = pick(&set, &wish, NOW, &mut Lowest).unwrap();
            let tried = tried(&[first]);
            let again = pick(&set, &Wish { avoid: Some(&tried), ..wish }, NOW, &mut Lowest);
            assert_ne!(again, Some(first), "{policy:?}, {hash}");
        }
    }
}

#[test]
fn every_size_and_weight_is_picked_from() {
    for seed in 0..10 {
        let mut dice = Seeded::new(seed);
        for size in [1, 2, 3, 100] {
            let weights: Vec<_> = (0..size).map(|_| dice.below(5) as u32).collect();
            for policy in every_policy() {
                let set = set(policy, &weights);
                let tried = tried(&[0, 1, 2]);
                for avoid in [None, Some(&tried)] {
                    let wish = Wish { hash: Some(dice.roll()), avoid, leave: avoid };
                    let index = pick(&set, &wish, NOW, &mut dice);
                    assert!(index.is_some_and(|index| index < size), "seed {seed}: {policy:?}, {weights:?}");
                }
            }
        }
    }
}

#[test]
fn an_endpoint_that_joins_later_gets_its_share_little_by_little() {
    for policy in [Policy::LeastRequest, Policy::RoundRobin] {
        let set = warming(policy, &[1, 1, 1, 2], WarmUp::new(Duration::from_secs(60)));
        let second = |second| Time::ZERO + Duration::from_secs(second);
        for endpoint in &set.as_slice()[..3] {
            endpoint.state.on_join(second(1));
        }
        // It joins with the first pick, 99 s after the others.
        for (at, factor) in [(100, 0.1), (106, 0.1), (115, 0.25), (130, 0.5), (159, 59.0 / 60.0), (160, 1.0)]
        {
            let total = 3.0 + 2.0 * factor;
            let expected = [1.0 / total, 1.0 / total, 1.0 / total, 2.0 * factor / total];
            assert_shares(&shares_at(&set, &Wish::default(), second(at)), &expected, policy);
        }
    }
}

#[test]
fn where_all_have_just_joined_weights_alone_count_and_no_draw_is_wasted() {
    for policy in [Policy::LeastRequest, Policy::RoundRobin] {
        let set = warming(policy, &[1, 2, 7], WarmUp::new(Duration::from_secs(60)));
        for _ in 0..3 {
            assert_shares(&shares(&set), &[0.1, 0.2, 0.7], policy);
        }
    }
}

#[test]
fn an_endpoint_that_a_reload_keeps_does_not_warm_up_again() {
    let warm_up = WarmUp::new(Duration::from_secs(60));
    let endpoints = endpoints(&[1, 1]);
    let policy = SetPolicy { policy: Policy::RoundRobin, warm_up: Some(warm_up), ..SetPolicy::default() };
    next(&EndpointSet::build(endpoints[..1].to_vec(), &policy), &mut Lowest);
    let reloaded = EndpointSet::build(endpoints, &policy);
    let later = NOW + Duration::from_secs(60);
    assert_shares(&shares_at(&reloaded, &Wish::default(), later), &[10.0 / 11.0, 1.0 / 11.0], policy.policy);
}

#[test]
fn only_policies_with_a_schedule_warm_up() {
    for policy in [Policy::Random, Policy::PeakEwma] {
        let set = warming(policy, &[1, 1], WarmUp::new(Duration::from_secs(60)));
        set.as_slice()[0].state.on_join(Time::ZERO);
        assert_shares(&shares_at(&set, &Wish::default(), NOW + Duration::from_secs(90)), &[0.5; 2], policy);
    }
}

#[test]
fn of_two_draws_the_one_that_answers_sooner_is_picked_by_peak_ewma() {
    let set = set(Policy::PeakEwma, &[1, 1]);
    answer(&set, 0, Duration::from_millis(10));
    answer(&set, 1, Duration::from_millis(15));
    assert_shares(&shares(&set), &[0.75, 0.25], Policy::PeakEwma);
    // With one in flight at the faster one, the slower one is due sooner.
    let _busy = busy(&set, 0, 1);
    assert_shares(&shares(&set), &[0.25, 0.75], Policy::PeakEwma);
}

#[test]
fn two_threads_share_one_round() {
    let set = set(Policy::RoundRobin, &[1, 3, 4]);
    let count = |seed| {
        let mut seen = [0_u32; 3];
        (0..4_000).for_each(|_| seen[next(&set, &mut Seeded::new(seed))] += 1);
        seen
    };
    let (one, two) = std::thread::scope(|scope| {
        let (one, two) = (scope.spawn(|| count(1)), scope.spawn(|| count(2)));
        (one.join().unwrap(), two.join().unwrap())
    });
    let seen: Vec<_> = one.iter().zip(two).map(|(one, two)| one + two).collect();
    assert_eq!(seen, [1_000, 3_000, 4_000]);
}

#[test]
fn no_stale_index_is_picked_after_an_endpoint_is_evicted() {
    for policy in every_policy() {
        let all = endpoints(&[1, 1, 1]);
        let before = EndpointSet::build(all.clone(), &SetPolicy { policy, ..SetPolicy::default() });
        let mut dice = Seeded::new(3);
        for evicted in 0..all.len() {
            let picked = next(&before, &mut dice);
            let in_flight = before.as_slice()[picked].state.begin(NOW);
            let mut rest = all.clone();
            let gone = rest.swap_remove(evicted);
            let after = EndpointSet::build(rest, &SetPolicy { policy, ..SetPolicy::default() });
            for _ in 0..20 {
                let endpoint = &after.as_slice()[next(&after, &mut dice)];
                assert_ne!(endpoint.address, gone.address, "{policy:?}");
            }
            // Who was called is counted where it is, not at who has its number.
            assert_eq!(all[picked].state.in_flight(), 1);
            drop(in_flight);
            assert!(all.iter().all(|endpoint| endpoint.state.in_flight() == 0));
        }
    }
}

#[test]
fn an_endpoint_already_tried_is_avoided() {
    for policy in EVEN {
        let again = shares_with(&set(policy, &[1; 4]), &avoiding(&tried(&[2])))[2];
        // Six draws of four: all of them the same one in (1/4)^6 at most.
        assert!(again < 0.002, "{policy:?}: {again}");
    }
}

#[test]
fn when_every_endpoint_was_tried_one_is_picked_nevertheless() {
    let tried = tried(&[0, 1, 2]);
    for policy in [Policy::LeastRequest, Policy::Random] {
        assert_shares(&shares_with(&set(policy, &[1; 3]), &avoiding(&tried)), &[1.0 / 3.0; 3], policy);
    }
    for policy in every_policy() {
        assert!(pick(&set(policy, &[1; 3]), &avoiding(&tried), NOW, &mut Seeded::new(1)).is_some());
    }
}

#[test]
fn dice_at_either_end_pick_within_the_set() {
    for policy in every_policy() {
        for weights in [&[1, 1, 1][..], &[1, 2, 3], &[50_000, 50_000, 1], &[0, 0, 5]] {
            let set = set(policy, weights);
            assert!(pick(&set, &Wish::default(), NOW, &mut Lowest).unwrap() < 3);
            assert!(pick(&set, &Wish::default(), NOW, &mut Highest).unwrap() < 3);
        }
    }
}

#[test]
fn weights_of_any_size_are_picked_by_all_but_the_ring_whose_points_they_would_multiply() {
    for policy in EVEN.into_iter().chain([HASHES[1]]) {
        let set = set(policy, &[u32::MAX, u32::MAX, 1]);
        assert!(pick(&set, &Wish::default(), NOW, &mut Seeded::new(1)).unwrap() < 3);
    }
}

const NOW: Time = Time::from_nanos(1_000_000_000);
const PICKS: u32 = 60_000;
const SEED: u64 = 42;

fn set(policy: Policy, weights: &[u32]) -> EndpointSet {
    EndpointSet::build(endpoints(weights), &SetPolicy { policy, ..SetPolicy::default() })
}

fn warming(policy: Policy, weights: &[u32], warm_up: WarmUp) -> EndpointSet {
    let policy = SetPolicy { policy, warm_up: Some(warm_up), ..SetPolicy::default() };
    EndpointSet::build(endpoints(weights), &policy)
}

fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
    let endpoint = |(index, &weight): (usize, &u32)| Endpoint {
        address: Address::Ip(([10, 0, 0, 1], 1_000 + u16::try_from(index).unwrap()).into()),
        labels: Arc::default(),
        locality: Locality::default(),
        weight,
        security: Security::Plaintext,
        state: Arc::new(EndpointState::default()),
    };
    weights.iter().enumerate().map(endpoint).collect()
}

fn tried(indices: &[usize]) -> Tried {
    let mut tried = Tried::default();
    indices.iter().for_each(|&index| tried.on_attempt(index));
    tried
}

fn avoiding(tried: &Tried) -> Wish<'_> {
    Wish { avoid: Some(tried), ..Wish::default() }
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

fn answer(set: &EndpointSet, index: usize, after: Duration) {
    set.as_slice()[index].state.begin(NOW - after).on_head(NOW);
}

/// Returns how many requests per weight the busiest endpoint has in flight, on average.
fn busiest(weights: &[u32], seed: u64, mut pick: impl FnMut(&EndpointSet, &mut Seeded) -> usize) -> f64 {
    let (set, mut dice) = (set(Policy::LeastRequest, weights), Seeded::new(seed));
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let (mut running, mut worst) = (Vec::new(), 0.0);
    for _ in 0..20_000 {
        // Together they finish one request in each step, and nine tenths of one arrive.
        for (index, &weight) in weights.iter().enumerate() {
            let is_done = dice.below(sum) < u64::from(weight);
            if let Some(at) = running.iter().position(|(of, _)| is_done && *of == index) {
                drop(running.remove(at));
            }
        }
        if dice.below(10) < 9 {
            let index = pick(&set, &mut dice);
            running.push((index, set.as_slice()[index].state.begin(NOW)));
        }
        let load = |(endpoint, &weight): (&Endpoint, &u32)| {
            f64::from(endpoint.state.in_flight()) / f64::from(weight)
        };
        worst += set.as_slice().iter().zip(weights).map(load).fold(0.0, f64::max);
    }
    worst / 20_000.0
}

/// Envoy's schedule for least request: the deadline of who was picked moves on by (in flight + 1) / weight.
struct EdfModel {
    now: f64,
    deadlines: Vec<(f64, u32)>,
}

impl EdfModel {
    fn new(weights: &[u32]) -> Self {
        Self {
            now: 0.0,
            deadlines: weights.iter().map(|&weight| (1.0 / f64::from(weight), weight)).collect(),
        }
    }

    fn pick(&mut self, set: &EndpointSet) -> usize {
        let earliest = |a: &(usize, &(f64, u32)), b: &(usize, &(f64, u32))| a.1.0.total_cmp(&b.1.0);
        let (index, _) = self.deadlines.iter().enumerate().min_by(earliest).unwrap();
        let (deadline, weight) = self.deadlines[index];
        self.now = deadline;
        let busy = f64::from(set.as_slice()[index].state.in_flight()) + 1.0;
        self.deadlines[index].0 = self.now + busy / f64::from(weight);
        index
    }
}

fn next(set: &EndpointSet, dice: &mut impl Dice) -> usize {
    pick(set, &Wish::default(), NOW, dice).unwrap()
}

fn shares(set: &EndpointSet) -> Vec<f64> {
    shares_with(set, &Wish::default())
}

fn shares_with(set: &EndpointSet, wish: &Wish<'_>) -> Vec<f64> {
    shares_at(set, wish, NOW)
}

fn shares_at(set: &EndpointSet, wish: &Wish<'_>, now: Time) -> Vec<f64> {
    let mut dice = Seeded::new(SEED);
    let mut seen = vec![0_u32; set.len()];
    (0..PICKS).for_each(|_| seen[pick(set, wish, now, &mut dice).unwrap()] += 1);
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
