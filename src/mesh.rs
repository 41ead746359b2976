//! The two sides of one workload under one name.

use bytes::Bytes;
use http::{Request, Response};
use mesh_client::MeshClient;
use mesh_runtime::{Settings, StartError, Workload, identity::IdentityFiles};
use mesh_server::{RequestBody, ServeError, Server};
use std::{convert::Infallible, fmt, net::SocketAddr, path::PathBuf};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One workload of the mesh. Clones share it; it ends with the last of them.
///
/// ```no_run
/// use mesh::Mesh;
///
/// # async fn run() -> Result<(), mesh::Error> {
/// let mesh = Mesh::from_env().await?;
/// let answer = mesh.client().get("http://payment/").await?;
/// println!("{} by {:?}", answer.status(), answer.body().call_info().endpoint);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Mesh {
    workload: Workload,
    client: MeshClient,
}

/// Why a workload did not start or serve, or a call of it failed.
///
/// Its `Debug` is the message with its causes, because that is what a `main` that returns it shows.
#[derive(thiserror::Error)]
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

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, "\n  because: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Settings of a workload, by code instead of environment.
///
/// ```no_run
/// use mesh::{Mesh, runtime::control::JoinToken};
///
/// # async fn run(token: JoinToken) -> Result<(), mesh::Error> {
/// let mesh = Mesh::builder("payment")
///     .version("v1")
///     .control("https://127.0.0.1:15010")
///     .join_token(token)
///     .cache_dir("/var/lib/payment")
///     .start()
///     .await?;
/// mesh.ready().await;
/// # Ok(())
/// # }
/// ```
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

    /// Waits until there is configuration, and an identity if one is due: until then calls fail at once.
    pub async fn ready(&self) {
        self.workload.ready().await;
    }

    /// Binds `address` for serving, e.g. `127.0.0.1:0`; for whoever must know the port before [`Server::serve`].
    ///
    /// # Errors
    ///
    /// Returns that the address could not be bound.
    pub async fn bind(&self, address: &str) -> Result<Server, Error> {
        Ok(Server::bind(&self.workload, address).await?)
    }

    /// Serves `service`, an axum `Router` or any other Tower service, on `address` until SIGTERM or SIGINT, then
    /// drains.
    ///
    /// # Errors
    ///
    /// Returns why nothing could be served.
    pub async fn serve<S, B>(&self, address: &str, service: S) -> Result<(), Error>
    where
        S: tower_service::Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.serve_until(address, service, mesh_server::shutdown_signal()).await
    }

    /// Serves `service` on `address` until `shutdown` is done, then drains.
    ///
    /// # Errors
    ///
    /// Returns why nothing could be served.
    pub async fn serve_until<S, B>(
        &self,
        address: &str,
        service: S,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error>
    where
        S: tower_service::Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Ok(self.bind(address).await?.serve(service, shutdown).await?)
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

    /// Sets the service account, by which peers know this workload. Default: the service.
    pub fn service_account(mut self, account: impl Into<String>) -> Self {
        self.settings.service_account = account.into();
        self
    }

    /// Sets the port by which callers know the service. Default 80, which is what `http://NAME/` means.
    pub fn service_port(mut self, port: u16) -> Self {
        self.settings.service_port = port;
        self
    }

    /// Sets the IP address that others dial. Default: the one it listens on.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.settings.advertise = Some(address.into());
        self
    }

    /// Sets where it runs, as `region/zone/subzone`. Default: nowhere in particular.
    pub fn locality(mut self, locality: impl Into<String>) -> Self {
        self.settings.locality = locality.into();
        self
    }

    /// Opens the admin listener on `address`. Default: none.
    pub fn admin(mut self, address: SocketAddr) -> Self {
        self.settings.admin = Some(address);
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

    /// Changes how a server of this workload protects itself from more requests than it can answer. Default: it does not.
    pub fn overload(mut self, change: impl FnOnce(&mut mesh_core::overload::Overload)) -> Self {
        change(&mut self.settings.overload);
        self
    }

    /// Takes the identity from PEM files, which are polled for change, instead of from the control endpoint: the chain
    /// (leaf first) and its PKCS#8 key. Trusted roots are added with [`Self::bundle`].
    pub fn identity_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let bundles = self.settings.identity_files.take().map(|files| files.bundles).unwrap_or_default();
        self.settings.identity_files = Some(IdentityFiles { cert: cert.into(), key: key.into(), bundles });
        self
    }

    /// Adds the PEM file with the root certificates of `trust_domain`; of use with [`Self::identity_files`].
    pub fn bundle(mut self, trust_domain: impl Into<String>, roots: impl Into<PathBuf>) -> Self {
        let files = self.settings.identity_files.get_or_insert_with(|| IdentityFiles {
            cert: PathBuf::new(),
            key: PathBuf::new(),
            bundles: Vec::new(),
        });
        files.bundles.push((trust_domain.into(), roots.into()));
        self
    }

    /// Takes the identity from the SPIFFE Workload API at `uri`, `unix:///PATH` or `tcp://IP:PORT`: SPIRE's agent, say.
    /// Of several SVIDs the first is taken, unless [`Self::svid`] names another. A control endpoint beside it must be
    /// certified by the trust domain's bundle, and must itself trust the workload's.
    #[cfg(feature = "spiffe")]
    pub fn workload_api(mut self, uri: impl Into<String>) -> Self {
        self.settings.workload_api = Some(uri.into());
        self
    }

    /// Sets which SVID of the Workload API is this workload's, by its SPIFFE ID or its hint.
    #[cfg(feature = "spiffe")]
    pub fn svid(mut self, id_or_hint: impl Into<String>) -> Self {
        self.settings.svid = Some(id_or_hint.into());
        self
    }

    /// Makes the workload an edge: its calls are routed by the Gateway `namespace/name`, and it serves that Gateway's
    /// servers through [`Server::edge`].
    pub fn gateway(mut self, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        self.settings.gateway = Some((namespace.into(), name.into()));
        self
    }

    /// Sets the trust domain. Default: that of the control endpoint or of the certificate, else `cluster.local`.
    pub fn trust_domain(mut self, trust_domain: impl Into<String>) -> Self {
        self.settings.trust_domain = Some(trust_domain.into());
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
