//! The server as a whole: bind, register, accept, serve, drain.

use crate::{
    accept::Reception,
    body::RequestBody,
    connection::{Manners, Shared},
    edge::Edge,
    limits::Limits,
    normalise::Normalise,
    trusted_hops::TrustedHops,
};
use bytes::Bytes;
use http::{Request, Response};
use mesh_core::{config::istio::MtlsMode, overload::Overload};
use mesh_runtime::{Workload, edge::EdgeCertificates, workload::Registration};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, time::timeout};
use tower_service::Service;

/// A mesh server that is about to serve.
///
/// Nothing needs to be set: every wait for a client is bounded ([`Limits`]), and paths are normalised ([`Normalise`]).
///
/// ```
/// use mesh_runtime::{Settings, Workload};
/// use mesh_server::{RequestBody, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let workload = Workload::start(Settings::for_service("reviews")).await?;
/// let hello = tower::service_fn(|_: http::Request<RequestBody>| async {
///     Ok::<_, std::convert::Infallible>(http::Response::new("hello".to_owned()))
/// });
/// let server = Server::bind(&workload, "127.0.0.1:0").await?;
/// println!("listening on {}", server.local_addr());
/// # let shutdown_signal = || std::future::ready(());
/// # let server = server.limits(|limits| limits.drain_delay = std::time::Duration::ZERO);
/// server.serve(hello, shutdown_signal()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a server does nothing until it serves"]
pub struct Server {
    workload: Workload,
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    normalise: Normalise,
    trusted_hops: TrustedHops,
    overload: Overload,
    edge: Option<Edge>,
}

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Policy is STRICT and there is no source of an identity: nothing could ever be served.
    #[error("policy requires mutual TLS and this workload has no identity: {0}")]
    NoIdentity(String),
}

impl Server {
    /// Binds `address`, e.g. `127.0.0.1:0`.
    ///
    /// # Errors
    ///
    /// Returns that the address could not be bound.
    pub async fn bind(workload: &Workload, address: &str) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        Ok(Self {
            workload: workload.clone(),
            listener,
            address: bound,
            limits: Limits::default(),
            normalise: Normalise::default(),
            trusted_hops: TrustedHops::default(),
            overload: workload.settings().overload.clone(),
            edge: None,
        })
    }

    /// Returns the address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Changes how long and how much a client may take: `.limits(|limits| limits.idle = Duration::from_secs(60))`.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Sets how paths and hosts are spelled before policy and handler see them.
    pub fn normalise(mut self, normalise: Normalise) -> Self {
        self.normalise = normalise;
        self
    }

    /// Sets which proxies in front of it are believed about where a request came from; none at first.
    pub fn trusted_hops(mut self, trusted_hops: TrustedHops) -> Self {
        self.trusted_hops = trusted_hops;
        self
    }

    /// Changes how it protects itself from more requests than it can answer; as the workload's settings say at first:
    /// `.overload(|overload| overload.requests_max = Some(RequestsMax::Fixed(200)))`.
    pub fn overload(mut self, change: impl FnOnce(&mut Overload)) -> Self {
        change(&mut self.overload);
        self
    }

    /// Makes it an edge: it serves the servers at port `port` of the Gateway that the workload enforces
    /// ([`Settings::gateway`](mesh_runtime::Settings)), to whoever comes. TLS is ended with `certificates`; requests are
    /// judged by the policies that select the Gateway's labels, as those of port `port`. The handler finds an
    /// [`Arrival`](mesh_runtime::Arrival) in each request, by which a mesh client routes it. It is not registered: inside
    /// the mesh nobody calls it.
    ///
    /// What a caller says in `x-forwarded-for` and `x-request-id` is dropped, unless it is one of the trusted hops; the
    /// caller's own address is added.
    pub fn edge(mut self, certificates: &Arc<EdgeCertificates>, port: u16) -> Self {
        self.edge = Some(Edge { certificates: Arc::clone(certificates), port });
        self
    }

    /// Registers the workload and serves `service` until `shutdown` is done, then drains: not ready, out of the
    /// registry, GOAWAY or `connection: close`, requests in flight finished, the rest aborted at the drain limit.
    ///
    /// Any Tower service will do, an axum `Router` among them. A handler is dropped when its caller goes away or the
    /// caller's deadline passes; one that panics answers 500 and disturbs no other request. A connection that was
    /// upgraded (a WebSocket, say) is its handler's own: the drain does not wait for it.
    ///
    /// # Errors
    ///
    /// Returns why nothing could be served.
    pub async fn serve<S, B>(
        self,
        service: S,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError>
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { workload, listener, address, limits, normalise, trusted_hops, overload, edge } = self;
        let is_edge = edge.is_some();
        let port = edge.as_ref().map_or(address.port(), |edge| edge.port);
        let manners = Manners { normalise, trusted_hops, edge };
        let shared = Shared::new(workload.clone(), limits, manners, &overload, port);
        require_identity(&shared)?;
        tracing::info!(%address, mode = ?shared.mode(), "serving");

        let mut reception = Reception::new(listener, shared.clone(), service);
        let registration =
            reception.admit_until(registered_until(&workload, address, is_edge, shutdown)).await;
        tracing::info!(%address, "draining");
        workload.drain();
        shared.leave();
        reception.admit_until(withdrawn(registration, shared.limits.drain_delay)).await;
        reception.close().await;
        tracing::info!(%address, "drained");
        Ok(())
    }
}

/// Refuses to start where no connection could ever be accepted.
fn require_identity(shared: &Shared) -> Result<(), ServeError> {
    let workload = &shared.workload;
    let possible = workload.settings().has_identity_source() || workload.identity().current().is_some();
    if possible || shared.mode() != MtlsMode::Strict {
        return Ok(());
    }
    Err(ServeError::NoIdentity(
        "set MESH_CONTROL and MESH_JOIN_TOKEN, or MESH_CERT, MESH_KEY and MESH_BUNDLES, or SPIFFE_ENDPOINT_SOCKET, or a PeerAuthentication that is not STRICT"
            .to_owned(),
    ))
}

/// Registers, but for an edge, and waits for `shutdown`, which may come first.
async fn registered_until(
    workload: &Workload,
    address: SocketAddr,
    is_edge: bool,
    shutdown: impl Future<Output = ()>,
) -> Option<Registration> {
    let mut shutdown = std::pin::pin!(shutdown);
    if is_edge {
        shutdown.await;
        return None;
    }
    let registration = tokio::select! {
        biased;
        () = shutdown.as_mut() => return None,
        registration = workload.register(address) => registration,
    };
    shutdown.await;
    Some(registration)
}

/// Takes the endpoint out of the registry and leaves callers the time to see it.
async fn withdrawn(registration: Option<Registration>, delay: Duration) {
    let withdrawal = async {
        if let Some(registration) = registration {
            registration.withdraw().await;
        }
    };
    if timeout(WITHDRAWAL_MAX, withdrawal).await.is_err() {
        tracing::warn!("the control endpoint did not confirm the withdrawal within {WITHDRAWAL_MAX:?}");
    }
    tokio::time::sleep(delay).await;
}

/// A control endpoint that is gone must not hold up the drain: the lease ends by itself.
const WITHDRAWAL_MAX: Duration = Duration::from_secs(2);

/// Waits for SIGTERM or SIGINT.
pub async fn shutdown_signal() {
    tokio::select! {
        () = interrupt() => {}
        () = terminate() => {}
    }
}

async fn interrupt() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "cannot listen for SIGINT");
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn terminate() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "cannot listen for SIGTERM");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn terminate() {
    std::future::pending::<()>().await;
}
