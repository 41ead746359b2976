//! Which services exist, on which ports, at which endpoints.
//!
//! Built from `Service` and `ServiceEntry` objects (leases arrive as the latter). It resolves no names: an endpoint may
//! be a name, which the shell resolves.

use crate::config::{
    Changes, Resource, ResourceKey, Spec,
    istio::{self, EntryLocation, Resolution, ServiceEntry, ServicePort, WorkloadEntry},
};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

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
    services: BTreeMap<Arc<str>, Arc<Service>>,
    resources: BTreeMap<ResourceKey, Arc<Resource>>,
}

impl Registry {
    /// Builds the registry from the `Service` and `ServiceEntry` objects among `resources`.
    ///
    /// Objects with the same host are one service: the ports of the first one rule (a `Service` before a
    /// `ServiceEntry`), their endpoints are joined. That is how leases give endpoints to a service that the
    /// configuration describes.
    pub fn build(resources: &[Arc<Resource>], domain: &str) -> Self {
        let mut registry = Self::default();
        registry.apply(&Changes { old: Vec::new(), new: resources.to_vec() }, domain);
        registry
    }

    /// Applies `changes` and returns the hosts whose service is not what it was.
    pub fn apply(&mut self, changes: &Changes, domain: &str) -> BTreeSet<Arc<str>> {
        for old in &changes.old {
            self.resources.remove(&old.key);
        }
        for new in &changes.new {
            self.resources.insert(new.key.clone(), Arc::clone(new));
        }
        let before = std::mem::take(&mut self.services);
        let resources: Vec<_> = self.resources.values().cloned().collect();
        for resource in &resources {
            if let Spec::Service(service) = &resource.spec {
                let host = full_host(&resource.key.name, &resource.key.namespace, domain);
                self.add(kubernetes_service(host, resource, service));
            }
        }
        for resource in &resources {
            if let Spec::ServiceEntry(entry) = &resource.spec {
                for host in &entry.hosts {
                    let host = full_host(&host.value, &resource.key.namespace, domain);
                    self.add(entry_service(host, resource, entry));
                }
            }
        }
        let hosts = before.keys().chain(self.services.keys()).cloned().collect::<BTreeSet<_>>();
        hosts.into_iter().filter(|host| before.get(host) != self.services.get(host)).collect()
    }

    /// Returns the service with this full host.
    pub fn get(&self, host: &str) -> Option<&Arc<Service>> {
        self.services.get(host)
    }

    /// Returns every service in the order of hosts.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    fn add(&mut self, service: Service) {
        match self.services.entry(Arc::clone(&service.host)) {
            btree_map::Entry::Vacant(place) => drop(place.insert(Arc::new(service))),
            btree_map::Entry::Occupied(mut known) => Arc::make_mut(known.get_mut()).join(service),
        }
    }
}

impl Service {
    fn join(&mut self, other: Self) {
        self.instances.extend(other.instances);
        if self.subject_alt_names.is_empty() {
            self.subject_alt_names = other.subject_alt_names;
        }
        // A lease inside the mesh says more than an entry that left `location` at its default.
        if other.location == EntryLocation::MeshInternal {
            self.location = EntryLocation::MeshInternal;
        }
        if self.resolution == Resolution::None {
            self.resolution = other.resolution;
        }
    }

    /// Returns whether it has a port of this number.
    pub(crate) fn has(&self, port: u16) -> bool {
        self.ports.iter().any(|known| known.number == port)
    }

    /// Returns where `instance` listens for service port `port`.
    ///
    /// A port that the instance does not name is its only port, if both sides have one, else the target port.
    pub fn address(&self, instance: &Instance, port: &Port) -> Address {
        let only = match (&self.ports[..], instance.ports.len()) {
            ([_], 1) => instance.ports.values().next().copied(),
            _ => None,
        };
        let number = instance.ports.get(&port.name).copied().or(only).unwrap_or(port.target);
        Address::new(&instance.address, number)
    }
}

impl Address {
    /// Returns the address of port `number` at `host`, an IP address or a name.
    pub fn new(host: &str, number: u16) -> Self {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => Self::Ip(SocketAddr::new(ip, number)),
            Err(_) => Self::Name(host.into(), number),
        }
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Ip(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }
}

/// Returns `host` in full: a name without a dot belongs to `namespace`; anything else is taken as it is.
// spec: istio pkg/config/model ResolveShortnameToFQDN
pub fn full_host(host: &str, namespace: &str, domain: &str) -> Arc<str> {
    let bare = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let short = !bare.contains(['.', '*', ':']);
    if short { format!("{bare}.{namespace}.svc.{domain}").into() } else { bare.into() }
}

fn kubernetes_service(host: Arc<str>, resource: &Resource, service: &istio::Service) -> Service {
    Service {
        host,
        namespace: Arc::clone(&resource.key.namespace),
        ports: service.ports.iter().map(port).collect(),
        instances: Vec::new(),
        location: EntryLocation::MeshInternal,
        resolution: Resolution::Static,
        subject_alt_names: Vec::new(),
        export_to: Vec::new(),
    }
}

fn entry_service(host: Arc<str>, resource: &Resource, entry: &ServiceEntry) -> Service {
    let namespace = &resource.key.namespace;
    let named = !host.contains('*');
    let instances = match entry.resolution {
        // A host that is dialled as it is named: its name is its one endpoint.
        _ if !entry.endpoints.is_empty() => {
            entry.endpoints.iter().map(|at| instance(at, namespace)).collect()
        }
        Resolution::Static => Vec::new(),
        Resolution::None | Resolution::Dns | Resolution::DnsRoundRobin if named => {
            vec![by_name(&host, namespace)]
        }
        Resolution::None | Resolution::Dns | Resolution::DnsRoundRobin => Vec::new(),
    };
    Service {
        host,
        namespace: Arc::clone(namespace),
        ports: entry.ports.iter().map(port).collect(),
        instances,
        location: entry.location,
        resolution: entry.resolution,
        subject_alt_names: entry.subject_alt_names.clone(),
        export_to: entry.export_to.clone(),
    }
}

fn port(port: &ServicePort) -> Port {
    Port {
        number: port.number,
        name: port.name.clone(),
        protocol: port.protocol.clone(),
        target: port.target_port.unwrap_or(port.number),
    }
}

fn instance(entry: &WorkloadEntry, namespace: &Arc<str>) -> Instance {
    Instance {
        address: entry.address.value.clone(),
        ports: entry.ports.clone(),
        labels: Arc::new(entry.labels.clone()),
        locality: Locality::parse(&entry.locality),
        weight: entry.weight.unwrap_or(1).max(1),
        namespace: Arc::clone(namespace),
        service_account: entry.service_account.clone().filter(|account| !account.is_empty()),
    }
}

fn by_name(host: &str, namespace: &Arc<str>) -> Instance {
    Instance {
        address: host.to_owned(),
        ports: BTreeMap::new(),
        labels: Arc::default(),
        locality: Locality::default(),
        weight: 1,
        namespace: Arc::clone(namespace),
        service_account: None,
    }
}
