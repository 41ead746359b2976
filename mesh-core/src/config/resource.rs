//! The envelope every object comes in: kind, name, place, and its typed `spec`.

use super::{
    decode::nearest,
    diagnostic::Location,
    istio::{
        AttachedRoute, AuthorizationPolicy, DestinationRule, EndpointList, Gateway, LegacyPolicy, MeshConfig,
        PeerAuthentication, Pod, RequestAuthentication, Service, ServiceEntry, Sidecar, Telemetry,
        VirtualService, WorkloadEntry,
    },
    tree::Node,
};
use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

/// A place within a file, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// A value and the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub at: Mark,
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The kinds of object that have a meaning inside a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `networking.istio.io` routes.
    VirtualService,
    /// `networking.istio.io` subsets and traffic policy.
    DestinationRule,
    /// `networking.istio.io` static registry.
    ServiceEntry,
    /// Core `v1` service.
    Service,
    /// `security.istio.io` mutual TLS mode of the server side.
    PeerAuthentication,
    /// `authentication.istio.io/v1alpha1`, the whole mesh.
    MeshPolicy,
    /// `authentication.istio.io/v1alpha1`, one namespace.
    Policy,
    /// `security.istio.io` authorization.
    AuthorizationPolicy,
    /// `security.istio.io` tokens of end users.
    RequestAuthentication,
    /// `networking.istio.io` one endpoint, selected by the labels of a ServiceEntry or Service.
    WorkloadEntry,
    /// `networking.istio.io` what a workload sees of the mesh.
    Sidecar,
    /// `networking.istio.io` the edge of the mesh.
    Gateway,
    /// `telemetry.istio.io` metrics, traces and access logs.
    Telemetry,
    /// `gateway.networking.k8s.io` HTTP routes attached to a Service.
    HttpRoute,
    /// `gateway.networking.k8s.io` gRPC routes attached to a Service.
    GrpcRoute,
    /// Core `v1` endpoints of a Service.
    Endpoints,
    /// `discovery.k8s.io` endpoints of a Service.
    EndpointSlice,
    /// Core `v1` pod, selected by the labels of a Service.
    Pod,
    /// Core `v1` ConfigMap `istio`, whose key `mesh` holds the settings of the whole mesh.
    ConfigMap,
}

impl Kind {
    /// Every kind, in the order in which they are declared.
    pub const ALL: [Self; 19] = [
        Self::VirtualService,
        Self::DestinationRule,
        Self::ServiceEntry,
        Self::Service,
        Self::PeerAuthentication,
        Self::MeshPolicy,
        Self::Policy,
        Self::AuthorizationPolicy,
        Self::RequestAuthentication,
        Self::WorkloadEntry,
        Self::Sidecar,
        Self::Gateway,
        Self::Telemetry,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::Endpoints,
        Self::EndpointSlice,
        Self::Pod,
        Self::ConfigMap,
    ];

    /// Returns the name as it stands after `kind:`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::ServiceEntry => "ServiceEntry",
            Self::Service => "Service",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::MeshPolicy => "MeshPolicy",
            Self::Policy => "Policy",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::RequestAuthentication => "RequestAuthentication",
            Self::WorkloadEntry => "WorkloadEntry",
            Self::Sidecar => "Sidecar",
            Self::Gateway => "Gateway",
            Self::Telemetry => "Telemetry",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::Endpoints => "Endpoints",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// Returns whether objects of this kind say which services there are and where.
    pub const fn is_registry(self) -> bool {
        matches!(
            self,
            Self::Service
                | Self::ServiceEntry
                | Self::WorkloadEntry
                | Self::Endpoints
                | Self::EndpointSlice
                | Self::Pod
        )
    }

    /// Returns whether a malformed object of this kind must fail closed instead of being left out.
    pub const fn is_security(self) -> bool {
        matches!(
            self,
            Self::PeerAuthentication
                | Self::MeshPolicy
                | Self::Policy
                | Self::AuthorizationPolicy
                | Self::RequestAuthentication
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no such kind, or none that is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind `{written}`{}", near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default())]
pub struct UnknownKind {
    /// What was written.
    pub written: String,
    /// The kind that was probably meant.
    pub near: Option<Kind>,
}

/// Without regard to case.
impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let named = |name: &str| Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name));
        let unknown = || UnknownKind {
            written: text.to_owned(),
            near: nearest(text, Self::ALL.map(Self::as_str)).and_then(named),
        };
        named(text).ok_or_else(unknown)
    }
}

/// What tells one object from another. Displays as `Kind namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// The kind, also one that has no meaning here.
    pub kind: Arc<str>,
    /// The namespace; `default` where the document names none.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ResourceKey {
    /// Returns the key of an object.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// Returns the key of an object whose name cannot be read, at `at`: one that no object can have.
    pub(super) fn nameless(kind: Kind, namespace: &str, at: Mark) -> Self {
        Self::new(kind.as_str(), namespace, &format!("(unnamed, line {})", at.line))
    }

    /// Returns whether the object's name could not be read.
    pub(super) fn is_nameless(&self) -> bool {
        self.name.starts_with('(')
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Where a setting comes from: the object and the place in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The object.
    pub resource: ResourceKey,
    /// The place.
    pub location: Location,
}

/// `metadata`, as far as it has a meaning here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.creationTimestamp` as written (RFC 3339 sorts as text); decides conflicts: the oldest wins.
    pub created: Option<String>,
}

/// The typed content of an object.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "a Resource stands behind an Arc, once per object")]
pub enum Spec {
    /// Routes.
    VirtualService(VirtualService),
    /// Subsets and traffic policy.
    DestinationRule(DestinationRule),
    /// Static registry.
    ServiceEntry(ServiceEntry),
    /// Core service.
    Service(Service),
    /// Server-side mutual TLS.
    PeerAuthentication(PeerAuthentication),
    /// MeshPolicy and Policy of Istio 1.3.
    LegacyPolicy(LegacyPolicy),
    /// Authorization.
    AuthorizationPolicy(AuthorizationPolicy),
    /// Tokens of end users.
    RequestAuthentication(RequestAuthentication),
    /// One endpoint.
    WorkloadEntry(WorkloadEntry),
    /// What a workload sees of the mesh.
    Sidecar(Sidecar),
    /// The edge of the mesh.
    Gateway(Gateway),
    /// Metrics, traces and access logs.
    Telemetry(Telemetry),
    /// HTTPRoute and GRPCRoute.
    AttachedRoute(AttachedRoute),
    /// Endpoints and EndpointSlice.
    Endpoints(EndpointList),
    /// A pod.
    Pod(Pod),
    /// The settings of the whole mesh.
    MeshConfig(Box<MeshConfig>),
    /// A security object that could not be read and has no earlier version: it fails closed.
    ///
    /// `selector` and `deny` are what could still be read of it.
    Malformed {
        /// The labels it selects, if that much was readable; `None` means its whole namespace.
        selector: Option<BTreeMap<String, String>>,
        /// For an AuthorizationPolicy: whether it is (or may be) a DENY; for a 1.3 policy: whether it asks for a token;
        /// for a RequestAuthentication: true. In each case it denies every request.
        deny: bool,
    },
}

/// One object of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Which object it is.
    pub key: ResourceKey,
    /// Which kind.
    pub kind: Kind,
    /// Labels, annotations, age.
    pub meta: Meta,
    /// Where its document starts.
    pub location: Location,
    /// What it says.
    pub spec: Spec,
    /// The document as it was written, for serving it on; its namespace stands in it even if it was not written.
    pub document: Arc<Node>,
}

impl Resource {
    /// Returns this object with the place of `mark` in it.
    pub fn origin(&self, mark: Mark) -> Origin {
        Origin { resource: self.key.clone(), location: self.locate(mark) }
    }

    /// Returns the place of `mark` in this object's file.
    pub fn locate(&self, mark: Mark) -> Location {
        Location::new(&self.location.file, mark)
    }
}
