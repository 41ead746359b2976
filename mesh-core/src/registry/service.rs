//! A service, its ports and its instances.

use super::{Address, Locality, Place};
use crate::config::istio::{EntryLocation, Resolution, TargetPort};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its full host, lower case.
    pub host: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The addresses by which callers may call it too, in the order of their values.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its instances.
    pub instances: Vec<Instance>,
    /// Inside or outside of the mesh.
    pub location: EntryLocation,
    /// How its instances are found.
    pub resolution: Resolution,
    /// The identities expected of its endpoints, if the entry says so.
    pub subject_alt_names: Vec<String>,
    /// The service accounts of its namespace that may run it, if the Service says so.
    pub service_accounts: Vec<String>,
    /// Who may see it: namespaces, `.`, `*` or `~`; empty is everybody.
    pub export_to: Vec<String>,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The number by which callers know it.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// Its protocol in upper case; empty if not said.
    pub protocol: String,
    /// Where its endpoints listen unless they say otherwise.
    pub target: TargetPort,
}

/// One instance of a service, before ports are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Where it is.
    pub place: Place,
    /// Where it listens for each port of the service, in their order; `None` where it does not serve that port. Shared
    /// by the instances that listen alike.
    pub ports: Arc<[Option<u16>]>,
    /// Labels; shared with the endpoints made of it.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Locality.
    pub locality: Locality,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// The namespace its service account belongs to.
    pub namespace: Arc<str>,
    /// Its service account, if known.
    pub service_account: Option<String>,
}

impl Instance {
    /// Returns whether it says that it speaks the mutual TLS of the mesh.
    pub(crate) fn is_meshed(&self) -> bool {
        self.labels.get(TLS_MODE_LABEL).is_some_and(|mode| mode == "istio")
    }
}

impl Port {
    /// Returns the target port, or the port itself where that is a name.
    pub(crate) fn target_number(&self) -> u16 {
        match self.target {
            TargetPort::Number(number) => number,
            TargetPort::Named(_) => self.number,
        }
    }
}

impl Service {
    /// Returns whether it has a port of this number.
    pub(crate) fn has(&self, port: u16) -> bool {
        self.ports.iter().any(|known| known.number == port)
    }

    /// Returns where `instance` listens for service port `port`; `None` if it does not serve that port.
    pub fn address(&self, instance: &Instance, port: &Port) -> Option<Address> {
        let at = self.ports.iter().position(|known| known.number == port.number)?;
        Some(instance.place.port((*instance.ports.get(at)?)?))
    }
}

/// Returns `host` in full: a name without a dot belongs to `namespace`; anything else is taken as it is.
// spec: istio pkg/config/model ResolveShortnameToFQDN
pub fn full_host(host: &str, namespace: &str, domain: &str) -> Arc<str> {
    let bare = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let short = !bare.contains(['.', '*', ':']);
    if short { host_of(&bare, namespace, domain) } else { bare.into() }
}

/// Returns the full host of the Service `name` in `namespace`.
// spec: istio pilot/pkg/serviceregistry/kube/conversion.go ServiceHostname
pub(super) fn host_of(name: &str, namespace: &str, domain: &str) -> Arc<str> {
    format!("{name}.{namespace}.svc.{domain}").to_ascii_lowercase().into()
}

/// Returns whether `host`, in lower case, is a name that only the mesh can give a meaning, known or not.
///
/// What is called with mutual TLS while it is known must not be called in plaintext, at whatever address a resolver finds
/// for it, while it is not.
pub(crate) fn is_mesh_name(host: &str, domain: &str) -> bool {
    let rest = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.')).unwrap_or(host);
    rest.ends_with(".svc")
}

/// The label of a workload that speaks mutual TLS.
// spec: istio pkg/model SecurityTLSModeLabelName
pub(crate) const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
