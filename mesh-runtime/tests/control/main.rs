//! A workload and its control endpoint over real sockets; the endpoint is scripted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod admin;
mod authority;
mod cache;
mod certificates;
mod fake;
mod files;
mod lease;
mod resources;

use mesh_runtime::{Readiness, Settings, Workload};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Waits until `condition` holds; `what` is said if it never does.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("in 20 s not once: {what}");
}

/// Starts a workload and waits until it is ready.
async fn started(settings: Settings) -> Workload {
    let workload = Workload::start(settings).await.unwrap();
    if timeout(Duration::from_secs(20), workload.ready()).await.is_err() {
        panic!("not ready: {}", reason(&workload));
    }
    workload
}

fn reason(workload: &Workload) -> String {
    match workload.readiness() {
        Readiness::Ready => "ready".to_owned(),
        Readiness::NotReady(reason) => reason.to_string(),
    }
}

fn version(workload: &Workload) -> String {
    workload.in_force().map(|in_force| in_force.version.to_string()).unwrap_or_default()
}

/// The addresses of every endpoint in force, sorted.
fn endpoints(workload: &Workload) -> Vec<String> {
    let snapshot = workload.config().current();
    let clusters = snapshot.clusters();
    let mut addresses: Vec<_> = clusters
        .filter(|cluster| cluster.subset.is_empty())
        .flat_map(|cluster| cluster.endpoints.as_slice())
        .map(|endpoint| endpoint.address.to_string())
        .collect();
    addresses.sort();
    addresses
}

/// A service as the control endpoint serves its leases.
fn entry(name: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> =
        addresses.iter().map(|address| json!({"address": address, "ports": {"http": 8080}})).collect();
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "hosts": [format!("{name}.default.svc.cluster.local")],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "endpoints": endpoints,
        },
    })
}

/// A route of `name` to itself, with `timeout`.
fn route(name: &str, timeout: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "hosts": [name],
            "http": [{"route": [{"destination": {"host": name}}], "timeout": timeout}],
        },
    })
}
