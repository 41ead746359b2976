use super::*;
use mesh_core::{config::istio::MtlsMode, snapshot::Snapshot};

#[tokio::test(start_paused = true)]
async fn callers_are_told_apart_by_how_they_come_and_who_or_where_they_are() {
    let callers = recording();
    let [here, there] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
    for (evidence, address, port) in [
        (Evidence::Plaintext, here, 80),
        (Evidence::Plaintext, here, 80),
        (Evidence::Plaintext, "::ffff:10.0.0.1".parse().unwrap(), 80),
        (Evidence::Plaintext, there, 80),
        (Evidence::Plaintext, here, 81),
        (Evidence::Anonymous, here, 80),
        (svid(1), here, 80),
        (svid(1), there, 80),
    ] {
        callers.on_connection(&evidence, address, port).on_request(get("/"));
    }
    callers.on_refused(&Evidence::Plaintext, there, 80);
    tokio::time::advance(Duration::from_secs(7)).await;
    let report = callers.report();
    let shown: Vec<_> = report
        .callers
        .iter()
        .map(|it| {
            let who = it.identity.as_deref().or(it.address.as_deref()).unwrap();
            (it.by, who, it.port, it.connections, it.requests, it.refused)
        })
        .collect();
    assert_eq!(
        shown,
        [
            (CallsBy::Plaintext, "10.0.0.1", 80, 3, 3, 0),
            (CallsBy::Plaintext, "10.0.0.1", 81, 1, 1, 0),
            (CallsBy::Plaintext, "10.0.0.2", 80, 1, 1, 1),
            (CallsBy::Anonymous, "10.0.0.1", 80, 1, 1, 0),
            (CallsBy::MutualTls, "spiffe://a/ns/x/sa/1", 80, 2, 2, 0),
        ]
    );
    assert_eq!((report.recorded_seconds, report.callers[0].last_seen_seconds), (7, 7));
}

/// Invariant 11: a stranger costs a fixed room, whatever it sends.
#[tokio::test(start_paused = true)]
async fn beyond_the_bounds_there_are_sums_and_strangers_take_no_place_of_those_who_are_known() {
    let callers = recording();
    for n in 0..10_000_u32 {
        let address = IpAddr::from(n.to_be_bytes());
        let stranger = callers.on_connection(&Evidence::Plaintext, address, 80);
        stranger.on_request(get(&format!("/{n}")));
    }
    let long = "x".repeat(1_000);
    let known = callers.on_connection(&svid(1), IpAddr::from([10, 0, 0, 1]), 80);
    (0..100).for_each(|n| known.on_request(get(&format!("/{n}"))));
    known.on_request(get(&long));
    let report = callers.report();
    assert!(report.callers.len() <= UNPROVEN_MAX + 3, "{}", report.callers.len());
    let others = report.callers.iter().find(|it| it.address.is_none() && it.identity.is_none()).unwrap();
    assert_eq!((others.port, others.requests), (0, 10_000 - UNPROVEN_MAX as u64));
    let known = report.callers.iter().find(|it| it.identity.is_some()).unwrap();
    assert_eq!((known.asked.len(), known.asked_more), (16, 101 - 16));
    assert!(serde_json::to_vec(&report).unwrap().len() < 200_000);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_seen_for_a_day_makes_room_unless_it_is_connected() {
    let callers = recording();
    let address = |n: u8| IpAddr::from([10, 0, 0, n]);
    let _connected = callers.on_connection(&Evidence::Plaintext, address(0), 80);
    (1..UNPROVEN_MAX as u8).for_each(|n| drop(callers.on_connection(&Evidence::Plaintext, address(n), 80)));
    tokio::time::advance(FORGOTTEN_AFTER + Duration::from_secs(1)).await;
    callers.on_connection(&Evidence::Plaintext, address(200), 80);
    let left: Vec<_> = callers.report().callers.into_iter().filter_map(|it| it.address).collect();
    assert_eq!(left, ["10.0.0.0", "10.0.0.200"]);
}

#[tokio::test(start_paused = true)]
async fn denials_on_trial_are_counted_by_caller_and_request_up_to_a_bound() {
    let callers = recording();
    let caller = callers.on_connection(&svid(1), IpAddr::from([10, 0, 0, 1]), 80);
    callers.on_denied_on_trial(None, &caller, get("/a"));
    callers.on_denied_on_trial(None, &caller, get("/a"));
    (0..1_000).for_each(|n| callers.on_denied_on_trial(None, &caller, get(&format!("/b{n}"))));
    let report = callers.report();
    let first = &report.denied_on_trial[0];
    assert_eq!(
        (first.caller.as_str(), &*first.asked.path, first.asked.count),
        ("spiffe://a/ns/x/sa/1", "/a", 2)
    );
    // Of a thousand, `/a` and 63 others have a line.
    assert_eq!((report.denied_on_trial.len(), report.denied_on_trial_more), (64, 1_000 - 63));
    tokio::time::advance(FORGOTTEN_AFTER + Duration::from_secs(1)).await;
    assert_eq!(callers.report().denied_on_trial, []);
}

#[tokio::test(start_paused = true)]
async fn what_other_policies_denied_on_trial_says_nothing_of_those_in_force() {
    let callers = recording();
    let caller = callers.on_connection(&svid(1), IpAddr::from([10, 0, 0, 1]), 80);
    callers.on_denied_on_trial(None, &caller, get("/a"));
    assert_eq!(callers.report().denied_on_trial.len(), 1);
    callers.config.publish(Snapshot::empty(MtlsMode::Permissive));
    assert_eq!(callers.report().denied_on_trial, []);
}

fn recording() -> Callers {
    let clock = Clock::start();
    Callers::new(clock, Arc::new(ConfigStore::new(Snapshot::empty(MtlsMode::Permissive), clock)))
}

fn svid(n: u32) -> Evidence {
    Evidence::Svid(format!("spiffe://a/ns/x/sa/{n}").parse().unwrap())
}

fn get(path: &str) -> Seen<'_> {
    Seen { method: &Method::GET, host: "payment", path }
}
