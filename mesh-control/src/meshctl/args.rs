//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Runs and inspects the mesh's control endpoint.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version)]
pub(crate) struct Args {
    /// How to write the result.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a control endpoint in the foreground; SIGTERM ends it.
    Serve(ServeArgs),
    /// Makes a join token: all that a workload needs to know.
    Token(TokenArgs),
    /// Replaces the root of the endpoint's authority by a new one, with such an overlap that no call fails.
    RotateRoot(RotateRootArgs),
    /// Shows who is connected, on which version, and what was refused.
    Status(StatusArgs),
    /// Says what is wrong in the mesh, or with --strict whom a switch to STRICT would cut off.
    Check(CheckArgs),
    /// Says what is wrong with configuration, before it is served.
    Analyze(AnalyzeArgs),
    /// Says where a request would go, and why.
    Explain(ExplainArgs),
    /// Prints what may stand in a file, as JSON Schema: editors complete and underline by it.
    #[command(after_help = EDITORS)]
    Schema(SchemaArgs),
}

const EDITORS: &str = "\
Editors with the YAML language server take the schema from the first line of a file:

  meshctl schema > mesh.schema.json
  # yaml-language-server: $schema=mesh.schema.json";

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Files and directories of Istio YAML, watched for change.
    #[arg(long, required = true, num_args = 1.., value_name = "DIR_OR_FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// Where to listen; port 0 picks one.
    #[arg(long, default_value = "127.0.0.1:15010")]
    pub(crate) listen: SocketAddr,
    /// CA key, leases and the last good configuration; without it they end with the process.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Plain HTTP, on a loopback address only.
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// The trust domain of every identity.
    #[arg(long, default_value = "cluster.local")]
    pub(crate) trust_domain: String,
    /// How long a certificate lasts; workloads renew at half of it.
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub(crate) certificate_ttl: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// The data directory of the endpoint, which need not run yet.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// The namespace of the workload.
    #[arg(long)]
    pub(crate) namespace: String,
    /// Its service account.
    #[arg(long)]
    pub(crate) service_account: String,
    /// A service it may register as, beside the one named like its account; may be given several times.
    #[arg(long = "service", value_name = "NAME")]
    pub(crate) services: Vec<String>,
    /// How long the token is good for, e.g. `30m`, `1h30m`.
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub(crate) ttl: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RotateRootArgs {
    /// The data directory of the endpoint, which may run.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// How long its certificates last: each half of the overlap is as long.
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub(crate) certificate_ttl: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,
    /// Says whom a switch to STRICT mutual TLS would cut off.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Files and directories of Istio YAML as they are to be: their AuthorizationPolicies are tried on what was recorded,
    /// and if they say which ports are STRICT, that counts instead of all.
    #[arg(long, num_args = 1.., value_name = "DIR_OR_FILE", requires = "strict")]
    pub(crate) config: Vec<PathBuf>,
    /// The MeshConfig, as a file of its own.
    #[arg(long, value_name = "FILE", requires = "config")]
    pub(crate) mesh_config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EndpointArgs {
    /// The URL that `meshctl serve` printed.
    #[arg(long, value_name = "URL")]
    pub(crate) control: String,
    /// The data directory of the endpoint; without it, the token in MESH_JOIN_TOKEN is used.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AnalyzeArgs {
    /// Files and directories of Istio YAML.
    #[arg(required = true, value_name = "FILE_OR_DIR")]
    pub(crate) paths: Vec<PathBuf>,
    /// From which level on findings make the exit status 1.
    #[arg(long, value_enum, default_value_t = Threshold::Error)]
    pub(crate) failure_threshold: Threshold,
    /// Unknown fields are warnings instead of errors.
    #[arg(long)]
    pub(crate) lenient: bool,
    /// An EnvoyFilter, WasmPlugin or TrafficExtension, which is never in force here, is an error instead of a warning.
    #[arg(long)]
    pub(crate) refuse_extensions: bool,
    /// The MeshConfig, as a file of its own.
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh_config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Threshold {
    /// Objects that are not in force as written.
    Error,
    /// Also what probably does not do what was meant.
    Warning,
    /// Also what is worth knowing.
    Info,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// Files and directories of Istio YAML; `Service` and `ServiceEntry` objects in them are the registry.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE_OR_DIR")]
    pub(crate) config: Vec<PathBuf>,
    /// The MeshConfig, as a file of its own.
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh_config: Option<PathBuf>,
    /// Who calls.
    #[arg(long, value_name = "NAMESPACE/SERVICE_ACCOUNT", required_unless_present = "gateway")]
    pub(crate) from: Option<String>,
    /// The Gateway at which the request arrives from outside, in place of a caller in the mesh.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "from")]
    pub(crate) gateway: Option<String>,
    /// A label of the caller; `app` is its service account unless said otherwise. May be given several times.
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// What is called, e.g. `http://reviews/api?x=1`.
    #[arg(long)]
    pub(crate) url: String,
    /// How.
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    /// A header of the request, as `name: value`; may be given several times.
    #[arg(short = 'H', value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {
    /// The kind, e.g. VirtualService; without it, any document that is read.
    pub(crate) kind: Option<String>,
    /// Lists the kinds that are read, and their API versions, instead.
    #[arg(long, conflicts_with = "kind")]
    pub(crate) list: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is no label; write name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Reads `1h30m`, `90s`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    mesh_core::config::duration::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}
