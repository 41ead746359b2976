//! Istio's kinds, one file each, as far as they have a meaning inside a process.
//!
//! A type here holds what the user wrote, validated field by field, with its place. What it means together with the
//! other objects is decided in [`crate::snapshot`].

mod authorization_policy;
mod common;
mod destination_rule;
mod legacy_policy;
mod peer_authentication;
mod service;
mod service_entry;
mod virtual_service;

pub use authorization_policy::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Operation, Source,
};
pub use common::{Destination, HeaderOperations, Headers, StringMatch, WorkloadSelector};
pub use destination_rule::{
    ClientTls, ClientTlsMode, ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PortPolicy,
    Subset, TrafficPolicy,
};
pub use legacy_policy::{LegacyPolicy, LegacyTarget};
pub use peer_authentication::{MtlsMode, PeerAuthentication};
pub use service::{Service, ServicePort};
pub use service_entry::{EntryLocation, Resolution, ServiceEntry, WorkloadEntry};
pub use virtual_service::{
    DirectResponse, HttpMatch, HttpRetry, HttpRoute, Redirect, Rewrite, RouteDestination, VirtualService,
};
