use super::*;
use crate::{
    balance::{
        EndpointSet, Failover, LocalityPolicy, Nearness, Security, SetPolicy, TableSize, WarmUp, Wish, pick,
        set::Order,
    },
    dice::{Dice, Highest, Lowest, Seeded},
    health::{ClusterState, EndpointState, OutlierPolicy, Verdict},
    registry::{Address, Locality},
};
use std::{collections::BTreeMap, sync::Arc};

const EVERY: [Policy; 6] = [
    Policy::LeastRequest,
    Policy::RoundRobin,
    Policy::Random,
    Policy::PeakEwma,
    Policy::RingHash { minimum_size: 1_024 },
    Policy::Maglev { table_size: TableSize::DEFAULT },
];

/// How many of 100 are healthy in each priority, and the load of each.
// spec: envoy intro/arch_overview/upstream/load_balancing/priority
#[test]
fn load_spills_over_as_under_envoy() {
    for (healthy, expected) in [
        (&[100, 100][..], &[100, 0][..]),
        (&[72, 72], &[100, 0]),
        (&[71, 71], &[99, 1]),
        (&[50, 50], &[70, 30]),
        (&[25, 100], &[35, 65]),
        (&[25, 25], &[50, 50]),
        (&[0, 100], &[0, 100]),
        (&[100, 100, 100], &[100, 0, 0]),
        (&[72, 100, 100], &[100, 0, 0]),
        (&[71, 100, 100], &[99, 1, 0]),
        (&[50, 50, 100], &[70, 30, 0]),
        (&[25, 100, 100], &[35, 65, 0]),
        (&[25, 25, 100], &[35, 35, 30]),
        (&[25, 25, 20], &[37, 35, 28]),
        (&[0, 0, 25], &[0, 0, 100]),
    ] {
        let world = World::new(&vec![100; healthy.len()], Policy::RoundRobin, 0);
        world.leave_healthy(healthy);
        assert_eq!(world.loads(NONE_LEFT), expected, "{healthy:?}");
    }
}

/// Against the plain way: shares one after the other, the rest to the first that has any.
#[test]
fn load_is_split_as_a_slow_model_splits_it() {
    for seed in 0..300 {
        let mut dice = Seeded::new(seed);
        let sizes: Vec<_> = (0..2 + dice.below(4)).map(|_| 1 + dice.below(12) as u32).collect();
        let healthy: Vec<_> = sizes.iter().map(|&size| dice.below(u64::from(size) + 1) as u32).collect();
        let minimum = [0, 50, 90][seed as usize % 3];
        let world = World::new(&sizes, Policy::RoundRobin, minimum);
        world.leave_healthy(&healthy);
        let expected = model(&sizes, &healthy, minimum.into());
        assert_eq!(world.loads(NONE_LEFT), expected, "seed {seed}: {healthy:?} of {sizes:?}, {minimum} %");
    }
}

#[test]
fn every_policy_sends_to_the_first_priority_while_it_is_healthy() {
    for policy in EVERY {
        let world = World::new(&[3, 3], policy, 0);
        assert_shares(&world.shares(&Wish::default()), &[1.0, 0.0], policy);
        // Two thirds are not quite enough: 93 % of the load.
        world.eject(0, 1);
        world.later();
        assert_shares(&world.shares(&Wish::default()), &[0.93, 0.07], policy);
    }
}

#[test]
fn the_last_of_a_priority_is_missed_at_once() {
    for policy in EVERY {
        let world = World::new(&[1, 1], policy, 0);
        assert_shares(&world.shares(&Wish::default()), &[1.0, 0.0], policy);
        world.eject(0, 1);
        // No time has passed since the healthy were counted.
        assert_shares(&world.shares(&Wish::default()), &[0.0, 1.0], policy);
    }
}

#[test]
fn without_anybody_healthy_nobody_is_picked_unless_there_is_a_panic() {
    for policy in EVERY {
        for (minimum, expected) in [(0, false), (1, true)] {
            let world = World::new(&[2, 2], policy, minimum);
            world.eject(0, 2);
            world.eject(1, 2);
            let picked = pick(&world.set, &Wish::default(), world.now(), &mut Seeded::new(1));
            assert_eq!(picked.is_some(), expected, "{policy:?}");
        }
    }
}

/// All in panic: by size.
#[test]
fn where_every_priority_panics_each_gets_as_much_as_it_has_endpoints() {
    let world = World::new(&[6, 2], Policy::RoundRobin, 50);
    world.eject(0, 5);
    world.eject(1, 2);
    assert_eq!(world.loads(NONE_LEFT), [75, 25]);
    let shares = world.per_endpoint(&Wish::default());
    assert!(shares.iter().all(|share| (share - 0.125).abs() < 0.01), "{shares:?}");
}

#[test]
fn one_priority_panics_only_if_together_they_are_too_few() {
    let world = World::new(&[10, 10], Policy::RoundRobin, 50);
    world.eject(0, 8);
    // 28 % and 100 %: enough.
    assert_eq!(world.per_endpoint(&Wish::default())[..8], [0.0; 8]);
    world.eject(1, 5);
    world.later();
    // 28 % and 70 %: the first panics, the second is just above.
    let shares = world.per_endpoint(&Wish::default());
    assert!(shares[..10].iter().all(|share| (share - 0.0286).abs() < 0.01), "{shares:?}");
    assert_eq!(shares[10..15], [0.0; 5]);
}

#[test]
fn a_retry_leaves_priorities_behind_after_every_second_attempt() {
    let world = World::new(&[2, 2, 2], Policy::RoundRobin, 0);
    for (attempts, expected) in [
        (&[][..], &[100, 0, 0][..]),
        (&[0], &[100, 0, 0]),
        (&[0, 1], &[0, 100, 0]),
        (&[0, 1, 2], &[0, 100, 0]),
        (&[0, 1, 2, 3], &[0, 0, 100]),
        (&[0, 2], &[0, 0, 100]),
        // All are left: it starts over, and with the next two attempts again.
        (&[0, 1, 2, 3, 4, 5], &[100, 0, 0]),
        (&[0, 1, 2, 3, 4, 5, 0], &[100, 0, 0]),
        (&[0, 1, 2, 3, 4, 5, 0, 1], &[0, 100, 0]),
    ] {
        let mut tried = Tried::default();
        attempts.iter().for_each(|&index| tried.on_attempt(index));
        assert_eq!(world.loads(world.priorities().left_behind(&tried)), expected, "{attempts:?}");
        let wish = Wish { leave: Some(&tried), ..Wish::default() };
        let shares: Vec<_> = expected.iter().map(|&percent| f64::from(percent) / 100.0).collect();
        assert_shares(&world.shares(&wish), &shares, Policy::RoundRobin);
    }
}

#[test]
fn a_hash_leaves_no_priority_behind() {
    for policy in &EVERY[4..] {
        let world = World::new(&[2, 2], *policy, 0);
        let mut tried = Tried::default();
        (0..2).for_each(|index| tried.on_attempt(index));
        assert_shares(&world.shares(&Wish { leave: Some(&tried), ..Wish::default() }), &[1.0, 0.0], *policy);
    }
}

#[test]
fn a_hash_stays_in_its_priority_and_moves_only_with_the_load() {
    for policy in &EVERY[4..] {
        let world = World::new(&[4, 4], *policy, 0);
        world.eject(0, 2);
        let mut moved = 0;
        for number in 0..2_000 {
            let wish = Wish { hash: Some(Seeded::new(number).roll()), ..Wish::default() };
            let picks =
                [1, 2].map(|seed| pick(&world.set, &wish, world.now(), &mut Seeded::new(seed)).unwrap());
            assert_eq!(picks[0], picks[1], "{policy:?}");
            moved += u32::from(picks[0] >= 4);
        }
        assert!((540..660).contains(&moved), "{policy:?}: {moved} of 2000, 30 % are due");
    }
}

#[test]
fn parts_share_a_priority_by_weight_and_health() {
    for policy in [Policy::LeastRequest, Policy::RoundRobin, Policy::Random] {
        let world = World::in_parts(&[(4, 30), (4, 10)], policy, 0);
        let shares = |world: &World| {
            let all = world.per_endpoint(&Wish::default());
            [all[..4].iter().sum::<f64>(), all[4..].iter().sum()]
        };
        assert_shares(&shares(&world), &[0.75, 0.25], policy);
        // 3 of 4 with 40 % to spare are enough; 2 are not.
        world.eject_some(&[0]);
        world.later();
        assert_shares(&shares(&world), &[0.75, 0.25], policy);
        world.eject_some(&[1]);
        world.later();
        assert_shares(&shares(&world), &[21.0 / 31.0, 10.0 / 31.0], policy);
        world.eject_some(&[2, 3]);
        world.later();
        assert_shares(&shares(&world), &[0.0, 1.0], policy);
    }
}

#[test]
fn parts_take_turns_evenly() {
    let world = World::in_parts(&[(1, 30), (1, 10)], Policy::RoundRobin, 0);
    let (mut seen, mut dice) = (0_u32, Seeded::new(1));
    for picks in 1..=1_000_u32 {
        seen += u32::from(pick(&world.set, &Wish::default(), world.now(), &mut dice) == Some(1));
        assert!((f64::from(seen) - f64::from(picks) / 4.0).abs() < 3.0, "{seen} of {picks}");
    }
}

/// What Envoy's tests expect of localities of weight 8 and 2, whatever the weights of their hosts.
// spec: envoy test/extensions/load_balancing_policies/maglev/maglev_lb_test.cc LocalityWeightedDifferentLocalityWeights
#[test]
fn a_table_gives_every_part_its_share() {
    let policy = Policy::Maglev { table_size: TableSize::new(17).unwrap() };
    let mut endpoints = endpoints(2);
    endpoints[0].address = Address::Ip(([127, 0, 0, 1], 90).into());
    endpoints[1].address = Address::Ip(([127, 0, 0, 1], 91).into());
    endpoints[1].weight = 2;
    let parts = vec![Part { members: vec![0], weight: 8 }, Part { members: vec![1], weight: 2 }];
    let priorities = Priorities::new(&endpoints, vec![parts], policy);
    let group = priorities.choose(1, NONE_LEFT, 0).unwrap().group;
    let owners: Vec<_> = group.owners(0, 0).collect();
    assert_eq!(owners, [1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_priority_beyond_the_sixty_fourth_is_never_left_behind() {
    let world = World::new(&[1; 70], Policy::RoundRobin, 0);
    let mut tried = Tried::default();
    [69, 69].iter().for_each(|&index| tried.on_attempt(index));
    assert_eq!(world.priorities().left_behind(&tried), NONE_LEFT);
}

#[test]
fn the_healthy_are_counted_every_ten_milliseconds() {
    let world = World::new(&[2, 2], Policy::RoundRobin, 0);
    let health = || world.priorities().priorities[0].health();
    let count_at =
        |ms| world.priorities().count_if_due(world.set.as_slice(), NOW + Duration::from_millis(ms));
    count_at(0);
    world.eject(0, 1);
    count_at(9);
    assert_eq!(health(), 100);
    count_at(10);
    assert_eq!(health(), 70);
}

#[test]
fn a_set_says_the_priority_of_its_endpoints() {
    let set = World::new(&[2, 1], Policy::RoundRobin, 0).set;
    assert_eq!([0, 1, 2].map(|index| set.priority(index)), [0, 0, 1]);
    assert_eq!(EndpointSet::new(endpoints(2)).priority(1), 0);
}

/// Endpoints that are near, and far ones that take over.
#[test]
fn a_set_is_built_of_places_and_warms_up_within_a_priority() {
    let mut endpoints = endpoints(4);
    let places = ["r1", "r2", "r1", "r3"];
    endpoints.iter_mut().zip(places).for_each(|(it, place)| it.locality = Locality::parse(place));
    let labels = BTreeMap::new();
    let regions = vec![("r1".to_owned(), "r3".to_owned())];
    let policy = LocalityPolicy::Failover(Failover { regions, labels: Vec::new() });
    let nearness = Nearness { locality: &Locality::parse("r1"), labels: &labels, policy: &policy };
    let policy = SetPolicy {
        policy: Policy::RoundRobin,
        warm_up: Some(WarmUp::new(Duration::from_secs(60))),
        nearness: Some(nearness),
        ..SetPolicy::default()
    };
    endpoints[0].state.on_join(NOW - Duration::from_secs(100));
    let set = EndpointSet::build(endpoints, &policy);
    assert_eq!([0, 1, 2, 3].map(|index| set.priority(index)), [0, 2, 0, 1]);
    let shares = per_endpoint(&set, &Wish::default(), NOW + Duration::from_millis(1));
    assert!((shares[0] - 10.0 / 11.0).abs() < 0.02 && shares[1] == 0.0 && shares[3] == 0.0, "{shares:?}");
}

#[test]
fn dice_at_either_end_find_a_priority() {
    for policy in EVERY {
        let world = World::new(&[1, 2, 3], policy, 0);
        assert!(pick(&world.set, &Wish::default(), NOW, &mut Lowest).is_some());
        assert!(pick(&world.set, &Wish::default(), NOW, &mut Highest).is_some());
    }
}

const NOW: Time = Time::from_nanos(1_000_000_000_000);
const PICKS: u32 = 20_000;

/// Priorities of these sizes, endpoint after endpoint.
struct World {
    set: EndpointSet,
    first: Vec<usize>,
    later: std::cell::Cell<u32>,
}

impl World {
    fn new(sizes: &[u32], policy: Policy, min_health_percent: u8) -> Self {
        let ends: Vec<u32> = sizes
            .iter()
            .scan(0, |end, size| {
                *end += size;
                Some(*end)
            })
            .collect();
        let part =
            |(&end, &size): (&u32, &u32)| vec![Part { members: (end - size..end).collect(), weight: size }];
        Self::of(ends.iter().zip(sizes).map(part).collect(), policy, min_health_percent)
    }

    /// One priority of these sizes and weights of parts.
    fn in_parts(parts: &[(u32, u32)], policy: Policy, min_health_percent: u8) -> Self {
        let mut end = 0;
        let part = |&(size, weight): &(u32, u32)| {
            end += size;
            Part { members: (end - size..end).collect(), weight }
        };
        Self::of(vec![parts.iter().map(part).collect()], policy, min_health_percent)
    }

    fn of(arranged: Vec<Vec<Part>>, policy: Policy, min_health_percent: u8) -> Self {
        let first = arranged.iter().map(|parts| parts[0].members[0] as usize).collect();
        let size = arranged.iter().flatten().map(|part| part.members.len()).sum();
        let policy = SetPolicy { policy, min_health_percent, ..SetPolicy::default() };
        let set = EndpointSet::arranged(endpoints(size), &policy, arranged);
        Self { set, first, later: Default::default() }
    }

    fn priorities(&self) -> &Priorities {
        let Order::Priorities(priorities) = self.set.order() else { panic!("no priorities") };
        priorities
    }

    fn now(&self) -> Time {
        NOW + self.later.get() * COUNT_INTERVAL
    }

    fn later(&self) {
        self.later.set(self.later.get() + 1);
    }

    /// Ejects the first `count` of a priority.
    fn eject(&self, priority: usize, count: usize) {
        let first = self.first[priority];
        self.eject_some(&(first..first + count).collect::<Vec<_>>());
    }

    fn eject_some(&self, indices: &[usize]) {
        let policy =
            OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierPolicy::default() };
        let start = self.now() - Duration::from_millis(1);
        for &index in indices {
            let state = &self.set.as_slice()[index].state;
            let request = state.begin(start);
            ClusterState::default().on_answer(&request, Verdict::Status(500), &policy, &self.set, start);
            assert!(state.is_ejected(self.now()));
        }
    }

    fn leave_healthy(&self, healthy: &[u32]) {
        for (priority, &healthy) in healthy.iter().enumerate() {
            let size = self.priorities().priorities[priority].size;
            self.eject(priority, (size - healthy) as usize);
        }
        self.priorities().count(self.set.as_slice(), self.now());
    }

    /// How many of the points from 1 to 100 belong to each priority.
    fn loads(&self, left: u64) -> Vec<u32> {
        self.priorities().count(self.set.as_slice(), self.now());
        let mut loads = vec![0; self.first.len()];
        for point in 1..=100 {
            if let Some(choice) = self.priorities().choose(point, left, self.set.min_health_percent()) {
                loads[self.set.priority(choice.group.members().next().unwrap()) as usize] += 1;
            }
        }
        loads
    }

    /// The share of each priority.
    fn shares(&self, wish: &Wish<'_>) -> Vec<f64> {
        let mut shares = vec![0.0; self.first.len()];
        for (index, share) in self.per_endpoint(wish).into_iter().enumerate() {
            shares[self.set.priority(index) as usize] += share;
        }
        shares
    }

    fn per_endpoint(&self, wish: &Wish<'_>) -> Vec<f64> {
        per_endpoint(&self.set, wish, self.now())
    }
}

fn per_endpoint(set: &EndpointSet, wish: &Wish<'_>, now: Time) -> Vec<f64> {
    let (mut seen, mut dice) = (vec![0_u32; set.len()], Seeded::new(42));
    (0..PICKS).for_each(|_| seen[pick(set, wish, now, &mut dice).unwrap()] += 1);
    seen.into_iter().map(|count| f64::from(count) / f64::from(PICKS)).collect()
}

fn assert_shares(shares: &[f64], expected: &[f64], policy: Policy) {
    for (share, expected) in shares.iter().zip(expected) {
        // Five standard deviations of 20,000 draws are below 1.8 per cent.
        assert!((share - expected).abs() < 0.018, "{policy:?}: {shares:?}");
    }
}

fn endpoints(count: usize) -> Vec<Endpoint> {
    let endpoint = |index: usize| Endpoint {
        address: Address::Ip(([10, 0, 0, 1], 1_000 + index as u16).into()),
        labels: Arc::default(),
        locality: Locality::default(),
        weight: 1,
        security: Security::Plaintext,
        state: Arc::new(EndpointState::default()),
    };
    (0..count).map(endpoint).collect()
}

// spec: envoy source/extensions/load_balancing_policies/common/load_balancer_impl.cc recalculatePerPriorityState
fn model(sizes: &[u32], healthy: &[u32], minimum: u32) -> Vec<u32> {
    let health: Vec<_> =
        healthy.iter().zip(sizes).map(|(healthy, size)| (140 * healthy / size).min(100)).collect();
    let total = health.iter().sum::<u32>().min(100);
    let panics = |(healthy, size): (&u32, &u32)| total < 100 && 100 * healthy < minimum * size;
    let weights = match healthy.iter().zip(sizes).all(panics) {
        true => sizes.iter().map(|size| 100 * size / sizes.iter().sum::<u32>()).collect(),
        false if total == 0 => return vec![0; sizes.len()],
        false => health.iter().map(|health| health * 100 / total).collect::<Vec<_>>(),
    };
    let mut rest = 100;
    let mut loads: Vec<_> = weights
        .iter()
        .map(|&weight| {
            let load = weight.min(rest);
            rest -= load;
            load
        })
        .collect();
    *loads.iter_mut().zip(&weights).find(|(_, weight)| **weight > 0).unwrap().0 += rest;
    loads
}
