//! The two sides of one workload under one name.

use bytes::Bytes;
use http::{Request, Response};
use mesh_client::MeshClient;
use mesh_runtime::{Settings, StartError, Workload};
use mesh_server::{ServeError, Server};
use std::path::PathBuf;

/// One workload of the mesh. Clones share it.
#[derive(Clone, Debug)]
pub struct Mesh {
    workload: Workload,
    client: MeshClient,
}

/// Why a workload did not start or serve, or a call of it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It did not serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] mesh_client::Error),
}

/// Settings of a workload, by code instead of environment.
#[derive(Clone, Debug)]
#[must_use]
pub struct MeshBuilder {
    settings: Settings,
}

impl Mesh {
    /// Returns a builder for a workload of `service`.
    pub fn builder(service: impl Into<String>) -> MeshBuilder {
        MeshBuilder { settings: Settings::for_service(service) }
    }

    /// Starts a workload from the `MESH_*` environment variables.
    ///
    /// # Errors
    ///
    /// Returns which variable does not read, or what makes a start pointless.
    pub async fn from_env() -> Result<Self, Error> {
        let settings = Settings::from_variables(|name| std::env::var(name).ok()).map_err(StartError::from)?;
        Self::start(settings).await
    }

    /// Starts a workload with `settings`.
    ///
    /// # Errors
    ///
    /// Returns what makes a start pointless.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let workload = Workload::start(settings).await?;
        let client = MeshClient::new(&workload);
        Ok(Self { workload, client })
    }

    /// Returns the client through which to call others.
    pub fn client(&self) -> &MeshClient {
        &self.client
    }

    /// Returns the workload below.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Serves `service` on `address` until SIGTERM or SIGINT, then drains.
    ///
    /// # Errors
    ///
    /// Returns why nothing could be served.
    pub async fn serve<S, B>(&self, address: &str, service: S) -> Result<(), Error>
    where
        S: tower_service::Service<
                Request<mesh_server::Incoming>,
                Response = Response<B>,
                Error = std::convert::Infallible,
            > + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let server = Server::bind(&self.workload, address).await?;
        Ok(server.serve(service, mesh_server::shutdown_signal()).await?)
    }
}

impl MeshBuilder {
    /// Sets the label `version`.
    pub fn version(self, version: impl Into<String>) -> Self {
        self.label("version", version)
    }

    /// Sets a label.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.labels.insert(name.into(), value.into());
        self
    }

    /// Sets the namespace. Default `default`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings.namespace = namespace.into();
        self
    }

    /// Sets the URL of the control endpoint.
    pub fn control(mut self, url: impl Into<String>) -> Self {
        self.settings.control = Some(url.into());
        self
    }

    /// Sets the join token.
    pub fn join_token(mut self, token: mesh_runtime::control::JoinToken) -> Self {
        self.settings.join_token = Some(token);
        self
    }

    /// Adds a file or directory of configuration, instead of a control endpoint.
    pub fn config(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.config.push(path.into());
        self
    }

    /// Sets where the last good state is kept.
    pub fn cache_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.cache_dir = Some(path.into());
        self
    }

    /// Starts the workload.
    ///
    /// # Errors
    ///
    /// Returns what makes a start pointless.
    pub async fn start(self) -> Result<Mesh, Error> {
        Mesh::start(self.settings).await
    }
}
