//! What the admin listener shows of a workload.

use crate::{
    entry, eventually,
    fake::{CHECKOUT, Fake},
    started,
};
use mesh_core::{
    event::Flags,
    health::{OutlierPolicy, Verdict},
};
use mesh_runtime::{Settings, Workload};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test]
async fn a_ready_workload_shows_what_it_has() {
    let fake = Fake::plain().await;
    fake.serve("v7", json!([entry("payment", &["10.0.0.1"])]));
    let workload = started(with_admin(fake.settings())).await;
    let admin = workload.admin().unwrap();
    assert_eq!(get(admin, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(get(admin, "/healthz").await.0, 200);

    let config = page(admin, "/config").await;
    assert_eq!((&config["version"], &config["fromCache"]), (&json!("v7"), &json!(false)));
    let cluster =
        config["clusters"].as_array().unwrap().iter().find(|cluster| cluster["endpoints"] != json!([]));
    assert_eq!(cluster.unwrap()["endpoints"][0]["address"], "10.0.0.1:8080");

    let route = &config["virtualHosts"][0]["routes"][0];
    assert_eq!((&route["match"], &route["destinations"][0]["weight"]), (&json!("any request"), &json!(1)));

    let clusters = page(admin, "/clusters").await;
    let endpoint = &clusters["clusters"][0]["endpoints"][0];
    assert_eq!(endpoint["address"], "10.0.0.1:8080");
    assert_eq!(
        (&endpoint["health"], &endpoint["ejectedUntil"], &endpoint["inFlight"]),
        (&json!("admitted"), &Value::Null, &json!(0))
    );
    assert_eq!(
        (&endpoint["ejectedBy"], &endpoint["ejectedForMs"], &endpoint["ejections"]),
        (&Value::Null, &Value::Null, &json!(0))
    );

    let identity = page(admin, "/identity").await;
    assert_eq!((&identity["spiffeId"], &identity["bundles"]), (&json!(CHECKOUT), &json!(["cluster.local"])));
    let serial = workload.identity().current().unwrap().svid.serial().to_owned();
    assert_eq!((&identity["serial"], &identity["expired"]), (&json!(serial), &json!(false)));

    let cluster = workload.config().current().clusters().next().unwrap().clone();
    workload.telemetry().client(&cluster).on_answer(200, Flags::NONE, Duration::from_millis(2));
    let (_, metrics) = get(admin, "/metrics").await;
    for part in [
        "istio_requests_total{reporter=\"source\",source_workload=\"checkout\"",
        "destination_service=\"payment.default.svc.cluster.local\",destination_service_name=\"payment\"",
        "mesh_ready 1\n",
        "mesh_config_info{version=\"v7\"} 1\n",
        "mesh_config_stale 0\n",
        "mesh_certificate_expires_in_seconds 3",
    ] {
        assert!(metrics.contains(part), "{part} in {metrics}");
    }
}

#[tokio::test]
async fn an_ejected_endpoint_is_shown_with_the_rule_that_ejected_it_and_how_often_and_long() {
    let fake = Fake::plain().await;
    fake.serve("v1", json!([entry("payment", &["10.0.0.1"])]));
    let workload = started(with_admin(fake.settings())).await;
    let snapshot = workload.config().current();
    let cluster = snapshot.clusters().find(|cluster| !cluster.endpoints.is_empty()).unwrap();
    let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierPolicy::default() };
    let (begun, state) = (workload.clock().now(), &cluster.endpoints.as_slice()[0].state);
    // The first ejection lasts half a minute, the second, after it, a whole one.
    for now in [begun, begun + Duration::from_secs(31)] {
        let failure = Verdict::Status(500);
        cluster.state.on_answer(&state.begin(now), failure, &policy, &cluster.endpoints, now);
    }
    let clusters = page(workload.admin().unwrap(), "/clusters").await;
    let clusters = clusters["clusters"].as_array().unwrap();
    let endpoints = clusters.iter().find(|cluster| cluster["endpoints"] != json!([]));
    let endpoint = &endpoints.unwrap()["endpoints"][0];
    assert_eq!(
        (&endpoint["health"], &endpoint["ejectedBy"], &endpoint["ejections"]),
        (&json!("ejected"), &json!("consecutive_5xx"), &json!(2))
    );
    assert!(endpoint["ejectedUntil"].is_string(), "{endpoint}");
    assert_eq!(endpoint["ejectedForMs"], 60_000);
}

#[tokio::test]
async fn a_workload_that_is_not_ready_says_why() {
    let fake = Fake::plain().await;
    fake.down();
    let workload = Workload::start(with_admin(fake.settings())).await.unwrap();
    eventually("the reason", || crate::reason(&workload).contains("control endpoint")).await;
    let (status, body) = get(workload.admin().unwrap(), "/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("no configuration yet: control endpoint http://"), "{body}");
    let identity = page(workload.admin().unwrap(), "/identity").await;
    assert_eq!(identity["spiffeId"], Value::Null);
    assert!(identity["trouble"].as_str().unwrap().contains("control endpoint"), "{identity}");
}

#[tokio::test]
async fn the_listener_only_shows_and_only_what_there_is() {
    let workload = Workload::start(with_admin(Settings::for_service("probe"))).await.unwrap();
    let admin = workload.admin().unwrap();
    for (request, status) in [
        ("POST /config HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("DELETE /identity HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        ("GET /../config HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        ("HEAD /config HTTP/1.1\r\nhost: a\r\n\r\n", 200),
        ("nonsense\r\n\r\n", 400),
    ] {
        assert_eq!(exchange(admin, request).await.0, status, "{request}");
    }
    assert_eq!(exchange(admin, "HEAD /config HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.1, "");
    let oversize = format!("GET /config HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(exchange(admin, &oversize).await.0, 431);
}

#[tokio::test]
async fn the_listener_ends_with_the_workload() {
    let workload = Workload::start(with_admin(Settings::for_service("probe"))).await.unwrap();
    let admin = workload.admin().unwrap();
    drop(workload);
    for _ in 0..500 {
        if TcpStream::connect(admin).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still listening");
}

fn with_admin(mut settings: Settings) -> Settings {
    settings.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    settings
}

async fn page(admin: SocketAddr, path: &str) -> Value {
    serde_json::from_str(&get(admin, path).await.1).unwrap()
}

async fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    exchange(admin, &format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")).await
}

/// Returns status of the answer to `request`, and its body where the request says `close`.
async fn exchange(admin: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let closes = request.contains("connection: close");
    while closes || !text.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut text).await.unwrap() == 0 {
            break;
        }
    }
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:.60}: {text}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
