//! Which services exist, on which ports, at which endpoints.
//!
//! Built from `Service` and `ServiceEntry` objects (leases arrive as the latter). It resolves no names: an endpoint may
//! be a name, which the shell resolves.

use crate::config::istio::{EntryLocation, Resolution};
use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc};

/// Where to dial. Displays as `IP:PORT` or `name:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An address.
    Ip(SocketAddr),
    /// A name that is resolved when a connection is made.
    Name(Arc<str>, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// `region/zone/subzone`; parts that are not known are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Subzone.
    pub subzone: String,
}

impl Locality {
    /// Reads `region/zone/subzone`; missing parts are empty.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), subzone: next() }
    }
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
    /// The port its endpoints listen on unless they say otherwise.
    pub target: u16,
}

/// One instance of a service, before ports are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// An IP address or a name.
    pub address: String,
    /// Port name to listening port.
    pub ports: BTreeMap<String, u16>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Locality.
    pub locality: Locality,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// The namespace its service account belongs to.
    pub namespace: Arc<str>,
    /// Its service account, if known.
    pub service_account: Option<String>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its full host, lower case.
    pub host: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
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
    /// Who may see it: namespaces, `.`, `*` or `~`; empty is everybody.
    pub export_to: Vec<String>,
}

/// Every service, by full host.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    services: BTreeMap<Arc<str>, Service>,
}

impl Registry {
    /// Returns the service with this full host.
    pub fn get(&self, host: &str) -> Option<&Service> {
        self.services.get(host)
    }

    /// Returns every service in the order of hosts.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }
}
