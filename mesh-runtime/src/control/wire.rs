//! The bodies that workloads and the control endpoint exchange, all JSON.

mod callers;

pub use callers::{AskedRecord, CallerRecord, Callers, CallsBy, TrialDenial};

use mesh_core::config::Diagnostic;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The path of the control endpoint's own SPIFFE ID, `spiffe://{trust domain}/mesh-control`: the one URI SAN of the
/// certificate it serves with (any DNS names and addresses beside it are for `curl`).
///
/// Workloads ask for exactly this ID. A workload's own is `/ns/{}/sa/{}`, so none of them can pass for the endpoint,
/// although the same CA issued their certificates.
pub const CONTROL_ID_PATH: &str = "/mesh-control";

/// What an entry made of leases says of them beyond its endpoints: as a label, of one endpoint; as an annotation, of all.
pub const LEASE_MARK: &str = "mesh/lease";
/// As an annotation of [`LEASE_MARK`]: every workload of the service has said goodbye. The service is known and has no
/// endpoint.
pub const LEASE_WITHDRAWN: &str = "withdrawn";

/// The answer to `GET /v1/resources`. A workload may add `?service=S&instance=I`, so that the status can name it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resources {
    /// The version; also the `ETag`.
    pub version: String,
    /// The trust domain of the mesh.
    #[serde(rename = "trustDomain")]
    pub trust_domain: String,
    /// Istio objects as they were given; leases as `ServiceEntry` objects.
    pub items: Vec<serde_json::Value>,
    /// Whether the endpoint started without its leases: the registry may lack workloads for one lease time. The end of
    /// that time is a new version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warming: bool,
}

/// The body of `PUT /v1/workloads/{namespace}/{service}/{instance}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lease {
    /// The IP address others dial.
    pub address: String,
    /// Port name to listening port; at least one.
    pub ports: BTreeMap<String, u16>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `region/zone/subzone`.
    #[serde(default)]
    pub locality: String,
    /// How long without a heartbeat the lease holds, in seconds: 1 to 3600. Default 15.
    #[serde(default = "default_ttl_seconds")]
    pub ttl_seconds: u32,
    /// The port by which callers know the service, where no Service or ServiceEntry object says it. Default 80.
    #[serde(default = "default_service_port")]
    pub service_port: u16,
}

fn default_ttl_seconds() -> u32 {
    15
}

fn default_service_port() -> u16 {
    80
}

/// The body of `POST /v1/certificates`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateAsk {
    /// PEM of a PKCS#10 request.
    pub csr: String,
}

/// Its answer.
#[derive(Clone, Serialize, Deserialize)]
pub struct CertificateAnswer {
    /// PEM chain, leaf first.
    pub chain: String,
    /// PEM bundles by trust domain.
    pub bundles: BTreeMap<String, String>,
    /// Over plain HTTP: the bearer for renewals, valid as long as the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<String>,
}

/// Shows that there is a `renewal`, not what it is.
impl std::fmt::Debug for CertificateAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAnswer")
            .field("bundles", &self.bundles.keys())
            .field("renewal", &self.renewal.as_ref().map(|_| ".."))
            .finish_non_exhaustive()
    }
}

/// The answer to `GET /v1/bundle`, which needs no authorization: a workload learns its trust domain here before it asks
/// for its first certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleAnswer {
    /// The trust domain of the mesh.
    pub trust_domain: String,
    /// PEM bundles by trust domain.
    pub bundles: BTreeMap<String, String>,
}

/// The body of every error answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A stable word: `bad_request`, `unauthenticated`, `forbidden`, `conflict`, `not_found`, `method_not_allowed`,
    /// `timeout`, `too_large`, `unavailable`.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// The body of `POST /v1/reports`: how a workload fares with a version of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Report {
    /// The service.
    pub service: String,
    /// The instance.
    pub instance: String,
    /// The version in force there.
    pub version: String,
    /// What it could not put in force.
    #[serde(default)]
    pub rejected: Vec<Rejection>,
    /// Its labels, by which policies select it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Seconds until its certificate ends; `None` if it has none.
    #[serde(default)]
    pub certificate_seconds: Option<u64>,
    /// Who calls it.
    #[serde(default)]
    pub callers: Callers,
}

/// One object that was not put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// `Kind namespace/name`, or empty for a document that is no object.
    pub resource: String,
    /// The file.
    pub file: String,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
    /// The code.
    pub code: String,
    /// What is wrong, and what to write.
    pub message: String,
    /// What is in force instead.
    pub kept: String,
}

impl From<&Diagnostic> for Rejection {
    fn from(finding: &Diagnostic) -> Self {
        let place = finding.location.as_ref();
        let path = if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
        let help = finding.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        Self {
            resource: finding.resource.as_ref().map(ToString::to_string).unwrap_or_default(),
            file: place.map(|place| place.file.to_string()).unwrap_or_default(),
            line: place.map_or(0, |place| place.line),
            column: place.map_or(0, |place| place.column),
            code: finding.code.to_string(),
            message: format!("{path}{}{help}", finding.message),
            kept: finding.kept.clone().unwrap_or_else(|| "nothing is in force for it".to_owned()),
        }
    }
}

/// The answer to `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version being served.
    pub version: String,
    /// Who is connected.
    pub workloads: Vec<WorkloadStatus>,
    /// What was refused, by the endpoint or by a workload.
    pub rejected: Vec<Rejection>,
}

/// One workload in the status.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its service.
    pub service: String,
    /// Its instance.
    pub instance: String,
    /// Its identity.
    pub spiffe_id: String,
    /// The version it has in force.
    pub version: String,
    /// Seconds since it was last heard of.
    pub age_seconds: u64,
    /// Its labels, as far as it has reported.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Seconds that were left to its certificate when it last reported.
    #[serde(default)]
    pub certificate_seconds: Option<u64>,
    /// Who calls it; `None` if it has not reported, or is of a namespace that is not the asker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers: Option<Callers>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::config::Code;

    #[test]
    fn a_rejection_always_says_what_is_in_force_instead() {
        let finding = Diagnostic::error(Code::EMPTY_PUSH, "it is wrong");
        assert_eq!(Rejection::from(&finding).kept, "nothing is in force for it");
        assert_eq!(Rejection::from(&finding.kept("version 7")).kept, "version 7");
    }
}
