//! Istio's kinds, one file each, as far as they have a meaning inside a process.
//!
//! A type here holds what the user wrote, validated field by field, with its place. What it means together with the
//! other objects is decided in [`crate::snapshot`].

mod attached_route;
mod authorization_policy;
mod common;
mod destination_rule;
mod endpoints;
mod gateway;
mod legacy_policy;
mod mesh_config;
mod peer_authentication;
mod request_authentication;
mod service;
mod service_entry;
mod sidecar;
mod telemetry;
mod virtual_service;

pub use attached_route::AttachedRoute;
pub use authorization_policy::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Operation, Source,
};
pub use common::{Destination, HeaderOperations, Headers, StringMatch, WorkloadSelector};
pub use destination_rule::{
    ClientTls, ClientTlsMode, ConnectionPool, DefaultTrafficPolicy, DestinationRule, H2UpgradePolicy,
    Http2KeepAlive, LoadBalancer, LocalitySetting, OutlierDetection, PortPolicy, RetryBudget, SimpleLb,
    Subset, TcpKeepalive, TrafficPolicy,
};
pub use endpoints::{EndpointList, Pod};
pub use gateway::Gateway;
pub use legacy_policy::{LegacyPolicy, LegacyTarget};
pub use mesh_config::MeshConfig;
pub use peer_authentication::{MtlsMode, PeerAuthentication};
pub use request_authentication::RequestAuthentication;
pub use service::{Service, ServicePort};
pub use service_entry::{EntryLocation, Resolution, ServiceEntry, WorkloadEntry};
pub use sidecar::Sidecar;
pub use telemetry::Telemetry;
pub use virtual_service::{
    DirectResponse, HttpMatch, HttpRetry, HttpRoute, Redirect, Rewrite, RouteDestination, VirtualService,
};
