//! A meshed service for probing: it answers what it saw, calls whom it is told to, and misbehaves on request.
//!
//! On `--listen` it is a server of the mesh. On `--plain` it speaks plain HTTP to whoever drives the probe, and takes no
//! part in the mesh. `cargo run --example echo -- --help` lists the flags.

mod answer;
mod body;
mod call;
mod flags;
mod plain;
mod seen;
mod steer;

use crate::{answer::Echo, flags::Flags, seen::Seen};
use mesh::Mesh;
use std::{
    convert::Infallible,
    error::Error,
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// From SIGTERM to the end; one second short of what whoever sent it is promised.
const DRAIN_MAX: Duration = Duration::from_secs(19);

/// A registration takes milliseconds, unless nobody is there to take it.
const REGISTRATION_MAX: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    let flags = match flags::read(std::env::args().skip(1)) {
        Ok(Some(flags)) => flags,
        Ok(None) => {
            say(flags::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            complain(format_args!("{why}\n`--help` lists the flags"));
            return ExitCode::from(2);
        }
    };
    log_to_stderr();
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

/// Serves both ports until SIGTERM or SIGINT, then drains both.
async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        mesh::server::shutdown_signal().await;
        stop.send_replace(true);
    });
    let mesh = Mesh::start(flags.settings).await?;
    let seen = Arc::new(Seen::default());
    let plain = match flags.plain {
        Some(address) => Some(plain::serve(address, &mesh, &seen, until(&stopped)).await?),
        None => None,
    };
    let server = mesh.bind(&flags.listen).await?;
    say(format_args!("mesh on {}", server.local_addr()));

    let echo = Echo::new(&mesh, &seen, flags.habits);
    let drained = async {
        server.serve(echo.into_service(), until(&stopped)).await?;
        if let Some(plain) = plain {
            plain.await?;
        }
        Ok(())
    };
    tokio::select! {
        // The server comes first: one that refuses to serve is never announced.
        biased;
        result = drained => result,
        () = cut_short(&stopped) => Ok(()),
        never = announce(&mesh, until(&stopped)) => match never {},
    }
}

/// Says `ready` once, when it is true, unless `stop` comes first.
async fn announce(mesh: &Mesh, stop: impl Future<Output = ()>) -> Infallible {
    tokio::select! {
        biased;
        () = stop => {}
        () = found(mesh) => say("ready"),
    }
    std::future::pending().await
}

/// Waits until it can call, and, as far as the control endpoint answers, others find it.
async fn found(mesh: &Mesh) {
    mesh.ready().await;
    let mut explained = false;
    while timeout(REGISTRATION_MAX, mesh.workload().registered()).await.is_err() {
        // Who starts from its cache is ready although nobody is there to register it.
        if mesh.workload().trouble().is_some() {
            return;
        }
        if !std::mem::replace(&mut explained, true) {
            complain(
                "not ready: the control endpoint has not registered this workload, so nobody finds it; \
                 `lease not renewed` in the log says why",
            );
        }
    }
}

/// Is done once `stopped` holds true.
fn until(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stopped = stopped.clone();
    async move {
        // The sender lives in a task that ends only after it has sent.
        let _ = stopped.wait_for(|stop| *stop).await;
    }
}

async fn cut_short(stopped: &watch::Receiver<bool>) {
    until(stopped).await;
    tokio::time::sleep(DRAIN_MAX).await;
    complain(format_args!("the drain took longer than {DRAIN_MAX:?}; what is left is cut off"));
}

/// Prints a line, if anybody still reads: a probe goes on when whoever started it has closed the pipe.
fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints a line on stderr, if anybody still reads.
fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "echo: {line}");
}

/// The log goes to stderr, so that stdout holds only what is promised there. `RUST_LOG` filters it.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colour = io::IsTerminal::is_terminal(&io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour)
        // A line that could not be written would be reported with `eprintln!`, which panics where stderr is closed.
        .log_internal_errors(false)
        .init();
}
