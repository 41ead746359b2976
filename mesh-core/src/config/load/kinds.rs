//! Which kinds are read, and under which API versions.

use crate::config::{decode::nearest, resource::Kind};

/// What an object is, by its `apiVersion` and `kind`.
#[derive(Debug)]
pub(super) enum Class {
    /// Its `spec` is read.
    Known(Kind),
    /// Likewise, but its API version never had that kind.
    Odd(Kind),
    /// The kind is known, its API version is not.
    WrongVersion(Kind),
    /// It has no meaning inside a process.
    Foreign,
    /// It has no meaning, but looks like a slip of the finger.
    Mistyped(Kind),
}

/// Returns what an object with that `kind` and `apiVersion` is.
pub(super) fn classify(kind: &str, api_version: &str) -> Class {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    if let Some(known) = Kind::ALL.into_iter().find(|known| known.as_str() == kind) {
        return match known {
            _ if api_versions(known).contains(&api_version) => Class::Known(known),
            Kind::MeshPolicy | Kind::Policy if group == NETWORKING => Class::Odd(known),
            // Others have kinds of that name too (serving.knative.dev, kyverno.io): theirs are not meant for a mesh.
            Kind::Service | Kind::Policy | Kind::Gateway | Kind::Telemetry | Kind::Sidecar | Kind::Pod
                if group.contains('.') && !group.ends_with("istio.io") =>
            {
                Class::Foreign
            }
            _ => Class::WrongVersion(known),
        };
    }
    let near = nearest(kind, Kind::ALL.map(Kind::as_str));
    let near = Kind::ALL.into_iter().find(|known| Some(known.as_str()) == near);
    match near
        .filter(|known| !OTHER_ISTIO_KINDS.contains(&kind) && api_versions(*known).contains(&api_version))
    {
        Some(known) => Class::Mistyped(known),
        None => Class::Foreign,
    }
}

/// Returns the API versions under which `kind` is read; the first is the one to write.
pub(super) const fn api_versions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::VirtualService
        | Kind::DestinationRule
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::Sidecar
        | Kind::Gateway => {
            &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"]
        }
        Kind::PeerAuthentication | Kind::AuthorizationPolicy | Kind::RequestAuthentication => {
            &["security.istio.io/v1", "security.istio.io/v1beta1"]
        }
        Kind::Telemetry => &["telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1"],
        Kind::HttpRoute => &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
        Kind::GrpcRoute => &[
            "gateway.networking.k8s.io/v1",
            "gateway.networking.k8s.io/v1beta1",
            "gateway.networking.k8s.io/v1alpha2",
        ],
        Kind::EndpointSlice => &["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"],
        Kind::MeshPolicy | Kind::Policy => &["authentication.istio.io/v1alpha1"],
        Kind::Service | Kind::Endpoints | Kind::Pod | Kind::ConfigMap => &["v1"],
    }
}

const NETWORKING: &str = "networking.istio.io";

/// Istio's other kinds, some of which are spelled nearly like one that is read.
const OTHER_ISTIO_KINDS: [&str; 5] =
    ["EnvoyFilter", "WorkloadGroup", "ProxyConfig", "WasmPlugin", "TrafficExtension"];
