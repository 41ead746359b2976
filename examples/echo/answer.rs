//! The mesh port: any path answers what the handler saw of the request.

use crate::{
    body::{Broken, Filler, Trickle},
    call,
    seen::Seen,
    steer::{Habits, Steering},
};
use axum::{
    Json, Router,
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use mesh::{Context, Mesh, Peer};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::Semaphore;

/// The service behind the mesh port.
#[derive(Clone)]
pub(crate) struct Echo(Arc<Inner>);

struct Inner {
    mesh: Mesh,
    seen: Arc<Seen>,
    habits: Habits,
    /// A place for each request that it works on at one time.
    places: Semaphore,
}

/// What a handler saw.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    service: String,
    version: String,
    namespace: String,
    instance: String,
    method: String,
    path: String,
    query: String,
    host: String,
    headers: BTreeMap<String, Vec<String>>,
    peer: Option<String>,
    protocol: String,
    deadline_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<call::Outcome>,
}

impl Echo {
    /// Returns the service of `mesh`; what it handles is counted in `seen`.
    pub(crate) fn new(mesh: &Mesh, seen: &Arc<Seen>, habits: Habits) -> Self {
        let places = Semaphore::new(habits.at_once.unwrap_or(Semaphore::MAX_PERMITS));
        Self(Arc::new(Inner { mesh: mesh.clone(), seen: Arc::clone(seen), habits, places }))
    }

    /// Returns it as something to serve.
    pub(crate) fn into_service(self) -> Router {
        Router::new().fallback(handle).with_state(self)
    }
}

type Pairs = Vec<(String, String)>;

async fn handle(State(echo): State<Echo>, Query(query): Query<Pairs>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut answer = echo.0.answer(&parts);
    echo.0.seen.add(&answer.method, &answer.path, answer.peer.as_deref().unwrap_or("none"));
    let steering = match Steering::read(&query, echo.0.habits, || fastrand::f64() * 100.0) {
        Ok(steering) => steering,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    if let Err(why) = discard(body).await {
        return (StatusCode::BAD_REQUEST, format!("the request body broke off: {why}")).into_response();
    }
    // The semaphore is never closed, so a place always comes.
    let _place = echo.0.places.acquire().await;
    if let Some(delay) = steering.delay {
        tokio::time::sleep(delay).await;
    }
    if steering.abort {
        return Response::new(Body::new(Broken));
    }
    if let Some(url) = &steering.call {
        answer.call = Some(call::get(&echo.0.mesh, url).await);
    }
    let status = steering.status.unwrap_or(StatusCode::OK);
    let text = |body| (status, [("content-type", "text/plain")], body).into_response();
    match (steering.size, steering.stream) {
        _ if is_bare(status) => status.into_response(),
        (Some(size), _) => text(Body::new(Filler(size))),
        (None, Some(time)) => text(Body::new(Trickle::lasting(time))),
        (None, None) => (status, Json(answer)).into_response(),
    }
}

/// Returns whether an answer of this status ends with its head. HTTP/1.1 would drop a body, HTTP/2 would send it.
// spec: rfc9110 15.3.5, 15.4.5
fn is_bare(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

impl Inner {
    fn answer(&self, request: &Parts) -> Answer {
        let workload = self.mesh.workload();
        let settings = workload.settings();
        let now = workload.clock().now();
        let left = Context::current().deadline().map(|deadline| now.until(deadline).as_millis());
        Answer {
            service: settings.service.clone(),
            version: settings.labels.get("version").cloned().unwrap_or_default(),
            namespace: settings.namespace.clone(),
            instance: workload.instance().to_owned(),
            method: request.method.to_string(),
            path: request.uri.path().to_owned(),
            query: request.uri.query().unwrap_or_default().to_owned(),
            host: host(request),
            headers: shown(&request.headers),
            peer: request.extensions.get::<Peer>().map(|peer| peer.id().to_string()),
            protocol: format!("{:?}", request.version),
            deadline_ms: left.map(|left| u64::try_from(left).unwrap_or(u64::MAX)),
            call: None,
        }
    }
}

/// Returns headers as JSON shows them: every value of a name, in order.
pub(crate) fn shown(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut shown = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        shown.entry(name.to_string()).or_default().push(value);
    }
    shown
}

/// Returns `:authority` of HTTP/2, or `Host` of HTTP/1.1.
fn host(request: &Parts) -> String {
    let header =
        || request.headers.get("host").map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    request.uri.authority().map(ToString::to_string).or_else(header).unwrap_or_default()
}

/// Reads `body` to its end, so that the caller's upload completes, and keeps nothing of it.
async fn discard(mut body: Body) -> Result<(), axum::Error> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}
