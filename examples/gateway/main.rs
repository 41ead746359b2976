//! The edge of the mesh: a program that enforces one Gateway and the VirtualServices bound to it.
//!
//! It is `mesh-server` and `mesh-client` put together. The server ends TLS by server name, checks tokens and policies,
//! and takes off every header that only the mesh may set; the client routes what is left by the Gateway's rules and
//! calls the services inside by mutual TLS, with retries, timeouts and outlier detection. All that is here is the command
//! line, the ports, and what a proxy must not pass on. It does not pass on upgrades (WebSockets), nor TLS itself.
//!
//! ```text
//! cargo run --example gateway -- --gateway istio-system/edge --control https://127.0.0.1:15010 --token "$TOKEN" \
//!     --credentials certs --listen 80=127.0.0.1:8080 --listen 443=127.0.0.1:8443
//! curl --cacert certs/shop.crt --connect-to shop.example.com:443:127.0.0.1:8443 https://shop.example.com/reviews
//! ```

mod flags;
mod forward;

use flags::Flags;
use mesh::{
    Mesh,
    runtime::edge::EdgeCertificates,
    server::{ServeError, Server, TrustedHops, shutdown_signal},
};
use std::{
    collections::BTreeSet,
    error::Error,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};
use tokio::{sync::watch, task::JoinSet};

#[tokio::main]
async fn main() -> ExitCode {
    let flags = match flags::read(std::env::args().skip(1)) {
        Ok(Some(flags)) => flags,
        Ok(None) => {
            say(flags::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("gateway: {why}\n`--help` lists the flags");
            return ExitCode::from(2);
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Listens at every port that the Gateway has or comes to have, until SIGTERM or SIGINT, then drains them.
async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let mesh = flags.mesh.clone().start().await?;
    let mut stop = std::pin::pin!(shutdown_signal());
    tokio::select! {
        () = mesh.ready() => {}
        () = stop.as_mut() => return Ok(()),
    }
    let (stopping, stopped) = watch::channel(false);
    let mut edge = Edge {
        certificates: EdgeCertificates::watch(mesh.workload(), flags.credentials.clone()).await,
        stopped,
        serving: JoinSet::new(),
        open: BTreeSet::new(),
        mesh,
        flags,
    };
    let mut changed = edge.mesh.workload().config().subscribe();
    edge.open_ports().await?;
    say("ready");
    loop {
        tokio::select! {
            () = stop.as_mut() => break,
            Ok(()) = changed.changed() => edge.open_ports().await?,
            Some(ended) = edge.serving.join_next() => ended??,
        }
    }
    stopping.send_replace(true);
    while let Some(ended) = edge.serving.join_next().await {
        ended??;
    }
    Ok(())
}

/// The servers that run.
struct Edge {
    mesh: Mesh,
    flags: Flags,
    certificates: Arc<EdgeCertificates>,
    stopped: watch::Receiver<bool>,
    serving: JoinSet<Result<(), ServeError>>,
    open: BTreeSet<u16>,
}

impl Edge {
    /// Listens where the Gateway in force has servers. A port that it has no longer stays open, and leads nowhere.
    async fn open_ports(&mut self) -> Result<(), ServeError> {
        let config = self.mesh.workload().config().current();
        let servers = config.gateway().into_iter().flat_map(|gateway| &gateway.servers);
        for server in servers.filter(|server| server.routes_http()) {
            let port = server.port.number;
            if self.open.insert(port) {
                self.open(port, &self.flags.listen.address(port, server.bind)).await?;
            }
        }
        Ok(())
    }

    async fn open(&mut self, port: u16, address: &str) -> Result<(), ServeError> {
        let server = Server::bind(self.mesh.workload(), address).await?.edge(&self.certificates, port);
        let server = server.trusted_hops(TrustedHops::proxies(self.flags.trusted_proxies));
        say(&format!("port {port} on {}", server.local_addr()));
        let client = self.mesh.client().clone();
        let handler = tower::service_fn(move |request| forward::forward(client.clone(), request));
        let mut stopped = self.stopped.clone();
        self.serving.spawn(server.serve(handler, async move {
            // An error is a program that ends: that is stopping, too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }));
        Ok(())
    }
}

/// Prints a line, if anybody still reads.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
