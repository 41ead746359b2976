//! What the `connectionPool`, `outlierDetection` and `retryBudget` of a DestinationRule do to connections and calls.

use crate::support::*;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use mesh_client::{ErrorKind, Protocol};
use mesh_core::health::Cause;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

#[tokio::test]
async fn the_rule_says_which_http_is_spoken_whatever_the_client_is_set_to() {
    for (pool, plain, tls) in [
        ("{tcp: {maxConnections: 9}}", "HTTP/1.1", "HTTP/2.0"),
        ("{http: {h2UpgradePolicy: DEFAULT}}", "HTTP/1.1", "HTTP/2.0"),
        ("{http: {h2UpgradePolicy: UPGRADE}}", "HTTP/2.0", "HTTP/2.0"),
        ("{http: {h2UpgradePolicy: DO_NOT_UPGRADE}}", "HTTP/1.1", "HTTP/1.1"),
        ("{http: {useClientProtocol: true}}", "HTTP/1.1", "HTTP/1.1"),
    ] {
        let rule = policy("reviews", &format!("{{connectionPool: {pool}}}"));
        let server = Server::start(version).await;
        let mesh = Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &rule)).await;
        assert_eq!(mesh.text("http://reviews/").await, plain, "{pool} in plaintext");
        let ca = Ca::new();
        let server = Server::start_tls(ca.store("reviews"), version).await;
        let mesh = Mesh::new(&(meshed("reviews", &[(server.address, "v1")]) + &rule)).await;
        mesh.identify(&ca, "client");
        assert_eq!(mesh.text("http://reviews/").await, tls, "{pool} over TLS");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_often_but_never_in_a_row_is_ejected_when_the_interval_is_over() {
    // Every third answer of the last endpoint is a success: a row of five failures never comes.
    let number = Arc::new(AtomicUsize::new(0));
    let mut servers = Vec::new();
    for index in 0..5 {
        let number = Arc::clone(&number);
        let failing = move || index == 4 && !number.fetch_add(1, SeqCst).is_multiple_of(3);
        servers.push(Server::start(move |_| {
            let answer = if failing() { status(500) } else { answer("ok") };
            async { answer }
        }));
    }
    let servers = futures_util::future::join_all(servers).await;
    let endpoints: Vec<_> = servers.iter().map(|server| (server.address, "v1")).collect();
    for (annotations, cause) in [
        ("mesh/successRateRequestVolume: '10'", Cause::SuccessRate),
        (
            "mesh/failurePercentageThreshold: '60', mesh/failurePercentageRequestVolume: '10'",
            Cause::FailurePercentage,
        ),
    ] {
        let rule = "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {maxEjectionPercent: 100, interval: 60s}}";
        let yaml = service("reviews", &endpoints) + &annotated("reviews", annotations, rule);
        let mesh = Mesh::new(&yaml).await;
        let state = mesh.endpoint_states().pop().unwrap();
        // The first interval begins with the first answer.
        for _ in 0..60 {
            let _ = mesh.get("http://reviews/").await.unwrap();
        }
        assert_eq!(state.last_ejection(), None, "{annotations}");
        pass(Duration::from_secs(60)).await;
        for _ in 0..5 {
            let _ = mesh.get("http://reviews/").await.unwrap();
        }
        assert_eq!(state.last_ejection().map(|ejection| ejection.cause), Some(cause), "{annotations}");
        let before = number.load(SeqCst);
        for _ in 0..20 {
            assert_eq!(mesh.text("http://reviews/").await, "ok");
        }
        assert_eq!(number.load(SeqCst), before, "{annotations}");
    }
}

#[tokio::test]
async fn a_port_of_grpc_is_spoken_to_in_http2() {
    let server = Server::start(version).await;
    let grpc = service("reviews", &[(server.address, "v1")]).replace("protocol: HTTP", "protocol: GRPC");
    assert_eq!(Mesh::new(&grpc).await.text("http://reviews/").await, "HTTP/2.0");
}

#[tokio::test]
async fn where_the_client_s_protocol_is_used_each_request_is_sent_on_as_it_came() {
    let server = Server::start(version).await;
    let rule = policy("reviews", "{connectionPool: {http: {useClientProtocol: true}}}");
    let mesh = Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &rule)).await;
    for (sent, seen) in [(Version::HTTP_2, "HTTP/2.0"), (Version::HTTP_11, "HTTP/1.1")].repeat(3) {
        let request = Request::get("http://reviews/").version(sent).body(Empty::<Bytes>::new()).unwrap();
        let answer = mesh.client.send(request).await.unwrap();
        assert_eq!(answer.into_body().text().await.unwrap(), seen);
    }
    assert_eq!(server.accepted(), 2, "one connection for each");
}

#[tokio::test]
async fn another_protocol_after_a_reload_means_other_connections() {
    let server = Server::start(version).await;
    let reviews = service("reviews", &[(server.address, "v1")]);
    let mesh = Mesh::new(&reviews).await;
    assert_eq!(mesh.text("http://reviews/").await, "HTTP/1.1");
    mesh.apply(
        &(reviews.clone() + &policy("reviews", "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}")),
    );
    assert_eq!(mesh.text("http://reviews/").await, "HTTP/2.0");
    until("the old connection to be closed", || server.open() == 1).await;
}

#[tokio::test]
async fn a_connection_carries_as_many_streams_as_the_rule_allows() {
    let (server, gate) = gated("ok").await;
    let rule =
        policy("reviews", "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 2}}}");
    let mesh = Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &rule)).await;
    let calls: Vec<_> = (0..5).map(|_| spawn_get(&mesh, "/slow")).collect();
    until("three connections for five calls", || server.accepted() == 3).await;
    gate.add_permits(5);
    for call in calls {
        assert_eq!(call.await.unwrap(), "ok");
    }
    assert_eq!(server.accepted(), 3);
}

/// The call that is under way when its connection has come of age ends well; the next one gets another connection.
#[tokio::test]
async fn a_connection_that_is_old_enough_is_replaced_without_losing_a_call() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (server, gate) = gated("ok").await;
        let rule = policy("reviews", "{connectionPool: {tcp: {maxConnectionDuration: 100ms}}}");
        let mesh =
            Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &rule)).await.speaking(protocol);
        let slow = spawn_get(&mesh, "/slow");
        until("the slow call to have its connection", || server.open() == 1).await;
        let before = server.accepted();
        while server.accepted() < before + 2 {
            assert_eq!(mesh.text("http://reviews/").await, "ok", "{protocol:?}");
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
        assert_eq!(slow.await.unwrap(), "ok", "{protocol:?}");
        until("every connection to be closed, though the idle time is an hour", || server.open() == 0).await;
    }
}

#[tokio::test]
async fn the_idle_timeout_of_tcp_counts_where_http_has_none() {
    let server = Server::start(|_| async { answer("ok") }).await;
    let rule = policy("reviews", "{connectionPool: {tcp: {idleTimeout: 100ms}}}");
    let mesh = Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &rule)).await;
    assert_eq!(mesh.text("http://reviews/").await, "ok");
    until("the connection to be closed", || server.open() == 0).await;
}

/// The peer takes the connection and says nothing to the handshake.
#[tokio::test]
async fn a_connection_that_is_not_made_within_the_time_of_the_rule_is_an_error() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rule = policy("reviews", "{connectionPool: {tcp: {connectTimeout: 50ms}}}");
    let mesh = Mesh::new(&(meshed("reviews", &[(silent.local_addr().unwrap(), "v1")]) + &rule)).await;
    mesh.identify(&Ca::new(), "client");
    let error = mesh.client.send(post("x")).await.unwrap_err();
    assert!(error.to_string().contains("within 50ms"), "{error}");
    assert!(!error.may_have_been_sent());
}

/// With our own 30 s and 10 s this test would not end in time.
#[tokio::test]
async fn pings_are_sent_as_often_as_the_rule_says_and_an_unanswered_one_ends_the_connection() {
    let (address, ends) = silent_http2().await;
    let keep_alive = "http2KeepAlive: {interval: 50ms, timeout: 50ms}";
    let rule = policy(
        "reviews",
        &format!("{{connectionPool: {{http: {{h2UpgradePolicy: UPGRADE, {keep_alive}}}}}}}"),
    );
    let mesh = Mesh::new(&(service("reviews", &[(address, "v1")]) + &rule)).await;
    let error = mesh.client.send(post("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reset, "{error}");
    let ended = ends.load(SeqCst);
    assert!(mesh.get("http://reviews/").now_or_never().is_none(), "it waits for its connection");
    until("an idle connection to be given up too", || ends.load(SeqCst) > ended).await;
}

#[tokio::test]
async fn statuses_that_the_rule_lists_eject_and_others_do_not() {
    for (answered, ejected) in [(429, true), (500, false)] {
        let server = Server::start(move |_| async move { status(answered) }).await;
        let rule = policy(
            "reviews",
            "{outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100, outlierDetectionHttpErrorCodes: [429]}}",
        );
        let mesh = Mesh::new(&(service("reviews", &[(server.address, "v1")]) + &rule)).await;
        for _ in 0..2 {
            assert_eq!(mesh.get("http://reviews/").await.unwrap().status(), answered);
        }
        let no_endpoint = mesh.get("http://reviews/").await.is_err_and(|error| error.is_no_endpoints());
        assert_eq!(no_endpoint, ejected, "{answered}");
    }
}

/// Without a rule, ten futile retries of twenty calls are the end of it.
#[tokio::test]
async fn a_retry_budget_replaces_the_one_that_is_always_on_and_the_limit_on_retries() {
    for (rule, requests) in [
        ("{retryBudget: {percent: 100, minRetryConcurrency: 1}}", 60),
        ("{retryBudget: {percent: 100}, connectionPool: {http: {maxRetries: 1}}}", 60),
        ("{retryBudget: {percent: 0, minRetryConcurrency: 0}}", 20),
    ] {
        let seen = Arc::new(AtomicUsize::new(0));
        let server = Server::start({
            let seen = Arc::clone(&seen);
            move |_| {
                seen.fetch_add(1, SeqCst);
                async { status(503) }
            }
        })
        .await;
        let retries = "- route: [{destination: {host: reviews}}]\n    retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}";
        let mesh = Mesh::new(
            &(service("reviews", &[(server.address, "v1")])
                + &routes("reviews", retries)
                + &policy("reviews", rule)),
        )
        .await;
        for _ in 0..20 {
            assert_eq!(mesh.get("http://reviews/").await.unwrap().status(), 503);
        }
        assert_eq!(seen.load(SeqCst), requests, "{rule}");
    }
}

async fn version(request: Request<Incoming>) -> Answer {
    answer(format!("{:?}", request.version()))
}

/// A peer that begins to speak HTTP/2 and answers neither requests nor pings; and how many connections have ended.
async fn silent_http2() -> (SocketAddr, Arc<AtomicUsize>) {
    // An empty SETTINGS frame.
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ends = Arc::new(AtomicUsize::new(0));
    let ended = Arc::clone(&ends);
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                tcp.write_all(SETTINGS).await.unwrap();
                while tcp.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
                ended.fetch_add(1, SeqCst);
            });
        }
    });
    (address, ends)
}

fn spawn_get(mesh: &Mesh, path: &str) -> JoinHandle<String> {
    let (client, url) = (mesh.client.clone(), format!("http://reviews{path}"));
    tokio::spawn(async move { client.get(&url).await.unwrap().into_body().text().await.unwrap() })
}
