//! The traffic policy of one destination: layers of blocks, of which a later one replaces an earlier one whole.
// spec: istio pilot/pkg/networking/util MergeTrafficPolicy

use super::MeshSettings;
use crate::{
    balance::Policy,
    config::istio::{ClientTls, ConnectionPool, LoadBalancer, OutlierDetection, TrafficPolicy},
    health::{Limits, OutlierPolicy},
};
use std::time::Duration;

/// The blocks in force; `None` is the mesh's default.
#[derive(Clone, Copy, Default)]
pub(super) struct Blocks<'a> {
    pub(super) load_balancer: Option<LoadBalancer>,
    pub(super) connection_pool: Option<&'a ConnectionPool>,
    pub(super) outlier_detection: Option<&'a OutlierDetection>,
    pub(super) tls: Option<&'a ClientTls>,
}

impl<'a> Blocks<'a> {
    /// Returns the blocks of the whole mesh.
    pub(super) fn of_mesh(settings: &'a MeshSettings) -> Self {
        let policy = &settings.default_traffic_policy;
        let (connection_pool, outlier_detection) =
            (policy.connection_pool.as_ref(), policy.outlier_detection.as_ref());
        Self { connection_pool, outlier_detection, ..Self::default() }
    }

    /// Returns these blocks with those of `policy` over them, as they apply to `port`.
    ///
    /// An entry of `portLevelSettings` resets the blocks that it does not write to the defaults.
    #[must_use]
    pub(super) fn under(self, policy: Option<&'a TrafficPolicy>, port: u16) -> Self {
        let Some(policy) = policy else { return self };
        match policy.port_level.iter().find(|entry| entry.port == port) {
            Some(entry) => Self::default().over(&entry.policy),
            None => self.over(policy),
        }
    }

    fn over(self, policy: &'a TrafficPolicy) -> Self {
        Self {
            load_balancer: policy.load_balancer.or(self.load_balancer),
            connection_pool: policy.connection_pool.as_ref().or(self.connection_pool),
            outlier_detection: policy.outlier_detection.as_ref().or(self.outlier_detection),
            tls: policy.tls.as_ref().or(self.tls),
        }
    }

    pub(super) fn balance(&self, settings: &MeshSettings) -> Policy {
        match self.load_balancer {
            None => settings.balance,
            Some(LoadBalancer::RoundRobin) => Policy::RoundRobin,
            Some(LoadBalancer::Random) => Policy::Random,
            Some(LoadBalancer::LeastRequest | LoadBalancer::Passthrough) => Policy::LeastRequest,
        }
    }

    /// Zero means the default, as Istio takes it.
    pub(super) fn limits(&self, settings: &MeshSettings) -> Limits {
        let max = |field: fn(&ConnectionPool) -> Option<u32>, default| {
            self.connection_pool.and_then(field).filter(|&limit| limit > 0).unwrap_or(default)
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
        self.connection_pool.and_then(|pool| pool.connect_timeout).unwrap_or(settings.connect_timeout)
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.connection_pool.and_then(|pool| pool.idle_timeout).unwrap_or(IDLE_TIMEOUT)
    }

    pub(super) fn max_requests_per_connection(&self) -> u32 {
        self.connection_pool.and_then(|pool| pool.max_requests_per_connection).unwrap_or(0)
    }

    pub(super) fn outlier(&self) -> Option<OutlierPolicy> {
        let written = self.outlier_detection?;
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
            ..default
        })
    }
}

// spec: istio networking/v1alpha3/destination_rule.proto ConnectionPoolSettings.HTTPSettings.idle_timeout
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
