//! A canary, shifted live between two services over mutual TLS, with no sidecar: the whole mesh in one process.
//!
//! A control endpoint, payment v1 and v2, and checkout, which calls payment 200 times a second. The story edits the
//! configuration file, breaks it, mends it, and takes the control endpoint away; every step is checked, and the exit
//! status says whether all of it held. `--stay` keeps everything running afterwards, for you to edit the file.

mod finding;
mod load;
mod screen;
mod story;
mod tally;
mod world;
mod yaml;

use crate::{load::Load, screen::Screen, story::Story, world::World};
use std::{error::Error, process::ExitCode};

const USAGE: &str = "usage: cargo run --example quickstart [-- --stay]\n\n  --stay   keep running after the story; \
                     edit the configuration file and watch";

type Failed = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let stay = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--stay"] => true,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    log_if_asked();
    match run(stay).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every step showed what it should, and no call failed.
async fn run(stay: bool) -> Result<bool, Failed> {
    let screen = Screen::on_stdout();
    let world = World::start().await?;
    let load = Load::start(world.checkout());
    screen.follow(load.tally());
    Story::new(world, load, screen).tell(stay).await
}

/// The screen belongs to the story; the log is shown, on stderr, if `RUST_LOG` asks for it.
fn log_if_asked() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}
