//! When an endpoint is ejected: consecutive failures, with Envoy's growth and percentage rules.
//!
//! Admitted --failures == limit--> Ejected --now >= until--> Admitted
// spec: envoy intro/arch_overview/upstream/outlier

use std::time::Duration;

/// The settings of outlier detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierPolicy {
    /// Consecutive 5xx (and local failures unless split) that eject; 0 is off. Default 5.
    pub consecutive_5xx: u32,
    /// Consecutive 502, 503, 504 that eject; 0 is off, the default.
    pub consecutive_gateway: u32,
    /// Consecutive failures to connect that eject when split. Default 5.
    pub consecutive_local_origin: u32,
    /// Whether failures to connect are counted apart.
    pub split_local_origin: bool,
    /// Time between sweeps. Default 10 s.
    pub interval: Duration,
    /// First ejection time; grows with each ejection. Default 30 s.
    pub base_ejection_time: Duration,
    /// Upper bound of the ejection time. Default 300 s.
    pub max_ejection_time: Duration,
    /// How many per cent of the endpoints may be ejected. Default 10.
    pub max_ejection_percent: u8,
    /// Below this percentage of healthy endpoints all are used. Default 0: never.
    pub min_health_percent: u8,
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            consecutive_local_origin: 5,
            split_local_origin: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 10,
            min_health_percent: 0,
        }
    }
}

/// What one attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered with this status (of gRPC: mapped to HTTP).
    Status(u16),
    /// It could not be reached, or broke off.
    LocalFailure,
    /// It did not answer in time.
    Timeout,
}
