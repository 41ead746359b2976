//! Breaks a mesh of real processes on purpose, counts what its callers notice, and says whether that is what
//! docs/RELIABILITY.md promises.
//!
//! The services are the `echo` example, the control endpoint is `meshctl serve`, and the caller is this process: its mesh
//! client is given requests at a fixed rate, whether or not the last one is answered, and latency counts from when a
//! request was due. Everything runs on loopback, in a network namespace of its own where the system gives one, and
//! every child ends with this process.

mod connections;
mod experiments;
mod intruder;
mod load;
mod network;
mod options;
mod process;
mod report;
mod town;
mod usage;

use crate::{network::Network, options::Options, process::Tools};
use clap::Parser as _;
use std::{error::Error, process::ExitCode};

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let options = Options::parse();
    let network = network::enter();
    log_to_stderr();
    usage::count_panics();
    let run = async {
        tokio::select! {
            result = run(&options, &network) => result,
            () = mesh::server::shutdown_signal() => Err("interrupted".into()),
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Failed::from).and_then(|runtime| runtime.block_on(run)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether every experiment that ran showed what it should.
async fn run(options: &Options, network: &Network) -> Result<bool, Failed> {
    let tools = Tools::beside_this_program()?;
    let mut reports = Vec::new();
    for experiment in options.chosen()? {
        eprintln!("{} {} ...", experiment.name, experiment.what);
        let report = experiment.run(&tools, network, options).await;
        report::show(&report, options.output);
        reports.push(report);
    }
    report::finish(&reports, options.output);
    Ok(reports.iter().all(|report| !report.is_failure()))
}

/// What is wrong with the mesh is told by the report; its log is shown if `RUST_LOG` asks for it.
fn log_to_stderr() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}
