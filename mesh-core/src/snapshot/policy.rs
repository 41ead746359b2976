//! The traffic policy of one destination: layers of blocks, of which a later one replaces an earlier one whole.
// spec: istio pilot/pkg/networking/util MergeTrafficPolicy

use super::{ConnectionPolicy, MeshSettings};
use crate::{
    balance::{HashSource, LocalityPolicy, Policy, WarmUp},
    config::{
        At, Code, Diagnostic, Location, Mark, Origin, Resource,
        istio::{
            self, ClientTls, ClientTlsMode, ConnectionPool, LoadBalancer, OutlierDetection, SimpleLb,
            TrafficPolicy,
        },
    },
    health::{Limits, OutlierPolicy, States},
    registry::Port,
    retry::{Recent, RetryBudget},
};
use std::{ops::Deref, sync::Arc, time::Duration};

/// Where each block of a cluster's policy was written; `None` is a default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySources {
    /// `loadBalancer`.
    pub load_balancer: Option<Box<Origin>>,
    /// `connectionPool`.
    pub connection_pool: Option<Box<Origin>>,
    /// `outlierDetection`.
    pub outlier_detection: Option<Box<Origin>>,
    /// `tls`.
    pub tls: Option<Box<Origin>>,
    /// `retryBudget`.
    pub retry_budget: Option<Box<Origin>>,
}

/// The blocks in force; `None` is the default.
#[derive(Default)]
pub(super) struct Blocks<'a> {
    load_balancer: Option<Block<'a, LoadBalancer>>,
    connection_pool: Option<Block<'a, ConnectionPool>>,
    outlier_detection: Option<Block<'a, OutlierDetection>>,
    tls: Option<Block<'a, ClientTls>>,
    retry_budget: Option<Block<'a, istio::RetryBudget>>,
}

/// A block, and by whom it was written.
struct Block<'a, T> {
    block: &'a At<T>,
    by: Author<'a>,
}

#[derive(Clone, Copy)]
enum Author<'a> {
    Rule(&'a Resource),
    Mesh(Option<&'a Origin>),
}

impl<'a> Blocks<'a> {
    /// Returns these blocks with those of `policy`, which `rule` has written, over them, as they apply to `port`.
    ///
    /// An entry of `portLevelSettings` resets the blocks that it does not write to the defaults. It cannot write
    /// `retryBudget`: that of an earlier layer stays.
    #[must_use]
    pub(super) fn under(self, policy: Option<&'a TrafficPolicy>, rule: &'a Resource, port: u16) -> Self {
        let Some(policy) = policy else { return self };
        match policy.entry(port) {
            Some(entry) => {
                Self { retry_budget: self.retry_budget, ..Self::default() }.over(&entry.policy, rule)
            }
            None => self.over(policy, rule),
        }
    }

    /// Returns these blocks with those of the mesh under them: they are the defaults where no rule says otherwise.
    #[must_use]
    pub(super) fn above_mesh(self, settings: &'a MeshSettings) -> Self {
        let Some(mesh) = &settings.default_traffic_policy else { return self };
        let by = Author::Mesh(mesh.source.as_ref());
        Self {
            connection_pool: self.connection_pool.or(Block::of(&mesh.connection_pool, by)),
            outlier_detection: self.outlier_detection.or(Block::of(&mesh.outlier_detection, by)),
            ..self
        }
    }

    fn over(self, policy: &'a TrafficPolicy, rule: &'a Resource) -> Self {
        let by = Author::Rule(rule);
        Self {
            load_balancer: Block::of(&policy.load_balancer, by).or(self.load_balancer),
            connection_pool: Block::of(&policy.connection_pool, by).or(self.connection_pool),
            outlier_detection: Block::of(&policy.outlier_detection, by).or(self.outlier_detection),
            tls: Block::of(&policy.tls, by).or(self.tls),
            retry_budget: Block::of(&policy.retry_budget, by).or(self.retry_budget),
        }
    }

    /// Returns where each block was written.
    pub(super) fn sources(&self) -> PolicySources {
        PolicySources {
            load_balancer: self.load_balancer.as_ref().and_then(Block::origin),
            connection_pool: self.connection_pool.as_ref().and_then(Block::origin),
            outlier_detection: self.outlier_detection.as_ref().and_then(Block::origin),
            tls: self.tls.as_ref().and_then(Block::origin),
            retry_budget: self.retry_budget.as_ref().and_then(Block::origin),
        }
    }

    pub(super) fn tls(&self) -> Option<&'a At<ClientTls>> {
        self.tls.as_ref().map(|tls| tls.block)
    }

    pub(super) fn balance(&self, settings: &MeshSettings) -> Policy {
        match self.load_balancer.as_deref() {
            None => settings.balance,
            Some(LoadBalancer { hash: Some(hash), .. }) => hash.policy,
            Some(LoadBalancer { simple, .. }) => match simple.unwrap_or_default() {
                SimpleLb::Random => Policy::Random,
                SimpleLb::RoundRobin => Policy::RoundRobin,
                SimpleLb::PeakEwma => Policy::PeakEwma,
                SimpleLb::LeastRequest | SimpleLb::Passthrough => Policy::LeastRequest,
            },
        }
    }

    /// Returns whether the host itself is dialled, not the endpoints that are known of it.
    pub(super) fn passes_through(&self) -> bool {
        self.load_balancer.as_deref().is_some_and(|balancer| balancer.simple == Some(SimpleLb::Passthrough))
    }

    pub(super) fn hash(&self) -> Option<Arc<HashSource>> {
        Some(Arc::clone(&self.load_balancer.as_deref()?.hash.as_ref()?.source))
    }

    pub(super) fn warm_up(&self) -> Option<WarmUp> {
        self.load_balancer.as_deref()?.warm_up
    }

    /// The setting of the rule replaces that of the mesh whole.
    // spec: istio pilot/pkg/networking/core/loadbalancer GetLocalityLbSetting
    pub(super) fn locality(&self, settings: &MeshSettings) -> Option<Arc<LocalityPolicy>> {
        let written = self.load_balancer.as_deref().and_then(|balancer| balancer.locality.as_deref());
        written.unwrap_or(&settings.locality).applied(self.outlier_detection.is_some()).cloned()
    }

    /// Zero means the default, as Istio takes it.
    pub(super) fn limits(&self, settings: &MeshSettings) -> Limits {
        let max = |field: fn(&ConnectionPool) -> Option<u32>, default| {
            self.connection_pool.as_deref().and_then(field).filter(|&limit| limit > 0).unwrap_or(default)
        };
        let default = settings.limits;
        Limits {
            connections_max: max(|pool| pool.max_connections, default.connections_max),
            pending_max: max(|pool| pool.max_pending_requests, default.pending_max),
            requests_max: max(|pool| pool.max_requests, default.requests_max),
            retries_max: max(|pool| pool.max_retries, default.retries_max),
        }
    }

    pub(super) fn connect_timeout(&self, settings: &MeshSettings) -> Duration {
        let pool = self.connection_pool.as_deref();
        pool.and_then(|pool| pool.connect_timeout).unwrap_or(settings.connect_timeout)
    }

    // spec: istio pilot/pkg/networking/core/cluster_traffic_policy.go applyConnectionPool
    pub(super) fn idle_timeout(&self) -> Duration {
        let pool = self.connection_pool.as_deref();
        pool.and_then(|pool| pool.idle_timeout.or(pool.tcp_idle_timeout)).unwrap_or(IDLE_TIMEOUT)
    }

    pub(super) fn max_requests_per_connection(&self) -> u32 {
        self.connection_pool.as_deref().and_then(|pool| pool.max_requests_per_connection).unwrap_or(0)
    }

    pub(super) fn connection(&self, port: &Port, settings: &MeshSettings) -> Arc<ConnectionPolicy> {
        ConnectionPolicy::of(self.connection_pool.as_deref(), &port.protocol, settings)
    }

    pub(super) fn outlier(&self) -> Option<OutlierPolicy> {
        let written = self.outlier_detection.as_deref()?;
        let default = OutlierPolicy::default();
        Some(OutlierPolicy {
            consecutive_5xx: written.consecutive_5xx.unwrap_or(default.consecutive_5xx),
            consecutive_gateway: written.consecutive_gateway.unwrap_or(default.consecutive_gateway),
            consecutive_local_origin: written
                .consecutive_local_origin
                .unwrap_or(default.consecutive_local_origin),
            split_local_origin: written.split_local_origin,
            interval: written.interval.unwrap_or(default.interval),
            base_ejection_time: written.base_ejection_time.unwrap_or(default.base_ejection_time),
            max_ejection_percent: written.max_ejection_percent.unwrap_or(default.max_ejection_percent),
            min_health_percent: written.min_health_percent.unwrap_or(default.min_health_percent),
            error_codes: written.error_codes.iter().copied().collect(),
            always_eject_one: written.always_eject_one,
            success_rate: written.success_rate,
            failure_percentage: written.failure_percentage,
            ..default
        })
    }

    pub(super) fn retry_budget(&self, states: &States, cluster: &str) -> Option<RetryBudget> {
        let &istio::RetryBudget { percent, retries_min, interval } = self.retry_budget.as_deref()?;
        let recent = (!interval.is_zero()).then(|| Recent { interval, counts: states.recent(cluster) });
        Some(RetryBudget { percent, retries_min, recent })
    }

    /// Returns the finding that the `tls` block takes mutual TLS away from `host`, which would be called with it.
    pub(super) fn takes_mutual_tls_away(&self, host: &str) -> Option<Diagnostic> {
        let tls = self.tls.as_ref()?;
        let message = match tls.mode {
            ClientTlsMode::Disable => {
                format!("mode DISABLE switches automatic mutual TLS off: {host} is called in plaintext")
            }
            ClientTlsMode::Simple => format!(
                "mode SIMPLE switches automatic mutual TLS off: {host} does not learn who calls, and its certificate \
                 is no longer checked for its identity in the mesh"
            ),
            ClientTlsMode::Mutual | ClientTlsMode::IstioMutual => return None,
        };
        let Origin { resource, location } = *tls.origin()?;
        let finding = Diagnostic::warning(Code::AUTO_MTLS_OFF, message).about(&resource).at(location);
        Some(finding.help("leave `tls` out, or write `mode: ISTIO_MUTUAL`"))
    }
}

impl<'a, T> Block<'a, T> {
    fn of(block: &'a Option<At<T>>, by: Author<'a>) -> Option<Self> {
        block.as_ref().map(|block| Self { block, by })
    }

    fn origin(&self) -> Option<Box<Origin>> {
        self.by.origin(self.block.at).map(Box::new)
    }
}

impl<T> Deref for Block<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.block
    }
}

impl Author<'_> {
    fn origin(self, at: Mark) -> Option<Origin> {
        match self {
            Self::Rule(rule) => Some(rule.origin(at)),
            Self::Mesh(Some(Origin { resource, location })) => {
                Some(Origin { resource: resource.clone(), location: Location::new(&location.file, at) })
            }
            Self::Mesh(None) => None,
        }
    }
}

// spec: istio networking/v1alpha3/destination_rule.proto ConnectionPoolSettings.HTTPSettings.idle_timeout
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
