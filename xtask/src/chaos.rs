//! `cargo xtask chaos`: builds what is put to the test and who does it, and runs that.

use crate::{Outcome, cargo::Cargo};
use std::{
    path::Path,
    process::{Command, ExitCode},
};

/// Runs the experiments with `arguments`; the exit status is theirs.
///
/// The short form uses what the tests have built already, the long one an optimised build.
pub(crate) fn run(root: &Path, arguments: &[String]) -> ExitCode {
    let (profile, build) = match arguments.iter().any(|argument| argument == "--short") {
        true => ("debug", SHORT),
        false => ("release", LONG),
    };
    if let Outcome::Failed(why) = Cargo::at(root).run(build) {
        eprintln!("xtask: {why}");
        return ExitCode::from(2);
    }
    match start(profile, arguments) {
        Ok(status) => status,
        Err(why) => {
            eprintln!("xtask: chaos did not run: {why}");
            ExitCode::from(2)
        }
    }
}

const SHORT: &[&str] = &["build", "--workspace", "--bins", "--examples"];

const LONG: &[&str] = &[
    "build",
    "--release",
    "--package=mesh",
    "--package=mesh-control",
    "--package=chaos",
    "--example=echo",
    "--bin=meshctl",
    "--bin=chaos",
];

fn start(profile: &str, arguments: &[String]) -> std::io::Result<ExitCode> {
    // This program stands in the directory of its own profile, beside those of the others.
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).unwrap_or(Path::new("target"));
    let status = Command::new(target.join(profile).join("chaos")).args(arguments).status()?;
    // Who was ended by a signal has no status.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2);
    Ok(ExitCode::from(code))
}
