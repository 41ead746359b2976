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
    /// TLS to a server that is no workload of the mesh.
    Origination(Arc<TlsOrigination>),
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

/// The settings of TLS towards a server that is no workload of the mesh: the modes SIMPLE and MUTUAL of a
/// DestinationRule.
// spec: istio networking/v1alpha3/destination_rule.proto ClientTLSSettings
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsOrigination {
    /// The server name sent, and asked for where `names` is empty.
    pub sni: Arc<str>,
    /// Names of which the server's certificate must carry one: hosts, addresses or URIs.
    pub names: Box<[String]>,
    /// The file of the authorities to trust; `None` is those of the system.
    pub authorities: Option<Arc<str>>,
    /// The file of what they have revoked.
    pub revocations: Option<Arc<str>>,
    /// What is shown to the server, under MUTUAL.
    pub identity: Option<ClientFiles>,
    /// Any certificate is taken.
    pub skip_verify: bool,
}

/// The files of a client's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientFiles {
    /// The chain.
    pub certificate: Arc<str>,
    /// The key.
    pub private_key: Arc<str>,
}

impl TlsOrigination {
    /// Returns the settings of the mode SIMPLE with the authorities of the system, for the server called `name`.
    pub fn simple(name: &str) -> Self {
        Self {
            sni: name.into(),
            names: Box::default(),
            authorities: None,
            revocations: None,
            identity: None,
            skip_verify: false,
        }
    }

    /// Returns the files it is made of.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let identity = self.identity.iter().flat_map(|files| [&files.certificate, &files.private_key]);
        identity.chain(&self.authorities).chain(&self.revocations).map(|file| &**file)
    }
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
