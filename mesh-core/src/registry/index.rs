//! Which objects have a part in which service.
//!
//! Three ways lead from an object to services: the host it names, the labels by which a service selects it, and the
//! address by which a list names it. None is ever searched for among all objects.

use super::{
    Hosts,
    labelled::{Labelled, Labels, Workloads},
    placed::Placed,
    service::{full_host, host_of},
};
use crate::config::{
    Kind, Resource, Spec,
    istio::{Pod, SERVICE_LABEL, WorkloadEntry},
};
use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// The objects of the registry by the services they have a part in.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// The objects that name a host, each list in the order in which they rule.
    hosts: HashMap<Arc<str>, Vec<Arc<Resource>>>,
    namespaces: HashMap<Arc<str>, Namespace>,
    /// The hosts that stand for another one, by that one.
    aliases: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

/// Who selects, and who can be selected, in one namespace.
#[derive(Clone, Debug, Default)]
struct Namespace {
    /// The objects that select by labels, each filed under one label of its selector.
    selecting: Labelled<Selecting>,
    /// The objects that select everybody.
    selecting_all: Vec<Selecting>,
    workloads: Workloads,
    pods: Placed<Arc<Resource>>,
    /// The hosts whose lists of endpoints name an address, by that.
    listing: Placed<Arc<str>>,
}

/// An object that selects workloads, and the hosts for which it does.
#[derive(Clone, Debug)]
struct Selecting {
    object: Arc<Resource>,
    hosts: Vec<Arc<str>>,
}

impl PartialEq for Selecting {
    fn eq(&self, other: &Self) -> bool {
        self.object.key == other.object.key
    }
}

impl Index {
    /// Adds an object, and to `touched` the hosts it has a part in.
    pub(super) fn add(&mut self, resource: &Arc<Resource>, domain: &str, touched: &mut Hosts) {
        let hosts = hosts_of(resource, domain);
        for host in &hosts {
            self.file(host, resource);
            for ip in listed_by(resource) {
                self.namespace(resource).listing.insert(ip, Arc::clone(host));
            }
        }
        touched.extend(hosts.iter().cloned());
        if let Some(selector) = selector_of(resource) {
            let selecting = Selecting { object: Arc::clone(resource), hosts };
            self.namespace(resource).select(selector, selecting);
        }
        if let Some(labels) = labels_of(resource) {
            let namespace = self.namespace(resource);
            namespace.workloads.insert(resource, &labels);
            namespace.touch_selecting(&labels, touched);
        }
        for ip in ips_of(resource) {
            let namespace = self.namespace(resource);
            namespace.pods.insert(ip, Arc::clone(resource));
            namespace.touch_listing(ip, touched);
        }
    }

    /// Removes an object, and adds to `touched` the hosts it had a part in.
    pub(super) fn remove(&mut self, resource: &Arc<Resource>, domain: &str, touched: &mut Hosts) {
        let hosts = hosts_of(resource, domain);
        for host in &hosts {
            self.unfile(host, resource);
            for ip in listed_by(resource) {
                self.namespace(resource).listing.remove(ip, host);
            }
        }
        touched.extend(hosts.iter().cloned());
        if let Some(selector) = selector_of(resource) {
            let selecting = Selecting { object: Arc::clone(resource), hosts };
            self.namespace(resource).unselect(selector, &selecting);
        }
        if let Some(labels) = labels_of(resource) {
            let namespace = self.namespace(resource);
            namespace.workloads.remove(&resource.key, &labels);
            namespace.touch_selecting(&labels, touched);
        }
        for ip in ips_of(resource) {
            let namespace = self.namespace(resource);
            namespace.pods.remove(ip, resource);
            namespace.touch_listing(ip, touched);
        }
    }

    /// Returns the objects that name `host`, in the order in which they rule.
    pub(super) fn objects(&self, host: &str) -> &[Arc<Resource>] {
        self.hosts.get(host).map_or(&[], Vec::as_slice)
    }

    /// Returns the hosts that stand for `host`.
    pub(super) fn aliases(&self, host: &str) -> impl Iterator<Item = &Arc<str>> {
        self.aliases.get(host).into_iter().flatten()
    }

    /// Returns the Pods and WorkloadEntries of `namespace` that carry every label of `selector`, in the order of keys.
    pub(super) fn selected(&self, namespace: &str, selector: &Labels) -> Vec<&Arc<Resource>> {
        let near = self.namespaces.get(namespace).into_iter().flat_map(|it| it.workloads.near(selector));
        let is_selected = |workload: &&Arc<Resource>| {
            labels_of(workload).is_some_and(|labels| is_selected(&labels, selector))
        };
        let mut selected: Vec<_> = near.filter(is_selected).collect();
        selected.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        selected
    }

    /// Returns the Pod of `namespace` that is at `ip`: one that takes requests before one that has left it to another.
    pub(super) fn pod_at(&self, namespace: &str, ip: IpAddr) -> Option<&Pod> {
        let at = self.namespaces.get(namespace).map_or(&[][..], |known| known.pods.at(ip));
        let pods = at.iter().filter_map(|resource| Some((&resource.key, pod(resource)?)));
        pods.min_by_key(|(key, pod)| (!pod.ready, *key)).map(|(_, pod)| pod)
    }

    fn namespace(&mut self, resource: &Resource) -> &mut Namespace {
        self.namespaces.entry(Arc::clone(&resource.key.namespace)).or_default()
    }

    fn file(&mut self, host: &Arc<str>, resource: &Arc<Resource>) {
        let objects = self.hosts.entry(Arc::clone(host)).or_default();
        let place = objects.partition_point(|known| order(known, resource).is_lt());
        objects.insert(place, Arc::clone(resource));
        if let Some(target) = external_name(resource) {
            self.aliases.entry(target.into()).or_default().insert(Arc::clone(host));
        }
    }

    fn unfile(&mut self, host: &Arc<str>, resource: &Arc<Resource>) {
        if let Some(objects) = self.hosts.get_mut(host) {
            objects.retain(|known| known.key != resource.key);
            if objects.is_empty() {
                self.hosts.remove(host);
            }
        }
        if let Some(target) = external_name(resource)
            && let Some(aliases) = self.aliases.get_mut(target)
            && aliases.remove(host)
            && aliases.is_empty()
        {
            self.aliases.remove(target);
        }
    }
}

impl Namespace {
    /// Files under the label that the fewest others are filed under: what every Service of a namespace selects tells none
    /// of them from the rest.
    fn select(&mut self, selector: &Labels, selecting: Selecting) {
        let filed = |(name, value): &(&String, &String)| self.selecting.under(name, value).len();
        match selector.iter().min_by_key(filed) {
            Some((name, value)) => self.selecting.insert(name, value, selecting),
            None => self.selecting_all.push(selecting),
        }
    }

    fn unselect(&mut self, selector: &Labels, selecting: &Selecting) {
        for (name, value) in selector {
            self.selecting.remove(name, value, selecting);
        }
        self.selecting_all.retain(|known| known != selecting);
    }

    /// Adds to `touched` the hosts whose lists name `ip`.
    fn touch_listing(&self, ip: IpAddr, touched: &mut Hosts) {
        touched.extend(self.listing.at(ip).iter().cloned());
    }

    /// Adds to `touched` the hosts that select a workload with these labels.
    fn touch_selecting(&self, labels: &Labels, touched: &mut Hosts) {
        let near = labels.iter().flat_map(|(name, value)| self.selecting.under(name, value));
        for Selecting { object, hosts } in near.chain(&self.selecting_all) {
            if selector_of(object).is_some_and(|selector| is_selected(labels, selector)) {
                touched.extend(hosts.iter().cloned());
            }
        }
    }
}

/// Returns the content of an object that is a Pod.
pub(super) fn pod(resource: &Resource) -> Option<&Pod> {
    match &resource.spec {
        Spec::Pod(pod) => Some(pod),
        _ => None,
    }
}

/// Returns the addresses of a Pod.
fn ips_of(resource: &Resource) -> impl Iterator<Item = IpAddr> {
    pod(resource).into_iter().flat_map(|pod| pod.ips.iter().copied())
}

/// Returns the addresses that a list of endpoints names.
fn listed_by(resource: &Resource) -> impl Iterator<Item = IpAddr> {
    let list = match &resource.spec {
        Spec::Endpoints(list) => Some(list),
        _ => None,
    };
    list.into_iter()
        .flat_map(|list| &list.subsets)
        .flat_map(|subset| &subset.addresses)
        .map(|address| address.ip)
}

/// Returns the hosts that an object names, each once.
fn hosts_of(resource: &Resource, domain: &str) -> Vec<Arc<str>> {
    let key = &resource.key;
    // Whatever the name holds, it is one in the object's own namespace.
    let of_service = |name: &str| vec![host_of(name, &key.namespace, domain)];
    match (&resource.spec, resource.kind) {
        (Spec::Service(_), _) | (Spec::Endpoints(_), Kind::Endpoints) => of_service(&key.name),
        (Spec::Endpoints(_), _) => {
            resource.meta.labels.get(SERVICE_LABEL).map(|name| of_service(name)).unwrap_or_default()
        }
        (Spec::ServiceEntry(entry), _) => {
            let full = entry.hosts.iter().map(|host| full_host(&host.value, &key.namespace, domain));
            full.collect::<Hosts>().into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the labels by which an object can be selected; `None` if it is no workload.
pub(super) fn labels_of(resource: &Resource) -> Option<Cow<'_, Arc<Labels>>> {
    match &resource.spec {
        Spec::Pod(pod) => Some(Cow::Borrowed(&pod.labels)),
        Spec::WorkloadEntry(entry) => Some(entry_labels(resource, entry)),
        _ => None,
    }
}

/// The labels of the object and those of its `spec` are one, and the object's win.
// spec: istio pilot/pkg/serviceregistry/serviceentry/controller.go ConvertWorkloadEntry
fn entry_labels<'a>(resource: &'a Resource, entry: &'a WorkloadEntry) -> Cow<'a, Arc<Labels>> {
    if resource.meta.labels.is_empty() {
        return Cow::Borrowed(&entry.labels);
    }
    let mut labels = Labels::clone(&entry.labels);
    labels.extend(resource.meta.labels.clone());
    Cow::Owned(Arc::new(labels))
}

/// Returns the labels by which an object selects its endpoints, if it does. No label at all selects everybody.
pub(super) fn selector_of(resource: &Arc<Resource>) -> Option<&Labels> {
    match &resource.spec {
        // spec: kubernetes core/v1 ServiceSpec.selector: an empty one selects nothing
        Spec::Service(service) => Some(&service.selector).filter(|selector| !selector.is_empty()),
        Spec::ServiceEntry(entry) => entry.workload_selector.as_ref().map(|selector| &selector.labels),
        _ => None,
    }
}

/// Returns the name that an object says its host only is another one for.
pub(super) fn external_name(resource: &Resource) -> Option<&str> {
    match &resource.spec {
        Spec::Service(service) => {
            service.external_name.as_deref().map(|name| name.strip_suffix('.').unwrap_or(name))
        }
        _ => None,
    }
}

fn is_selected(labels: &Labels, selector: &Labels) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// Orders the objects of one host: which one rules does not depend on when it came here.
// spec: istio pilot/pkg/model/push_context.go: of two services with one host the older wins, and Kubernetes' before
fn order(a: &Resource, b: &Resource) -> Ordering {
    rank(a).cmp(&rank(b))
}

/// A Service before a ServiceEntry before endpoints; then by age, those without a time last; then by name.
fn rank(resource: &Resource) -> (u8, bool, Option<&str>, &str, &str, &str) {
    let kind = match resource.kind {
        Kind::Service => 0,
        Kind::ServiceEntry => 1,
        _ => 2,
    };
    let created = resource.meta.created.as_deref();
    let key = &resource.key;
    (kind, created.is_none(), created, &key.name, &key.namespace, &key.kind)
}
