//! Everything that would be several processes: the control endpoint, payment v1 and v2, and checkout.

use crate::{
    Failed,
    yaml::{self, Split},
};
use axum::{Json, Router, routing::get};
use mesh::{Mesh, Peer, runtime::control::JoinToken};
use mesh_control::{ControlEndpoint, ControlSettings, TokenAsk, mint_token};
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// What payment answers: which version it is, and who it was told is calling.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) version: String,
    pub(crate) caller: String,
}

/// The mesh of the story.
pub(crate) struct World {
    config: PathBuf,
    data: PathBuf,
    control: Option<ControlEndpoint>,
    address: SocketAddr,
    checkout: Mesh,
    payments: Vec<JoinHandle<Result<(), mesh::Error>>>,
    stop: watch::Sender<bool>,
    /// Removed with everything in it when the world ends.
    _directory: tempfile::TempDir,
}

impl World {
    /// Starts everything, with the weights 90 and 10, and returns when checkout can call.
    pub(crate) async fn start() -> Result<Self, Failed> {
        let directory = tempfile::Builder::new().prefix("mesh-quickstart-").tempdir()?;
        let (config, data) = (directory.path().join("mesh.yaml"), directory.path().join("data"));
        yaml::save(&config, &yaml::with(Split { v1: 90, v2: 10 }))?;

        let control =
            ControlEndpoint::start(settings(&config, &data, SocketAddr::from(([127, 0, 0, 1], 0)))).await?;
        let address = address_of(&control)?;
        let stop = watch::channel(false).0;
        let mut payments = Vec::new();
        for version in ["v1", "v2"] {
            let mesh = workload("payment-service", version, &control, &data).await?;
            payments.push(serve_payment(&mesh, version, &stop).await?);
        }
        let checkout = workload("checkout", "v1", &control, &data).await?;
        let known = tokio::time::timeout(Duration::from_secs(10), sees_payment(&checkout)).await;
        known.map_err(|_| "checkout did not hear of payment v1 and v2 within 10 s")?;
        Ok(Self {
            config,
            data,
            control: Some(control),
            address,
            checkout,
            payments,
            stop,
            _directory: directory,
        })
    }

    /// Returns the workload that calls payment.
    pub(crate) fn checkout(&self) -> &Mesh {
        &self.checkout
    }

    /// Returns the file to edit.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Returns the control endpoint, while there is one.
    pub(crate) fn control(&self) -> Option<&ControlEndpoint> {
        self.control.as_ref()
    }

    /// Ends the control endpoint.
    pub(crate) async fn lose_control(&mut self) {
        if let Some(control) = self.control.take() {
            control.stop().await;
        }
    }

    /// Starts the control endpoint again, where it was and with what it had on disk.
    pub(crate) async fn regain_control(&mut self) -> Result<(), Failed> {
        self.control = Some(ControlEndpoint::start(settings(&self.config, &self.data, self.address)).await?);
        Ok(())
    }

    /// Drains the services and ends everything.
    pub(crate) async fn end(mut self) -> Result<(), Failed> {
        self.stop.send_replace(true);
        for payment in self.payments.drain(..) {
            payment.await??;
        }
        self.lose_control().await;
        Ok(())
    }
}

fn settings(config: &Path, data: &Path, listen: SocketAddr) -> ControlSettings {
    let mut settings = ControlSettings::default();
    settings.config = vec![config.to_owned()];
    settings.data = Some(data.to_owned());
    settings.listen = listen;
    settings
}

/// Starts a workload that knows nothing but the control endpoint's URL and its own join token.
async fn workload(
    service: &str,
    version: &str,
    control: &ControlEndpoint,
    data: &Path,
) -> Result<Mesh, Failed> {
    let ask = TokenAsk {
        namespace: "default".to_owned(),
        service_account: service.to_owned(),
        services: Vec::new(),
        ttl: Duration::from_secs(3600),
    };
    let token = JoinToken::parse(&mint_token(data, &ask)?)?;
    let mesh =
        Mesh::builder(service).version(version).control(control.url()).join_token(token).start().await?;
    tokio::time::timeout(Duration::from_secs(10), mesh.ready()).await.map_err(|_| {
        format!("{service} {version} was not ready within 10 s: {:?}", mesh.workload().readiness())
    })?;
    Ok(mesh)
}

/// Serves payment on a port that the system picks; the mesh tells the others which.
async fn serve_payment(
    mesh: &Mesh,
    version: &'static str,
    stop: &watch::Sender<bool>,
) -> Result<JoinHandle<Result<(), mesh::Error>>, Failed> {
    let pay = move |peer: Peer| async move {
        Json(Receipt { version: version.to_owned(), caller: peer.id().to_string() })
    };
    let server = mesh.bind("127.0.0.1:0").await?;
    let mut stopped = stop.subscribe();
    let stopped = async move {
        // An error means that the sender is gone, which is the end too.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let service = Router::new().route("/pay", get(pay));
    Ok(tokio::spawn(async move { Ok(server.serve(service, stopped).await?) }))
}

/// Waits until `checkout` knows an endpoint of each version: a service is found once its lease has made the round.
async fn sees_payment(checkout: &Mesh) {
    let config = checkout.workload().config();
    let mut published = config.subscribe();
    loop {
        let snapshot = config.current();
        let has = |version| {
            let mut clusters = snapshot.clusters();
            clusters.any(|cluster| &*cluster.subset == version && !cluster.endpoints.is_empty())
        };
        if has("v1") && has("v2") {
            return;
        }
        // An error means that the workload is gone; then the timeout tells.
        if published.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn address_of(control: &ControlEndpoint) -> Result<SocketAddr, Failed> {
    let url = control.url();
    let authority = url.split("://").nth(1).unwrap_or(&url);
    Ok(authority.parse().map_err(|_| format!("the control endpoint's URL holds no address: {url}"))?)
}
