//! The plain port, outside of the mesh: make this workload call others, and see what it was asked and holds.

use crate::{
    call::{self, Call, Outcome},
    say,
    seen::{Counts, Seen},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    routing::get,
};
use mesh::{Context, Mesh, core::config::duration};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// More calls than this in one request would be a load test, and the answer would be held in memory.
const COUNT_MAX: usize = 100_000;

#[derive(Clone)]
struct Plain {
    mesh: Mesh,
    seen: Arc<Seen>,
}

/// Opens the port, and returns the future that is done when `stop` is, and what was in flight then has been answered.
///
/// # Errors
///
/// Returns that the address could not be bound.
pub(crate) async fn serve(
    address: SocketAddr,
    mesh: &Mesh,
    seen: &Arc<Seen>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<impl Future<Output = io::Result<()>>> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    say(format_args!("plain on http://{}", listener.local_addr()?));
    let router = Router::new()
        .route("/mesh/call", get(make_calls))
        .route("/mesh/seen", get(show_seen).delete(forget_seen))
        .route("/mesh/tasks", get(show_tasks))
        .with_state(Plain { mesh: mesh.clone(), seen: Arc::clone(seen) });
    let serving = tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(stop).into_future());
    Ok(async move { serving.await.unwrap_or_else(|error| Err(io::Error::other(error))) })
}

async fn show_seen(State(plain): State<Plain>) -> Json<Counts> {
    Json(plain.seen.counts())
}

async fn forget_seen(State(plain): State<Plain>) -> Json<Counts> {
    plain.seen.reset();
    Json(plain.seen.counts())
}

/// Answers how many tasks there are: what a process leaks that neither its memory nor its descriptors show for long.
async fn show_tasks() -> Json<serde_json::Value> {
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    Json(serde_json::json!({ "alive": alive }))
}

async fn make_calls(
    State(plain): State<Plain>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Vec<Outcome>>, (StatusCode, String)> {
    let batch = Batch::read(&query).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    Ok(Json(batch.run(&plain.mesh).await))
}

/// What one `/mesh/call` asks for.
#[derive(Debug)]
struct Batch {
    call: Call,
    count: usize,
    concurrency: usize,
    timeout: Option<Duration>,
}

impl Batch {
    fn read(query: &[(String, String)]) -> Result<Self, String> {
        let call =
            Call { url: String::new(), method: Method::GET, headers: HeaderMap::new(), body: Bytes::new() };
        let mut batch = Self { call, count: 1, concurrency: 1, timeout: None };
        for (name, value) in query {
            batch.set(name, value)?;
        }
        if batch.call.url.is_empty() {
            return Err("query parameter url is missing".to_owned());
        }
        Ok(batch)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("query parameter {name}={value}: write {expected}");
        match name {
            "url" => value.clone_into(&mut self.call.url),
            "method" => self.call.method = value.parse().map_err(|_| wrong("an HTTP method"))?,
            "body" => self.call.body = Bytes::from(value.to_owned()),
            "header" => {
                let (name, value) = header(value).ok_or_else(|| wrong("NAME:VALUE"))?;
                self.call.headers.append(name, value);
            }
            "count" => self.count = number(value).ok_or_else(|| wrong("a number from 1 to 100000"))?,
            "concurrency" => {
                self.concurrency = number(value).ok_or_else(|| wrong("a number from 1 to 100000"))?
            }
            "timeout" => {
                self.timeout = Some(
                    duration::parse(value).map_err(|error| format!("query parameter timeout: {error}"))?,
                );
            }
            _ => return Err(format!("there is no query parameter {name}")),
        }
        Ok(())
    }

    /// Makes the calls, at most `concurrency` at a time, and returns what came of them in the order of the calls.
    async fn run(&self, mesh: &Mesh) -> Vec<Outcome> {
        let slots = Arc::new(Semaphore::new(self.concurrency));
        let mut calls = JoinSet::new();
        for index in 0..self.count {
            // The semaphore is never closed, so a slot always comes.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
            let (mesh, call, timeout) = (mesh.clone(), self.call.clone(), self.timeout);
            calls.spawn(async move {
                let outcome = within(&mesh, timeout, call::make(&mesh, &call)).await;
                drop(slot);
                (index, outcome)
            });
        }
        let mut outcomes = calls.join_all().await;
        outcomes.sort_by_key(|(index, _)| *index);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// Runs `call` under the caller's deadline, as an inbound request with a deadline would.
async fn within<F: Future>(mesh: &Mesh, timeout: Option<Duration>, call: F) -> F::Output {
    let deadline = timeout.map(|timeout| mesh.workload().clock().now() + timeout);
    Context::new(deadline, None).scope(call).await
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number| (1..=COUNT_MAX).contains(number))
}

fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}
