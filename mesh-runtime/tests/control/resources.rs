//! Configuration from the control endpoint: what is put in force, and what is not.

use crate::{
    endpoints, entry, eventually,
    fake::{Fake, Reply, answer},
    reason, route, started, version,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use mesh_core::{
    authorize::{Decision, Request},
    config::istio::MtlsMode,
    identity::SpiffeId,
};
use mesh_runtime::{Readiness, Workload};
use serde_json::{Value, json};
use std::{io::Write as _, net::TcpListener, time::Duration};
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn what_the_endpoint_serves_is_in_force_and_so_is_what_it_serves_next() {
    let fake = Fake::plain().await;
    fake.serve("v1", json!([entry("payment", &["10.0.0.1"])]));
    let workload = started(fake.settings()).await;
    assert_eq!((version(&workload).as_str(), endpoints(&workload)), ("v1", vec!["10.0.0.1:8080".to_owned()]));
    fake.serve("v2", json!([entry("payment", &["10.0.0.1", "10.0.0.2"])]));
    eventually("the new version", || version(&workload) == "v2").await;
    assert_eq!(endpoints(&workload), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(fake.seen("/v1/resources").last().unwrap().etag.as_deref(), Some("v1"));
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_no_error_but_a_reason() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut settings = Fake::plain().await.settings();
    settings.control = Some(format!("http://127.0.0.1:{port}"));
    let workload = Workload::start(settings).await.unwrap();
    let expected = format!(
        "no configuration yet: control endpoint http://127.0.0.1:{port} does not answer (connection refused); no \
         MESH_CACHE_DIR to start from"
    );
    eventually("the reason", || reason(&workload) == expected).await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_does_not_hold_up_the_start() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Fake::plain().await.settings();
    settings.control = Some(format!("http://{}", listener.local_addr().unwrap()));
    let workload = Workload::start(settings).await.unwrap();
    assert!(matches!(workload.readiness(), Readiness::NotReady(_)));
}

#[tokio::test]
async fn before_its_first_configuration_a_workload_lets_nobody_in() {
    let fake = Fake::plain().await;
    fake.script("/v1/resources", Some(Reply::new(503, "")));
    let workload = Workload::start(fake.settings()).await.unwrap();
    let _registration = workload.register("127.0.0.1:9000".parse().unwrap()).await;
    eventually("the trouble", || workload.trouble().is_some()).await;
    let peer: SpiffeId = "spiffe://cluster.local/ns/default/sa/web".parse().unwrap();
    let request = Request {
        peer: Some(&peer),
        source: None,
        remote: None,
        destination: None,
        port: 9000,
        sni: None,
        method: &http::Method::GET,
        host: "checkout",
        path: "/",
        headers: &http::HeaderMap::new(),
        claims: None,
    };
    let decide = || workload.config().current().inbound().authorizer.decide(&request);
    assert_eq!(
        (decide(), workload.config().current().inbound().mode),
        (Decision::NotAllowed, MtlsMode::Strict)
    );
    assert!(fake.seen("/v1/workloads").is_empty());
    fake.script("/v1/resources", None);
    eventually("the lease", || !fake.seen("/v1/workloads").is_empty()).await;
    assert_eq!(decide(), Decision::Allowed(None));
}

#[tokio::test]
async fn a_304_keeps_what_is_in_force_and_is_no_trouble() {
    let fake = Fake::plain().await;
    fake.serve("v1", json!([entry("payment", &["10.0.0.1"])]));
    let workload = started(fake.settings()).await;
    let before = fake.seen("/v1/resources").len();
    fake.script("/v1/resources", Some(Reply::new(304, "")));
    eventually("three more polls", || fake.seen("/v1/resources").len() > before + 3).await;
    assert_eq!((version(&workload).as_str(), reason(&workload).as_str()), ("v1", "ready"));
    assert_eq!(endpoints(&workload), ["10.0.0.1:8080"]);
}

#[tokio::test]
async fn an_answer_may_come_packed() {
    let fake = Fake::plain().await;
    let body = answer("packed", json!([entry("payment", &["10.0.0.1"])])).to_string();
    let reply =
        Reply::new(200, gzip(body.as_bytes())).header("content-encoding", "gzip").header("etag", "packed");
    fake.script("/v1/resources", Some(reply));
    let workload = started(fake.settings()).await;
    assert_eq!((version(&workload).as_str(), endpoints(&workload).len()), ("packed", 1));
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_changes_nothing_and_is_named() {
    let fake = Fake::plain().await;
    let good = json!([entry("payment", &["10.0.0.1"])]);
    fake.serve("v1", good.clone());
    let mut settings = fake.settings();
    settings.admin = Some(([127, 0, 0, 1], 0).into());
    let workload = started(settings).await;
    let table = [
        ("no JSON", Reply::new(200, "<html>"), "cannot be used"),
        ("another shape", Reply::new(200, r#"{"version": 1}"#), "cannot be used"),
        ("nothing", Reply::new(200, ""), "cannot be used"),
        ("no object", Reply::new(200, "[]"), "cannot be used"),
        ("an odd trust domain", Reply::new(200, td("Not A Domain")), "trust domain `Not A Domain`"),
        ("an error", Reply::new(500, "a\nb"), r"refused with 500: a\nb"),
        ("a redirect", Reply::new(302, "").header("location", "http://evil"), "refused with 302"),
        ("an odd encoding", Reply::new(200, "x").header("content-encoding", "br"), "content-encoding `br`"),
        ("broken gzip", Reply::new(200, "x").header("content-encoding", "gzip"), "gzip: "),
        ("cut gzip", Reply::new(200, cut(b"{}")).header("content-encoding", "gzip"), "gzip: "),
        ("deep nesting", Reply::new(200, "[".repeat(100_000)), "cannot be used"),
    ];
    for (what, reply, expected) in table {
        fake.script("/v1/resources", Some(reply));
        eventually(what, || trouble(&workload).contains(expected)).await;
        assert_eq!((version(&workload).as_str(), reason(&workload).as_str()), ("v1", "ready"), "{what}");
        assert_eq!(endpoints(&workload), ["10.0.0.1:8080"], "{what}");
        fake.script("/v1/resources", None);
        eventually("the end of the trouble", || trouble(&workload).is_empty()).await;
    }
}

#[tokio::test]
async fn an_answer_that_unpacks_without_end_is_refused() {
    let fake = Fake::plain().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    (0..65).for_each(|_| encoder.write_all(&zeros).unwrap());
    let bomb = Reply::new(200, encoder.finish().unwrap()).header("content-encoding", "gzip");
    fake.script("/v1/resources", Some(bomb));
    let workload = Workload::start(fake.settings()).await.unwrap();
    eventually("the reason", || reason(&workload).contains("more than 64 MiB")).await;
}

#[tokio::test]
async fn a_broken_object_keeps_its_last_good_version_and_stops_no_other() {
    let fake = Fake::plain().await;
    let items = |timeout, address| json!([entry("payment", &[address]), route("payment", timeout)]);
    fake.serve("v1", items("3s", "10.0.0.1"));
    let workload = started(fake.settings()).await;
    fake.serve("v2", items("three seconds", "10.0.0.2"));
    eventually("the new version", || version(&workload) == "v2").await;
    assert_eq!(endpoints(&workload), ["10.0.0.2:8080"]);
    let rejected: Vec<_> = workload.in_force().unwrap().rejected().cloned().collect();
    assert!(rejected[0].to_string().contains("VirtualService default/payment"), "{rejected:?}");
    assert_eq!(timeout_of(&workload, "payment"), Some(Duration::from_secs(3)));
    eventually("the report", || {
        fake.seen("/v1/reports").iter().any(|report| {
            report.body["version"] == "v2"
                && report.body["rejected"][0]["resource"] == "VirtualService default/payment"
                && report.body["rejected"][0]["message"].as_str().unwrap().contains("three seconds")
        })
    })
    .await;
}

#[tokio::test]
async fn an_empty_push_keeps_the_workloads_and_is_reported() {
    let fake = Fake::plain().await;
    fake.serve("v1", json!([entry("payment", &["10.0.0.1"]), route("payment", "3s")]));
    let workload = started(fake.settings()).await;
    for (version, items) in
        [("v2", json!([])), ("v3", json!([route("payment", "3s")])), ("v4", json!([entry("payment", &[])]))]
    {
        fake.serve(version, items);
        eventually("the new version", || self::version(&workload) == version).await;
        assert_eq!(endpoints(&workload), ["10.0.0.1:8080"], "{version}");
        let findings = workload.in_force().unwrap().findings;
        assert!(
            findings.iter().any(|finding| finding.code.as_str() == "MESH0010"),
            "{version}: {findings:?}"
        );
    }
}

#[tokio::test]
async fn while_the_endpoint_is_warming_the_registry_is_the_union_of_old_and_new() {
    let fake = Fake::plain().await;
    fake.serve("v1", json!([entry("payment", &["10.0.0.1", "10.0.0.2"]), entry("cart", &["10.0.0.3"])]));
    let workload = started(fake.settings()).await;
    let mut warming = answer("v2", json!([entry("payment", &["10.0.0.2", "10.0.0.9"])]));
    warming["warming"] = Value::Bool(true);
    fake.serve_answer(warming);
    eventually("the new version", || version(&workload) == "v2").await;
    assert_eq!(endpoints(&workload), ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080", "10.0.0.9:8080"]);
    fake.serve("v3", json!([entry("payment", &["10.0.0.2", "10.0.0.9"])]));
    eventually("the end of it", || version(&workload) == "v3").await;
    assert_eq!(endpoints(&workload), ["10.0.0.2:8080", "10.0.0.9:8080"]);
}

#[tokio::test]
async fn an_endpoint_that_went_away_is_missed_by_nobody_and_found_again() {
    let fake = Fake::plain().await;
    fake.serve("v1", json!([entry("payment", &["10.0.0.1"])]));
    let workload = started(fake.settings()).await;
    fake.down();
    eventually("the trouble", || !trouble(&workload).is_empty()).await;
    assert_eq!((reason(&workload).as_str(), endpoints(&workload).len()), ("ready", 1));
    fake.up();
    fake.serve("v2", json!([entry("payment", &["10.0.0.2"])]));
    eventually("the new version", || version(&workload) == "v2").await;
}

#[tokio::test]
async fn an_endpoint_that_answers_at_once_is_not_asked_in_a_loop() {
    let fake = Fake::plain().await;
    let _workload = started(fake.settings()).await;
    fake.script("/v1/resources", Some(Reply::new(304, "")));
    let (before, start) = (fake.seen("/v1/resources").len(), Instant::now());
    sleep(Duration::from_secs(1)).await;
    // Ten a second, and two for those under way; a loop makes thousands.
    let most = start.elapsed().as_millis() / 100 + 2;
    assert!(fake.seen("/v1/resources").len() - before <= most as usize);
}

#[tokio::test]
async fn the_tasks_of_a_workload_end_with_its_last_clone() {
    let fake = Fake::plain().await;
    let workload = started(fake.settings()).await;
    let clone = workload.clone();
    drop(workload);
    assert!(fake.open_connections() > 0);
    drop(clone);
    eventually("the end of its connections", || fake.open_connections() == 0).await;
}

fn trouble(workload: &Workload) -> String {
    workload.trouble().map(|trouble| trouble.to_string()).unwrap_or_default()
}

fn timeout_of(workload: &Workload, host: &str) -> Option<Duration> {
    use mesh_core::{
        dice::Lowest,
        route::{Decision as Route, Head},
    };
    let snapshot = workload.config().current();
    let (method, headers) = (http::Method::GET, http::HeaderMap::new());
    let head =
        Head { scheme: "http", authority: host, path_and_query: "/", method: &method, headers: &headers };
    match snapshot.route(&head, &mut Lowest) {
        Route::Forward { forward, .. } => forward.timeout,
        _ => None,
    }
}

fn td(name: &str) -> Bytes {
    json!({"version": "v9", "trustDomain": name, "items": []}).to_string().into()
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}

fn cut(bytes: &[u8]) -> Bytes {
    let packed = gzip(bytes);
    packed.slice(..packed.len() - 9)
}
