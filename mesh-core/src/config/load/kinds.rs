//! Which kinds are read, under which API versions, and what is said about the others.

use crate::config::{
    decode::{nearest, shortened},
    diagnostic::{Code, Diagnostic},
    resource::Kind,
};

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
            Kind::Service | Kind::Policy if group.contains('.') && !group.ends_with("istio.io") => {
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
        Kind::VirtualService | Kind::DestinationRule | Kind::ServiceEntry => {
            &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"]
        }
        Kind::PeerAuthentication | Kind::AuthorizationPolicy => {
            &["security.istio.io/v1", "security.istio.io/v1beta1"]
        }
        Kind::MeshPolicy | Kind::Policy => &["authentication.istio.io/v1alpha1"],
        Kind::Service => &["v1"],
    }
}

/// Returns what is said once per file about `count` objects of a kind that has no meaning here.
pub(super) fn foreign(kind: &str, api_version: &str, count: usize) -> Diagnostic {
    let name = format!("kind {} ({})", shortened(kind), shortened(api_version));
    let times = if count == 1 { String::new() } else { format!(", {count} objects") };
    let said = SECURITY.iter().find(|(security, _)| *security == kind);
    let message = match said {
        Some((_, consequence)) => format!("{name} is NOT in force here{times}: {consequence}"),
        None => format!("{name} has no meaning inside a process and is left out{times}"),
    };
    let finding = Diagnostic::warning(Code::FOREIGN_KIND, message);
    if said.is_some() { finding.help("make sure that something else enforces it") } else { finding }
}

const NETWORKING: &str = "networking.istio.io";

/// Istio's other kinds, some of which are spelled nearly like one that is read.
const OTHER_ISTIO_KINDS: [&str; 10] = [
    "Gateway",
    "Sidecar",
    "EnvoyFilter",
    "WorkloadEntry",
    "WorkloadGroup",
    "ProxyConfig",
    "RequestAuthentication",
    "Telemetry",
    "WasmPlugin",
    "TrafficExtension",
];

/// Kinds that may protect something, and what that they are left out means.
const SECURITY: [(&str, &str); 9] = [
    ("RequestAuthentication", "tokens are not checked, requests without a valid JWT are let through"),
    ("EnvoyFilter", "whatever it enforces in Envoy is not enforced"),
    ("WasmPlugin", "whatever it enforces in Envoy is not enforced"),
    ("TrafficExtension", "whatever it enforces in Envoy is not enforced"),
    ("Sidecar", "outbound traffic and the reach of the configuration are not restricted by it"),
    ("NetworkPolicy", "it restricts this process only where the network enforces it"),
    ("ClusterRbacConfig", "its access rules are not enforced; write AuthorizationPolicy"),
    ("ServiceRole", "its access rules are not enforced; write AuthorizationPolicy"),
    ("ServiceRoleBinding", "its access rules are not enforced; write AuthorizationPolicy"),
];
