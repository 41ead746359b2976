//! `meshctl`: runs a control endpoint, makes join tokens, shows what an endpoint knows, says what a change
//! would break, judges configuration, and says what
//! may stand in it.
//!
//! Exit status: 0 fine, 1 findings at or above the threshold, 2 usage or I/O error. Logs go to stderr.

mod analyze;
mod args;
mod check;
mod explain;
mod input;
mod rotate_root;
mod schema;
mod serve;
mod status;
mod token;

use args::{Args, Command};
use clap::Parser;
use std::{io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way too, and are no errors.
            let code = if error.use_stderr() { FAILED } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    log_to_stderr();
    let json = args.output == args::Output::Json;
    let result = match args.command {
        Command::Serve(serve) => serve::run(serve, json).map(|()| FINE),
        Command::Token(token) => token::run(token, json).map(|()| FINE),
        Command::RotateRoot(rotate) => rotate_root::run(&rotate, json).map(|()| FINE),
        Command::Status(status) => status::run(status, json).map(|()| FINE),
        Command::Check(check) => {
            check::run(&check, json).map(|is_well| if is_well { FINE } else { FINDINGS })
        }
        Command::Analyze(analyze) => {
            analyze::run(&analyze, json).map(|found| if found { FINDINGS } else { FINE })
        }
        Command::Explain(explain) => explain::run(&explain, json).map(|()| FINE),
        Command::Schema(schema) => schema::run(&schema, json).map(|()| FINE),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(&error, json);
            ExitCode::from(FAILED)
        }
    }
}

fn report(error: &str, json: bool) {
    if json {
        // A reader that is gone reads it on stderr, or not at all.
        let _ = writeln!(std::io::stdout(), "{}", serde_json::json!({"error": error}));
    }
    eprintln!("meshctl: {error}");
}

/// `RUST_LOG` decides; by default state changes and what an operator should look at.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
}

const FINE: u8 = 0;
const FINDINGS: u8 = 1;
const FAILED: u8 = 2;
