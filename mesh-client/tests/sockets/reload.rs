//! What a reload changes, and what it must not.

use crate::support::*;
use http::Request;
use hyper::body::Incoming;
use mesh_client::Protocol;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};
use tokio::sync::Semaphore;

/// Invariant 2: a reload loses no request and resets no state it did not touch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_lose_no_call_and_close_no_connection_that_they_do_not_touch() {
    let (one, two) =
        (Server::start(|_| async { answer("v1") }).await, Server::start(|_| async { answer("v2") }).await);
    let endpoints = [(one.address, "v1"), (two.address, "v2")];
    let split = |weight: u32| {
        service("reviews", &endpoints)
            + "\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\nspec:\n  host: reviews\n  subsets:\n  - {name: v1, labels: {version: v1}}\n  - {name: v2, labels: {version: v2}}\n---"
            + &routes(
                "reviews",
                &format!(
                    "- route:\n    - {{destination: {{host: reviews, subset: v1}}, weight: {weight}}}\n    - {{destination: {{host: reviews, subset: v2}}, weight: {}}}",
                    100 - weight
                ),
            )
    };
    let mesh = Arc::new(Mesh::new(&split(100)).await);
    let (done, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (mesh, done, calls) = (Arc::clone(&mesh), Arc::clone(&done), Arc::clone(&calls));
            tokio::spawn(async move {
                while !done.load(SeqCst) {
                    let text = mesh.text("http://reviews/").await;
                    assert!(text == "v1" || text == "v2");
                    calls.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for round in 0..20_u32 {
        let before = calls.load(SeqCst);
        mesh.apply(&split(round * 7 % 101));
        until("calls under the new configuration", || calls.load(SeqCst) > before + 10).await;
    }
    done.store(true, SeqCst);
    for load in load {
        load.await.unwrap();
    }
    // Four at a time need at most four connections to each; a reload that closed some would need more.
    assert!(one.accepted() <= 4 && two.accepted() <= 4, "{} and {}", one.accepted(), two.accepted());
    mesh.apply(&split(0));
    assert_eq!(mesh.text("http://reviews/").await, "v2", "a call after a reload is routed by it");
}

#[tokio::test]
async fn the_connections_of_an_endpoint_that_left_are_closed_and_its_requests_finish() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        an_endpoint_leaves(protocol).await;
    }
}

async fn an_endpoint_leaves(protocol: Protocol) {
    let (old, gate) = gated("old").await;
    let new = Server::start(|_| async { answer("new") }).await;
    let mesh = Mesh::new(&service("reviews", &[(old.address, "v1")])).await.speaking(protocol);
    let slow = tokio::spawn({
        let client = mesh.client.clone();
        async move { client.get("http://reviews/slow").await.unwrap().into_body().text().await.unwrap() }
    });
    until("the slow call to arrive", || mesh.endpoint_state().in_flight() == 1).await;
    assert_eq!(mesh.text("http://reviews/").await, "old");
    mesh.apply(&service("reviews", &[(new.address, "v1")]));
    assert_eq!(mesh.text("http://reviews/").await, "new");
    until("the idle connection to be closed", || old.open() == 1).await;
    gate.add_permits(1);
    assert_eq!(slow.await.unwrap(), "old");
    until("the busy connection to be closed", || old.open() == 0).await;
}

#[tokio::test]
async fn changed_tls_settings_never_reuse_a_connection() {
    let ca = Ca::new();
    let server = Server::start_tls(ca.store("reviews"), |_| async { answer("ok") }).await;
    let yaml = meshed("reviews", &[(server.address, "v1")]);
    let mesh = Mesh::new(&yaml).await;
    mesh.identify(&ca, "client");
    assert_eq!(mesh.text("http://reviews/").await, "ok");
    mesh.apply(&yaml.replace("serviceAccount: reviews", "serviceAccount: somebody-else"));
    assert!(mesh.get("http://reviews/").await.unwrap_err().is_tls());
    mesh.apply(&yaml);
    assert_eq!(mesh.text("http://reviews/").await, "ok");
}

#[tokio::test]
async fn a_connection_whose_peer_is_no_longer_believed_is_closed() {
    let ca = Ca::new();
    let server = Server::start_tls(ca.store("reviews"), |_| async { answer("ok") }).await;
    let mesh = Mesh::new(&meshed("reviews", &[(server.address, "v1")])).await;
    mesh.identify(&ca, "client");
    assert_eq!(mesh.text("http://reviews/").await, "ok");
    // A new certificate of the same authority changes nothing.
    mesh.identify(&ca, "client");
    assert_eq!(mesh.text("http://reviews/").await, "ok");
    assert_eq!(server.accepted(), 1);
    mesh.identify(&Ca::new(), "client");
    until("the connection to be closed", || server.open() == 0).await;
    assert!(mesh.get("http://reviews/").await.unwrap_err().is_tls());
}

/// Invariant 1: a request sees one snapshot, its retries included.
#[tokio::test]
async fn a_request_under_way_keeps_the_snapshot_it_began_with() {
    let gate = Arc::new(Semaphore::new(0));
    let arrived = Arc::new(AtomicUsize::new(0));
    let old = Server::start({
        let (gate, arrived) = (Arc::clone(&gate), Arc::clone(&arrived));
        move |_: Request<Incoming>| {
            let (gate, first) = (Arc::clone(&gate), arrived.fetch_add(1, SeqCst) == 0);
            async move {
                if first {
                    gate.acquire().await.unwrap().forget();
                    return status(503);
                }
                answer("old")
            }
        }
    })
    .await;
    let new = Server::start(|_| async { answer("new") }).await;
    let retries = "- route: [{destination: {host: reviews}}]\n    retries: {attempts: 1, retryOn: '503'}";
    let mesh = Mesh::new(&(service("reviews", &[(old.address, "v1")]) + &routes("reviews", retries))).await;
    let call = tokio::spawn({
        let client = mesh.client.clone();
        async move { client.get("http://reviews/").await.unwrap().into_body().text().await.unwrap() }
    });
    until("the call to arrive", || arrived.load(SeqCst) == 1).await;
    // Neither the retry nor the endpoint exists in this one.
    mesh.apply(&service("reviews", &[(new.address, "v1")]));
    assert_eq!(mesh.text("http://reviews/").await, "new");
    gate.add_permits(1);
    assert_eq!(call.await.unwrap(), "old");
}
