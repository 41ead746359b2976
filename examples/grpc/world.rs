//! Everything that would be several processes: the control endpoint, servers of warehouse, and a shop that calls them.

use crate::{
    Failed,
    shelf::Shelf,
    warehouse::{WarehouseClient, WarehouseServer},
};
use mesh::{
    Mesh,
    core::{registry::Address, snapshot::Snapshot},
    runtime::control::JoinToken,
};
use mesh_control::{ControlEndpoint, ControlSettings, TokenAsk, mint_token};
use std::{path::Path, time::Duration};
use tokio::{sync::watch, task::JoinHandle};
use tonic::service::Routes;

/// How long anything may take to make its round; it takes milliseconds.
const ROUND_MAX: Duration = Duration::from_secs(60);

/// The mesh of the story.
pub(crate) struct World {
    control: ControlEndpoint,
    shop: Mesh,
    shelf: Shelf,
    /// Removed with everything in it when the world ends.
    directory: tempfile::TempDir,
}

/// A server of warehouse that serves until it is told to leave.
pub(crate) struct Server {
    address: Address,
    leave: watch::Sender<bool>,
    served: JoinHandle<Result<(), mesh::Error>>,
}

impl World {
    /// Starts the control endpoint with `yaml`, and the shop.
    pub(crate) async fn start(yaml: &str) -> Result<Self, Failed> {
        let directory = tempfile::Builder::new().prefix("mesh-grpc-").tempdir()?;
        save(directory.path(), yaml)?;
        let mut settings = ControlSettings::default();
        settings.config = vec![directory.path().join("mesh.yaml")];
        settings.data = Some(directory.path().join("data"));
        settings.listen = ([127, 0, 0, 1], 0).into();
        let control = ControlEndpoint::start(settings).await?;
        let shop = join(&control, directory.path(), "shop").await?;
        Ok(Self { control, shop, shelf: Shelf::with(100), directory })
    }

    /// Returns what an application calls: tonic's client with the mesh in the place of its channel.
    pub(crate) fn client(&self) -> WarehouseClient {
        WarehouseClient::new(self.shop.client().grpc())
    }

    /// Returns what is for sale.
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Starts a server, and returns when the shop calls it.
    pub(crate) async fn serve(&self, name: &str) -> Result<Server, Failed> {
        let mesh = join(&self.control, self.directory.path(), "warehouse").await?;
        let server = mesh.bind("127.0.0.1:0").await?;
        let address = Address::Ip(server.local_addr());
        let (leave, mut left) = watch::channel(false);
        let left = async move {
            // An error means that nobody can tell it any more, which is the end too.
            let _ = left.wait_for(|left| *left).await;
        };
        let routes = Routes::new(WarehouseServer(self.shelf.of_server(name)));
        let served = tokio::spawn(async move { Ok(server.serve(routes.into_axum_router(), left).await?) });
        self.knows(|snapshot| calls(snapshot, &address)).await?;
        Ok(Server { address, leave, served })
    }

    /// Tells `server` to leave, and returns when the shop calls it no more. What is under way goes on.
    pub(crate) async fn retire(&self, server: &Server) -> Result<(), Failed> {
        server.leave.send_replace(true);
        self.knows(|snapshot| !calls(snapshot, &server.address)).await
    }

    /// Puts `yaml` into force, and returns when the shop obeys it.
    pub(crate) async fn edit(&self, yaml: &str) -> Result<(), Failed> {
        let before = self.shop.workload().config().current();
        save(self.directory.path(), yaml)?;
        self.knows(|snapshot| snapshot.version() != before.version()).await
    }

    /// Waits until the shop's configuration is as `expected`.
    async fn knows(&self, expected: impl Fn(&Snapshot) -> bool) -> Result<(), Failed> {
        let config = self.shop.workload().config();
        let mut published = config.subscribe();
        let known = async { while !expected(&config.current()) && published.changed().await.is_ok() {} };
        Ok(tokio::time::timeout(ROUND_MAX, known).await.map_err(|_| "the shop did not hear of it in time")?)
    }

    /// Ends everything.
    pub(crate) async fn end(self) {
        self.control.stop().await;
    }
}

impl Server {
    /// Returns when all that was under way has ended, at the drain limit at the latest.
    pub(crate) async fn drain(self) -> Result<(), Failed> {
        self.leave.send_replace(true);
        Ok(self.served.await??)
    }
}

fn calls(snapshot: &Snapshot, address: &Address) -> bool {
    let mut endpoints = snapshot.clusters().flat_map(|cluster| cluster.endpoints.as_slice());
    endpoints.any(|endpoint| endpoint.address == *address)
}

/// Puts `yaml` in the place of the configuration all at once, as an editor saves.
fn save(directory: &Path, yaml: &str) -> std::io::Result<()> {
    let beside = directory.join("mesh.yaml.new");
    std::fs::write(&beside, yaml)?;
    std::fs::rename(beside, directory.join("mesh.yaml"))
}

/// Starts a workload that knows nothing but the control endpoint's URL and its own join token.
async fn join(control: &ControlEndpoint, directory: &Path, service: &str) -> Result<Mesh, Failed> {
    let ask = TokenAsk {
        namespace: "default".to_owned(),
        service_account: service.to_owned(),
        services: Vec::new(),
        ttl: Duration::from_secs(3600),
    };
    let token = JoinToken::parse(&mint_token(&directory.join("data"), &ask)?)?;
    let mesh = Mesh::builder(service).control(control.url()).join_token(token).start().await?;
    tokio::time::timeout(ROUND_MAX, mesh.ready())
        .await
        .map_err(|_| format!("{service} was not ready in time"))?;
    Ok(mesh)
}
