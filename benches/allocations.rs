//! What one call through the mesh allocates, beside the same call over hyper's own connection to the same server.
//!
//! All policies are on: routing by weight, timeout, retries, breakers, balancing, outlier detection. The endpoints speak
//! plaintext, so that neither side counts TLS. Only the calling thread is counted, which has the connection's task too;
//! the server has a thread of its own. Fails if the mesh adds more than the bound below.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, client::conn, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use mesh::{Mesh, MeshClient, client::Protocol};
use std::{
    convert::Infallible,
    error::Error,
    io::Write,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};

type BoxError = Box<dyn Error + Send + Sync>;

/// Allocations that the mesh may add to a call, h1 and h2 alike. What it added when this was written stands in
/// benches/README.md.
const ADDED_MAX: f64 = 12.0;
const ROUNDS: u32 = 30;
const CALLS: u32 = 200;

fn main() -> Result<ExitCode, BoxError> {
    let server = serve()?;
    // One thread: what it counts is all that the calling side does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut within = true;
    println!("per call                allocations     bytes        µs");
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let bare = runtime.block_on(Bare::connect(server, protocol))?;
        let bare = measure(&runtime, || bare.clone().call())?;
        let (_mesh, client, _config) = runtime.block_on(mesh(server, protocol))?;
        let through = measure(&runtime, || call(client.clone()))?;
        let future = std::mem::size_of_val(&client.send(request("http://payment-service/charge")));
        let added = through.minus(&bare);
        within &= added.allocations <= ADDED_MAX;
        for (name, cost) in [("hyper", &bare), ("mesh", &through), ("added", &added)] {
            let label = format!("{protocol:?} {name}");
            println!("{label:<20} {:>14.2} {:>9.0} {:>9.2}", cost.allocations, cost.bytes, cost.micros);
        }
        println!("{protocol:?} future of a call: {future} bytes");
    }
    if within {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "the mesh adds more than {ADDED_MAX} allocations to a call; benches/README.md says what they were"
    );
    Ok(ExitCode::FAILURE)
}

struct Cost {
    allocations: f64,
    bytes: f64,
    micros: f64,
}

impl Cost {
    fn minus(&self, other: &Self) -> Self {
        Self {
            allocations: self.allocations - other.allocations,
            bytes: self.bytes - other.bytes,
            micros: self.micros - other.micros,
        }
    }
}

/// The cheapest of many rounds: what else runs on the thread or on the machine only ever adds.
fn measure<F>(runtime: &tokio::runtime::Runtime, call: impl Fn() -> F) -> Result<Cost, BoxError>
where
    F: Future<Output = Result<(), BoxError>>,
{
    let mut least = Cost { allocations: f64::MAX, bytes: f64::MAX, micros: f64::MAX };
    for _ in 0..ROUNDS {
        let mut result: Result<(), BoxError> = Ok(());
        let start = Instant::now();
        let counted = allocation_counter::measure(|| {
            result = runtime.block_on(async {
                for _ in 0..CALLS {
                    call().await?;
                }
                Ok(())
            });
        });
        result?;
        let micros = start.elapsed().as_nanos() as f64 / 1_000.0;
        least.allocations = least.allocations.min(counted.count_total as f64 / f64::from(CALLS));
        least.bytes = least.bytes.min(counted.bytes_total as f64 / f64::from(CALLS));
        least.micros = least.micros.min(micros / f64::from(CALLS));
    }
    Ok(least)
}

fn request(uri: &'static str) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from_static(uri);
    request.headers_mut().insert("user-agent", HeaderValue::from_static("bench"));
    request
}

async fn call(client: MeshClient) -> Result<(), BoxError> {
    let response = client.send(request("http://payment-service/charge")).await?;
    read(response.status(), response.into_body().collect().await?.to_bytes())
}

fn read(status: http::StatusCode, body: Bytes) -> Result<(), BoxError> {
    match (status, body.len()) {
        (http::StatusCode::OK, 1024) => Ok(()),
        (status, len) => Err(format!("{status} with {len} bytes").into()),
    }
}

/// One connection of hyper's, with nothing around it.
#[derive(Clone)]
enum Bare {
    One(std::rc::Rc<tokio::sync::Mutex<conn::http1::SendRequest<Empty<Bytes>>>>),
    Two(conn::http2::SendRequest<Empty<Bytes>>),
}

impl Bare {
    async fn connect(server: SocketAddr, protocol: Protocol) -> Result<Self, BoxError> {
        let tcp = TcpStream::connect(server).await?;
        tcp.set_nodelay(true)?;
        if protocol == Protocol::Http2 {
            let (sender, connection) =
                conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await?;
            tokio::spawn(connection);
            return Ok(Self::Two(sender));
        }
        let (sender, connection) = conn::http1::handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection);
        Ok(Self::One(std::rc::Rc::new(tokio::sync::Mutex::new(sender))))
    }

    async fn call(self) -> Result<(), BoxError> {
        let response = match self {
            Self::One(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await?;
                let mut request = request("/charge");
                request.headers_mut().insert("host", HeaderValue::from_static("payment-service"));
                sender.send_request(request).await?
            }
            Self::Two(mut sender) => {
                sender.ready().await?;
                sender.send_request(request("http://payment-service/charge")).await?
            }
        };
        read(response.status(), response.into_body().collect().await?.to_bytes())
    }
}

/// Starts a workload that knows the server as both versions of a service.
async fn mesh(
    server: SocketAddr,
    protocol: Protocol,
) -> Result<(Mesh, MeshClient, tempfile::NamedTempFile), BoxError> {
    let mut config = tempfile::NamedTempFile::with_suffix(".yaml")?;
    config.write_all(RESOURCES.replace("PORT", &server.port().to_string()).as_bytes())?;
    let mesh = Mesh::builder("orders").config(config.path()).start().await?;
    tokio::time::timeout(Duration::from_secs(10), mesh.ready()).await?;
    let client = MeshClient::builder(mesh.workload()).protocol(protocol).build();
    Ok((mesh, client, config))
}

/// Serves 1 KiB, HTTP/1.1 and HTTP/2, from a thread of its own.
fn serve() -> Result<SocketAddr, BoxError> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(accept(listener)));
    Ok(address)
}

async fn accept(listener: std::net::TcpListener) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        tokio::spawn(async move {
            let body = Bytes::from(vec![b'x'; 1024]);
            let answer = service_fn(move |_: Request<Incoming>| {
                std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(body.clone()))))
            });
            let _ =
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), answer).await;
        });
    }
}

const RESOURCES: &str = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payment-service}
spec:
  hosts: [payment-service.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.1, ports: {http: PORT}, labels: {version: v1}}
  - {address: 127.0.0.1, ports: {http: PORT}, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: payment-service}
spec:
  hosts: [payment-service]
  http:
  - timeout: 2s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: "connect-failure,refused-stream,unavailable,cancelled,5xx"}
    route:
    - {destination: {host: payment-service, subset: v1}, weight: 90}
    - {destination: {host: payment-service, subset: v2}, weight: 10}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: payment-service}
spec:
  host: payment-service
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST}
    connectionPool:
      tcp: {maxConnections: 1024}
      http: {http1MaxPendingRequests: 1024, http2MaxRequests: 1024, maxRetries: 1024}
    outlierDetection: {consecutive5xxErrors: 5, interval: 10s, baseEjectionTime: 30s, maxEjectionPercent: 100}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
"#;
