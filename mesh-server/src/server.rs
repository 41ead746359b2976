//! The server as a whole: bind, register, accept, serve, drain.

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use mesh_runtime::Workload;
use std::{convert::Infallible, net::SocketAddr};
use tower_service::Service;

/// A mesh server that is about to serve.
#[derive(Debug)]
pub struct Server {
    workload: Workload,
    listener: tokio::net::TcpListener,
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
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|source| ServeError::Listen { address: address.to_owned(), source })?;
        Ok(Self { workload: workload.clone(), listener })
    }

    /// Returns the address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// Registers the workload and serves `service` until `shutdown` is done, then drains: not ready, out of the
    /// registry, GOAWAY or `connection: close`, requests in flight finished, the rest aborted at the drain limit.
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
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let _ = (service, shutdown, self.workload, self.listener);
        todo!()
    }
}

/// Waits for SIGTERM or SIGINT.
pub async fn shutdown_signal() {
    todo!()
}
