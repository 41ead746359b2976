//! A client of the control endpoint: HTTP/1.1, one connection per conversation, kept alive.
//!
//! It has no retries and no pool: a conversation that fails says why, and its task decides when to try again.

mod answer;
mod endpoint;

pub(crate) use answer::Answer;
pub(crate) use endpoint::Endpoint;

use super::trust::{Proof, Trust};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

/// One conversation's way to the control endpoint.
pub(crate) struct Client {
    endpoint: Arc<Endpoint>,
    trust: Arc<Trust>,
    connection: Option<Connection>,
}

/// What is asked of the endpoint.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    /// The version already held.
    pub(crate) etag: Option<&'a str>,
    /// How long the endpoint may hold the answer back for news.
    pub(crate) wait: Option<Duration>,
    pub(crate) body: Option<Vec<u8>>,
}

/// Why there is no answer to go by. Reads on after "the control endpoint URL ".
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("does not answer ({0})")]
    Unreachable(String),
    #[error("has no TLS connection for this workload: {0}")]
    Tls(String),
    #[error("does not answer (no {what} within {} s)", .limit.as_secs_f32())]
    Slow { what: &'static str, limit: Duration },
    #[error("broke the connection off: {0}")]
    Broken(String),
    #[error("refused with {status}{}: {message}", if .code.is_empty() { String::new() } else { format!(" {code}") })]
    Refused { status: u16, code: String, message: String },
    #[error(
        "cannot be asked: the certificate has expired (or there never was one), and there is no join token"
    )]
    Unproven,
    #[error("cannot be asked: {0}")]
    Unaskable(String),
    #[error("sent what cannot be used: {0}")]
    Unreadable(String),
}

impl CallError {
    /// Returns whether the endpoint is beyond reach, so that the other conversations need not try either.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Tls(_) | Self::Slow { .. } | Self::Broken(_))
    }

    /// Returns whether it is about who either side is, which a new certificate may settle.
    pub(crate) fn is_doubt(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Refused { status: 401, .. })
    }
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, etag: None, wait: None, body: None }
    }

    pub(crate) fn send(method: Method, path: &'a str, body: &impl serde::Serialize) -> Self {
        // The bodies are our own plain structs, which always serialize; an empty body would be refused with a reason.
        Self {
            method,
            path,
            etag: None,
            wait: None,
            body: Some(serde_json::to_vec(body).unwrap_or_default()),
        }
    }
}

impl Client {
    pub(crate) fn new(endpoint: Arc<Endpoint>, trust: Arc<Trust>) -> Self {
        Self { endpoint, trust, connection: None }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks the endpoint, showing `proof` of who asks.
    ///
    /// A connection that was kept may have been closed by the endpoint since; then the question is asked once more on a
    /// new one, which every question here can stand.
    pub(crate) async fn call(&mut self, ask: &Ask<'_>, proof: &Proof) -> Result<Answer, CallError> {
        let kept = self.connection.take().filter(|connection| connection.serves(proof));
        if let Some(mut connection) = kept {
            match self.exchange(&mut connection, ask, proof).await {
                Err(CallError::Broken(_)) => {}
                result => return self.keep(connection, result),
            }
        }
        let mut connection = self.connect(proof).await?;
        let result = self.exchange(&mut connection, ask, proof).await;
        self.keep(connection, result)
    }

    /// A connection whose answer was not read to the end is of no more use.
    fn keep(
        &mut self,
        connection: Connection,
        result: Result<Answer, CallError>,
    ) -> Result<Answer, CallError> {
        if matches!(&result, Ok(_) | Err(CallError::Refused { .. })) {
            self.connection = Some(connection);
        }
        result
    }

    async fn connect(&self, proof: &Proof) -> Result<Connection, CallError> {
        let slow = |what| move |_| CallError::Slow { what, limit: CONNECT_LIMIT };
        let tcp = TcpStream::connect((self.endpoint.host(), self.endpoint.port()));
        let tcp = timeout(CONNECT_LIMIT, tcp).await.map_err(slow("connection"))?;
        let tcp = tcp.map_err(|e| CallError::Unreachable(reason(&e)))?;
        let _ = tcp.set_nodelay(true);
        if self.endpoint.is_plain() {
            if !tcp.peer_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback()) {
                return Err(CallError::Unreachable("plain HTTP, and the name is not loopback".to_owned()));
            }
            return Connection::open(tcp, proof).await;
        }
        let config = self.trust.tls(proof)?;
        let name = rustls_pki_types::ServerName::try_from(self.endpoint.host().to_owned())
            .map_err(|e| CallError::Tls(e.to_string()))?;
        let tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp);
        let tls = timeout(CONNECT_LIMIT, tls).await.map_err(slow("TLS handshake"))?;
        Connection::open(tls.map_err(|e| CallError::Tls(e.to_string()))?, proof).await
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        ask: &Ask<'_>,
        proof: &Proof,
    ) -> Result<Answer, CallError> {
        let request = self.request(ask, proof)?;
        let limit = ask.wait.unwrap_or_default() + HEAD_LIMIT;
        let sent = timeout(limit, connection.sender.send_request(request)).await;
        let response =
            sent.map_err(|_| CallError::Slow { what: "answer", limit })?.map_err(|e| broken(&e))?;
        answer::read(response).await
    }

    fn request(&self, ask: &Ask<'_>, proof: &Proof) -> Result<Request<Full<Bytes>>, CallError> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(ask.path)
            .header(header::HOST, self.endpoint.authority())
            .header(header::ACCEPT_ENCODING, "gzip")
            .header(header::USER_AGENT, concat!("mesh/", env!("CARGO_PKG_VERSION")));
        if let Proof::Bearer(secret) = proof {
            let mut value = http::HeaderValue::from_str(&format!("Bearer {secret}"))
                .map_err(|_| CallError::Unreadable("a bearer that is no header value".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(etag) = ask.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(wait) = ask.wait {
            request = request.header("prefer", format!("wait={}", wait.as_secs()));
        }
        if ask.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = ask.body.clone().map_or_else(Bytes::new, Bytes::from);
        request.body(Full::new(body)).map_err(|e| CallError::Unreadable(e.to_string()))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// An open connection; its task ends with it, even where the peer has stopped reading.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Who this workload was on it.
    proof: Proof,
    _task: crate::task::Task,
}

impl Connection {
    async fn open<T>(stream: T, proof: &Proof) -> Result<Self, CallError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(&e))?;
        // How the connection ended is said by the request on it.
        let task = crate::task::Task::spawn(async { drop(connection.await) });
        Ok(Self { sender, proof: proof.clone(), _task: task })
    }

    /// Returns whether the connection still stands for `proof`: after a rotation it shows an old certificate.
    fn serves(&self, proof: &Proof) -> bool {
        !self.sender.is_closed() && self.proof.is_same_peer(proof)
    }
}

fn broken(error: &hyper::Error) -> CallError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    CallError::Broken(format!("{error}{cause}"))
}

/// `connection refused` instead of `Connection refused (os error 111)`, where there is such a word.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        kind @ (io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) => kind.to_string(),
        _ => error.to_string(),
    }
}

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const HEAD_LIMIT: Duration = Duration::from_secs(10);
