//! ServiceEntry and WorkloadEntry: the static registry, and the form in which the control endpoint serves leases.
// spec: istio networking/v1alpha3/service_entry.proto, workload_entry.proto

use super::service::ServicePort;
use crate::config::resource::At;
use std::collections::BTreeMap;

/// `spec` of a ServiceEntry.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceEntry {
    /// The hosts; at least one.
    pub hosts: Vec<At<String>>,
    /// `ports`; at least one.
    pub ports: Vec<ServicePort>,
    /// `location`.
    pub location: EntryLocation,
    /// `resolution`.
    pub resolution: Resolution,
    /// `endpoints`.
    pub endpoints: Vec<WorkloadEntry>,
    /// `subjectAltNames`: the SPIFFE IDs (or names) expected of its endpoints.
    pub subject_alt_names: Vec<String>,
    /// `exportTo`; empty means `["*"]`.
    pub export_to: Vec<String>,
}

/// `location`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryLocation {
    /// Outside: plaintext unless a DestinationRule says otherwise.
    #[default]
    MeshExternal,
    /// Part of the mesh.
    MeshInternal,
}

/// `resolution`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// Dial the host that was asked for.
    #[default]
    None,
    /// The endpoints' addresses are IP addresses.
    Static,
    /// The endpoints' addresses (or the hosts) are names to resolve; every answer is an endpoint.
    Dns,
    /// The same, the first answer only.
    DnsRoundRobin,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// An IP address, or a name where `resolution` is DNS.
    pub address: At<String>,
    /// Port name to the port it listens on; a port that is not named here uses the service's target port.
    pub ports: BTreeMap<String, u16>,
    /// Labels; `security.istio.io/tlsMode: istio` marks an endpoint that speaks mutual TLS.
    pub labels: BTreeMap<String, String>,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Relative weight; `None` is 1.
    pub weight: Option<u32>,
    /// The service account, from which the expected SPIFFE ID follows.
    pub service_account: Option<String>,
}
