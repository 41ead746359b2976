//! The whole stack as one service.

use crate::{
    Error, ResponseBody,
    affinity::SourceAddress,
    balance::Balance,
    body::{BoxError, RequestBody},
    breaker::Breaker,
    endpoint::Endpoint,
    error::Cause,
    mirror::Mirrors,
    outside::Outside,
    plan::Plans,
    pool::{Connector, Pools, Protocol},
    retry::Retry,
    route::Route,
    step::Step,
    timeout::Timeout,
    trace::Trace,
};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use mesh_runtime::{Sparing, ThreadDice, Workload};
use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

/// A client that calls through the mesh. Clones share everything; it is always ready.
///
/// Hosts are the services of the mesh, by any of their names: `http://reviews/`, `http://reviews.shop:9080/`. Limits
/// answer in the call, by an [`Error`] that says which.
#[derive(Clone, Debug)]
pub struct MeshClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plans: Arc<Plans>,
    stack: Trace,
    maintained: AtomicBool,
}

/// Settings of a [`MeshClient`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MeshClientBuilder {
    workload: Workload,
    protocol: Protocol,
    obeys_headers: bool,
}

impl MeshClient {
    /// Returns a client of `workload`.
    pub fn new(workload: &Workload) -> Self {
        Self::builder(workload).build()
    }

    /// Returns a builder for a client of `workload`.
    pub fn builder(workload: &Workload) -> MeshClientBuilder {
        MeshClientBuilder { workload: workload.clone(), protocol: Protocol::default(), obeys_headers: false }
    }

    /// Sends `request` and returns the answer's head; its body is still to come.
    ///
    /// It must be awaited in a tokio runtime. The call ends by the deadline of the [`mesh_runtime::Context`] it is made in, if that has one. Dropping the
    /// future, or the answer, gives back everything the call holds.
    ///
    /// # Errors
    ///
    /// Returns why there is no answer.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<ResponseBody>, Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.maintain();
        self.shared.stack.run(request.map(RequestBody::new), ()).await
    }

    /// Sends a GET without a body.
    ///
    /// # Errors
    ///
    /// As [`Self::send`]; also if `url` does not parse.
    pub async fn get(&self, url: &str) -> Result<Response<ResponseBody>, Error> {
        // Without the text: where a URL does not parse, nobody knows which part of it is a password.
        let uri = Uri::try_from(url)
            .map_err(|error| Error::new(Cause::Request, format!("the URL does not parse: {error}")))?;
        let mut request = Request::new(RequestBody::empty());
        *request.uri_mut() = uri;
        self.send(request).await
    }

    /// Starts the task that closes idle connections and those of endpoints that left, unless it runs. It ends with the
    /// client, or with the runtime of the call that started it; the next call starts it again.
    fn maintain(&self) {
        if !self.shared.maintained.load(Relaxed) && !self.shared.maintained.swap(true, Relaxed) {
            let maintenance = Maintenance(Arc::downgrade(&self.shared));
            tokio::spawn(maintenance.run());
        }
    }
}

/// The task that tends to the connections; however it ends, the client knows.
struct Maintenance(Weak<Shared>);

impl Maintenance {
    async fn run(self) {
        loop {
            tokio::time::sleep(MAINTENANCE_INTERVAL).await;
            let Some(shared) = self.0.upgrade() else { return };
            shared.plans.sweep();
        }
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.maintained.store(false, Relaxed);
        }
    }
}

impl MeshClientBuilder {
    /// Sets which HTTP is spoken to endpoints where neither a DestinationRule nor the protocol of the port says so.
    /// Default: HTTP/2 between mesh peers, HTTP/1.1 in plaintext.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Obeys the headers by which a request asks its Envoy for timeouts and retries, such as
    /// `x-envoy-upstream-rq-timeout-ms` and `x-envoy-retry-on`, as under a sidecar. Default: they are taken off and not
    /// obeyed, since whoever forwards a request would let its sender write them; a [`CallPolicy`](crate::CallPolicy) says the
    /// same.
    pub fn obey_request_headers(mut self) -> Self {
        self.obeys_headers = true;
        self
    }

    /// Returns the client.
    pub fn build(self) -> MeshClient {
        let workload = self.workload;
        let connector = Connector {
            identity: Arc::clone(workload.identity()),
            clock: workload.clock(),
            protocol: self.protocol,
            telemetry: Arc::clone(workload.telemetry()),
            originations: Arc::default(),
            refusals: Sparing::new(workload.clock()),
        };
        let pools = Pools::new(Arc::new(connector));
        let (config, telemetry) = (Arc::clone(workload.config()), Arc::clone(workload.telemetry()));
        let plans = Arc::new(Plans::new(config, telemetry, pools));
        let endpoint = Endpoint { plans: Arc::clone(&plans) };
        let below = Timeout { inner: Retry { inner: Breaker { inner: Balance { inner: endpoint } } } };
        let outside = Timeout { inner: Outside { plans: Arc::clone(&plans) } };
        let mirrors = Mirrors::new(below.clone(), workload.clock());
        let source = SourceAddress::draw(&mut ThreadDice);
        let obeys_headers = self.obeys_headers;
        let route =
            Route { plans: Arc::clone(&plans), workload, below, mirrors, outside, source, obeys_headers };
        let stack = Trace { inner: route };
        MeshClient { shared: Arc::new(Shared { plans, stack, maintained: AtomicBool::new(false) }) }
    }
}

impl<B> tower_service::Service<Request<B>> for MeshClient
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let client = self.clone();
        let request = request.map(RequestBody::new);
        ResponseFuture(Box::pin(async move { client.send(request).await }))
    }
}

/// The future of [`MeshClient`] as a Tower service: the one box on the way.
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Error>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

/// Often enough that a connection outlives its idle timeout by little, rarely enough to cost nothing: a look at every
/// pool in use.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
