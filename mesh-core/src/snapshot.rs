//! What is true now: the whole configuration, compiled for one workload, immutable.
//!
//! `compiler` ties the parts together: `index` says which objects this workload sees and what a change touches, `view` is
//! that for one compilation, `policy` layers the traffic policy of a destination, `clusters` makes clusters of services,
//! `delegate` puts the routes of delegates where they belong, `routes` makes routes of rules, `attached` likewise those of the Gateway API, `hosts` makes virtual hosts of routes,
//! `gateway` those of an edge, `scope` is what a Sidecar lets a workload see, `telemetry` what is told of its requests,
//! `inbound` the rules for what comes in, `mutual_tls` the modes of servers.

mod attached;
mod cluster_table;
mod clusters;
mod compiler;
mod connection;
mod delegate;
mod gateway;
mod hosts;
mod inbound;
mod index;
pub mod lint_security;
mod mutual_tls;
mod passthrough;
mod policy;
mod reached;
mod routes;
mod scope;
mod settings;
mod telemetry;
mod view;

pub use compiler::Compiler;
pub use connection::{ConnectionPolicy, UpstreamHttp};
pub use gateway::{EdgeCompiler, compile_gateway};
pub use policy::PolicySources;
pub use reached::{Reached, reached};
pub use scope::{InboundPools, Scope};
pub use telemetry::{AccessLog, MetricPolicy, RequestTelemetry, TelemetryPolicy};

use cluster_table::ClusterTable;

use crate::{
    authenticate::Authenticator,
    authorize::{Authorizer, Claims},
    balance::{EndpointSet, HashSource, LocalityPolicy, Policy, WarmUp},
    config::{
        Diagnostic, Origin, Resource,
        istio::{
            AccessLogSettings, ClientTlsMode, Compat, DefaultTrafficPolicy, Gateway, LocalitySetting,
            MtlsMode, PathNormalization, TcpKeepalive, TlsVersion,
        },
    },
    dice::Dice,
    health::{ClusterState, Limits, OutlierPolicy, States},
    identity::TrustDomain,
    registry::is_mesh_name,
    retry::{Budget, RetryBudget, RetryPolicy},
    route::{Authority, Chance, ClusterId, Decision, Head, HostTable, VirtualHost},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The workload for which a snapshot is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// Its namespace.
    pub namespace: String,
    /// Its service, if it is one.
    pub service: Option<String>,
    /// Its labels. They tell its locality, too ([`Locality::of_labels`](crate::registry::Locality::of_labels)).
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
    /// Other names of the trust domain: a principal that policy writes with one of them, or with the trust domain itself,
    /// stands for that of each. Default none.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// The mutual TLS mode of a server about which no policy says anything. Default PERMISSIVE.
    pub default_mtls: MtlsMode,
    /// Whether hosts that nobody knows are passed through. Default true (Istio's ALLOW_ANY).
    pub allow_any: bool,
    /// Bound of making a connection where no DestinationRule sets one. Default 10 s.
    pub connect_timeout: Duration,
    /// The TCP keepalive of connections, where a DestinationRule leaves a part of it out. Default the system's.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Whether ports of HTTP are spoken to in HTTP/2 where no DestinationRule says otherwise. Default false.
    pub h2_upgrade: bool,
    /// Whether endpoints that speak mutual TLS are called so where no DestinationRule says otherwise. Default true.
    pub auto_mtls: bool,
    /// The retries of routes that name none, and of services without routes. Default Istio's.
    pub retry: RetryPolicy,
    /// How endpoints are chosen where no DestinationRule says otherwise. Default least request.
    pub balance: Policy,
    /// The circuit breakers where no DestinationRule sets them. Default 2^32-1 each.
    pub limits: Limits,
    /// What is in force where no DestinationRule writes the block. Default none.
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    /// Which localities get the requests where no DestinationRule says so. Default: fail over by distance, where
    /// endpoints can be ejected.
    pub locality: LocalitySetting,
    /// `exportTo` of services that have none; empty is everybody, the default.
    pub service_export_to: Vec<String>,
    /// `exportTo` of VirtualServices that have none; empty is everybody, the default.
    pub virtual_service_export_to: Vec<String>,
    /// `exportTo` of DestinationRules that have none; empty is everybody, the default.
    pub destination_rule_export_to: Vec<String>,
    /// How requests are logged. Default not at all.
    pub access_log: AccessLogSettings,
    /// How often a trace is begun; `None`, the default, leaves it to the process.
    pub sampling: Option<Chance>,
    /// The least version of TLS between workloads. Default 1.2.
    pub tls_version_min: TlsVersion,
    /// How paths are normalised. Default `Base`.
    pub path_normalization: PathNormalization,
    /// Which Istio's defaults are meant. Default today's.
    pub compat: Compat,
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
            tcp_keepalive: None,
            h2_upgrade: false,
            trust_domain_aliases: Vec::new(),
            default_mtls: MtlsMode::Permissive,
            auto_mtls: true,
            retry: RetryPolicy::default(),
            balance: Policy::default(),
            limits: Limits::default(),
            default_traffic_policy: None,
            locality: LocalitySetting::default(),
            service_export_to: Vec::new(),
            virtual_service_export_to: Vec::new(),
            destination_rule_export_to: Vec::new(),
            access_log: AccessLogSettings::default(),
            sampling: None,
            tls_version_min: TlsVersion::default(),
            path_normalization: PathNormalization::default(),
            compat: Compat::default(),
        }
    }
}

/// The configuration, compiled.
#[derive(Debug)]
pub struct Snapshot {
    version: Arc<str>,
    hosts: HostTable,
    clusters: ClusterTable,
    allow_any: bool,
    /// How the hosts of services end: `cluster.local`.
    domain: String,
    inbound: Inbound,
    /// Of an edge.
    gateway: Option<Arc<Gateway>>,
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
    /// Whom to send to, and how they are chosen.
    pub endpoints: EndpointSet,
    /// What of a request is hashed for that, if a DestinationRule asks for it.
    pub hash: Option<Arc<HashSource>>,
    /// How the share of a new endpoint grows, if a DestinationRule asks for it.
    pub warm_up: Option<WarmUp>,
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

impl Cluster {
    /// Returns what stands at a number that is no cluster's.
    fn vacant() -> Self {
        Self {
            name: "".into(),
            host: "".into(),
            namespace: "".into(),
            subset: "".into(),
            port: 0,
            endpoints: EndpointSet::default(),
            hash: None,
            warm_up: None,
            locality: None,
            limits: Limits::default(),
            connect_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            max_requests_per_connection: 0,
            connection: Arc::default(),
            outlier: None,
            tls: ClientTlsMode::Disable,
            rule: None,
            state: Arc::default(),
            budget: Arc::default(),
            retry_budget: None,
            sources: PolicySources::default(),
        }
    }

    fn is_vacant(&self) -> bool {
        self.name.is_empty()
    }
}

/// The rules for what comes in.
#[derive(Clone, Debug, Default)]
pub struct Inbound {
    /// The mutual TLS mode where no port says otherwise; never `Unset`.
    pub mode: MtlsMode,
    /// The object that says so; `None` is the default of the mesh.
    pub source: Option<Origin>,
    /// The mode of single workload ports.
    pub ports: BTreeMap<u16, MtlsMode>,
    /// The objects that say so.
    pub port_sources: BTreeMap<u16, Origin>,
    /// Who may do what.
    pub authorizer: Arc<Authorizer>,
    /// Which tokens of end users are good.
    pub authenticator: Arc<Authenticator>,
    /// Which spelling of a path is judged and handled.
    pub path_normalization: PathNormalization,
    /// How much the server takes at one time.
    pub pools: InboundPools,
    /// The least version of TLS in which peers may come.
    pub tls_version_min: TlsVersion,
}

impl Inbound {
    /// Returns the mutual TLS mode of workload port `port`.
    pub fn mode(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }

    /// Returns the object that sets the mutual TLS mode of workload port `port`; `None` is the default of the mesh.
    pub fn mode_source(&self, port: u16) -> Option<&Origin> {
        if self.ports.contains_key(&port) { self.port_sources.get(&port) } else { self.source.as_ref() }
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
    Compiler::new(viewer.clone()).compile(version, &sorted(resources), settings, states)
}

/// Returns `resources` by key, as [`View::virtual_service`](view::View::virtual_service) looks for them.
fn sorted(resources: &[Arc<Resource>]) -> Vec<Arc<Resource>> {
    let mut sorted = resources.to_vec();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    sorted
}

impl Snapshot {
    /// Returns the snapshot that knows nothing: no host to call, and nothing allowed in.
    ///
    /// It is in force before the first configuration arrives.
    pub fn empty(mode: MtlsMode) -> Self {
        Self {
            version: "".into(),
            hosts: HostTable::default(),
            clusters: ClusterTable::default(),
            allow_any: false,
            domain: String::new(),
            inbound: Inbound { mode, authorizer: Arc::new(Authorizer::closed()), ..Inbound::default() },
            gateway: None,
        }
    }

    /// Returns the version of the configuration it was compiled from.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Returns the Gateway that it was compiled for, if it is the snapshot of an edge.
    pub fn gateway(&self) -> Option<&Arc<Gateway>> {
        self.gateway.as_ref()
    }

    /// Returns where `head` goes that has arrived at server port `port` of an edge, whichever port it names itself: what
    /// listens at a port may be published as another one. `claims` are those of its verified token.
    // spec: envoy config.route.v3.RouteConfiguration.ignore_port_in_host_matching, which Istio sets for gateways
    pub fn route_arrived<'a>(
        &'a self,
        head: &Head<'_>,
        port: u16,
        claims: &Claims,
        dice: &mut impl Dice,
    ) -> Decision<'a> {
        let host = Authority::parse(head.authority).map(|asked| Authority { port: Some(port), ..asked });
        match host.and_then(|host| self.hosts.find(&host, head.scheme)) {
            Some((host, _)) => host.decide_for(head, claims, dice),
            None => Decision::Blocked,
        }
    }

    /// Returns where `head` goes.
    pub fn route<'a>(&'a self, head: &Head<'_>, dice: &mut impl Dice) -> Decision<'a> {
        let decision = match self.virtual_host(head) {
            Some((host, _)) => host.decide(head, dice),
            None if self.allow_any => Decision::Passthrough,
            None => Decision::Blocked,
        };
        match decision {
            Decision::Passthrough if self.is_mesh_name(head.authority) => Decision::Blocked,
            decision => decision,
        }
    }

    /// Returns whether `authority` names a service of the mesh, known or not.
    ///
    /// Such a name is never passed through.
    fn is_mesh_name(&self, authority: &str) -> bool {
        Authority::parse(authority).is_some_and(|name| is_mesh_name(&name.host, &self.domain))
    }

    /// Returns the virtual host that answers for `head`, and the service port that is meant.
    pub fn virtual_host(&self, head: &Head<'_>) -> Option<(&Arc<VirtualHost>, u16)> {
        self.hosts.find(&Authority::parse(head.authority)?, head.scheme)
    }

    /// Returns cluster number `id` of this snapshot.
    pub fn cluster(&self, id: ClusterId) -> &Arc<Cluster> {
        self.clusters.get(id)
    }

    /// Returns every cluster that a route leads to.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.iter().filter(|cluster| !cluster.is_vacant())
    }

    /// Returns a bound of the clusters' numbers: each is below it, and few below it are no cluster's.
    pub fn cluster_numbers(&self) -> usize {
        self.clusters.len()
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
