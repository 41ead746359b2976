//! What a request that comes in means for the calls made while it is handled, over sockets and without a line of the
//! handler's: its deadline is theirs, and they end when its caller goes away.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use axum::{Router, extract::Request as Inbound, routing::get};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{Context, Mesh};
use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::timeout,
};

#[tokio::test]
async fn the_deadline_of_a_request_ends_the_calls_made_for_it() {
    let mut shop = Shop::open().await;
    for is_h2 in [false, true] {
        let asked = Request::get("http://front/").header("x-envoy-expected-rq-timeout-ms", "1000");
        let response = shop.front(is_h2, asked).await.unwrap();
        // Whichever finds it out first: the call answers 504 with its reason, or the handler is ended.
        assert_eq!(response.status(), 504);
        let left = shop.arrived().await.unwrap();
        assert!(left <= Duration::from_secs(1), "the endpoint is told what is left: {left:?}");
        shop.ended().await;
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_calls_made_for_it() {
    let mut shop = Shop::open().await;
    for is_h2 in [false, true] {
        let call = tokio::spawn(shop.front(is_h2, Request::get("http://front/")));
        assert_eq!(shop.arrived().await, None, "nobody set a deadline");
        call.abort();
        shop.ended().await;
    }
}

/// Two services: `front` calls `back` for every request, and `back` answers none.
struct Shop {
    front: SocketAddr,
    arrivals: mpsc::UnboundedReceiver<Option<Duration>>,
    ended: Arc<Semaphore>,
    _config: tempfile::NamedTempFile,
}

impl Shop {
    async fn open() -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let ended = Arc::new(Semaphore::new(0));
        let nothing = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        let back = serve("back", &nothing, {
            let ended = Arc::clone(&ended);
            move |mesh: Mesh, _| {
                let now = mesh.workload().clock().now();
                let left = Context::current().deadline().map(|deadline| now.until(deadline));
                let _ = arrived.send(left);
                let ended = Ended(Arc::clone(&ended));
                async move {
                    let _ended = ended;
                    std::future::pending::<Response<axum::body::Body>>().await
                }
            }
        })
        .await;
        let mut config = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        let (ip, port) = (back.ip(), back.port());
        write!(
            config,
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: back}}
spec:
  hosts: [back.default.svc.cluster.local]
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: {ip}, ports: {{http: {port}}}}}]
"
        )
        .unwrap();
        let front = serve("front", &config, |mesh: Mesh, _| async move {
            let status = match mesh.client().get("http://back/").await {
                Ok(response) => response.status(),
                Err(error) => error.into_response().status(),
            };
            Response::builder().status(status).body(axum::body::Body::empty()).unwrap()
        })
        .await;
        Self { front, arrivals, ended, _config: config }
    }

    /// Returns how long a call to `back` that has arrived is said to have.
    async fn arrived(&mut self) -> Option<Duration> {
        soon(self.arrivals.recv()).await.unwrap()
    }

    /// Waits until a handler of `back` has been dropped.
    async fn ended(&self) {
        soon(self.ended.acquire()).await.unwrap().forget();
    }

    fn front(
        &self,
        is_h2: bool,
        request: http::request::Builder,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + Send + 'static {
        let (front, request) = (self.front, request.body(Empty::<Bytes>::new()).unwrap());
        async move {
            let io = TokioIo::new(TcpStream::connect(front).await.unwrap());
            if is_h2 {
                let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await?;
                let _driven = Driven(tokio::spawn(async { drop(connection.await) }));
                return sender.send_request(request).await;
            }
            let (mut sender, connection) = conn::http1::handshake(io).await?;
            let _driven = Driven(tokio::spawn(async { drop(connection.await) }));
            sender.send_request(request).await
        }
    }
}

/// Serves one workload in plaintext, with this configuration.
async fn serve<H, F>(name: &str, config: &tempfile::NamedTempFile, handler: H) -> SocketAddr
where
    H: Fn(Mesh, Inbound) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<axum::body::Body>> + Send + 'static,
{
    let mesh = Mesh::builder(name).config(config.path()).start().await.unwrap();
    let server = mesh.bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr();
    let handle = get(move |request: Inbound| handler(mesh.clone(), request));
    tokio::spawn(server.serve(Router::new().route("/", handle), std::future::pending()));
    address
}

/// The task of a connection, which ends with whoever uses it.
struct Driven(tokio::task::JoinHandle<()>);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Ended(Arc<Semaphore>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// Nothing here takes long; what hangs must fail.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(30), future).await.unwrap()
}
