//! What is true now: the whole configuration, compiled for one workload, immutable.
//!
//! `compile` ties the parts together: `view` says which objects this workload sees, `policy` layers the traffic policy
//! of a destination, `clusters` makes clusters of services, `routes` makes routes of rules, `hosts` makes virtual hosts
//! of routes, `inbound` the rules for what comes in.

mod clusters;
mod connection;
mod hosts;
mod inbound;
mod passthrough;
mod policy;
mod routes;
mod view;

pub use connection::{ConnectionPolicy, UpstreamHttp};
pub use policy::PolicySources;

use crate::{
    authorize::Authorizer,
    balance::{EndpointSet, HashPolicy, LocalityPolicy, Policy, Warmup},
    config::{
        Diagnostic, Origin, Resource,
        istio::{ClientTlsMode, DefaultTrafficPolicy, LocalitySetting, MtlsMode},
    },
    dice::Dice,
    health::{ClusterState, Limits, OutlierPolicy, States},
    identity::TrustDomain,
    registry::Registry,
    retry::{Budget, RetryBudget},
    route::{Authority, ClusterId, Decision, Head, HostTable, VirtualHost},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The workload for which a snapshot is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// Its namespace.
    pub namespace: String,
    /// Its service, if it is one.
    pub service: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What applies to the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeshSettings {
    /// Where mesh-wide objects live. Default `istio-system`.
    pub root_namespace: String,
    /// The suffix of service hosts. Default `cluster.local`.
    pub domain: String,
    /// The trust domain of the mesh's own workloads. Default `cluster.local`.
    pub trust_domain: TrustDomain,
    /// Whether hosts that nobody knows are passed through. Default true (Istio's ALLOW_ANY).
    pub allow_any: bool,
    /// Bound of making a connection where no DestinationRule sets one. Default 10 s.
    pub connect_timeout: Duration,
    /// What is in force where no DestinationRule writes the block. Default none.
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    /// Which localities get the requests where no DestinationRule says so. Default: fail over by distance, where
    /// endpoints can be ejected.
    pub locality_lb: LocalitySetting,
}

impl MeshSettings {
    /// Returns Istio's defaults for a mesh with this trust domain.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            root_namespace: "istio-system".to_owned(),
            domain: "cluster.local".to_owned(),
            trust_domain,
            allow_any: true,
            connect_timeout: Duration::from_secs(10),
            default_traffic_policy: None,
            locality_lb: LocalitySetting::default(),
        }
    }
}

/// The configuration, compiled.
#[derive(Debug)]
pub struct Snapshot {
    version: Arc<str>,
    hosts: HostTable,
    clusters: Box<[Arc<Cluster>]>,
    allow_any: bool,
    /// How the names end that only the mesh can give a meaning: `.svc.cluster.local`.
    mesh_suffix: String,
    inbound: Inbound,
}

/// The endpoints of one host, port and subset, and the policy towards them.
#[derive(Debug)]
pub struct Cluster {
    /// `outbound|port|subset|host`.
    pub name: Arc<str>,
    /// The full host.
    pub host: Arc<str>,
    /// The namespace of the service.
    pub namespace: Arc<str>,
    /// The subset; empty for the whole service.
    pub subset: Arc<str>,
    /// The service port.
    pub port: u16,
    /// Whom to send to.
    pub endpoints: EndpointSet,
    /// How to choose among them.
    pub balance: Policy,
    /// What of a request decides instead, if a DestinationRule asks for it.
    pub hash: Option<Arc<HashPolicy>>,
    /// How the share of a new endpoint grows, if a DestinationRule asks for it.
    pub warmup: Option<Warmup>,
    /// Which localities get the requests; `None` is all alike.
    pub locality: Option<Arc<LocalityPolicy>>,
    /// The circuit breakers.
    pub limits: Limits,
    /// Bound of making a connection. Default 10 s.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept. Default 1 h.
    pub idle_timeout: Duration,
    /// After how many requests a connection is replaced; 0 is never, the default.
    pub max_requests_per_connection: u32,
    /// How connections are made and kept otherwise.
    pub connection: Arc<ConnectionPolicy>,
    /// Outlier detection, if a DestinationRule asks for it.
    pub outlier: Option<OutlierPolicy>,
    /// How its endpoints are called; where each decides for itself (no rule says), what they have in common.
    pub tls: ClientTlsMode,
    /// The DestinationRule whose policy applies.
    pub rule: Option<Origin>,
    /// What outlives a reload.
    pub state: Arc<ClusterState>,
    /// The retry budget of the destination host.
    pub budget: Arc<Budget>,
    /// What bounds retries instead, if a DestinationRule has a `retryBudget`.
    pub retry_budget: Option<RetryBudget>,
    /// Where each block of its policy was written.
    pub sources: PolicySources,
}

/// The rules for what comes in.
#[derive(Clone, Debug, Default)]
pub struct Inbound {
    /// The mutual TLS mode where no port says otherwise; never `Unset`.
    pub mode: MtlsMode,
    /// The mode of single workload ports.
    pub ports: BTreeMap<u16, MtlsMode>,
    /// Who may do what.
    pub authorizer: Arc<Authorizer>,
}

impl Inbound {
    /// Returns the mutual TLS mode of workload port `port`.
    pub fn mode(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }
}

/// Compiles `resources` for `viewer`. Never fails as a whole: what cannot be compiled is a finding, and the part of it
/// that reaches a request answers as Envoy answers a dangling reference, or fails closed.
pub fn compile(
    version: &str,
    resources: &[Arc<Resource>],
    viewer: &Viewer,
    settings: &MeshSettings,
    states: &States,
) -> (Snapshot, Vec<Diagnostic>) {
    let registry = Registry::build(resources, &settings.domain);
    let view = view::View::new(resources, &registry, viewer, settings);
    let mut findings = Vec::new();
    let mut clusters = clusters::Clusters::new(&view, states);
    let hosts = hosts::compile(&view, &mut clusters, &mut findings);
    let inbound = inbound::compile(&view);
    findings.append(&mut clusters.findings);
    let snapshot = Snapshot {
        version: version.into(),
        hosts,
        clusters: clusters.finish(),
        allow_any: settings.allow_any,
        mesh_suffix: format!(".svc.{}", settings.domain),
        inbound,
    };
    (snapshot, findings)
}

impl Snapshot {
    /// Returns the snapshot that knows nothing: no host to call, and nothing allowed in.
    ///
    /// It is in force before the first configuration arrives.
    pub fn empty(mode: MtlsMode) -> Self {
        Self {
            version: "".into(),
            hosts: HostTable::default(),
            clusters: Box::default(),
            allow_any: false,
            mesh_suffix: String::new(),
            inbound: Inbound { mode, authorizer: Arc::new(Authorizer::closed()), ..Inbound::default() },
        }
    }

    /// Returns the version of the configuration it was compiled from.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Returns where `head` goes.
    pub fn route<'a>(&'a self, head: &Head<'_>, dice: &mut impl Dice) -> Decision<'a> {
        match self.virtual_host(head) {
            Some((host, _)) => host.decide(head, dice),
            None if self.allow_any && !self.is_mesh_name(head.authority) => Decision::Passthrough,
            None => Decision::Blocked,
        }
    }

    /// Returns whether `authority` names a service of the mesh, known or not.
    ///
    /// Such a name is never passed through: what is called with mutual TLS while it is known must not be called in
    /// plaintext, at whatever address a resolver finds for it, while it is not.
    fn is_mesh_name(&self, authority: &str) -> bool {
        Authority::parse(authority)
            .is_some_and(|name| name.host.ends_with(&self.mesh_suffix) || name.host.ends_with(".svc"))
    }

    /// Returns the virtual host that answers for `head`, and the service port that is meant.
    pub fn virtual_host(&self, head: &Head<'_>) -> Option<(&Arc<VirtualHost>, u16)> {
        self.hosts.find(&Authority::parse(head.authority)?, head.scheme)
    }

    /// Returns cluster number `id` of this snapshot.
    pub fn cluster(&self, id: ClusterId) -> &Arc<Cluster> {
        &self.clusters[id.0 as usize]
    }

    /// Returns every cluster; the index is its number.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    /// Returns the names of all hosts and the routes behind them.
    pub fn hosts(&self) -> &HostTable {
        &self.hosts
    }

    /// Returns the rules for what comes in.
    pub fn inbound(&self) -> &Inbound {
        &self.inbound
    }
}
