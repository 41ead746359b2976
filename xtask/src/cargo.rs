//! Cargo as a child process whose output the reader sees.

use crate::Outcome;
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// One call of cargo.
pub(crate) struct Cargo {
    command: Command,
}

impl Cargo {
    /// Returns the cargo that runs this program, to be run in `root`.
    pub(crate) fn at(root: &Path) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Self::calling(Command::new(cargo), root)
    }

    /// Returns the cargo of another toolchain, e.g. `+1.88`; only rustup's own `cargo` understands that argument.
    pub(crate) fn toolchain(root: &Path, toolchain: &str) -> Self {
        let mut cargo = Self::calling(Command::new("cargo"), root);
        cargo.command.env_remove("RUSTUP_TOOLCHAIN").arg(toolchain);
        cargo
    }

    /// Cargo tells its children which package they are. Build scripts watch those variables, and ring would be built
    /// anew whenever cargo is called from here instead of from a shell.
    fn calling(mut command: Command, root: &Path) -> Self {
        command.current_dir(root).stdin(Stdio::null());
        let told =
            |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(told) {
                command.env_remove(name);
            }
        }
        Self { command }
    }

    /// Returns whether `cargo SUBCOMMAND` exists.
    pub(crate) fn has(root: &Path, subcommand: &str) -> bool {
        Self::at(root).succeeds(&[subcommand, "--version"])
    }

    /// Returns whether `toolchain` is installed; never installs it.
    pub(crate) fn has_toolchain(root: &Path, toolchain: &str) -> bool {
        let mut cargo = Self::toolchain(root, toolchain);
        cargo.command.env("RUSTUP_AUTO_INSTALL", "0");
        cargo.succeeds(&["--version"])
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it with `arguments`.
    pub(crate) fn run(mut self, arguments: &[&str]) -> Outcome {
        let shown = format!("cargo {}", arguments.join(" "));
        eprintln!("$ {shown}");
        match self.command.args(arguments).status() {
            Ok(status) if status.success() => Outcome::Passed,
            Ok(status) => Outcome::Failed(format!("`{shown}`: {status}")),
            Err(error) => Outcome::Failed(format!("`{shown}` did not start: {error}")),
        }
    }

    /// Runs it with `arguments` and returns what it printed, or what went wrong.
    pub(crate) fn output(mut self, arguments: &[&str]) -> Result<String, String> {
        let shown = format!("cargo {}", arguments.join(" "));
        let output = self.command.args(arguments).stderr(Stdio::inherit()).output();
        match output {
            Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(output) => Err(format!("`{shown}`: {}", output.status)),
            Err(error) => Err(format!("`{shown}` did not start: {error}")),
        }
    }

    fn succeeds(mut self, arguments: &[&str]) -> bool {
        let status = self.command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }
}
