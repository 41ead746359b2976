//! Istio's kinds, one file each, as far as they have a meaning inside a process.
//!
//! A type here holds what the user wrote, validated field by field, with its place. What it means together with the
//! other objects is decided in [`crate::snapshot`].

mod annotations;
mod attached_route;
mod authorization_policy;
mod common;
mod destination_rule;
mod endpoints;
mod expression;
mod gateway;
mod legacy_policy;
mod mesh_config;
mod namespaced_host;
mod peer_authentication;
pub(crate) mod policy_target;
mod request_authentication;
mod server_tls;
mod service;
mod service_entry;
mod sidecar;
mod telemetry;
mod virtual_service;
mod workload_entry;

pub(in crate::config) use common::is_label;

pub use attached_route::{
    AttachedMatch, AttachedRoute, AttachedRule, Backend, BackendKind, BackendRef, Filters, Parent, PathMatch,
    PathModifier, RouteMirror, RouteRedirect, RouteRewrite,
};
pub use authorization_policy::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Condition, Lists, Operation, ServiceAccount,
    Source,
};
pub use common::{Destination, HeaderOperations, Headers, StringMatch, WorkloadSelector};
pub use destination_rule::{
    ClientTls, ClientTlsMode, ConnectionPool, ConsistentHash, DefaultTrafficPolicy, DestinationRule,
    H2UpgradePolicy, Http2KeepAlive, LoadBalancer, LocalitySetting, OutlierDetection, PortPolicy,
    RetryBudget, SimpleLb, Subset, TcpKeepalive, TrafficPolicy,
};
pub use endpoints::{EndpointAddress, EndpointList, EndpointSubset, Pod};
pub(crate) use endpoints::{REGION_LABEL, SERVICE_LABEL, ZONE_LABEL};
pub use gateway::{Gateway, Server, ServerPort, bound_gateway};
pub use legacy_policy::{LegacyPolicy, LegacyTarget, LegacyTokens};
pub use mesh_config::{AccessLogSettings, Compat, MeshConfig, PathNormalization};
pub(crate) use namespaced_host::backwards;
pub use namespaced_host::{NamespacedHost, NamespacedHosts, Namespaces};
pub use peer_authentication::{MtlsMode, PeerAuthentication};
pub use policy_target::PolicyTarget;
pub use request_authentication::{Jwks, JwtRule, KeySource, OutputClaim, RequestAuthentication, TokenHeader};
pub use server_tls::{ServerTls, ServerTlsMode, TlsVersion};
pub use service::{Service, ServicePort, TargetPort};
pub use service_entry::{EntryLocation, Resolution, ServiceEntry};
pub use sidecar::{EgressListener, InboundPool, IngressListener, Sidecar};
pub use telemetry::{
    AccessLogging, Attribute, Expression, Literal, METRICS, MetricOverride, Metrics, Operand, TagOverride,
    TagSource, Telemetry, Tracing, WorkloadMode,
};
pub use virtual_service::{
    ClaimMatch, CorsPolicy, Delegate, Delegated, DirectResponse, HttpMatch, HttpMirror, HttpRetry, HttpRoute,
    Redirect, Rewrite, RouteDestination, VirtualService,
};
pub use workload_entry::WorkloadEntry;
