//! `meshctl`, as a user runs it.

use super::{process, process::Process};
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// Returns `meshctl`, built once per run of the tests: it is the binary of another package, which cargo does not
/// promise to have built for these.
pub(crate) fn meshctl() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "mesh-control", "--bin", "meshctl"]);
        // Build scripts watch these, and ring would be built anew because a test calls cargo instead of a shell.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&*name);
            }
        }
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(status.success(), "{build:?}: {status}");
        process::target().join("meshctl")
    }))
}

/// A control endpoint in a process of its own.
pub(crate) struct Control {
    pub(crate) process: Process,
    pub(crate) url: String,
}

/// An object in the status that was refused.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Refused {
    pub(crate) resource: String,
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) message: String,
    pub(crate) kept: String,
}

impl Control {
    /// Starts one with the configuration `config` and the secrets in `data`, and waits until it answers.
    #[track_caller]
    pub(crate) fn start(config: &Path, data: &Path, listen: &str, more: &[&str]) -> Self {
        let mut command = meshctl();
        command.arg("serve").arg("--config").arg(config).arg("--data").arg(data);
        command.args(["--listen", listen]).args(more);
        let mut process = Process::start("meshctl serve", &mut command);
        let url = process.line("control endpoint ready on ").trim().to_owned();
        Self { process, url }
    }

    /// Returns the `IP:PORT` it listens on, to start the next one there.
    pub(crate) fn address(&self) -> String {
        self.url.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Returns what `meshctl status` says.
    #[track_caller]
    pub(crate) fn status(&self, data: &Path) -> serde_json::Value {
        let output =
            meshctl().args(["status", "--control", &self.url, "-o", "json", "--data"]).arg(data).output();
        let output = output.unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("meshctl status: {error}: {output:?}"))
    }

    /// Returns what it has refused.
    #[track_caller]
    pub(crate) fn refused(&self, data: &Path) -> Vec<Refused> {
        let status = self.status(data);
        serde_json::from_value(status["rejected"].clone()).unwrap_or_else(|error| panic!("{error}: {status}"))
    }
}

/// Makes a join token for `account` in the namespace `default`.
#[track_caller]
pub(crate) fn token(data: &Path, account: &str, more: &[&str]) -> String {
    let mut command = meshctl();
    command
        .args(["token", "--namespace", "default", "--service-account", account, "--data"])
        .arg(data)
        .args(more);
    printed(&command.output().unwrap())
}

#[track_caller]
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
