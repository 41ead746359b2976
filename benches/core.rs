//! What the decisions of the core cost: finding a route, picking an endpoint, paying into the retry budget, deciding a
//! retry, and compiling a configuration.

#![allow(clippy::expect_used, reason = "a bench has nobody to return an error to")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use mesh::core::{
    balance::{Endpoint, EndpointSet, Policy, Security, Tried, pick},
    config::{self, Options, Resource},
    dice::Seeded,
    health::{ClusterState, Limits, OutlierPolicy, States, Verdict},
    registry::{Address, Locality},
    retry::{Attempt, Budget, Ceiling, Outcome, RetryPolicy},
    route::{Decision, Head},
    snapshot::{Compiler, MeshSettings, Snapshot, Viewer, compile},
    time::Time,
};
use std::{collections::BTreeMap, hint::black_box, sync::Arc};

criterion_group!(benches, routes, picks, retries, answers, compilations);
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
        for (name, set) in [("3", set(3, |_| 1)), ("1000", set(1_000, |_| 1)), ("1000 weighted", weighted())]
        {
            let mut dice = Seeded::new(1);
            group.bench_function(BenchmarkId::new(format!("{policy:?}"), name), |bencher| {
                bencher.iter(|| pick(black_box(&set), policy, &Tried::default(), Time::ZERO, &mut dice));
            });
        }
    }
}

fn retries(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("retry");
    let (budget, cluster, limits) = (Arc::new(Budget::default()), Arc::default(), Limits::default());
    group.bench_function("deposit", |bencher| bencher.iter(|| budget.deposit(black_box(Time::ZERO))));
    let ceiling = Ceiling { budget: Some(&budget), cluster: &cluster, limits: &limits };
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
                };
                policy.decide(&attempt, &ceiling, Time::ZERO, Time::MAX, &mut dice)
            });
        });
    }
}

fn answers(criterion: &mut Criterion) {
    let (set, cluster, policy) = (set(10, |_| 1), ClusterState::default(), OutlierPolicy::default());
    criterion.bench_function("outlier/begin and answer", |bencher| {
        bencher.iter(|| {
            let in_flight = set.as_slice()[3].state.begin(black_box(Time::ZERO));
            cluster.on_answer(&in_flight, Verdict::Status(200), &policy, &set, Time::ZERO)
        });
    });
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

fn weighted() -> EndpointSet {
    set(1_000, |index| 1 + index % 7)
}

fn set(endpoints: u32, weight: impl Fn(u32) -> u32) -> EndpointSet {
    let endpoint = |index: u32| Endpoint {
        address: Address::Name("payment".into(), 80),
        labels: Arc::default(),
        locality: Locality::default(),
        weight: weight(index),
        security: Security::Plaintext,
        state: Arc::default(),
    };
    EndpointSet::new((0..endpoints).map(endpoint).collect())
}

fn compiled(resources: &[Arc<Resource>], states: &States) -> Snapshot {
    compile("1", resources, &viewer(), &settings(), states).0
}

fn viewer() -> Viewer {
    Viewer { namespace: "default".to_owned(), service: Some("caller".to_owned()), labels: BTreeMap::new() }
}

fn settings() -> MeshSettings {
    MeshSettings::new("cluster.local".parse().expect("a trust domain"))
}

/// Services with their endpoints, each with a VirtualService of two routes, each in a file of its own.
fn resources(services: u32, endpoints: u32) -> Vec<Arc<Resource>> {
    (0..services).flat_map(|service| load(service, endpoints)).collect()
}

fn load(service: u32, endpoints: u32) -> impl Iterator<Item = Arc<Resource>> {
    let loaded =
        config::load(&format!("{service}.yaml"), &documents(service, endpoints), &Options::default());
    assert_eq!(loaded.resources.len(), 2, "{:?}", loaded.diagnostics);
    loaded.resources.into_iter().map(Arc::new)
}

fn documents(service: u32, endpoints: u32) -> String {
    let (high, low) = (service / 250, service % 250);
    let endpoint = |n| format!("  - {{address: 10.{high}.{low}.{n}, labels: {{version: v1}}}}\n");
    let endpoints: String = (0..endpoints).map(endpoint).collect();
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: service-{service}}}
spec:
  hosts: [service-{service}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints:
{endpoints}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: service-{service}}}
spec:
  hosts: [service-{service}]
  http:
  - match: [{{uri: {{prefix: /admin}}}}]
    route: [{{destination: {{host: service-{service}}}}}]
  - route: [{{destination: {{host: service-{service}}}}}]
"
    )
}
