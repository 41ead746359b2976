//! The admin listener: `/metrics`, `/config`, `/clusters`, `/identity`, `/callers`, `/healthz`, `/readyz`. Loopback by default.
//!
//! It only shows: nothing can be changed through it, whoever reaches it.

mod pages;
mod timestamp;

use crate::{
    callers::Callers, clock::Clock, config::ConfigStore, identity::IdentityStore, progress::Progress,
    task::Task, telemetry::Telemetry,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

/// What there is to show.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) clock: Clock,
    pub(crate) config: Arc<ConfigStore>,
    pub(crate) identity: Arc<IdentityStore>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) callers: Arc<Callers>,
    pub(crate) progress: Arc<Progress>,
}

/// Listens on `address` and answers until the returned task is dropped. Returns the address in fact.
pub(crate) async fn listen(address: SocketAddr, sources: Sources) -> io::Result<(SocketAddr, Task)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    if !bound.ip().is_loopback() {
        tracing::warn!(address = %bound, "the admin listener shows configuration and identities beyond this machine");
    }
    if address.port() == 0 {
        // Whoever asked for any port has no other way to learn which.
        // A reader that is gone is no reason to fail.
        let _ = writeln!(std::io::stdout(), "admin on http://{bound}");
    }
    tracing::info!(address = %bound, "admin listener");
    Ok((bound, Task::spawn(accept(listener, Arc::new(sources)))))
}

async fn accept(listener: TcpListener, sources: Arc<Sources>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: trying at once would only burn the CPU.
                tracing::debug!("admin listener: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Beyond the bound the connection is closed, not queued: whoever looks will look again.
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let sources = Arc::clone(&sources);
            connections.spawn(async move {
                serve(stream, &sources).await;
                drop(place);
            });
        }
    }
}

async fn serve(stream: TcpStream, sources: &Sources) {
    let answer =
        service_fn(
            |request: Request<Incoming>| async move { Ok::<_, Infallible>(answer(&request, sources)) },
        );
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_LIMIT)
        .max_buf_size(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    // How it ends is the visitor's business.
    let _ = timeout(CONNECTION_LIMIT, connection).await;
}

fn answer(request: &Request<Incoming>, sources: &Sources) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let ok = StatusCode::OK;
    match request.uri().path() {
        "/metrics" => page(ok, METRICS, metrics(sources)),
        "/config" => page(ok, JSON, pages::config(sources)),
        "/clusters" => page(ok, JSON, pages::clusters(sources)),
        "/callers" => page(ok, JSON, pages::callers(sources)),
        "/identity" => page(ok, JSON, pages::identity(sources)),
        "/healthz" => page(ok, TEXT, "ok\n".to_owned()),
        "/readyz" => match sources.progress.readiness() {
            crate::Readiness::Ready => page(ok, TEXT, "ready\n".to_owned()),
            crate::Readiness::NotReady(reason) => {
                page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {reason}\n"))
            }
        },
        _ => page(StatusCode::NOT_FOUND, TEXT, PAGES.to_owned()),
    }
}

fn metrics(sources: &Sources) -> String {
    let (snapshot, now) = (sources.config.current(), sources.clock.now());
    sources.telemetry.render(&sources.progress, &sources.identity, &snapshot, now)
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(Bytes::from(body)));
    *page.status_mut() = status;
    page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    page
}

const PAGES: &str = "there are /metrics, /config, /clusters, /identity, /callers, /healthz and /readyz\n";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const CONNECTIONS_MAX: usize = 32;
const HEADERS_MAX: usize = 16 * 1024;
const HEADERS_LIMIT: Duration = Duration::from_secs(5);
/// A scraper keeps its connection; one that does not read must not keep it for ever.
const CONNECTION_LIMIT: Duration = Duration::from_secs(600);
