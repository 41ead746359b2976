//! That a pick allocates nothing, whatever the policy, and whatever has happened to the endpoints; and that rules about
//! tokens cost nothing where there are none.
#![allow(clippy::unwrap_used, clippy::panic)]

use mesh_core::{
    authenticate::{Algorithm, Authenticator, PublicKey, Signatures},
    balance::{
        Endpoint, EndpointSet, Failover, HashInput, HashSource, Hashed, LocalityPolicy, Nearness, Policy,
        Security, SetPolicy, TableSize, Tried, WarmUp, Wish, pick,
    },
    dice::Seeded,
    health::{ClusterState, OutlierPolicy, Verdict},
    registry::{Address, Locality},
    time::Time,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

#[test]
fn no_pick_allocates() {
    for policy in [
        Policy::LeastRequest,
        Policy::RoundRobin,
        Policy::Random,
        Policy::PeakEwma,
        Policy::RingHash { minimum_size: 1_024 },
        Policy::Maglev { table_size: TableSize::DEFAULT },
    ] {
        for regions in [1, 3] {
            let set = set(policy, regions);
            eject(&set, 0..15);
            let mut tried = Tried::default();
            (0..4).for_each(|index| tried.on_attempt(index));
            let wish = Wish { hash: Some(7), avoid: Some(&tried), leave: Some(&tried) };
            let mut dice = Seeded::new(1);
            let info = allocation_counter::measure(|| {
                for ms in 0..500 {
                    let now = START + Duration::from_millis(ms);
                    assert!(pick(&set, &wish, now, &mut dice).is_some());
                }
            });
            assert_eq!(info.count_total, 0, "{policy:?} over {regions} regions");
        }
    }
}

#[test]
fn hashing_a_header_does_not_allocate() {
    let headers = [("x-user".parse().unwrap(), "foo".parse().unwrap())].into_iter().collect();
    let source = HashSource::Header("x-user".parse().unwrap());
    let request = Hashed { headers: &headers, path_and_query: "/", source: None };
    let info = allocation_counter::measure(|| {
        assert!(matches!(source.input(&request), HashInput::Hash(_)));
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_request_to_which_no_rule_about_tokens_applies_costs_nothing() {
    let request =
        http::Request::get("/?access_token=a").header("authorization", "Bearer a.b.c").body(()).unwrap();
    let (mut head, rules) = (request.into_parts().0, Authenticator::default());
    let info = allocation_counter::measure(|| {
        assert!(!rules.awaits_keys(&head, 80));
        assert!(rules.judge(&mut head, 80, &Nobody, 0).is_ok_and(|claims| claims.is_empty()));
    });
    assert_eq!(info.count_total, 0);
}

/// Is never asked.
struct Nobody;

impl Signatures for Nobody {
    fn is_good(&self, _: Algorithm, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        false
    }
}

const START: Time = Time::from_nanos(1_000_000_000);

fn set(policy: Policy, regions: u32) -> EndpointSet {
    let labels = BTreeMap::new();
    let near = LocalityPolicy::Failover(Failover::default());
    let nearness = Nearness { locality: &Locality::parse("region-0"), labels: &labels, policy: &near };
    let policy = SetPolicy {
        policy,
        warm_up: Some(WarmUp::new(Duration::from_secs(60))),
        nearness: Some(nearness),
        ..SetPolicy::default()
    };
    EndpointSet::build((0..30).map(|index| endpoint(index, regions)).collect(), &policy)
}

fn endpoint(index: u32, regions: u32) -> Endpoint {
    Endpoint {
        address: Address::Ip(([10, 0, 0, index as u8], 80).into()),
        labels: Arc::default(),
        locality: Locality::parse(&format!("region-{}", index % regions)),
        weight: 1 + index % 3,
        security: Security::Plaintext,
        state: Arc::default(),
    }
}

fn eject(set: &EndpointSet, indices: std::ops::Range<usize>) {
    let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierPolicy::default() };
    for endpoint in &set.as_slice()[indices] {
        let request = endpoint.state.begin(START);
        ClusterState::default().on_answer(&request, Verdict::Status(500), &policy, set, START);
    }
}
