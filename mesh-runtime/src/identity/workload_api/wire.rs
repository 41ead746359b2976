//! How a Workload API is asked: one gRPC call over one HTTP/2 connection, and the messages as
//! `standards/workloadapi.proto` has them.
//!
//! Written by hand: it is one call, and a build needs no `protoc`.
// spec: spiffe standards/workloadapi.proto; SPIFFE_Workload_Endpoint.md section 3

use super::Socket;
use crate::task::Task;
use http::{Request, Response, Uri, uri::PathAndQuery};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    collections::HashMap,
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::{Status, Streaming, body::Body, client::Grpc, metadata::MetadataValue};
use tonic_prost::ProstCodec;
use zeroize::Zeroize as _;

/// The answers to one call. Dropped, it ends the call and its connection.
pub(super) struct Answers {
    answers: Streaming<X509SvidResponse>,
    _connection: Task,
}

impl Answers {
    /// Calls `FetchX509SVID`, and returns once the call is accepted.
    pub(super) async fn ask(socket: &Socket) -> Result<Self, AskError> {
        match socket {
            #[cfg(unix)]
            Socket::Unix(path) => Self::ask_over(tokio::net::UnixStream::connect(path).await?).await,
            #[cfg(not(unix))]
            Socket::Unix(_) => Err(AskError::Unreachable(io::ErrorKind::Unsupported.into())),
            Socket::Tcp(address) => Self::ask_over(TcpStream::connect(address).await?).await,
        }
    }

    async fn ask_over<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: T) -> Result<Self, AskError> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PONG_MAX)
            // hyper takes a connection for idle whose sender is gone, as ours is while its one call is answered.
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(io))
            .await
            .map_err(io::Error::other)?;
        // How it ends, the call says.
        let connection = Task::spawn(async move { drop(connection.await) });
        let mut request = tonic::Request::new(X509SvidRequest {});
        request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
        let mut grpc = Grpc::with_origin(Channel(sender), Uri::from_static("http://localhost"))
            .max_decoding_message_size(ANSWER_LEN_MAX);
        grpc.ready().await.map_err(io::Error::other)?;
        let path = PathAndQuery::from_static("/SpiffeWorkloadAPI/FetchX509SVID");
        let answers = grpc.server_streaming(request, path, ProstCodec::default()).await?.into_inner();
        Ok(Self { answers, _connection: connection })
    }

    /// Returns the next answer; `None` if the Workload API ends the call without a reason.
    pub(super) async fn next(&mut self) -> Result<Option<X509SvidResponse>, AskError> {
        Ok(self.answers.message().await?)
    }
}

/// Why there is no answer, or not another one.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("cannot be reached ({0})")]
    Unreachable(#[from] io::Error),
    #[error("answered {:?} ({})", .0.code(), .0.message().escape_debug())]
    Status(#[from] Status),
}

/// One connection, as tonic calls it.
struct Channel(SendRequest<Body>);

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct X509SvidRequest {}

/// Everything there is to know; what it does not hold is no longer so.
#[derive(prost::Message)]
pub(super) struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<X509Svid>,
    /// DER, one certificate after the other, by trust domain.
    #[prost(map = "string, bytes", tag = "3")]
    pub(super) federated_bundles: HashMap<String, Vec<u8>>,
}

/// One SVID. Its `Debug` shows nothing of the key.
#[derive(prost::Message)]
#[prost(skip_debug)]
pub(super) struct X509Svid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    /// DER, one certificate after the other, the leaf first.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) x509_svid: Vec<u8>,
    /// PKCS#8.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) x509_svid_key: Vec<u8>,
    /// DER, one certificate after the other.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) hint: String,
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Svid")
            .field("spiffe_id", &self.spiffe_id)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

/// The key of every SVID goes, taken or not. What tonic and the kernel copied on the way is out of reach.
impl Drop for X509Svid {
    fn drop(&mut self) {
        self.x509_svid_key.zeroize();
    }
}

// A silent connection is the rule: answers come when a certificate is due. gRPC servers written in Go, as SPIRE's agent
// is, end a connection that is pinged more often than every five minutes.
// spec: grpc-go keepalive/keepalive.go EnforcementPolicy.MinTime
const PING_INTERVAL: Duration = Duration::from_secs(6 * 60);
const PONG_MAX: Duration = Duration::from_secs(20);

// What gRPC takes unless told otherwise: a thousand roots and more.
const ANSWER_LEN_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_log_line_shows_a_key() {
        let mut answer = X509SvidResponse { svids: vec![X509Svid::default()], ..Default::default() };
        answer.svids[0].spiffe_id = "spiffe://a/b".to_owned();
        answer.svids[0].x509_svid_key = b"secret".to_vec();
        let shown = format!("{answer:?}");
        assert!(shown.contains("spiffe://a/b"), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
    }
}
