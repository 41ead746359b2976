//! One endpoint of a cluster, and how to talk to it.

use crate::{
    health::EndpointState,
    identity::PeerRule,
    registry::{Address, Locality},
};
use std::{collections::BTreeMap, sync::Arc};

/// How to talk to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// Plaintext, because policy says so. Never a fallback.
    Plaintext,
    /// Mutual TLS with the workload's SVID.
    Mutual(Arc<Mutual>),
    /// Policy asks for something that cannot be done: every attempt fails with this reason.
    Refused(Arc<str>),
}

/// The settings of mutual TLS towards an endpoint; equal settings may share connections, different ones never.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mutual {
    /// The server name sent, `outbound_.<port>_.<subset>_.<host>` by default.
    pub sni: Arc<str>,
    /// Who may answer.
    pub peers: PeerRule,
}

/// One endpoint of a cluster.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where to dial.
    pub address: Address,
    /// Labels, for display and telemetry.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Locality.
    pub locality: Locality,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// How to talk to it.
    pub security: Security,
    /// What outlives a reload: requests in flight, ejection.
    pub state: Arc<EndpointState>,
}

impl Endpoint {
    /// Returns its weight; none counts as 1.
    pub(super) fn weight(&self) -> u32 {
        self.weight.max(1)
    }
}
