use super::*;

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_changes_nothing_changes_nothing_served() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    assert_eq!(put(&mut leases, "a", "cart", now), Ok(Change::Created));
    assert_eq!(leases.take_changed(), BTreeSet::from([key()]));
    assert_eq!(put(&mut leases, "a", "cart", now + SECOND), Ok(Change::None));
    assert_eq!(leases.take_changed(), BTreeSet::new());
    let other = Lease { address: "10.0.0.2".into(), ..lease() };
    assert_eq!(leases.put(&key(), "a", &owner("cart"), true, other, now), Ok(Change::Altered));
    assert_eq!(leases.take_changed(), BTreeSet::from([key()]));
}

#[tokio::test(start_paused = true)]
async fn an_instance_belongs_to_the_identity_that_created_it_until_it_expires() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    put(&mut leases, "a", "cart", now).unwrap();
    let held =
        || LeaseError::HeldByOther { service: "cart".into(), instance: "a".into(), owner: owner("cart") };
    assert_eq!(put(&mut leases, "a", "thief", now), Err(held()));
    assert_eq!(leases.remove(&key(), "a", &owner("thief")), Err(held()));
    assert_eq!(leases.remove(&key(), "b", &owner("thief")), Ok(false));
    leases.sweep(now + 15 * SECOND);
    assert_eq!(put(&mut leases, "a", "heir", now), Ok(Change::Created));
    assert_eq!(leases.remove(&key(), "a", &owner("heir")), Ok(true));
    assert_eq!(leases.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn expired_leases_leave_but_for_the_last_of_the_service() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    put(&mut leases, "a", "cart", now).unwrap();
    put(&mut leases, "b", "cart", now + SECOND).unwrap();
    leases.take_changed();

    assert_eq!(leases.sweep(now + 14 * SECOND), []);
    assert_eq!(leases.sweep(now + 15 * SECOND), [(key(), "a".to_owned())]);
    assert_eq!(states(&leases), [("b", true)]);
    assert_eq!(leases.sweep(now + 16 * SECOND), [(key(), "b".to_owned())]);
    assert_eq!(states(&leases), [("b", false)]);
    leases.take_changed();
    assert_eq!(leases.sweep(now + 60 * SECOND), [], "what expired expires again");
    assert!(leases.take_changed().is_empty());

    put(&mut leases, "c", "cart", now + 61 * SECOND).unwrap();
    assert_eq!(states(&leases), [("c", true)], "the expired one stays beside a live one");
}

#[tokio::test(start_paused = true)]
async fn of_those_that_expire_at_once_the_one_heard_last_is_kept() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    for (n, instance) in ["b", "c", "a"].into_iter().enumerate() {
        put(&mut leases, instance, "cart", now + n as u32 * SECOND).unwrap();
    }
    assert_eq!(leases.sweep(now + 60 * SECOND).len(), 3);
    assert_eq!(states(&leases), [("a", false)]);
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_the_endpoint_ends_no_lease() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    put(&mut leases, "a", "cart", now).unwrap();
    leases.on_stall(60 * SECOND);
    assert_eq!(leases.sweep(now + 74 * SECOND), []);
    assert_eq!(leases.sweep(now + 75 * SECOND).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn restored_leases_count_as_just_renewed() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    put(&mut leases, "a", "cart", now).unwrap();
    let saved = serde_json::to_vec(&leases.save()).unwrap();
    let later = now + 100 * SECOND;
    let mut restored = Leases::restore(serde_json::from_slice(&saved).unwrap(), later);
    assert_eq!(restored.sweep(later + 14 * SECOND), []);
    assert_eq!(states(&restored), [("a", true)]);
    assert!(put(&mut restored, "a", "thief", later).is_err(), "the owner is forgotten");
}

#[tokio::test(start_paused = true)]
async fn the_last_lease_that_is_given_up_keeps_its_service_known_also_after_a_restart() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    put(&mut leases, "a", "cart", now).unwrap();
    put(&mut leases, "b", "cart", now).unwrap();
    assert_eq!(leases.remove(&key(), "a", &owner("cart")), Ok(true));
    assert_eq!(states(&leases), [("b", true)]);
    assert_eq!(leases.remove(&key(), "b", &owner("cart")), Ok(true));
    assert_eq!(leases.remove(&key(), "b", &owner("cart")), Ok(false), "it is given up twice");
    let saved = serde_json::to_vec(&leases.save()).unwrap();
    let restored = Leases::restore(serde_json::from_slice(&saved).unwrap(), now);
    for mut leases in [leases, restored] {
        assert_eq!(leases.sweep(now + 60 * SECOND), []);
        assert_eq!((leases.len(), leases.services().collect::<Vec<_>>()), (0, vec![&key()]));
        assert!(leases.of(&key()).unwrap()["b"].is_withdrawn());
        assert_eq!(put(&mut leases, "c", "heir", now + 61 * SECOND), Ok(Change::Created));
        assert_eq!(states(&leases), [("c", true)]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_identity_cannot_hold_instances_without_end() {
    let (mut leases, now) = (Leases::default(), Instant::now());
    for n in 0..INSTANCES_MAX {
        put(&mut leases, &n.to_string(), "cart", now).unwrap();
    }
    let refused = put(&mut leases, "more", "cart", now).unwrap_err();
    assert!(refused.to_string().contains("1000 instances of cart"), "{refused}");
    assert_eq!(put(&mut leases, "0", "cart", now), Ok(Change::None), "a heartbeat is refused");
    assert_eq!(put(&mut leases, "other", "robot", now), Ok(Change::Created));
    leases.remove(&key(), "0", &owner("cart")).unwrap();
    assert_eq!(put(&mut leases, "more", "cart", now), Ok(Change::Created));
}

#[test]
fn a_lease_is_refused_with_the_field_that_is_wrong() {
    type Spoil = fn(&mut Lease);
    let table: [(Spoil, &str); 16] = [
        (|l| l.address = "localhost".into(), "address: \"localhost\" is no IP address"),
        (|l| l.address = "10.0.0.1:80".into(), "address: "),
        (|l| l.address = "0.0.0.0".into(), "address: 0.0.0.0 cannot be dialled"),
        (|l| l.address = "::".into(), "address: :: cannot be dialled"),
        (|l| l.address = "224.0.0.1".into(), "address: "),
        (|l| l.ports.clear(), "ports: 0 of them"),
        (|l| l.ports.extend((0..20).map(|n| (format!("p{n}"), 1))), "ports: 21 of them"),
        (|l| l.ports.extend([("A B".into(), 1)]), "ports: name \"A B\""),
        (|l| l.ports.extend([("http".into(), 0)]), "ports.http: 0"),
        (|l| l.labels.extend([("a b".into(), "x".into())]), "labels: \"a b\""),
        (|l| l.labels.extend([("a".into(), "x y".into())]), "labels.a: \"x y\""),
        (|l| l.labels.extend((0..65).map(|n| (format!("l{n}"), String::new()))), "labels: 66 of them"),
        (|l| l.locality = "a/b/c/d".into(), "locality: "),
        (|l| l.ttl_seconds = 0, "ttlSeconds: 0"),
        (|l| l.ttl_seconds = 3601, "ttlSeconds: 3601"),
        (|l| l.service_port = 0, "servicePort: 0"),
    ];
    assert_eq!(validate(&lease()), Ok(()));
    for (row, (spoil, expected)) in table.into_iter().enumerate() {
        let mut lease = lease();
        spoil(&mut lease);
        let error = validate(&lease).unwrap_err();
        assert!(error.starts_with(expected), "row {row}: {error}");
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn put(leases: &mut Leases, instance: &str, account: &str, now: Instant) -> Result<Change, LeaseError> {
    leases.put(&key(), instance, &owner(account), true, lease(), now)
}

fn states(leases: &Leases) -> Vec<(&str, bool)> {
    let held = leases.of(&key()).into_iter().flatten();
    held.map(|(name, held)| (name.as_str(), matches!(held.state, State::Live(_)))).collect()
}

fn key() -> ServiceKey {
    ServiceKey { namespace: "shop".into(), service: "cart".into() }
}

fn owner(account: &str) -> SpiffeId {
    format!("spiffe://td/ns/shop/sa/{account}").parse().unwrap()
}

fn lease() -> Lease {
    Lease {
        address: "10.0.0.1".into(),
        ports: BTreeMap::from([("http".into(), 8080)]),
        labels: BTreeMap::from([("version".into(), "v1".into())]),
        locality: "eu/a".into(),
        ttl_seconds: 15,
        service_port: 80,
    }
}
