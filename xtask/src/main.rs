//! `cargo xtask check`: what CI runs, in the same order, with one line per step at the end. `cargo xtask docs` writes the
//! part of the documentation that is made of the code. `cargo xtask chaos` builds the package `chaos` and runs it.
//!
//! It depends on nothing but std and mesh-core, so that it builds in seconds and no other dependency can change its
//! verdict.

mod cargo;
mod chaos;
mod coverage;
mod istio;
mod lexer;
mod prose;
mod purity;
mod sources;
mod steps;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, wanted)) if command == "check" => check(wanted),
        Some((command, [])) if command == "docs" => docs(),
        Some((command, arguments)) if command == "chaos" => chaos::run(&root(), arguments),
        _ => usage(),
    }
}

/// How a step ended.
enum Outcome {
    Passed,
    /// It did not run, and why: a tool that is not installed.
    Skipped(String),
    /// What was found; the tool itself has already printed the details.
    Failed(String),
}

/// Runs every step, or only those in `wanted`; a failed step does not hide what the later ones would find.
fn check(wanted: &[String]) -> ExitCode {
    if let Some(unknown) = wanted.iter().find(|name| steps::ALL.iter().all(|step| step.name != **name)) {
        eprintln!("xtask: there is no step `{unknown}`");
        return usage();
    }
    let root = root();
    let mut report = Vec::new();
    for step in
        steps::ALL.iter().filter(|step| wanted.is_empty() || wanted.iter().any(|name| name == step.name))
    {
        eprintln!("\n== {}: {}", step.name, step.proves);
        let begun = Instant::now();
        let outcome = (step.run)(&root);
        report.push((step.name, outcome, begun.elapsed()));
    }
    verdict(&report)
}

fn verdict(report: &[(&str, Outcome, Duration)]) -> ExitCode {
    eprintln!("\n== summary");
    for (name, outcome, took) in report {
        let seconds = took.as_secs();
        match outcome {
            Outcome::Passed => eprintln!("  ok       {name:<10} {seconds:>4} s"),
            Outcome::Skipped(why) => eprintln!("  SKIPPED  {name:<10} {seconds:>4} s  {why}"),
            Outcome::Failed(why) => eprintln!("  FAILED   {name:<10} {seconds:>4} s  {why}"),
        }
    }
    if report.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_))) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn docs() -> ExitCode {
    match istio::write(&root()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: cargo xtask check [STEP]...\n       cargo xtask docs\n       cargo xtask chaos [--only E1,E3] [--short] \
         [-o json]\n\nsteps, in order:"
    );
    for step in steps::ALL {
        eprintln!("  {:<10} {}", step.name, step.proves);
    }
    ExitCode::from(2)
}

/// Returns the root of the workspace: the directory above this package.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}
