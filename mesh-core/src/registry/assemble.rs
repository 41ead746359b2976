//! Makes one service of the objects that have a part in its host.
// spec: istio pilot/pkg/serviceregistry/kube/conversion.go, pilot/pkg/serviceregistry/serviceentry/conversion.go

use super::{
    Answers, Instance, Locality, Place, Port, Service,
    index::{Index, external_name, labels_of, pod, selector_of},
    labelled::Labels,
    repeated,
    service::is_mesh_name,
    visibility::{export_to, listed},
};
use crate::config::{
    Kind, Resource, Spec,
    istio::{
        self, EndpointAddress, EndpointList, EntryLocation, Pod, Resolution, ServiceEntry, ServicePort,
        TargetPort, WorkloadEntry,
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// A service, and the names it would have resolved.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) service: Service,
    pub(super) names: Vec<Arc<str>>,
}

/// What a service is made of, beside the objects that name its host.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) index: &'a Index,
    pub(super) answers: &'a Answers,
    pub(super) domain: &'a str,
}

/// Returns the service of `host` that `objects` make, in the order in which they rule; `None` if none describes one.
pub(super) fn assemble(host: &Arc<str>, objects: &[&Arc<Resource>], known: Known<'_>) -> Option<Assembled> {
    let mut described = objects.iter().filter_map(|object| describe(host, object));
    let mut service = described.next()?;
    described.for_each(|other| service.join(other));
    let mut assembly = Assembly { service, known, names: Vec::new(), last: Arc::default() };
    for object in objects {
        match &object.spec {
            Spec::Service(service) => assembly.add_service(object, service, objects),
            Spec::ServiceEntry(entry) => assembly.add_entry(object, entry),
            // They belong to the Service.
            _ => {}
        }
    }
    let Assembly { mut service, names, .. } = assembly;
    repeated::unite(&mut service.instances);
    Some(Assembled { service, names })
}

/// Returns the service that one object describes, without its instances.
fn describe(host: &Arc<str>, object: &Resource) -> Option<Service> {
    match &object.spec {
        Spec::Service(service) => Some(describe_service(host, object, service)),
        Spec::ServiceEntry(entry) => Some(describe_entry(host, object, entry)),
        _ => None,
    }
}

fn describe_service(host: &Arc<str>, object: &Resource, service: &istio::Service) -> Service {
    let (location, resolution) = match service.external_name {
        Some(_) => (EntryLocation::MeshExternal, Resolution::Dns),
        None => (EntryLocation::MeshInternal, Resolution::Static),
    };
    Service {
        host: Arc::clone(host),
        namespace: Arc::clone(&object.key.namespace),
        addresses: service.cluster_ips.clone(),
        ports: service.ports.iter().map(port).collect(),
        instances: Vec::new(),
        location,
        resolution,
        subject_alt_names: listed(object, "alpha.istio.io/canonical-serviceaccounts"),
        service_accounts: listed(object, "alpha.istio.io/kubernetes-serviceaccounts"),
        export_to: export_to(object).unwrap_or_default().into_owned(),
    }
}

fn describe_entry(host: &Arc<str>, object: &Resource, entry: &ServiceEntry) -> Service {
    Service {
        host: Arc::clone(host),
        namespace: Arc::clone(&object.key.namespace),
        addresses: entry.addresses.clone(),
        ports: entry.ports.iter().map(port).collect(),
        instances: Vec::new(),
        location: entry.location,
        resolution: entry.resolution,
        subject_alt_names: entry.subject_alt_names.clone(),
        service_accounts: Vec::new(),
        export_to: entry.export_to.clone(),
    }
}

fn port(port: &ServicePort) -> Port {
    Port {
        number: port.number,
        name: port.name.clone(),
        protocol: port.protocol.clone(),
        target: port.target_port.clone().unwrap_or(TargetPort::Number(port.number)),
    }
}

impl Service {
    fn join(&mut self, other: Self) {
        self.addresses.extend(other.addresses);
        self.addresses.sort_unstable();
        self.addresses.dedup();
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
}

/// A service that is being given its instances.
struct Assembly<'a> {
    service: Service,
    known: Known<'a>,
    names: Vec<Arc<str>>,
    /// Where the last instance listens: the next one mostly listens alike.
    last: Arc<[Option<u16>]>,
}

impl Assembly<'_> {
    fn add_service(&mut self, object: &Arc<Resource>, service: &istio::Service, objects: &[&Arc<Resource>]) {
        if let Some(name) = external_name(object) {
            // Whoever answers to it outside is not the service that is meant, and would be called in plaintext.
            if !is_mesh_name(name, self.known.domain) {
                let ports = self.listening(|port| Some(port.number));
                self.add_named(Instance::at(Place::new(name), ports, object), Resolution::Dns);
            }
            return;
        }
        let index = self.known.index;
        let selector = selector_of(object);
        let selected = selector.map_or_else(Vec::new, |labels| index.selected(&object.key.namespace, labels));
        let pods: Vec<_> = selected.iter().filter_map(|workload| pod(workload)).collect();
        let lists = endpoint_lists(objects);
        if lists.is_empty() {
            for pod in pods.iter().filter(|pod| pod.ready || service.publish_not_ready) {
                self.add_pod(object, pod, |port| port_of_pod(port, pod));
            }
        } else {
            self.add_listed(object, &lists, &pods, service.publish_not_ready);
        }
        for workload in selected {
            if let Spec::WorkloadEntry(entry) = &workload.spec {
                self.add_workload(workload, entry, Resolution::Static, |port| {
                    port_of_selected(port, &entry.ports)
                });
            }
        }
    }

    /// Endpoints that Kubernetes lists. What a Pod is, beside its address, only the Pod tells, whether it is selected or
    /// not.
    // spec: istio pilot/pkg/serviceregistry/kube/controller/endpointslice.go: a Pod is looked up by its address
    fn add_listed(
        &mut self,
        object: &Resource,
        lists: &[&EndpointList],
        pods: &[&Pod],
        publish_not_ready: bool,
    ) {
        let index = self.known.index;
        let by_ip: HashMap<IpAddr, &Pod> =
            pods.iter().flat_map(|pod| pod.ips.iter().map(|ip| (*ip, *pod))).collect();
        for subset in lists.iter().flat_map(|list| &list.subsets) {
            let ports = self.listening(|port| subset.ports.get(&port.name).copied());
            for address in subset.addresses.iter().filter(|address| address.ready || publish_not_ready) {
                let bare = Instance::at(Place::Ip(address.ip), Arc::clone(&ports), object);
                let selected = by_ip.get(&address.ip).copied();
                let pod = selected.or_else(|| index.pod_at(&object.key.namespace, address.ip));
                self.push(bare.listed(address, pod));
            }
        }
    }

    fn add_entry(&mut self, object: &Arc<Resource>, entry: &ServiceEntry) {
        match (&entry.workload_selector, entry.resolution) {
            // The host that was asked for is dialled.
            (_, Resolution::None) => self.add_host(object, entry),
            (Some(selector), _) => self.add_selected(object, entry.resolution, &selector.labels),
            (None, Resolution::Dns | Resolution::DnsRoundRobin) if entry.endpoints.is_empty() => {
                self.add_host(object, entry);
            }
            (None, _) => {
                for endpoint in &entry.endpoints {
                    let ports = self.listening_of_entry(endpoint);
                    let instance = Instance::of_entry(object, endpoint, &endpoint.labels, ports);
                    instance.into_iter().for_each(|instance| self.add_named(instance, entry.resolution));
                }
            }
        }
    }

    /// A wildcard is no name that could be dialled.
    fn add_host(&mut self, object: &Resource, entry: &ServiceEntry) {
        if !self.service.host.contains('*') {
            let place = Place::new(&self.service.host);
            let ports = self.listening(|port| Some(port.target_number()));
            self.add_named(Instance::at(place, ports, object), entry.resolution);
        }
    }

    fn add_selected(&mut self, object: &Resource, resolution: Resolution, labels: &Labels) {
        let index = self.known.index;
        for workload in index.selected(&object.key.namespace, labels) {
            match &workload.spec {
                Spec::Pod(pod) if pod.ready => {
                    self.add_pod(object, pod, |port| port_of_workload(port, &pod.ports));
                }
                Spec::WorkloadEntry(entry) => {
                    self.add_workload(workload, entry, resolution, |port| {
                        port_of_workload(port, &entry.ports)
                    });
                }
                _ => {}
            }
        }
    }

    fn add_pod(&mut self, object: &Resource, pod: &Pod, listens: impl Fn(&Port) -> Option<u16>) {
        if let Some(ip) = pod.ips.first() {
            let ports = self.listening(listens);
            self.push(Instance::at(Place::Ip(*ip), ports, object).of_pod(pod));
        }
    }

    /// Adds a WorkloadEntry; one that is at a name, only to who resolves names.
    fn add_workload(
        &mut self,
        workload: &Resource,
        entry: &WorkloadEntry,
        resolution: Resolution,
        listens: impl Fn(&Port) -> Option<u16>,
    ) {
        let Some(labels) = labels_of(workload) else { return };
        let ports = self.listening(listens);
        let Some(instance) = Instance::of_entry(workload, entry, &labels, ports) else { return };
        if resolution != Resolution::Static || matches!(instance.place, Place::Ip(_)) {
            self.add_named(instance, resolution);
        }
    }

    /// Adds an instance, once for each address of its name if that is to be resolved and has been.
    fn add_named(&mut self, instance: Instance, resolution: Resolution) {
        let (Place::Name(name), Resolution::Dns | Resolution::DnsRoundRobin) = (&instance.place, resolution)
        else {
            return self.push(instance);
        };
        self.names.push(Arc::clone(name));
        let Some(answer) = self.known.answers.get(name) else { return self.push(instance) };
        let mut addresses = answer.to_vec();
        if resolution == Resolution::DnsRoundRobin {
            addresses.truncate(1);
        }
        // Resolvers shuffle.
        addresses.sort_unstable();
        for ip in addresses {
            self.push(Instance { place: Place::Ip(ip), ..instance.clone() });
        }
    }

    fn push(&mut self, instance: Instance) {
        if instance.ports.is_empty() || instance.ports.iter().any(Option::is_some) {
            self.service.instances.push(instance);
        }
    }

    /// Returns where an instance listens for each port of the service.
    fn listening(&mut self, listens: impl Fn(&Port) -> Option<u16>) -> Arc<[Option<u16>]> {
        let ports: Vec<_> = self.service.ports.iter().map(listens).collect();
        if *self.last != *ports {
            self.last = ports.into();
        }
        Arc::clone(&self.last)
    }

    /// A port that an endpoint does not name is its only port, if both sides have one, else the target port.
    fn listening_of_entry(&mut self, endpoint: &WorkloadEntry) -> Arc<[Option<u16>]> {
        let only = match (&self.service.ports[..], endpoint.ports.len()) {
            ([_], 1) => endpoint.ports.values().next().copied(),
            _ => None,
        };
        self.listening(|port| {
            let named = endpoint.ports.get(&port.name).or_else(|| endpoint.ports.get(target_name(port)?));
            named.copied().or(only).or(Some(port.target_number()))
        })
    }
}

impl Instance {
    /// Returns an instance of which nothing is known but where it is.
    fn at(place: Place, ports: Arc<[Option<u16>]>, object: &Resource) -> Self {
        Self {
            place,
            ports,
            labels: Arc::default(),
            locality: Locality::default(),
            weight: 1,
            namespace: Arc::clone(&object.key.namespace),
            service_account: None,
        }
    }

    fn of_entry(
        object: &Resource,
        entry: &WorkloadEntry,
        labels: &Arc<Labels>,
        ports: Arc<[Option<u16>]>,
    ) -> Option<Self> {
        Some(Self {
            labels: Arc::clone(labels),
            locality: Locality::of(&entry.locality, labels),
            weight: entry.weight.unwrap_or(1).max(1),
            service_account: entry.service_account.clone(),
            ..Self::at(Place::new(entry.address.as_ref()?), ports, object)
        })
    }

    fn of_pod(self, pod: &Pod) -> Self {
        Self {
            labels: Arc::clone(&pod.labels),
            locality: Locality::of_labels(&pod.labels),
            service_account: Some(pod.service_account.clone()),
            ..self
        }
    }

    /// Adds what a list and the Pod at that address, if it is known, tell.
    fn listed(self, address: &EndpointAddress, pod: Option<&Pod>) -> Self {
        let known = match pod {
            Some(pod) => self.of_pod(pod),
            None => self,
        };
        let either = |told: &str, known: String| if told.is_empty() { known } else { told.to_owned() };
        let Locality { region, zone, subzone } = known.locality;
        let (region, zone) = (either(&address.region, region), either(&address.zone, zone));
        Self { locality: Locality { region, zone, subzone }, ..known }
    }
}

/// Returns the lists of a service's endpoints. Kubernetes keeps both kinds: slices are the ones without a bound.
fn endpoint_lists<'a>(objects: &[&'a Arc<Resource>]) -> Vec<&'a EndpointList> {
    let of_kind = |kind| {
        let of_kind = objects.iter().filter(move |object| object.kind == kind);
        let lists = of_kind.filter_map(|object| match &object.spec {
            Spec::Endpoints(list) => Some(list),
            _ => None,
        });
        lists.collect::<Vec<_>>()
    };
    let slices = of_kind(Kind::EndpointSlice);
    if slices.is_empty() { of_kind(Kind::Endpoints) } else { slices }
}

/// Returns where a Pod listens for a port of the Service that selects it.
// spec: kubernetes core/v1 ServicePort.targetPort
fn port_of_pod(port: &Port, pod: &Pod) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Named(name) => pod.ports.get(name).copied(),
    }
}

/// Returns where a WorkloadEntry listens for a port of the Service that selects it.
// spec: istio pilot/pkg/serviceregistry/kube/controller findServiceTargetPort, serviceInstanceFromWorkloadInstance
fn port_of_selected(port: &Port, named: &BTreeMap<String, u16>) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(named.get(&port.name).copied().unwrap_or(*number)),
        TargetPort::Named(name) => named.get(name).copied(),
    }
}

/// Returns where a workload listens for a port of the ServiceEntry that selects it.
// spec: istio pilot/pkg/serviceregistry/serviceentry/conversion.go convertWorkloadInstanceToServiceInstance
fn port_of_workload(port: &Port, named: &BTreeMap<String, u16>) -> Option<u16> {
    Some(named.get(&port.name).copied().unwrap_or_else(|| port.target_number()))
}

fn target_name(port: &Port) -> Option<&str> {
    match &port.target {
        TargetPort::Named(name) => Some(name),
        TargetPort::Number(_) => None,
    }
}
