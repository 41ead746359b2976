//! A second attempt beside one that keeps its caller waiting.

use crate::support::*;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mesh_client::{Error, Protocol, RequestBody, ResponseBody};
use mesh_core::health::Overflow;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinHandle};

const DELAY: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_first_good_answer_wins_and_the_other_attempt_gives_everything_back_and_blames_nobody() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let bed = Bed::new("", "").await.speaking(protocol);
        let call = bed.put("body");
        bed.arrive(1).await;
        pass(DELAY).await;
        bed.arrive(2).await;
        let seen = bed.seen();
        assert_ne!(seen[0].server, seen[1].server, "the second attempt goes elsewhere");
        assert_eq!((seen[0].attempt.as_str(), seen[1].attempt.as_str()), ("1", "2"));
        assert_eq!((seen[0].body.as_str(), seen[1].body.as_str()), ("body", "body"));
        bed.answer(seen[1].server, 200);
        let response = call.await.unwrap().unwrap();
        let info = response.body().call_info().clone();
        assert_eq!((info.attempts, info.flags.to_string().as_str()), (2, ""), "{protocol:?}");
        assert_eq!(info.endpoint.as_deref(), Some(bed.address(seen[1].server).as_str()));
        assert_eq!(response.into_body().text().await.unwrap(), seen[1].server.to_string());
        bed.idle().await;
        assert_eq!(bed.ejected(), 0, "who was not waited for has not failed");
    }
}

#[tokio::test]
async fn the_first_attempt_may_still_win_and_is_the_one_that_is_reported() {
    let bed = Bed::new("", "").await;
    let call = bed.put("body");
    bed.arrive(1).await;
    pass(DELAY).await;
    bed.arrive(2).await;
    let seen = bed.seen();
    bed.answer(seen[0].server, 200);
    let response = call.await.unwrap().unwrap();
    let info = response.body().call_info();
    assert_eq!(info.endpoint.as_deref(), Some(bed.address(seen[0].server).as_str()));
    assert_eq!(info.attempts, 2);
    drop(response);
    bed.idle().await;
}

/// Whichever fails first: the other one is waited for.
#[tokio::test]
async fn a_bad_answer_does_not_win_and_two_of_them_are_a_failure_like_any_other() {
    for failing in [0, 1] {
        for (last, status) in [(200, 200), (503, 503)] {
            let bed = Bed::new("", "retries: {attempts: 1, retryOn: 5xx}").await;
            let call = bed.put("body");
            bed.arrive(1).await;
            pass(DELAY).await;
            bed.arrive(2).await;
            let seen = bed.seen();
            bed.answer(seen[failing].server, 503);
            until("the failed attempt to end", || bed.in_flight() == 1).await;
            assert!(!call.is_finished());
            bed.answer(seen[1 - failing].server, last);
            let response = call.await.unwrap().unwrap();
            assert_eq!(response.status(), status);
            let flags = if status == 503 { "URX" } else { "" };
            assert_eq!(response.body().call_info().flags.to_string(), flags, "the hedge was the one retry");
            assert_eq!(bed.seen().len(), 2);
        }
    }
}

#[tokio::test]
async fn only_idempotent_requests_are_hedged_unless_the_rule_asks_for_any() {
    for (annotation, method, hedged) in [
        ("", Method::GET, true),
        ("", Method::POST, false),
        (", mesh/hedgeAnyMethod: 'true'", Method::POST, true),
    ] {
        let bed = Bed::new(annotation, "").await;
        let call = bed.send(Request::builder().method(&method), "body");
        bed.arrive(1).await;
        pass(DELAY).await;
        if hedged {
            bed.arrive(2).await;
        }
        bed.answer(bed.seen()[0].server, 200);
        let attempts = call.await.unwrap().unwrap().body().call_info().attempts;
        assert_eq!(attempts, if hedged { 2 } else { 1 }, "{annotation} {method}");
    }
}

#[tokio::test]
async fn a_hedge_needs_what_a_retry_needs() {
    for (route, pool) in [
        ("retries: {attempts: 2}", "retryBudget: {percent: 0, minRetryConcurrency: 0}"),
        ("retries: {attempts: 2}, timeout: 1800s", "tls: {mode: DISABLE}"),
    ] {
        let bed = Bed::ruled("", route, pool).await;
        let call = bed.put("body");
        bed.arrive(1).await;
        pass(DELAY).await;
        bed.answer(bed.seen()[0].server, 200);
        let attempts = match call.await.unwrap() {
            Ok(response) => response.body().call_info().attempts,
            Err(error) => error.attempts(),
        };
        assert_eq!((attempts, bed.seen().len()), (1, 1), "{route} {pool}");
    }
}

/// Where every answer is slow, each hedge would win its race: their tokens are spent all the same.
#[tokio::test]
async fn hedges_that_win_stop_at_the_budget_too() {
    let bed = Bed::new("", "").await;
    let mut hedged = 0;
    for _ in 0..25 {
        let before = bed.seen().len();
        let call = bed.put("body");
        bed.arrive(before + 1).await;
        let has_token = bed.tokens() > 0;
        pass(DELAY).await;
        if has_token {
            bed.arrive(before + 2).await;
            hedged += 1;
        }
        bed.answer(bed.seen().last().unwrap().server, 200);
        let attempts = call.await.unwrap().unwrap().body().call_info().attempts;
        assert_eq!(attempts, if has_token { 2 } else { 1 });
        bed.idle().await;
    }
    // Ten tokens to begin with, and a fifth for each call.
    assert!((10..=15).contains(&hedged), "{hedged}");
}

#[tokio::test]
async fn a_dropped_call_drops_both_attempts() {
    let bed = Bed::new("", "").await;
    let call = bed.put("body");
    bed.arrive(1).await;
    pass(DELAY).await;
    bed.arrive(2).await;
    assert_eq!(bed.in_flight(), 2);
    call.abort();
    bed.idle().await;
}

/// Two endpoints that answer when they are told to, and a mesh that hedges what it sends there.
struct Bed {
    servers: [Server; 2],
    gates: [Gate; 2],
    seen: Arc<Mutex<Vec<Seen>>>,
    mesh: Mesh,
}

#[derive(Clone)]
struct Gate {
    permits: Arc<Semaphore>,
    status: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
struct Seen {
    server: usize,
    attempt: String,
    body: String,
}

impl Bed {
    async fn new(annotations: &str, route: &str) -> Self {
        let ejects = "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}";
        Self::ruled(annotations, route, ejects).await
    }

    async fn ruled(annotations: &str, route: &str, policy: &str) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let gates = [(), ()]
            .map(|()| Gate { permits: Arc::new(Semaphore::new(0)), status: Arc::new(AtomicUsize::new(200)) });
        let one = Server::start(handler(0, &gates[0], &seen)).await;
        let two = Server::start(handler(1, &gates[1], &seen)).await;
        let endpoints = service("reviews", &[(one.address, "v1"), (two.address, "v1")]);
        let fields = if route.is_empty() { String::new() } else { format!("{route}, ") };
        let routes = routes("reviews", &format!("- {{{fields}route: [{{destination: {{host: reviews}}}}]}}"));
        let metadata =
            format!("metadata: {{name: reviews, annotations: {{mesh/hedgeDelay: 3600s{annotations}}}}}");
        let routes = routes.replace("metadata: {name: reviews}", &metadata);
        let rule = crate::support::policy("reviews", &format!("{{{policy}}}"));
        let mesh = Mesh::new(&(endpoints + &routes + &rule)).await;
        Self { servers: [one, two], gates, seen, mesh }
    }

    fn speaking(mut self, protocol: Protocol) -> Self {
        self.mesh = self.mesh.speaking(protocol);
        self
    }

    fn put(&self, body: &'static str) -> JoinHandle<Result<Response<ResponseBody>, Error>> {
        self.send(Request::put("http://reviews/"), body)
    }

    fn send(
        &self,
        request: http::request::Builder,
        body: &'static str,
    ) -> JoinHandle<Result<Response<ResponseBody>, Error>> {
        let body = RequestBody::from(Bytes::from_static(body.as_bytes()));
        let request = request.uri("http://reviews/").body(body).unwrap();
        let client = self.mesh.client.clone();
        tokio::spawn(async move { client.send(request).await })
    }

    /// Waits until so many attempts have arrived whole.
    async fn arrive(&self, attempts: usize) {
        until("the attempts to arrive", || self.seen().len() >= attempts).await;
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns what is left of the retry budget.
    fn tokens(&self) -> u64 {
        let snapshot = self.mesh.workload.config().current();
        let cluster = snapshot.clusters().find(|it| it.subset.is_empty()).unwrap();
        cluster.budget.available()
    }

    fn answer(&self, server: usize, status: usize) {
        self.gates[server].status.store(status, SeqCst);
        self.gates[server].permits.add_permits(1);
    }

    fn address(&self, server: usize) -> String {
        self.servers[server].address.to_string()
    }

    fn in_flight(&self) -> u32 {
        self.mesh.endpoint_states().iter().map(|state| state.in_flight()).sum()
    }

    fn ejected(&self) -> usize {
        let now = self.mesh.workload.clock().now();
        self.mesh.endpoint_states().iter().filter(|state| state.is_ejected(now)).count()
    }

    /// Waits until nothing is held any more.
    async fn idle(&self) {
        let state = self.mesh.cluster_state();
        until("everything to be given back", || {
            [Overflow::Requests, Overflow::Pending, Overflow::Retries].iter().all(|&it| state.in_use(it) == 0)
                && self.in_flight() == 0
        })
        .await;
    }
}

fn handler(
    server: usize,
    gate: &Gate,
    seen: &Arc<Mutex<Vec<Seen>>>,
) -> impl Fn(Request<Incoming>) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send>> + Clone + Send + 'static
{
    let (gate, seen) = (gate.clone(), Arc::clone(seen));
    move |request| {
        let (gate, seen) = (gate.clone(), Arc::clone(&seen));
        Box::pin(async move {
            let attempt = request.headers()["x-envoy-attempt-count"].to_str().unwrap().to_owned();
            let Ok(body) = request.into_body().collect().await else { return status(400) };
            let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
            seen.lock().unwrap().push(Seen { server, attempt, body });
            gate.permits.acquire().await.unwrap().forget();
            let mut answer = answer(server.to_string());
            *answer.status_mut() = http::StatusCode::from_u16(gate.status.load(SeqCst) as u16).unwrap();
            answer
        })
    }
}
