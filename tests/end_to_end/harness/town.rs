//! A control endpoint with the article's configuration, and services that join it.

use super::{Control, Echo, meshctl::token, process::command};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The article's configuration.
pub(crate) const ARTICLE: &str = include_str!("../../../docs/mesh.yaml");

/// Returns the article's configuration with other weights.
pub(crate) fn weights(v1: u32, v2: u32) -> String {
    ARTICLE
        .replace("subset: v1}\n      weight: 90", &format!("subset: v1}}\n      weight: {v1}"))
        .replace("subset: v2}\n      weight: 10", &format!("subset: v2}}\n      weight: {v2}"))
}

/// A directory with everything, and the control endpoint on it.
pub(crate) struct Town {
    directory: TempDir,
    pub(crate) control: Control,
    more: Vec<String>,
}

impl Town {
    /// Starts a control endpoint with the article's configuration.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a control endpoint with more flags.
    #[track_caller]
    pub(crate) fn with(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("mesh.yaml");
        std::fs::write(&config, ARTICLE).unwrap();
        let control = Control::start(&config, &directory.path().join("data"), "127.0.0.1:0", more);
        Self { directory, control, more: more.iter().map(|&flag| flag.to_owned()).collect() }
    }

    /// Starts payment v1, payment v2 and checkout beside it.
    #[track_caller]
    pub(crate) fn with_the_article(more: &[&str]) -> (Self, [Echo; 3]) {
        let town = Self::with(more);
        // All three are started before the first is waited for.
        let services = [("payment-service", "v1"), ("payment-service", "v2"), ("checkout", "v1")];
        let echoes = services.map(|(service, version)| town.echo(service, version)).map(Echo::ready);
        let checkout = &echoes[2];
        super::eventually("checkout reaches both versions", || {
            let calls = checkout.call("http://payment-service/", 40);
            let versions = ["v1", "v2"];
            versions.iter().all(|version| calls.iter().any(|call| call.version() == *version)).then_some(())
        });
        (town, echoes)
    }

    /// Starts a service with a token of its own.
    #[track_caller]
    pub(crate) fn echo(&self, service: &str, version: &str) -> Echo {
        self.echo_with(service, version, &[])
    }

    /// Starts a service with a token of its own and more flags.
    #[track_caller]
    pub(crate) fn echo_with(&self, service: &str, version: &str, more: &[&str]) -> Echo {
        self.echo_holding(&self.token(service, &[]), service, version, more)
    }

    /// Starts a service with `token`, and a cache directory if `more` names one as `--cache DIR`.
    #[track_caller]
    pub(crate) fn echo_holding(&self, token: &str, service: &str, version: &str, more: &[&str]) -> Echo {
        let mut command = command("echo");
        command.args(["--service", service, "--version", version, "--admin", "127.0.0.1:0"]);
        command.args(["--control", &self.control.url, "--token", token]);
        match more {
            ["--cache", directory, rest @ ..] => command.env("MESH_CACHE_DIR", directory).args(rest),
            more => command.args(more),
        };
        Echo::start(&format!("{service} {version}"), &mut command)
    }

    /// Makes a join token for `account`.
    #[track_caller]
    pub(crate) fn token(&self, account: &str, more: &[&str]) -> String {
        token(&self.data(), account, more)
    }

    /// Replaces the configuration, all at once, as an editor saves.
    pub(crate) fn edit(&self, text: &str) {
        let beside = self.path("mesh.yaml.new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.path("mesh.yaml")).unwrap();
    }

    /// Kills the control endpoint without notice.
    pub(crate) fn kill_control(&mut self) {
        self.control.process.kill();
    }

    /// Starts the control endpoint again where it was.
    #[track_caller]
    pub(crate) fn restart_control(&mut self) {
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        let address = self.control.address();
        self.control = Control::start(&self.path("mesh.yaml"), &self.data(), &address, &more);
    }

    /// Returns the control endpoint's data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Returns a path in this town's directory.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }
}
