//! A mesh in one test: real servers on loopback sockets, and a workload whose configuration the test writes.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use mesh_client::{MeshClient, Protocol};
use mesh_core::{
    config::{Level, Options, load},
    identity::TrustDomain,
    registry::LOCALITY_LABEL,
    snapshot::{MeshSettings, Viewer},
};
use mesh_runtime::{
    Settings, Workload,
    identity::{Bundles, Identity, IdentityStore, Svid},
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    task::JoinHandle,
};

pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// A workload and its client.
pub(crate) struct Mesh {
    pub(crate) workload: Workload,
    pub(crate) client: MeshClient,
    versions: AtomicUsize,
}

impl Mesh {
    /// Returns a workload with this configuration.
    pub(crate) async fn new(yaml: &str) -> Self {
        let mesh = Self::start(Settings::for_service("client")).await;
        mesh.apply(yaml);
        mesh
    }

    pub(crate) async fn start(settings: Settings) -> Self {
        let workload = Workload::start(settings).await.unwrap();
        let client = MeshClient::new(&workload);
        Self { workload, client, versions: AtomicUsize::new(0) }
    }

    /// Speaks only `protocol` from here on.
    pub(crate) fn speaking(mut self, protocol: Protocol) -> Self {
        self.client = MeshClient::builder(&self.workload).protocol(protocol).build();
        self
    }

    /// Puts this configuration in force; hosts that it does not name are passed through.
    pub(crate) fn apply(&self, yaml: &str) {
        self.apply_with(yaml, true);
    }

    pub(crate) fn apply_with(&self, yaml: &str, allow_any: bool) {
        self.compile(yaml, allow_any, BTreeMap::new());
    }

    /// Puts this configuration in force, for a caller in that locality.
    pub(crate) fn apply_seen_from(&self, locality: &str, yaml: &str) {
        self.compile(yaml, true, BTreeMap::from([(LOCALITY_LABEL.to_owned(), locality.to_owned())]));
    }

    fn compile(&self, yaml: &str, allow_any: bool, labels: BTreeMap<String, String>) {
        let loaded = load("test.yaml", yaml, &Options::default());
        let resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
        let viewer = Viewer { namespace: "default".to_owned(), service: None, labels };
        let mut settings = MeshSettings::new("cluster.local".parse::<TrustDomain>().unwrap());
        settings.allow_any = allow_any;
        let version = self.versions.fetch_add(1, SeqCst).to_string();
        let found = self.workload.config().compile(&format!("v{version}"), &resources, &viewer, &settings);
        let wrong: Vec<_> =
            loaded.diagnostics.iter().chain(&found).filter(|it| it.level == Level::Error).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    pub(crate) fn identify(&self, ca: &Ca, account: &str) {
        self.workload.identity().publish(ca.identity(account));
    }

    pub(crate) async fn get(
        &self,
        url: &str,
    ) -> Result<Response<mesh_client::ResponseBody>, mesh_client::Error> {
        self.client.get(url).await
    }

    /// Returns what the admin listener shows as metrics.
    pub(crate) async fn metrics(&self) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut admin = tokio::net::TcpStream::connect(self.workload.admin().unwrap()).await.unwrap();
        let ask = b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        admin.write_all(ask).await.unwrap();
        let mut text = String::new();
        admin.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Returns the state of the first endpoint of the cluster without a subset.
    pub(crate) fn endpoint_state(&self) -> Arc<mesh_core::health::EndpointState> {
        self.endpoint_states().swap_remove(0)
    }

    /// Returns the states of all its endpoints, in the order in which they are written.
    pub(crate) fn endpoint_states(&self) -> Vec<Arc<mesh_core::health::EndpointState>> {
        let snapshot = self.workload.config().current();
        let cluster = snapshot.clusters().find(|it| it.subset.is_empty()).unwrap();
        cluster.endpoints.as_slice().iter().map(|endpoint| Arc::clone(&endpoint.state)).collect()
    }

    pub(crate) fn cluster_state(&self) -> Arc<mesh_core::health::ClusterState> {
        let snapshot = self.workload.config().current();
        Arc::clone(&snapshot.clusters().find(|it| it.subset.is_empty()).unwrap().state)
    }

    pub(crate) async fn text(&self, url: &str) -> String {
        self.get(url).await.unwrap().into_body().text().await.unwrap()
    }
}

/// A service entry of `name` with these endpoints: port, labels, and the account if it speaks mutual TLS.
pub(crate) fn service(name: &str, endpoints: &[(SocketAddr, &str)]) -> String {
    entry(name, endpoints, "")
}

pub(crate) fn meshed(name: &str, endpoints: &[(SocketAddr, &str)]) -> String {
    entry(name, endpoints, "security.istio.io/tlsMode: istio, ")
}

fn entry(name: &str, endpoints: &[(SocketAddr, &str)], labels: &str) -> String {
    let mut text = format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints:{}
",
        if endpoints.is_empty() { " []" } else { "" }
    );
    for (address, version) in endpoints {
        text += &format!(
            "  - {{address: {}, ports: {{http: {}}}, labels: {{{labels}version: {version}}}, serviceAccount: {name}}}\n",
            address.ip(),
            address.port()
        );
    }
    text + "---"
}

/// A virtual service of `name`, mesh-wide, with these routes.
pub(crate) fn routes(name: &str, http: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  http:
  {http}
---"
    )
}

/// A destination rule of `name` with this traffic policy, in flow style.
pub(crate) fn policy(name: &str, traffic_policy: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec: {{host: {name}, trafficPolicy: {traffic_policy}}}
---"
    )
}

/// The same with these annotations, in flow style.
pub(crate) fn annotated(name: &str, annotations: &str, traffic_policy: &str) -> String {
    let metadata = format!("metadata: {{name: {name}, annotations: {{{annotations}}}}}");
    policy(name, traffic_policy).replace(&format!("metadata: {{name: {name}}}"), &metadata)
}

/// Lets `time` pass on the clock of the runtime, at once.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

pub(crate) fn post(body: &'static str) -> Request<Full<Bytes>> {
    Request::post("http://reviews/").body(Full::new(Bytes::from(body))).unwrap()
}

/// An address on which nobody listens.
pub(crate) async fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// What the next handshake is made with.
type Tls = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// A server on a loopback socket.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Connections accepted so far.
    pub(crate) accepted: Arc<AtomicUsize>,
    /// Connections that are open.
    pub(crate) open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves plaintext; HTTP/2 by prior knowledge.
    pub(crate) async fn start<F, Fut>(handle: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        Self::start_at(([127, 0, 0, 1], 0).into(), handle).await
    }

    /// Serves plaintext at an address that is free, because this test has just freed it.
    pub(crate) async fn start_at<F, Fut>(address: SocketAddr, handle: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        Self::listen(address, None, handle).await
    }

    /// Serves mutual TLS with the identity in `store`.
    pub(crate) async fn start_tls<F, Fut>(store: Arc<IdentityStore>, handle: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let config = move || store.server_config(false).unwrap();
        Self::listen(([127, 0, 0, 1], 0).into(), Some(Arc::new(config)), handle).await
    }

    /// Serves TLS as a server outside of the mesh does.
    pub(crate) async fn start_outside<F, Fut>(config: rustls::ServerConfig, handle: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let config = Arc::new(config);
        let config = move || Arc::clone(&config);
        Self::listen(([127, 0, 0, 1], 0).into(), Some(Arc::new(config)), handle).await
    }

    async fn listen<F, Fut>(address: SocketAddr, tls: Option<Tls>, handle: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&accepted), Arc::clone(&open));
        let task = tokio::spawn(async move {
            // Aborting this task closes every connection with it.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                counts.0.fetch_add(1, SeqCst);
                let open = Open::new(&counts.1);
                let (handle, tls) = (handle.clone(), tls.clone());
                connections.spawn(async move {
                    let _open = open;
                    match tls {
                        None => drive(tcp, handle).await,
                        Some(config) => {
                            let acceptor = tokio_rustls::TlsAcceptor::from(config());
                            if let Ok(tls) = acceptor.accept(tcp).await {
                                drive(tls, handle).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, accepted, open, task }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// Closes the listener and every connection.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.task.abort();
        until("the server to stop", || self.open.load(SeqCst) == 0).await;
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

async fn drive<I, F, Fut>(io: I, handle: F)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handle(request);
        async move {
            let answer = answer.await;
            // A handler that wants the connection to break says so.
            if answer.headers().contains_key("x-break") {
                return Err(std::io::Error::other("broken on purpose"));
            }
            Ok(answer)
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await;
}

/// A server whose `/slow` answers as many requests as its gate has permits for.
pub(crate) async fn gated(text: &'static str) -> (Server, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::start({
        let gate = Arc::clone(&gate);
        move |request: Request<Incoming>| {
            let gate = Arc::clone(&gate);
            async move {
                if request.uri().path() == "/slow" {
                    gate.acquire().await.unwrap().forget();
                }
                answer(text)
            }
        }
    })
    .await;
    (server, gate)
}

pub(crate) fn answer(text: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync())
}

pub(crate) fn status(status: u16) -> Answer {
    let mut answer = answer("");
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
    answer
}

/// An answer on which the server ends the connection without a word.
pub(crate) fn break_off() -> Answer {
    let mut answer = answer("");
    answer.headers_mut().insert("x-break", http::HeaderValue::from_static("1"));
    answer
}

/// Waits until `is_so`, for at most ten seconds.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain for {what}");
}

/// A certificate authority for one test.
pub(crate) struct Ca {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "test");
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Returns a certificate for these names (hosts, or URIs) and its key.
    pub(crate) fn issue(&self, names: &[&str]) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        let name = |name: &&str| match name.contains("://") {
            true => rcgen::SanType::URI((*name).try_into().unwrap()),
            false => rcgen::SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SERIAL.into());
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Returns a list of revoked certificates: none, or every one of those that [`Ca::issue`] returns.
    pub(crate) fn revocations(&self, all: bool) -> String {
        let (then, later) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2100, 1, 1));
        let revoked = rcgen::RevokedCertParams {
            serial_number: SERIAL.into(),
            revocation_time: then,
            reason_code: None,
            invalidity_date: None,
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: then,
            next_update: later,
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: all.then_some(revoked).into_iter().collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    pub(crate) fn identity(&self, account: &str) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        let id = format!("spiffe://cluster.local/ns/default/sa/{account}");
        params.subject_alt_names = vec![rcgen::SanType::URI(id.try_into().unwrap())];
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let svid = Svid::from_pem(&leaf.pem(), &key.serialize_pem()).unwrap();
        let bundles = Bundles::from_pem([("cluster.local", self.certificate.pem().as_str())]).unwrap();
        Identity { svid, bundles }
    }

    pub(crate) fn store(&self, account: &str) -> Arc<IdentityStore> {
        let store = IdentityStore::empty();
        store.publish(self.identity(account));
        Arc::new(store)
    }
}

/// The serial number of every certificate that [`Ca::issue`] returns.
const SERIAL: u64 = 7;
