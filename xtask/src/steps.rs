//! The steps in the order in which they run: the quick verdicts first.

use crate::{Outcome, cargo::Cargo, chaos, istio, prose, purity, sources};
use std::{path::Path, process::ExitCode};

/// One step of the check.
pub(crate) struct Step {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What is true when it passes.
    pub(crate) proves: &'static str,
    /// Runs it in the root of the workspace.
    pub(crate) run: fn(&Path) -> Outcome,
}

/// Every step.
pub(crate) const ALL: &[Step] = &[
    Step { name: "fmt", proves: "the code is formatted", run: fmt },
    Step {
        name: "sources",
        proves: "every file says what it is, every `// spec:` cites something",
        run: sources::check,
    },
    Step { name: "prose", proves: "the documents name only files and tests that exist", run: prose::check },
    Step {
        name: "istio",
        proves: "docs/ISTIO.md says what the readers say, and a test proves each field that is obeyed",
        run: istio::check,
    },
    Step { name: "purity", proves: "mesh-core has no I/O, clock or dice of its own", run: purity::check },
    Step { name: "clippy", proves: "no lint warns", run: clippy },
    Step { name: "docs", proves: "rustdoc has no broken link", run: docs },
    Step { name: "tests", proves: "unit, integration, end-to-end and documentation tests pass", run: tests },
    Step { name: "spiffe", proves: "the tests of the feature `spiffe` pass", run: spiffe },
    Step { name: "loom", proves: "what threads share is right in whatever order they come to it", run: loom },
    Step { name: "chaos", proves: "callers notice nothing of what breaks around them", run: chaos },
    Step { name: "features", proves: "each feature builds alone", run: features },
    Step { name: "msrv", proves: "the oldest supported compiler builds it", run: msrv },
    Step { name: "deny", proves: "licences and advisories are in order", run: deny },
];

/// The feature sets that must build without any other.
const FEATURES: &[&str] = &["ring", "aws-lc-rs", "ring,axum", "ring,spiffe"];

fn fmt(root: &Path) -> Outcome {
    if !Cargo::has(root, "fmt") {
        return Outcome::Skipped("rustfmt is not installed: rustup component add rustfmt".to_owned());
    }
    Cargo::at(root).run(&["fmt", "--all", "--check"])
}

fn clippy(root: &Path) -> Outcome {
    if !Cargo::has(root, "clippy") {
        return Outcome::Skipped("clippy is not installed: rustup component add clippy".to_owned());
    }
    Cargo::at(root).run(&[
        "clippy",
        "--workspace",
        "--features",
        "spiffe",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

fn docs(root: &Path) -> Outcome {
    Cargo::at(root).env("RUSTDOCFLAGS", "-D warnings").run(&[
        "doc",
        "--workspace",
        "--features",
        "spiffe",
        "--no-deps",
    ])
}

fn tests(root: &Path) -> Outcome {
    Cargo::at(root).run(&["test", "--workspace"])
}

/// By itself: the other tests are of what a user has who asks for no feature.
fn spiffe(root: &Path) -> Outcome {
    let packages = ["-p", "mesh", "-p", "mesh-runtime"];
    let targets = ["--features", "spiffe", "--lib", "--test", "workload_api"];
    Cargo::at(root).run(&[&["test"][..], &packages, &targets].concat())
}

/// In a directory of its own: under another `--cfg` every dependency is another one.
fn loom(root: &Path) -> Outcome {
    Cargo::at(root).env("RUSTFLAGS", "--cfg loom").run(&[
        "test",
        "-p",
        "mesh-core",
        "--test",
        "loom",
        "--target-dir",
        "target/loom",
    ])
}

/// In its short form, whose times decide nothing.
fn chaos(root: &Path) -> Outcome {
    if chaos::run(root, &["--short".to_owned()]) == ExitCode::SUCCESS {
        Outcome::Passed
    } else {
        Outcome::Failed("an experiment failed: its row says which figure".to_owned())
    }
}

fn features(root: &Path) -> Outcome {
    for features in FEATURES {
        let outcome =
            Cargo::at(root).run(&["check", "-p", "mesh", "--no-default-features", "--features", features]);
        if let Outcome::Failed(why) = outcome {
            return Outcome::Failed(format!("with only `{features}`: {why}"));
        }
    }
    Outcome::Passed
}

/// Uses the toolchain only if it is there: a check downloads none.
fn msrv(root: &Path) -> Outcome {
    let Some(version) = rust_version(root) else {
        return Outcome::Failed("Cargo.toml names no rust-version".to_owned());
    };
    let toolchain = format!("+{version}");
    if !Cargo::has_toolchain(root, &toolchain) {
        return Outcome::Skipped(format!(
            "toolchain {version} is not installed: rustup toolchain install {version}"
        ));
    }
    Cargo::toolchain(root, &toolchain).run(&["check", "--workspace", "--target-dir", "target/msrv"])
}

fn rust_version(root: &Path) -> Option<String> {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).ok()?;
    let line = manifest.lines().find(|line| line.starts_with("rust-version"))?;
    Some(line.split('"').nth(1)?.to_owned())
}

fn deny(root: &Path) -> Outcome {
    if !Cargo::has(root, "deny") {
        return Outcome::Skipped("cargo-deny is not installed: cargo install cargo-deny".to_owned());
    }
    Cargo::at(root).run(&["deny", "check"])
}
