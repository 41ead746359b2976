//! DestinationRule: subsets of a host and the policy for its traffic.
// spec: istio networking/v1alpha3/destination_rule.proto

mod annotations;
mod client_tls;
mod connection_pool;
mod lint;
mod load_balancer;
mod locality;
mod outlier_detection;
mod read;

pub use client_tls::{ClientTls, ClientTlsMode};
pub use connection_pool::{ConnectionPool, H2UpgradePolicy, Http2KeepAlive, TcpKeepalive};
pub(crate) use connection_pool::{UPGRADES, limit};
pub use load_balancer::{ConsistentHash, LoadBalancer, SimpleLb};
pub use locality::LocalitySetting;
pub use outlier_detection::OutlierDetection;

use super::common::WorkloadSelector;
use crate::config::resource::{At, Mark, Origin};
use std::{collections::BTreeMap, time::Duration};

/// `spec` of a DestinationRule.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationRule {
    /// The host as written.
    pub host: At<String>,
    /// `trafficPolicy`.
    pub traffic_policy: Option<TrafficPolicy>,
    /// `subsets`; names are unique.
    pub subsets: Vec<Subset>,
    /// `exportTo`; empty means `["*"]`.
    pub export_to: Vec<String>,
    /// `workloadSelector`.
    pub workload_selector: Option<WorkloadSelector>,
}

/// One subset.
#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    /// Its name.
    pub name: At<String>,
    /// Labels that an endpoint must carry, every one.
    pub labels: BTreeMap<String, String>,
    /// Replaces the rule's policy block by block.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// `trafficPolicy`. A block that is `None` was not written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    /// `loadBalancer`.
    pub load_balancer: Option<At<LoadBalancer>>,
    /// `connectionPool`.
    pub connection_pool: Option<At<ConnectionPool>>,
    /// `outlierDetection`.
    pub outlier_detection: Option<At<OutlierDetection>>,
    /// `tls`.
    pub tls: Option<At<ClientTls>>,
    /// `retryBudget`.
    pub retry_budget: Option<At<RetryBudget>>,
    /// `portLevelSettings`.
    pub port_level: Vec<PortPolicy>,
}

/// One entry of `portLevelSettings`.
#[derive(Clone, Debug, PartialEq)]
pub struct PortPolicy {
    /// Where the entry starts.
    pub at: Mark,
    /// The service port.
    pub port: u16,
    /// The blocks; `retry_budget` and `port_level` inside are empty.
    pub policy: TrafficPolicy,
}

/// `retryBudget`: how many retries may be under way, as a share of the requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// `percent`, 0 to 100. Default 20.
    pub percent: f64,
    /// `minRetryConcurrency`: as many are always allowed. Default 3.
    pub retries_min: u32,
    /// `budgetInterval`: the requests of so long are counted; zero, the default, counts those under way.
    pub interval: Duration,
}

/// `defaultTrafficPolicy` of the whole mesh: what is in force where no DestinationRule writes the block.
// spec: istio mesh/v1alpha1/config.proto DefaultTrafficPolicy
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultTrafficPolicy {
    /// `connectionPool`.
    pub connection_pool: Option<At<ConnectionPool>>,
    /// `outlierDetection`.
    pub outlier_detection: Option<At<OutlierDetection>>,
    /// The object it is written in.
    pub source: Option<Origin>,
}

impl TrafficPolicy {
    /// Returns the entry for `port`, if there is one; of several, the first.
    pub fn entry(&self, port: u16) -> Option<&PortPolicy> {
        self.port_level.iter().find(|entry| entry.port == port)
    }

    /// Returns the policy that is written for `port`: that of its entry, else this one.
    fn at_port(&self, port: u16) -> &Self {
        self.entry(port).map_or(self, |entry| &entry.policy)
    }
}
