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
    /// Shows who is connected, on which version, and what was refused.
    Status(StatusArgs),
}

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
pub(crate) struct StatusArgs {
    /// The URL that `meshctl serve` printed.
    #[arg(long, value_name = "URL")]
    pub(crate) control: String,
    /// The data directory of the endpoint; without it, the token in MESH_JOIN_TOKEN is used.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
}

/// Reads `1h30m`, `90s`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write e.g. `30m` or `1h30m`");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (count, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let count: u64 = count.parse().map_err(|_| wrong())?;
        let part = count.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let table = [
            ("1h", Some(3_600_000)),
            ("1h30m", Some(5_400_000)),
            ("90s", Some(90_000)),
            ("500ms", Some(500)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("1", None),
            ("h", None),
            ("1x", None),
            ("-1h", None),
            ("1h 30m", None),
            ("99999999999999999999h", None),
            ("99999999999999999h", None),
        ];
        for (text, expected) in table {
            assert_eq!(duration(text).ok().map(|d| d.as_millis()), expected, "{text}");
        }
    }
}
