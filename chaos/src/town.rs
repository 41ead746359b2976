//! A control endpoint, services that join it, and a caller.

use crate::{
    Failed,
    load::Ask,
    process::{Process, Tools},
};
use futures_util::future::try_join_all;
use mesh::{Mesh, core::balance::Endpoint, runtime::control::JoinToken};
use mesh_control::{TokenAsk, mint_token};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

/// A control endpoint and whoever calls through it. All of it ends when it is dropped.
pub(crate) struct Town {
    pub(crate) control: Process,
    pub(crate) caller: Mesh,
    url: String,
    ttl: String,
    echo: PathBuf,
    meshctl: PathBuf,
    directory: TempDir,
}

impl Town {
    /// Starts one with the configuration `config`, whose certificates last for `ttl`.
    ///
    /// # Errors
    ///
    /// Returns what does not start, or is refused of `config`.
    pub(crate) async fn start(tools: &Tools, config: &str, ttl: &str) -> Result<Self, Failed> {
        let directory = tempfile::Builder::new().prefix("mesh-chaos-").tempdir()?;
        std::fs::write(directory.path().join(CONFIG), config)?;
        let (control, url) = serve(&tools.meshctl, directory.path(), "127.0.0.1:0", ttl).await?;
        let caller = join(&url, directory.path(), "caller").await?;
        let (echo, meshctl) = (tools.echo.clone(), tools.meshctl.clone());
        let town = Self { control, caller, url, ttl: ttl.to_owned(), echo, meshctl, directory };
        match town.refused().await?.as_slice() {
            [] => Ok(town),
            refused => Err(format!("the configuration of the experiment is refused: {refused:?}").into()),
        }
    }

    /// Starts the control endpoint again, where it was.
    ///
    /// # Errors
    ///
    /// Returns why it is not ready.
    pub(crate) async fn restart_control(&mut self) -> Result<(), Failed> {
        let listen = self.url.rsplit('/').next().unwrap_or_default();
        (self.control, _) = serve(&self.meshctl, self.directory.path(), listen, &self.ttl).await?;
        Ok(())
    }

    /// Begins to rotate the root, as an operator does.
    ///
    /// # Errors
    ///
    /// Returns that `meshctl` refuses to.
    pub(crate) async fn rotate_root(&self) -> Result<(), Failed> {
        let mut command = Command::new(&self.meshctl);
        command.args(["rotate-root", "--certificate-ttl", &self.ttl, "--data"]).arg(self.data());
        let output = command.kill_on_drop(true).output().await?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("meshctl rotate-root: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Starts another caller, of this process.
    ///
    /// # Errors
    ///
    /// Returns why it does not start.
    pub(crate) async fn join(&self, account: &str) -> Result<Mesh, Failed> {
        join(&self.url, self.directory.path(), account).await
    }

    /// Returns where the control endpoint keeps what must survive it: its authority, above all.
    pub(crate) fn data(&self) -> PathBuf {
        self.path(DATA)
    }

    /// Starts a service.
    ///
    /// # Errors
    ///
    /// Returns why it is not ready.
    pub(crate) async fn echo(&self, service: &str, flags: &[&str]) -> Result<Echo, Failed> {
        self.echo_with(service, flags, &[]).await
    }

    /// Starts a service with environment variables.
    ///
    /// # Errors
    ///
    /// Returns why it is not ready.
    pub(crate) async fn echo_with(
        &self,
        service: &str,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Echo, Failed> {
        let token = token(&self.data(), service)?;
        let mut command = Command::new(&self.echo);
        command.args(["--service", service, "--version", "v1", "--plain", "127.0.0.1:0"]).args(flags);
        command.args(["--control", &self.url, "--token", &token]);
        command.env("RUST_LOG", "warn").envs(variables.iter().copied());
        let mut process = Process::start(service, &mut command)?;
        let plain = process.line("plain on http://").await?;
        let mesh = process.line("mesh on ").await?;
        process.line("ready").await?;
        Ok(Echo { process, mesh, plain })
    }

    /// Starts so many alike.
    ///
    /// # Errors
    ///
    /// Returns why one of them is not ready, or not known to the caller.
    pub(crate) async fn echoes(&self, service: &str, count: usize) -> Result<Vec<Echo>, Failed> {
        let echoes = try_join_all((0..count).map(|_| self.echo(service, &[]))).await?;
        self.knows(service, count).await?;
        Ok(echoes)
    }

    /// Waits until the caller knows so many endpoints of `service`.
    ///
    /// # Errors
    ///
    /// Returns that it does not.
    pub(crate) async fn knows(&self, service: &str, count: usize) -> Result<(), Failed> {
        let known = || self.endpoints(service, |_| true).len() == count;
        eventually(&format!("the caller knows {count} of {service}"), async || known()).await
    }

    /// Returns the addresses of those endpoints of `service` that are as `wanted`, in whatever subset, as the caller
    /// knows them.
    pub(crate) fn endpoints(&self, service: &str, wanted: impl Fn(&Endpoint) -> bool) -> BTreeSet<String> {
        let snapshot = self.caller.workload().config().current();
        let host = format!("{service}.");
        let of_service = snapshot.clusters().filter(|cluster| cluster.host.starts_with(&host));
        let endpoints = of_service.flat_map(|cluster| cluster.endpoints.as_slice());
        endpoints.filter(|it| wanted(it)).map(|it| it.address.to_string()).collect()
    }

    /// Returns the addresses of those endpoints of `service` that are ejected.
    pub(crate) fn ejected(&self, service: &str) -> BTreeSet<String> {
        let now = self.caller.workload().clock().now();
        self.endpoints(service, |endpoint| endpoint.state.is_ejected(now))
    }

    /// Replaces the configuration, all at once, as an editor saves.
    ///
    /// # Errors
    ///
    /// Returns what the file system says.
    pub(crate) fn edit(&self, text: &str) -> Result<(), Failed> {
        let beside = self.path("mesh.yaml.new");
        std::fs::write(&beside, text)?;
        Ok(std::fs::rename(beside, self.path(CONFIG))?)
    }

    /// Returns the objects that the control endpoint refuses, as `meshctl status` tells it.
    ///
    /// # Errors
    ///
    /// Returns that it tells nothing.
    pub(crate) async fn refused(&self) -> Result<Vec<serde_json::Value>, Failed> {
        let mut command = Command::new(&self.meshctl);
        command.args(["status", "--control", &self.url, "-o", "json", "--data"]).arg(self.data());
        let output = command.kill_on_drop(true).output().await?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(status["rejected"].as_array().cloned().unwrap_or_default())
    }

    /// Returns where `name` is in the directory that ends with this.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }
}

const CONFIG: &str = "mesh.yaml";
const DATA: &str = "data";

/// Starts a control endpoint on what is in `directory`; returns its address, too.
async fn serve(
    meshctl: &Path,
    directory: &Path,
    listen: &str,
    ttl: &str,
) -> Result<(Process, String), Failed> {
    let mut command = Command::new(meshctl);
    command.arg("serve").arg("--config").arg(directory.join(CONFIG)).arg("--data").arg(directory.join(DATA));
    command.args(["--listen", listen, "--certificate-ttl", ttl]);
    let mut control = Process::start("meshctl serve", &mut command)?;
    let url = control.line("control endpoint ready on ").await?.trim().to_owned();
    Ok((control, url))
}

async fn join(url: &str, directory: &Path, account: &str) -> Result<Mesh, Failed> {
    let token = JoinToken::parse(&token(&directory.join(DATA), account)?)?;
    let mesh = Mesh::builder(account).control(url).join_token(token).start().await?;
    mesh.ready().await;
    Ok(mesh)
}

fn token(data: &Path, account: &str) -> Result<String, Failed> {
    let ask = TokenAsk {
        namespace: "default".to_owned(),
        service_account: account.to_owned(),
        services: Vec::new(),
        ttl: Duration::from_secs(24 * 3600),
    };
    Ok(mint_token(data, &ask)?)
}

/// A running service.
pub(crate) struct Echo {
    pub(crate) process: Process,
    /// Where the mesh calls it.
    pub(crate) mesh: String,
    /// Where it tells what it was asked.
    plain: String,
}

impl Echo {
    /// Returns the port of the mesh.
    ///
    /// # Errors
    ///
    /// Returns that its address has none.
    pub(crate) fn port(&self) -> Result<u16, Failed> {
        Ok(self.mesh.rsplit(':').next().unwrap_or_default().parse()?)
    }

    /// Returns how often the handler has run for `path`.
    ///
    /// # Errors
    ///
    /// Returns that it does not tell.
    pub(crate) async fn handled(&self, town: &Town, path: &str) -> Result<usize, Failed> {
        self.seen(town, "byPath", path).await
    }

    /// Returns how often the handler has run for `peer`: a SPIFFE ID, or `none`.
    ///
    /// # Errors
    ///
    /// Returns that it does not tell.
    pub(crate) async fn handled_of(&self, town: &Town, peer: &str) -> Result<usize, Failed> {
        self.seen(town, "byPeer", peer).await
    }

    async fn seen(&self, town: &Town, by: &str, key: &str) -> Result<usize, Failed> {
        let seen = self.ask(town, "/mesh/seen").await?;
        Ok(seen[by][key].as_u64().unwrap_or_default().try_into()?)
    }

    /// Makes it call `url` itself, `count` times one after the other; returns what became of each: nothing, or the kind
    /// and the message of an error.
    ///
    /// # Errors
    ///
    /// Returns that it does not tell.
    pub(crate) async fn calls(
        &self,
        town: &Town,
        url: &str,
        count: usize,
    ) -> Result<Vec<Option<String>>, Failed> {
        let calls = self.ask(town, &format!("/mesh/call?url={url}&count={count}")).await?;
        let calls = calls.as_array().ok_or("it has not called")?;
        Ok(calls.iter().map(trouble).collect())
    }

    /// Returns how many tasks it has.
    ///
    /// # Errors
    ///
    /// Returns that it does not tell.
    pub(crate) async fn tasks(&self, town: &Town) -> Result<usize, Failed> {
        let tasks = self.ask(town, "/mesh/tasks").await?;
        Ok(tasks["alive"].as_u64().unwrap_or_default().try_into()?)
    }

    /// The plain port is outside of the mesh, and the mesh lets calls pass through to it.
    async fn ask(&self, town: &Town, path: &str) -> Result<serde_json::Value, Failed> {
        let answer = town.caller.client().get(&format!("http://{}{path}", self.plain)).await?;
        Ok(serde_json::from_str(&answer.into_body().text().await?)?)
    }
}

/// Returns what went wrong with a call, as `echo` tells it.
fn trouble(call: &serde_json::Value) -> Option<String> {
    let error = &call["error"];
    match error["kind"].as_str() {
        Some(kind) => Some(format!("{kind}: {}", error["message"].as_str().unwrap_or_default())),
        None if call["status"] == 200 => None,
        None => Some(format!("answered {}", call["status"])),
    }
}

/// Asks every 10 ms until it is so.
///
/// # Errors
///
/// Returns that it is not so within 30 s.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Result<(), Failed> {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        if Instant::now() >= until {
            return Err(format!("within {PATIENCE:?} it did not happen that {what}").into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Calls until so many calls in a row are fine: connections are made, and lazily built tables are built.
///
/// # Errors
///
/// Returns that they are not.
pub(crate) async fn warm_up(town: &Town, ask: &Ask) -> Result<(), Failed> {
    let mut in_a_row = 0;
    eventually("a hundred calls in a row are answered", async || {
        for _ in 0..20 {
            let is_fine = ask.once(&town.caller).await.is_fine();
            in_a_row = if is_fine { in_a_row + 1 } else { 0 };
        }
        in_a_row >= 100
    })
    .await
}
