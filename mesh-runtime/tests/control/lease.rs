//! The lease: taken, kept, given back.

use crate::{
    eventually,
    fake::{Fake, Reply, Seen},
    started,
};
use serde_json::json;

#[tokio::test]
async fn a_registration_is_a_lease_with_everything_others_need_to_know() {
    let fake = Fake::plain().await;
    let mut settings = fake.settings();
    settings.labels.insert("version".to_owned(), "v2".to_owned());
    settings.locality = "eu/eu-1".to_owned();
    settings.service_port = 8000;
    let workload = started(settings).await;
    let registration = workload.register("127.0.0.1:9000".parse().unwrap()).await;
    eventually("the lease", || !leases(&fake).is_empty()).await;
    let lease = &leases(&fake)[0];
    assert_eq!(lease.path, format!("/v1/workloads/default/checkout/{}", workload.instance()));
    let expected = json!({
        "address": "127.0.0.1", "ports": {"http": 9000}, "labels": {"app": "checkout", "version": "v2"},
        "locality": "eu/eu-1", "ttlSeconds": 15, "servicePort": 8000,
    });
    assert_eq!(lease.body, expected);
    registration.withdraw().await;
    let last = leases(&fake).pop().unwrap();
    assert_eq!((last.method.as_str(), &last.path), ("DELETE", &lease.path));
}

#[tokio::test]
async fn what_is_advertised_is_what_others_are_told() {
    // (MESH_ADVERTISE, listening on, address, port)
    let table = [
        (None, "127.0.0.2:9000", "127.0.0.2", 9000),
        (Some("10.1.2.3"), "127.0.0.1:9000", "10.1.2.3", 9000),
        (Some("10.1.2.3:80"), "0.0.0.0:9000", "10.1.2.3", 80),
        (None, "0.0.0.0:9000", "127.0.0.1", 9000),
        (None, "[::]:9000", "127.0.0.1", 9000),
    ];
    for (advertise, listening, address, port) in table {
        let fake = Fake::plain().await;
        let mut settings = fake.settings();
        settings.advertise = advertise.map(str::to_owned);
        let workload = started(settings).await;
        let _registration = workload.register(listening.parse().unwrap()).await;
        eventually("the lease", || !leases(&fake).is_empty()).await;
        let lease = leases(&fake).remove(0).body;
        assert_eq!(
            (&lease["address"], &lease["ports"]["http"]),
            (&json!(address), &json!(port)),
            "{listening}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_that_came_back_gets_the_lease_at_once() {
    let fake = Fake::plain().await;
    let workload = started(fake.settings()).await;
    let _registration = workload.register("127.0.0.1:9000".parse().unwrap()).await;
    eventually("the lease", || !leases(&fake).is_empty()).await;
    fake.down();
    eventually("the trouble", || workload.trouble().is_some()).await;
    let before = leases(&fake).len();
    fake.up();
    eventually("the lease again", || leases(&fake).len() > before).await;
    eventually("the configuration too", || workload.trouble().is_none()).await;
}

#[tokio::test]
async fn a_refused_lease_is_asked_for_again() {
    let fake = Fake::plain().await;
    fake.script("/v1/workloads", Some(Reply::new(409, r#"{"code": "conflict", "message": "not yours"}"#)));
    let workload = started(fake.settings()).await;
    let _registration = workload.register("127.0.0.1:9000".parse().unwrap()).await;
    eventually("several tries", || leases(&fake).len() > 2).await;
}

#[tokio::test]
async fn a_registration_that_is_dropped_leaves_the_lease_to_run_out() {
    let fake = Fake::plain().await;
    let workload = started(fake.settings()).await;
    let registration = workload.register("127.0.0.1:9000".parse().unwrap()).await;
    eventually("the lease", || !leases(&fake).is_empty()).await;
    let open = fake.open_connections();
    drop(registration);
    eventually("the end of its connection", || fake.open_connections() < open).await;
    assert!(leases(&fake).iter().all(|lease| lease.method == "PUT"));
}

#[tokio::test]
async fn two_ports_of_one_process_are_two_endpoints() {
    let fake = Fake::plain().await;
    let workload = started(fake.settings()).await;
    let _first = workload.register("127.0.0.1:9000".parse().unwrap()).await;
    let _second = workload.register("127.0.0.1:9001".parse().unwrap()).await;
    eventually("both leases", || leases(&fake).len() >= 2).await;
    assert_ne!(leases(&fake)[0].path, leases(&fake)[1].path);
}

#[tokio::test]
async fn what_was_never_asked_for_is_not_given_back() {
    let fake = Fake::plain().await;
    fake.script("/v1/resources", Some(Reply::new(503, "")));
    let workload = mesh_runtime::Workload::start(fake.settings()).await.unwrap();
    let registration = workload.register("127.0.0.1:9000".parse().unwrap()).await;
    eventually("the trouble", || workload.trouble().is_some()).await;
    registration.withdraw().await;
    assert!(leases(&fake).is_empty());
}

#[tokio::test]
async fn a_withdrawal_does_not_wait_for_an_endpoint_that_is_gone() {
    let fake = Fake::plain().await;
    let workload = started(fake.settings()).await;
    let registration = workload.register("127.0.0.1:9000".parse().unwrap()).await;
    eventually("the lease", || !leases(&fake).is_empty()).await;
    fake.down();
    registration.withdraw().await;
}

fn leases(fake: &Fake) -> Vec<Seen> {
    fake.seen("/v1/workloads")
}
