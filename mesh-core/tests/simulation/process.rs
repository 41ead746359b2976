//! One process of the mesh: what it knows of the configuration, the states beside it, and the gate of its server.

use crate::files::{DENY, Files, InForce, PEER, SERVICES};
use http::{HeaderMap, Method};
use mesh_core::{
    authorize::{self, Request},
    config::{Resource, istio::MtlsMode},
    dice::{Dice as _, Highest, Lowest, Seeded},
    health::{ClusterState, EndpointState, States},
    overload::{Gate, QueueLimits},
    registry::Address,
    retry::Budget,
    route::{Decision, Head},
    snapshot::{Cluster, Compiler, MeshSettings, Snapshot, Viewer, compile},
    time::Time,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

/// How a server fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fine,
    /// Everything takes twenty times as long.
    Slow,
    /// It takes requests and never answers.
    Hangs,
    /// It takes no connections.
    Down,
    /// All of its answers are failures.
    Erring,
    /// Its connections break when the request is handled.
    Resets,
    /// It takes no streams.
    Refuses,
}

/// A configuration, and what is expected of it.
pub(crate) struct Edition {
    pub(crate) number: u64,
    pub(crate) resources: Vec<Arc<Resource>>,
    /// Of each service who serves it, in which version.
    pub(crate) leases: BTreeMap<&'static str, BTreeMap<Address, &'static str>>,
    /// Whether `/admin` is denied.
    pub(crate) is_admin_denied: bool,
    expected: Vec<Arc<Resource>>,
    is_closed: bool,
    is_strict: bool,
}

impl Edition {
    pub(crate) fn of(
        number: u64,
        files: &mut Files,
        leases: BTreeMap<&'static str, BTreeMap<Address, &'static str>>,
    ) -> Self {
        let (resources, expected) = files.read();
        let strict = |it: &InForce| matches!(it, InForce::Text(text) if text.contains("STRICT"));
        Self {
            number,
            resources,
            expected,
            leases,
            is_admin_denied: files.in_force(DENY).is_some(),
            is_closed: files.in_force(DENY) == Some(&InForce::Closed),
            is_strict: files.in_force(PEER).is_some_and(|it| *it == InForce::Closed || strict(it)),
        }
    }
}

/// One process.
pub(crate) struct Process {
    /// Which of the services it is; a caller of the first if it is none.
    pub(crate) tier: Option<usize>,
    pub(crate) address: Address,
    /// Its version while it has a lease.
    pub(crate) lease: Option<&'static str>,
    pub(crate) weather: Weather,
    pub(crate) gate: Gate<(u64, u32)>,
    pub(crate) edition: Arc<Edition>,
    pub(crate) snapshot: Arc<Snapshot>,
    states: States,
    compiler: Compiler,
    /// Until when endpoints that left are ejected, by cluster and address.
    left: BTreeMap<(Arc<str>, Address), Time>,
}

impl Process {
    pub(crate) fn new(tier: Option<usize>, number: u8, edition: &Arc<Edition>) -> Self {
        let mut process = Self {
            tier,
            address: address(tier, number),
            lease: tier.map(|_| if number.is_multiple_of(2) { "v1" } else { "v2" }),
            weather: Weather::Fine,
            gate: Gate::new(queue_limits()),
            edition: Arc::clone(edition),
            snapshot: Arc::new(Snapshot::empty(MtlsMode::Strict)),
            states: States::default(),
            compiler: Compiler::new(viewer(tier)),
            left: BTreeMap::new(),
        };
        process.on_edition(edition, Time::ZERO);
        process
    }

    /// Starts it anew, with nothing that it knew.
    pub(crate) fn restart(&mut self, now: Time) {
        (self.states, self.compiler) = (States::default(), Compiler::new(viewer(self.tier)));
        (self.gate, self.left) = (Gate::new(queue_limits()), BTreeMap::new());
        self.snapshot = Arc::new(Snapshot::empty(MtlsMode::Strict));
        self.on_edition(&Arc::clone(&self.edition), now);
    }

    /// Takes a configuration, and checks what a reload must leave alone.
    pub(crate) fn on_edition(&mut self, edition: &Arc<Edition>, now: Time) {
        let before = Arc::clone(&self.snapshot);
        let version = edition.number.to_string();
        let (after, _) = self.compiler.compile(&version, &edition.resources, &settings(), &self.states);
        self.check_kept(&before, &after, now);
        (self.snapshot, self.edition) = (Arc::new(after), Arc::clone(edition));
        drop(before);
        self.states.sweep(now);
        self.check_security();
    }

    /// What is in force is what was compiled of the last good version of each object, and nothing else.
    pub(crate) fn check_compiled(&self) {
        let edition = &*self.edition;
        let (viewer, states) = (viewer(self.tier), States::default());
        let (expected, _) = compile("", &edition.expected, &viewer, &settings(), &states);
        assert_eq!(shown(&self.snapshot), shown(&expected), "what is in force and what should be");
        if !edition.is_closed {
            let inbound = |snapshot: &Snapshot| format!("{:?}", snapshot.inbound().authorizer);
            assert_eq!(inbound(&self.snapshot), inbound(&expected));
        }
    }

    fn check_security(&self) {
        let edition = &*self.edition;
        assert!(!(edition.is_admin_denied && self.admits("/admin")), "/admin is denied and let through");
        assert!(!(edition.is_closed && self.admits("/")), "a DENY that cannot be read denies everything");
        let mode = self.snapshot.inbound().mode(80);
        assert_eq!(mode == MtlsMode::Strict, edition.is_strict, "mutual TLS is {mode:?}");
    }

    /// Returns whether policy lets a GET of `path` in.
    pub(crate) fn admits(&self, path: &str) -> bool {
        let request = Request {
            peer: None,
            source: None,
            remote: None,
            destination: None,
            port: 80,
            sni: None,
            method: &Method::GET,
            host: "",
            path,
            headers: &HeaderMap::new(),
            claims: None,
        };
        matches!(self.snapshot.inbound().authorizer.decide(&request), authorize::Decision::Allowed(_))
    }

    /// A reload resets no state: what was there is the same object, and who left while ejected comes back ejected.
    fn check_kept(&mut self, before: &Snapshot, after: &Snapshot, now: Time) {
        let (before, after) = (by_name(before), by_name(after));
        for (name, old) in &before {
            let Some(new) = after.get(name) else { continue };
            assert!(Arc::ptr_eq(&old.state, &new.state), "the limits of {name} were reset");
            assert!(Arc::ptr_eq(&old.budget, &new.budget), "the retry budget of {name} was reset");
            let new = states_of(new);
            for (address, old) in states_of(old) {
                match new.get(&address) {
                    Some(new) => assert!(Arc::ptr_eq(&old, new), "{address} in {name} was reset"),
                    None => {
                        let until = old.ejected_until(now).unwrap_or(Time::ZERO);
                        self.left.insert((Arc::clone(name), address), until);
                    }
                }
            }
        }
        for (name, new) in &after {
            for (address, state) in states_of(new) {
                if let Some(until) = self.left.remove(&(Arc::clone(name), address.clone())) {
                    assert!(until <= now || state.is_ejected(now), "{address} in {name} was laundered");
                }
            }
        }
    }

    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.snapshot.clusters()
    }

    /// A request in flight holds the only state there is for its cluster, its budget and its endpoint.
    pub(crate) fn check_only_one(
        &self,
        cluster: &Cluster,
        (state, budget): (&Arc<ClusterState>, &Arc<Budget>),
        endpoint: Option<(&Address, &Arc<EndpointState>)>,
    ) {
        assert!(Arc::ptr_eq(state, &self.states.cluster(&cluster.name)), "{} twice", cluster.name);
        assert!(
            Arc::ptr_eq(budget, &self.states.budget(&cluster.host)),
            "the budget of {} twice",
            cluster.host
        );
        if let Some((address, state)) = endpoint {
            let known = self.states.endpoint(&cluster.name, address);
            assert!(Arc::ptr_eq(state, &known), "{address} in {} twice", cluster.name);
        }
    }
}

fn by_name(snapshot: &Snapshot) -> BTreeMap<Arc<str>, Arc<Cluster>> {
    snapshot.clusters().map(|cluster| (Arc::clone(&cluster.name), Arc::clone(cluster))).collect()
}

fn states_of(cluster: &Cluster) -> BTreeMap<Address, Arc<EndpointState>> {
    let endpoints = cluster.endpoints.as_slice().iter();
    endpoints.map(|it| (it.address.clone(), Arc::clone(&it.state))).collect()
}

/// Everything a call can see of `snapshot`.
fn shown(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for service in SERVICES {
        for path in ["/", "/second"] {
            let decisions = [
                snapshot.route(&head(service, path, &HeaderMap::new()), &mut Lowest),
                snapshot.route(&head(service, path, &HeaderMap::new()), &mut Highest),
            ];
            for decision in decisions {
                let Decision::Forward { route, forward, target, .. } = decision else {
                    let _ = writeln!(text, "{service}{path}: {decision:?}");
                    continue;
                };
                let _ = writeln!(text, "{}: {:?} {:?}", route.name, forward.timeout, forward.retry);
                let Some(cluster) = target.cluster.map(|id| snapshot.cluster(id)) else { continue };
                let endpoints: BTreeSet<_> = cluster
                    .endpoints
                    .as_slice()
                    .iter()
                    .map(|it| format!("{} {:?}", it.address, it.security))
                    .collect();
                let Cluster { name, limits, outlier, warm_up, retry_budget, .. } = &**cluster;
                let policy = cluster.endpoints.policy();
                let _ = writeln!(
                    text,
                    "  {name} {endpoints:?} {policy:?} {limits:?} {outlier:?} {warm_up:?} {:?}",
                    retry_budget.as_ref().map(|budget| (budget.percent, budget.retries_min))
                );
            }
        }
    }
    text
}

/// Returns a GET of `path` of `service`.
pub(crate) fn head<'a>(service: &'a str, path: &'a str, headers: &'a HeaderMap) -> Head<'a> {
    Head { method: &Method::GET, scheme: "http", authority: service, path_and_query: path, headers }
}

/// Returns where process `number` of a tier is.
pub(crate) fn address(tier: Option<usize>, number: u8) -> Address {
    let network = tier.and_then(|tier| u8::try_from(tier).ok()).unwrap_or(u8::MAX);
    Address::Ip(([10, 0, network, number], 80).into())
}

/// How many requests a server runs at one time.
pub(crate) const RUNNING_MAX: u32 = 3;

fn queue_limits() -> QueueLimits {
    let mut limits = QueueLimits::default();
    (limits.waiting_max, limits.wait_max) = (2, Duration::from_millis(20));
    limits
}

fn viewer(tier: Option<usize>) -> Viewer {
    let app = tier.map_or("front", |tier| SERVICES[tier]);
    let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    Viewer { namespace: "default".to_owned(), service: Some(app.to_owned()), labels }
}

fn settings() -> MeshSettings {
    MeshSettings::new("cluster.local".parse().unwrap_or_else(|_| unreachable!("it is a trust domain")))
}

/// Draws the weather.
pub(crate) fn some_weather(dice: &mut Seeded) -> Weather {
    match dice.below(14) {
        0 => Weather::Slow,
        1 => Weather::Hangs,
        2 | 3 => Weather::Down,
        4 | 5 => Weather::Erring,
        6 => Weather::Resets,
        7 => Weather::Refuses,
        _ => Weather::Fine,
    }
}
