//! What the decisions of the core cost: finding a route, picking an endpoint, paying into the retry budget, deciding a
//! retry, taking a place, and compiling a configuration.

#![allow(clippy::expect_used, reason = "a bench has nobody to return an error to")]

#[path = "support/many.rs"]
mod many;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use many::{compiled, load, resources, settings, viewer};
use mesh::core::{
    balance::{
        Endpoint, EndpointSet, Failover, LocalityPolicy, Nearness, Policy, Security, SetPolicy, TableSize,
        WarmUp, Wish, pick,
    },
    dice::Seeded,
    health::{ClusterState, Limits, OutlierPolicy, States, Verdict},
    overload::{AdaptiveLimit, Entry, Gate, Gradient, QueueLimits, RateLimit, TokenBucket},
    registry::{Address, Locality},
    retry::{Attempt, Budget, Ceiling, Outcome, PushBack, RetryPolicy},
    route::{Decision, Head},
    snapshot::Compiler,
    time::Time,
};
use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

criterion_group!(benches, routes, picks, shared_picks, retries, answers, overload, compilations);
criterion_main!(benches);

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for services in [10, 10_000] {
        let snapshot = compiled(&resources(services, 2), &States::default());
        let authority = format!("service-{}", services / 2);
        let headers = HeaderMap::new();
        let head = Head {
            method: &Method::GET,
            scheme: "http",
            authority: &authority,
            path_and_query: "/api/charge?id=7",
            headers: &headers,
        };
        let mut dice = Seeded::new(1);
        assert!(matches!(snapshot.route(&head, &mut dice), Decision::Forward { .. }));
        group.bench_function(BenchmarkId::new("hosts", services), |bencher| {
            bencher.iter(|| black_box(snapshot.route(black_box(&head), &mut dice)));
        });
    }
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for policy in [Policy::LeastRequest, Policy::RoundRobin, Policy::Random] {
        for (name, endpoints) in [("3", 3), ("1000", 1_000)] {
            let set = set(policy, endpoints, |_| 1);
            group.bench_function(BenchmarkId::new(format!("{policy:?}"), name), |bencher| {
                bencher.iter(picking(&set));
            });
        }
        let set = set(policy, 1_000, |index| 1 + index % 7);
        group.bench_function(BenchmarkId::new(format!("{policy:?}"), "1000 weighted"), |bencher| {
            bencher.iter(picking(&set));
        });
    }
    for (name, policy) in [
        ("RingHash", Policy::RingHash { minimum_size: 1_024 }),
        ("Maglev", Policy::Maglev { table_size: TableSize::DEFAULT }),
        ("PeakEwma", Policy::PeakEwma),
    ] {
        for endpoints in [3, 100, 10_000] {
            let set = set(policy, endpoints, |_| 1);
            group.bench_function(BenchmarkId::new(name, endpoints), |bencher| bencher.iter(picking(&set)));
        }
    }
    for endpoints in [3, 100, 10_000] {
        let (set, warming) = (near_and_far(endpoints), warming(endpoints));
        group.bench_function(BenchmarkId::new("priorities", endpoints), |bencher| {
            bencher.iter(picking(&set));
        });
        group.bench_function(BenchmarkId::new("warming up", endpoints), |bencher| {
            bencher.iter(picking(&warming));
        });
    }
}

/// The same with a second thread that picks from the same set all the time.
fn shared_picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick beside another thread");
    for policy in [Policy::LeastRequest, Policy::RoundRobin, Policy::RingHash { minimum_size: 1_024 }] {
        for endpoints in [3, 100, 10_000] {
            let set = set(policy, endpoints, |_| 1);
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut pick = picking(&set);
                    while !done.load(Ordering::Relaxed) {
                        black_box(pick());
                    }
                });
                let id = BenchmarkId::new(format!("{policy:?}"), endpoints);
                group.bench_function(id, |bencher| bencher.iter(picking(&set)));
                done.store(true, Ordering::Relaxed);
            });
        }
    }
}

/// Each time with another hash, a little later.
fn picking(set: &EndpointSet) -> impl FnMut() -> Option<usize> {
    let mut dice = Seeded::new(1);
    let (mut hash, mut nanos) = (0_u64, 1_000_000_000);
    move || {
        hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
        nanos += 1_000;
        let wish = Wish { hash: Some(hash), ..Wish::default() };
        pick(black_box(set), &wish, Time::from_nanos(nanos), &mut dice)
    }
}

fn retries(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("retry");
    let (budget, cluster, limits) = (Arc::new(Budget::default()), Arc::default(), Limits::default());
    group.bench_function("deposit", |bencher| bencher.iter(|| budget.deposit(black_box(Time::ZERO))));
    let ceiling = Ceiling { budget: Some(&budget), written: None, cluster: &cluster, limits: &limits };
    let policy = RetryPolicy::default();
    let mut dice = Seeded::new(1);
    for (name, outcome) in [("success", success()), ("connect failure", Outcome::ConnectFailure)] {
        group.bench_function(BenchmarkId::new("decide", name), |bencher| {
            bencher.iter(|| {
                let attempt = Attempt {
                    outcome: black_box(&outcome),
                    method: &Method::GET,
                    retries: 0,
                    replayable: true,
                    push_back: PushBack::None,
                };
                policy.decide(&attempt, &ceiling, Time::ZERO, Time::MAX, &mut dice)
            });
        });
    }
}

fn answers(criterion: &mut Criterion) {
    let set = EndpointSet::new(endpoints(10, |_| 1));
    let (cluster, policy) = (ClusterState::default(), OutlierPolicy::default());
    criterion.bench_function("outlier/begin and answer", |bencher| {
        bencher.iter(|| {
            let in_flight = set.as_slice()[3].state.begin(black_box(Time::ZERO));
            cluster.on_answer(&in_flight, Verdict::Status(200), &policy, &set, Time::ZERO)
        });
    });
}

fn overload(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("overload");
    let gate = Gate::<()>::new(QueueLimits::default());
    group.bench_function("enter and leave", |bencher| {
        bencher.iter(|| {
            assert_eq!(gate.enter(black_box(8), Time::ZERO, Time::MAX, || ()), Entry::Admitted);
            gate.leave(black_box(Duration::from_millis(1)), true);
            gate.admit_next(8, Time::ZERO)
        });
    });
    let gradient = Gradient::new(AdaptiveLimit::default(), Time::ZERO);
    let mut dice = Seeded::new(1);
    group.bench_function("measure", |bencher| {
        bencher.iter(|| gradient.on_answer(black_box(Time::ZERO), Time::from_nanos(1), true, 3, &mut dice));
    });
    if let Ok(limit) = RateLimit::per_second(u32::MAX) {
        let bucket = TokenBucket::new(limit, Time::ZERO);
        group.bench_function("take a token", |bencher| bencher.iter(|| bucket.take(black_box(Time::ZERO))));
    }
}

fn compilations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    let (resources, states) = (resources(10_000, 10), States::default());
    let _held = compiled(&resources, &states);
    group.bench_function("10000 services of 10 endpoints, again", |bencher| {
        bencher.iter(|| compiled(&resources, &states));
    });
    let mut compiler = Compiler::new(viewer());
    let mut resources = resources;
    resources.sort_by(|a, b| a.key.cmp(&b.key));
    let settings = settings();
    let _held = compiler.compile("1", &resources, &settings, &states).0;
    // One endpoint of one service moves, to and fro.
    let place = resources.iter().position(|it| &*it.key.kind == "ServiceEntry").expect("a service");
    let number =
        resources[place].key.name.strip_prefix("service-").expect("its number").parse().expect("a number");
    let editions = [9, 10].map(|endpoints| load(number, endpoints).next().expect("a service"));
    let mut edition = 0;
    group.sample_size(100).bench_function("one service of 10000 changes", |bencher| {
        bencher.iter(|| {
            edition = 1 - edition;
            resources[place] = Arc::clone(&editions[edition]);
            compiler.compile("2", &resources, &settings, &states).0
        });
    });
}

fn success() -> Outcome {
    Outcome::Answer {
        status: http::StatusCode::OK,
        grpc: None,
        ratelimited: false,
        provenance: mesh::core::retry::Provenance::NONE,
    }
}

/// One in three in the caller's own region.
fn near_and_far(count: u32) -> EndpointSet {
    let mut endpoints = endpoints(count, |_| 1);
    for (index, endpoint) in endpoints.iter_mut().enumerate() {
        endpoint.locality = Locality::parse(["near", "far", "farther"][index % 3]);
    }
    let regions = vec![("near".to_owned(), "far".to_owned())];
    let policy = LocalityPolicy::Failover(Failover { regions, labels: Vec::new() });
    let nearness = Nearness { locality: &Locality::parse("near"), labels: &BTreeMap::new(), policy: &policy };
    EndpointSet::build(endpoints, &SetPolicy { nearness: Some(nearness), ..SetPolicy::default() })
}

fn warming(count: u32) -> EndpointSet {
    let warm_up = Some(WarmUp::new(Duration::from_secs(3_600)));
    EndpointSet::build(endpoints(count, |_| 1), &SetPolicy { warm_up, ..SetPolicy::default() })
}

fn set(policy: Policy, count: u32, weight: impl Fn(u32) -> u32) -> EndpointSet {
    EndpointSet::build(endpoints(count, weight), &SetPolicy { policy, ..SetPolicy::default() })
}

fn endpoints(count: u32, weight: impl Fn(u32) -> u32) -> Vec<Endpoint> {
    let endpoint = |index: u32| Endpoint {
        address: Address::new(&format!("10.{}.{}.1", index / 250, index % 250), 80),
        labels: Arc::default(),
        locality: Locality::default(),
        weight: weight(index),
        security: Security::Plaintext,
        state: Arc::default(),
    };
    (0..count).map(endpoint).collect()
}
