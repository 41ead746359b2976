//! The endpoint as a whole: what it is given, its listener, its tasks, its end.

use crate::{
    ControlError, TokenAsk, config_files::ConfigFiles, data::DataDir, listener, plane::Plane,
    rotation::Authorities, tls::Tls, token,
};
use mesh_core::identity::TrustDomain;
use mesh_runtime::control::{Lock, wire::Status};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet, spawn_blocking},
};

/// The settings of a control endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ControlSettings {
    /// Files and directories of Istio YAML.
    pub config: Vec<PathBuf>,
    /// Where to listen. Default `127.0.0.1:15010`.
    pub listen: SocketAddr,
    /// CA key, leases, last good objects; a temporary one that ends with the endpoint if `None`.
    pub data: Option<PathBuf>,
    /// Plain HTTP; loopback only. Default false.
    pub insecure_http: bool,
    /// Default `cluster.local`.
    pub trust_domain: String,
    /// Life of an issued certificate. Default 24 h, as Istio's.
    pub certificate_ttl: Duration,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            config: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 15010)),
            data: None,
            insecure_http: false,
            trust_domain: "cluster.local".to_owned(),
            certificate_ttl: Duration::from_secs(24 * 3600),
        }
    }
}

/// A running control endpoint; ends when dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), mesh_control::ControlError> {
/// use mesh_control::{ControlEndpoint, ControlSettings};
///
/// let mut settings = ControlSettings::default();
/// settings.listen = ([127, 0, 0, 1], 0).into();
/// let endpoint = ControlEndpoint::start(settings).await?;
/// assert!(endpoint.url().starts_with("https://127.0.0.1:"));
/// endpoint.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ControlEndpoint {
    address: SocketAddr,
    insecure_http: bool,
    plane: Arc<Plane>,
    /// Held so that no other endpoint writes to the same directory.
    _lock: Option<Lock>,
    /// Aborted when dropped, and its connections with it.
    listener: Aborting,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Aborting(JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ControlEndpoint {
    /// Starts an endpoint; it answers when this returns.
    ///
    /// # Errors
    ///
    /// Returns why it cannot run: a listen address that is taken or not loopback where it must be, a path of the
    /// configuration that does not exist, or a data directory that cannot be used. A file whose content is wrong is no
    /// reason: it is logged and shown in the status.
    pub async fn start(settings: ControlSettings) -> Result<Self, ControlError> {
        if settings.insecure_http && !settings.listen.ip().to_canonical().is_loopback() {
            return Err(ControlError::NotLoopback(settings.listen));
        }
        let failed = |source| ControlError::Io { what: format!("listening on {}", settings.listen), source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let insecure_http = settings.insecure_http;

        let opened = spawn_blocking(move || open(settings)).await;
        let (plane, files, lock) = opened.map_err(|error| ControlError::Data(error.to_string()))??;
        let plane = Arc::new(plane);
        let tls = if insecure_http {
            None
        } else {
            Some(Arc::new(Tls::new(Arc::clone(&plane.authorities), address.ip())?))
        };

        let tasks = plane.spawn_tasks(files);
        let listener = Aborting(tokio::spawn(listener::run(
            listener,
            Arc::clone(&plane),
            tls,
            listener::Limits::default(),
        )));
        Ok(Self { address, insecure_http, plane, _lock: lock, listener, tasks })
    }

    /// Returns its URL, e.g. `https://127.0.0.1:15010`.
    pub fn url(&self) -> String {
        format!("http{}://{}", if self.insecure_http { "" } else { "s" }, self.address)
    }

    /// Makes a join token, as [`crate::mint_token`] does with the endpoint's data directory.
    ///
    /// # Errors
    ///
    /// Returns which name in `ask` is not valid.
    pub fn join_token(&self, ask: &TokenAsk) -> Result<String, ControlError> {
        let standing = self.plane.authorities.standing();
        token::mint(&self.plane.token_key, standing.current.pin(), ask, SystemTime::now())
    }

    /// Returns who is connected, on which version, and what was refused: what `GET /v1/status` answers.
    pub fn status(&self) -> Status {
        self.plane.status(None)
    }

    /// Stops it and waits until its port is free and its state is on disk.
    pub async fn stop(mut self) {
        self.plane.stop();
        // It ends by itself within its drain limit; a panic in it is no reason to keep the state from the disk.
        let _ = (&mut self.listener.0).await;
        self.tasks.shutdown().await;
        let plane = Arc::clone(&self.plane);
        let _ = spawn_blocking(move || plane.flush()).await;
    }
}

/// Reads the data directory and the configuration.
fn open(settings: ControlSettings) -> Result<(Plane, ConfigFiles, Option<Lock>), ControlError> {
    let domain: TrustDomain = settings.trust_domain.parse().map_err(|error| {
        ControlError::Invalid(format!("--trust-domain {}: {error}", settings.trust_domain))
    })?;
    if settings.certificate_ttl < Duration::from_secs(1) {
        return Err(ControlError::Invalid(format!("a certificate life of {:?}", settings.certificate_ttl)));
    }
    let data = match &settings.data {
        Some(path) => DataDir::open(path)?,
        None => DataDir::temporary()?,
    };
    let lock = settings.data.is_some().then(|| lock(&data)).transpose()?;
    let authorities = Authorities::open(&data, &domain, settings.certificate_ttl, SystemTime::now())?;
    let mut files = ConfigFiles::open(settings.config, &data)?;
    if files.poll() {
        files.save(&data)?;
    }
    let plane = Plane::open(data, authorities, &files, settings.insecure_http)?;
    Ok((plane, files, lock))
}

fn lock(data: &DataDir) -> Result<Lock, ControlError> {
    let path = data.path("lock");
    match Lock::take(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(ControlError::Data(format!(
            "{}: another control endpoint runs on this data directory; stop it, or give another --data",
            path.display()
        ))),
        Err(source) => Err(ControlError::io("locking", &path, source)),
    }
}
