//! A control endpoint that does what a test tells it to, over plain HTTP or TLS.

use crate::authority::Authority;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use mesh_runtime::{
    Settings,
    control::{JoinToken, wire::CONTROL_ID_PATH},
    crypto::provider,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinHandle},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

pub(crate) struct Fake {
    pub(crate) state: Arc<State>,
    address: SocketAddr,
    tls: bool,
    accepting: JoinHandle<()>,
}

pub(crate) struct State {
    pub(crate) authority: Mutex<Authority>,
    served: watch::Sender<Value>,
    replies: Mutex<BTreeMap<&'static str, Reply>>,
    seen: Mutex<Vec<Seen>>,
    down: Mutex<bool>,
    connections: Mutex<Vec<AbortHandle>>,
    /// Whom it certifies, and for how long.
    pub(crate) subject: Mutex<(String, Duration)>,
}

/// A scripted reply.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) body: Bytes,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) bearer: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) prefer: Option<String>,
    /// Whether the connection showed a client certificate.
    pub(crate) certified: bool,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl Fake {
    pub(crate) async fn plain() -> Self {
        Self::start(None).await
    }

    pub(crate) async fn tls() -> Self {
        Self::start(Some(CONTROL_ID_PATH)).await
    }

    /// An endpoint whose certificate is for `path` of the trust domain.
    pub(crate) async fn tls_as(path: &'static str) -> Self {
        Self::start(Some(path)).await
    }

    async fn start(path: Option<&str>) -> Self {
        let authority = Authority::new();
        let acceptor = path.map(|path| acceptor(&authority, &format!("spiffe://cluster.local{path}")));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let first = answer("v1", json!([]));
        let state = Arc::new(State {
            authority: Mutex::new(authority),
            served: watch::channel(first).0,
            replies: Mutex::default(),
            seen: Mutex::default(),
            down: Mutex::default(),
            connections: Mutex::default(),
            subject: Mutex::new((CHECKOUT.to_owned(), Duration::from_secs(3600))),
        });
        let tls = acceptor.is_some();
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&state)));
        Self { state, address, tls, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http{}://{}", if self.tls { "s" } else { "" }, self.address)
    }

    pub(crate) fn token(&self) -> JoinToken {
        self.token_with_pin(&self.state.authority.lock().unwrap().pin())
    }

    pub(crate) fn token_with_pin(&self, pin: &str) -> JoinToken {
        let claims = json!({
            "namespace": "default", "service_account": "checkout", "expires": 4_000_000_000_u64,
            "ca_sha256": pin, "nonce": "1",
        });
        JoinToken::parse(&format!("mesh1.{}.{TAG}", URL_SAFE_NO_PAD.encode(claims.to_string()))).unwrap()
    }

    /// Settings of a workload that joins this endpoint.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::for_service("checkout");
        settings.control = Some(self.url());
        settings.join_token = Some(self.token());
        settings
    }

    /// Serves `items` under a new version; who waits is answered.
    pub(crate) fn serve(&self, version: &str, items: Value) {
        self.serve_answer(answer(version, items));
    }

    pub(crate) fn serve_answer(&self, answer: Value) {
        self.state.served.send_replace(answer);
    }

    /// From now on requests whose path starts with `path` get `reply`, or what they should if there is none.
    pub(crate) fn script(&self, path: &'static str, reply: Option<Reply>) {
        let mut replies = self.state.replies.lock().unwrap();
        match reply {
            Some(reply) => replies.insert(path, reply),
            None => replies.remove(path),
        };
        drop(replies);
        // Polls that wait must see it too.
        self.state.served.send_modify(|_| {});
    }

    /// Cuts every connection, and every new one at once, until it is up again.
    pub(crate) fn down(&self) {
        *self.state.down.lock().unwrap() = true;
        self.state.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }

    pub(crate) fn up(&self) {
        *self.state.down.lock().unwrap() = false;
    }

    /// The requests so far whose path starts with `path`.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.state.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.path.starts_with(path)).cloned().collect()
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.state.connections.lock().unwrap().iter().filter(|connection| !connection.is_finished()).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
        self.down();
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        if *state.down.lock().unwrap() {
            continue;
        }
        let connection = tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&state)));
        state.connections.lock().unwrap().push(connection.abort_handle());
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    let Some(acceptor) = acceptor else { return serve(stream, false, state).await };
    if let Ok(stream) = acceptor.accept(stream).await {
        let certified = stream.get_ref().1.peer_certificates().is_some();
        serve(stream, certified, state).await;
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    certified: bool,
    state: Arc<State>,
) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(state.answer(request, certified).await) }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl State {
    async fn answer(&self, request: Request<Incoming>, certified: bool) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let header =
            |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let seen = Seen {
            method: head.method.to_string(),
            path: head.uri.to_string(),
            bearer: header("authorization")
                .and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned)),
            etag: header("if-none-match"),
            prefer: header("prefer"),
            certified,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        self.seen.lock().unwrap().push(seen.clone());
        let path = head.uri.path();
        if let Some(reply) = self.scripted(path) {
            return response(&reply);
        }
        if seen.bearer.is_none() && !certified && path != "/v1/bundle" {
            return response(&Reply::new(401, r#"{"code": "unauthenticated", "message": "who are you?"}"#));
        }
        match path {
            "/v1/bundle" => json_answer(&json!({"trustDomain": "cluster.local", "bundles": self.bundles()})),
            "/v1/certificates" => self.certificate(&seen.body),
            "/v1/resources" => self.resources(seen.etag.as_deref(), seen.prefer.is_some()).await,
            _ => json_answer(&json!({})),
        }
    }

    fn scripted(&self, path: &str) -> Option<Reply> {
        let replies = self.replies.lock().unwrap();
        replies.iter().find(|(prefix, _)| path.starts_with(**prefix)).map(|(_, reply)| reply.clone())
    }

    fn bundles(&self) -> Value {
        json!({"cluster.local": self.authority.lock().unwrap().pem()})
    }

    fn certificate(&self, ask: &Value) -> Response<Full<Bytes>> {
        let (id, life) = self.subject.lock().unwrap().clone();
        let chain = self.authority.lock().unwrap().certify(ask["csr"].as_str().unwrap(), &id, life);
        json_answer(&json!({"chain": chain, "bundles": self.bundles(), "renewal": RENEWAL}))
    }

    async fn resources(&self, etag: Option<&str>, wait: bool) -> Response<Full<Bytes>> {
        let mut served = self.served.subscribe();
        let known = |served: &Value| Some(version(served)) == etag;
        if known(&served.borrow_and_update()) && wait {
            let _ = timeout(Duration::from_secs(30), served.changed()).await;
            if let Some(reply) = self.scripted("/v1/resources") {
                return response(&reply);
            }
        }
        let current = served.borrow().clone();
        if known(&current) {
            return response(&Reply::new(304, ""));
        }
        let mut answer = json_answer(&current);
        answer.headers_mut().insert("etag", version(&current).parse().unwrap());
        answer
    }
}

pub(crate) fn answer(version: &str, items: Value) -> Value {
    json!({"version": version, "trustDomain": "cluster.local", "items": items})
}

fn version(served: &Value) -> &str {
    served["version"].as_str().unwrap()
}

fn json_answer(value: &Value) -> Response<Full<Bytes>> {
    response(&Reply::new(200, value.to_string()))
}

fn response(reply: &Reply) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(reply.body.clone())).unwrap()
}

fn acceptor(authority: &Authority, id: &str) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let (chain, key) = authority.server(id);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

pub(crate) const CHECKOUT: &str = "spiffe://cluster.local/ns/default/sa/checkout";
pub(crate) const RENEWAL: &str = "renewal-bearer";
pub(crate) const TAG: &str = "dGFn";
