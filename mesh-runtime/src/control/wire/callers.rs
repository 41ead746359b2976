//! Who called a workload, and how: what its admin listener shows as `/callers`, and what it reports for the status.

use serde::{Deserialize, Serialize};

/// What a workload has recorded of its callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Callers {
    /// For how long it has been recording, in seconds: who calls once a day is not seen in an hour.
    pub recorded_seconds: u64,
    /// The callers, those without a proven identity first.
    pub callers: Vec<CallerRecord>,
    /// What policies on trial (`istio.io/dry-run`) would have denied.
    pub denied_on_trial: Vec<TrialDenial>,
    /// How many denials on trial are not in the list, for want of room.
    pub denied_on_trial_more: u64,
}

/// One caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerRecord {
    /// How it comes.
    pub by: CallsBy,
    /// Who it is, if that is proven.
    #[serde(default)]
    pub identity: Option<String>,
    /// Where it calls from, if it is known by nothing better. Without either this is everybody for whom there was no
    /// room.
    #[serde(default)]
    pub address: Option<String>,
    /// The port of the workload; 0 for everybody for whom there was no room.
    pub port: u16,
    /// The connections it has made.
    pub connections: u64,
    /// The connections that were closed because policy demands mutual TLS.
    #[serde(default)]
    pub refused: u64,
    /// The requests that were let through.
    pub requests: u64,
    /// Seconds since it was last seen.
    pub last_seen_seconds: u64,
    /// Requests of different kinds among them.
    #[serde(default)]
    pub asked: Vec<AskedRecord>,
    /// How many are not in the list, for want of room.
    #[serde(default)]
    pub asked_more: u64,
}

/// How a caller comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CallsBy {
    /// Without TLS.
    Plaintext,
    /// By TLS, without a certificate of its own.
    Anonymous,
    /// By mutual TLS.
    MutualTls,
}

/// Requests that were alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskedRecord {
    /// The method.
    pub method: String,
    /// The host, with the port that the request names, if it names one.
    pub host: String,
    /// The path, without query.
    pub path: String,
    /// How many there were.
    pub count: u64,
}

/// Requests that a policy on trial would have denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialDenial {
    /// The rule, as Envoy names it: `ns[shop]-policy[viewers]-rule[0]`; `None` if there are ALLOW policies on trial, and
    /// none matches.
    pub policy: Option<String>,
    /// Who called: its identity, or its address.
    pub caller: String,
    /// The port of the workload.
    pub port: u16,
    /// What it asked for.
    #[serde(flatten)]
    pub asked: AskedRecord,
    /// Seconds since the last of them.
    pub last_seen_seconds: u64,
}
