//! A mesh of two authorities, a server on a free port, and clients of every kind.

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::{
    config::{Level, Options, istio::MtlsMode, load},
    identity::PeerRule,
    snapshot::{MeshSettings, Viewer},
};
use mesh_runtime::{
    Settings, Workload,
    identity::{Alpn, Bundles, Identity, IdentityStore, Svid, WallClock},
};
use mesh_server::{Peer, RequestBody, ServeError, Server};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::ServerName;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Waits for what must happen; a test that waits in vain fails instead of hanging.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it did not happen within 20 s")
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn identity(&self, account: &str) -> Identity {
        self.identity_that_trusts(account, self)
    }

    pub(crate) fn identity_that_trusts(&self, account: &str, trusted: &Self) -> Identity {
        self.identity_changed(account, trusted, |_| {})
    }

    pub(crate) fn identity_changed(
        &self,
        account: &str,
        trusted: &Self,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        // As istiod does: an SVID has no subject.
        params.distinguished_name = rcgen::DistinguishedName::new();
        let id = format!("spiffe://cluster.local/ns/default/sa/{account}");
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = std::time::SystemTime::now();
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(3600)).into();
        change(&mut params);
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        let svid = Svid::from_pem(&chain, &key.serialize_pem()).unwrap();
        Identity { svid, bundles: Bundles::from_pem([("cluster.local", trusted.pem.as_str())]).unwrap() }
    }
}

pub(crate) async fn workload() -> Workload {
    Workload::start(Settings::for_service("payment")).await.unwrap()
}

pub(crate) fn set_mode(workload: &Workload, mode: MtlsMode) {
    let mode = format!("{mode:?}").to_uppercase();
    let yaml = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                metadata: {name: default, namespace: istio-system}\nspec: {mtls: {mode: MODE}}";
    set_config(workload, &yaml.replace("MODE", &mode));
}

/// Puts the objects of `yaml` in force, and nothing else.
pub(crate) fn set_config(workload: &Workload, yaml: &str) {
    let loaded = load("test.yaml", yaml, &Options::default());
    let found: Vec<_> = loaded.diagnostics.iter().filter(|it| it.level == Level::Error).collect();
    assert!(found.is_empty(), "{found:?}");
    let mut resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
    resources.sort_by(|a, b| a.key.cmp(&b.key));
    let viewer = Viewer {
        namespace: "default".to_owned(),
        service: Some("payment".to_owned()),
        labels: BTreeMap::from([("app".to_owned(), "payment".to_owned())]),
    };
    let settings = MeshSettings::new("cluster.local".parse().unwrap());
    let found = workload.config().compile("1", &resources, &viewer, &settings);
    assert!(found.iter().all(|it| it.level != Level::Error), "{found:?}");
}

/// A running server. Dropping it ends it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) workload: Workload,
    pub(crate) authority: Authority,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    /// Serves `service` under `mode`, with the server changed by `change`.
    pub(crate) async fn start<S, B>(mode: MtlsMode, service: S, change: impl FnOnce(Server) -> Server) -> Self
    where
        S: tower::Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::start_with(workload().await, mode, service, change).await
    }

    /// As [`Running::start`], for `workload`.
    pub(crate) async fn start_with<S, B>(
        workload: Workload,
        mode: MtlsMode,
        service: S,
        change: impl FnOnce(Server) -> Server,
    ) -> Self
    where
        S: tower::Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let authority = Authority::new();
        workload.identity().publish(authority.identity("payment"));
        set_mode(&workload, mode);
        let server = Server::bind(&workload, "127.0.0.1:0").await.unwrap();
        // No test waits for callers to learn something, but those that say so.
        let server = change(server.limits(|limits| limits.drain_delay = Duration::ZERO));
        let address = server.local_addr();
        let (shutdown, asked) = oneshot::channel::<()>();
        let served = tokio::spawn(server.serve(service, async {
            let _ = asked.await;
        }));
        Self { address, workload, authority, shutdown: Some(shutdown), served }
    }

    /// Serves `service` on another port of the same workload, for as long as the runtime lasts.
    pub(crate) async fn beside<S, B>(&self, service: S) -> SocketAddr
    where
        S: tower::Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let server = Server::bind(&self.workload, "127.0.0.1:0").await.unwrap();
        let address = server.local_addr();
        tokio::spawn(server.serve(service, std::future::pending()));
        address
    }

    pub(crate) fn set_mode(&self, mode: MtlsMode) {
        set_mode(&self.workload, mode);
    }

    pub(crate) fn shut_down(&mut self) {
        let _ = self.shutdown.take().expect("shut down once").send(());
    }

    pub(crate) async fn ended(self) {
        soon(self.served).await.unwrap().unwrap();
    }

    /// A client with an SVID that the server trusts.
    pub(crate) async fn mtls(&self, alpn: Alpn) -> TlsStream<TcpStream> {
        self.tls_as(self.authority.identity("checkout"), alpn).await.unwrap()
    }

    pub(crate) async fn tls_as(&self, identity: Identity, alpn: Alpn) -> io::Result<TlsStream<TcpStream>> {
        self.tls_over(TcpStream::connect(self.address).await?, identity, alpn).await
    }

    pub(crate) async fn tls_over<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        identity: Identity,
        alpn: Alpn,
    ) -> io::Result<TlsStream<S>> {
        let store = IdentityStore::empty();
        store.publish(identity);
        let config = store.client_config(&PeerRule::Verified, alpn).unwrap();
        TlsConnector::from(config).connect(ServerName::try_from("payment").unwrap(), stream).await
    }

    /// A client that shows `identity` even if it is not valid now: it is when the configuration is asked for.
    pub(crate) async fn tls_showing(&self, identity: Identity) -> io::Result<TlsStream<TcpStream>> {
        let asking = Arc::new(AtomicBool::new(true));
        let (seen, valid) = (Arc::clone(&asking), identity.svid.not_before());
        let now = move || if seen.load(Relaxed) { valid } else { SystemTime::now() };
        let store = IdentityStore::with_clock(WallClock::new(now));
        store.publish(identity);
        let config = store.client_config(&PeerRule::Verified, Alpn::Http1).unwrap();
        asking.store(false, Relaxed);
        connect_tls(self.address, config).await
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A client that speaks TLS and shows no certificate.
    pub(crate) async fn tls_anonymous(&self, alpn: Option<&str>) -> io::Result<TlsStream<TcpStream>> {
        self.tls_in(rustls::DEFAULT_VERSIONS, alpn).await
    }

    /// Likewise, in one of `versions`.
    pub(crate) async fn tls_in(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: Option<&str>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut config = rustls::ClientConfig::builder_with_provider(mesh_runtime::crypto::provider())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustsAnybody))
            .with_no_client_auth();
        config.alpn_protocols = alpn.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        connect_tls(self.address, Arc::new(config)).await
    }
}

async fn connect_tls(
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(config).connect(ServerName::try_from("payment").unwrap(), stream).await
}

#[derive(Debug)]
struct TrustsAnybody;

impl rustls::client::danger::ServerCertVerifier for TrustsAnybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        mesh_runtime::crypto::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Writes a byte at a time, each a packet of its own.
pub(crate) struct Trickle(pub(crate) TcpStream);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let one = bytes.len().min(1);
        self.0.set_nodelay(true)?;
        Pin::new(&mut self.0).poll_write(cx, &bytes[..one])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// A conversation of a client, in either protocol.
pub(crate) enum Client {
    Http1(hyper::client::conn::http1::SendRequest<Body>),
    Http2(hyper::client::conn::http2::SendRequest<Body>),
}

pub(crate) async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Client::Http1(send)
}

pub(crate) async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let windows = builder.initial_stream_window_size(64 * 1024).initial_connection_window_size(1 << 20);
    let (send, connection) = windows.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Client::Http2(send)
}

impl Client {
    pub(crate) async fn send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(send) => {
                send.ready().await?;
                if request.version() == Version::HTTP_11 && !request.headers().contains_key("host") {
                    request.headers_mut().insert("host", "payment".parse().unwrap());
                }
                send.send_request(request).await
            }
            Self::Http2(send) => {
                send.ready().await?;
                *request.version_mut() = Version::HTTP_2;
                if request.uri().authority().is_none() {
                    *request.uri_mut() = format!("http://payment{}", request.uri()).parse().unwrap();
                }
                send.send_request(request).await
            }
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> hyper::Result<(StatusCode, String)> {
        text(soon(self.send(get(path))).await?).await
    }

    /// Whether the connection has ended.
    pub(crate) async fn ended(&mut self) {
        soon(async {
            loop {
                let closed = match self {
                    Self::Http1(send) => send.is_closed() || send.ready().await.is_err(),
                    Self::Http2(send) => send.is_closed() || send.ready().await.is_err(),
                };
                if closed {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(empty()).unwrap()
}

pub(crate) fn empty() -> Body {
    Empty::new().boxed()
}

pub(crate) async fn text(response: Response<Incoming>) -> hyper::Result<(StatusCode, String)> {
    let status = response.status();
    let body = soon(response.into_body().collect()).await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}

/// Sends `bytes` on a plain connection and reads until the server closes it.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses may close before all is written.
    let _ = stream.write_all(bytes).await;
    read_to_close(&mut stream).await
}

/// Reads until the other side closes or resets.
pub(crate) async fn read_to_close(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    let _ = soon(stream.read_to_end(&mut read)).await;
    String::from_utf8_lossy(&read).into_owned()
}

/// Answers what it saw: peer, path, host and headers, a line each.
pub(crate) fn mirror()
-> impl tower::Service<Request<RequestBody>, Response = Response<String>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    tower::service_fn(|request: Request<RequestBody>| async move {
        let peer = request.extensions().get::<Peer>().map_or("none".to_owned(), |peer| peer.id().to_string());
        let mut seen = format!("peer {peer}\nuri {}\nversion {:?}\n", request.uri(), request.version());
        for (name, value) in request.headers() {
            seen += &format!("{name}: {}\n", value.to_str().unwrap());
        }
        Ok(Response::new(seen))
    })
}

pub(crate) const CHECKOUT: &str = "peer spiffe://cluster.local/ns/default/sa/checkout\n";

/// A door that handlers come to and wait at.
#[derive(Clone)]
pub(crate) struct Door {
    arrived: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Door {
    pub(crate) fn new() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), opened: Arc::new(Semaphore::new(0)) }
    }

    /// Says that it is here, and waits until it may pass.
    pub(crate) async fn pass(&self) {
        self.arrived.add_permits(1);
        self.opened.acquire().await.unwrap().forget();
    }

    /// Waits until `n` more have come.
    pub(crate) async fn on_arrival(&self, n: u32) {
        soon(self.arrived.acquire_many(n)).await.unwrap().forget();
    }

    pub(crate) fn has_arrivals(&self) -> bool {
        self.arrived.available_permits() > 0
    }

    pub(crate) fn open(&self, n: usize) {
        self.opened.add_permits(n);
    }
}

/// Answers `/wait` after a door has opened, anything else at once.
pub(crate) fn behind(
    door: Door,
) -> impl tower::Service<Request<RequestBody>, Response = Response<String>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    tower::service_fn(move |request: Request<RequestBody>| {
        let door = door.clone();
        async move {
            if request.uri().path() == "/wait" {
                door.pass().await;
            }
            Ok(Response::new("done".to_owned()))
        }
    })
}

/// Tells when it is dropped.
pub(crate) struct Witness(Arc<Semaphore>);

impl Witness {
    pub(crate) fn new(seen: &Arc<Semaphore>) -> Self {
        Self(Arc::clone(seen))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}
