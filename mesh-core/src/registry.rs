//! Which services exist, on which ports, at which endpoints.
//!
//! Built from the objects of the configuration (leases arrive as `ServiceEntry`), and kept up with them: a change makes
//! only those services anew that an object which changed has a part in. It resolves no names: what a name stands for
//! is told to it, and until then an endpoint may be a name, which the shell resolves when it dials.

mod address;
mod answers;
mod assemble;
mod index;
mod labelled;
mod locality;
mod placed;
mod repeated;
mod service;
mod visibility;

pub use address::{Address, Place};
pub use answers::Answers;
pub use locality::{LOCALITY_LABEL, Locality};
pub use service::{Instance, Port, Service, full_host};
pub(crate) use service::{TLS_MODE_LABEL, is_mesh_name};
pub(crate) use visibility::is_exported;

use crate::config::{Changes, Resource};
use answers::Names;
use assemble::Known;
use index::{Index, external_name};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    sync::Arc,
};
use visibility::{Visibility, export_to};

/// Every service, by full host and the hosts that are other names for it.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    services: BTreeMap<Arc<str>, Arc<Service>>,
    index: Index,
    answers: Answers,
    names: Names,
    visibility: Visibility,
    domain: Arc<str>,
}

/// Full hosts.
pub type Hosts = BTreeSet<Arc<str>>;

impl Registry {
    /// Builds the registry from the objects among `resources` that describe services and their endpoints.
    ///
    /// Objects of one namespace with the same host are one service: the ports of the first one rule (a `Service` before
    /// a `ServiceEntry`, the older before the younger), their endpoints are joined. That is how leases give endpoints to
    /// a service that the configuration describes. Of several namespaces that describe a host, the one in which the name
    /// is has it, else the one whose object rules. The order of `resources` has no part in it.
    pub fn build(resources: &[Arc<Resource>], domain: &str) -> Self {
        let mut registry = Self::default();
        registry.apply(&Changes { old: Vec::new(), new: resources.to_vec() }, domain);
        registry
    }

    /// Returns an empty registry of what is seen from `namespace`, which may have a service of its own where others have
    /// one for everybody; `export_to` is that of services that have none.
    pub(crate) fn seen_from(namespace: &str, export_to: &[String]) -> Self {
        Self { visibility: Visibility::of(namespace, export_to), ..Self::default() }
    }

    /// Applies changes and returns the hosts whose service is not what it was. `domain` is the one it was built with.
    ///
    /// ```
    /// # use mesh_core::{config::{Changes, Options, load}, registry::Registry};
    /// # let entry = |address: &str| load("mesh.yaml", &format!("{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: a}}, spec: {{hosts: [a.com], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{{address: {address}}}]}}}}"), &Options::default()).resources.remove(0).into();
    /// let (before, after) = (entry("10.0.0.1"), entry("10.0.0.2"));
    /// let mut registry = Registry::build(&[std::sync::Arc::clone(&before)], "cluster.local");
    /// let changed = registry.apply(&Changes { old: vec![before], new: vec![after] }, "cluster.local");
    /// assert_eq!(changed, ["a.com".into()].into());
    /// ```
    pub fn apply(&mut self, changes: &Changes, domain: &str) -> Hosts {
        let mut touched = Hosts::new();
        self.domain = domain.into();
        for gone in &changes.old {
            self.index.remove(gone, domain, &mut touched);
        }
        for come in &changes.new {
            self.index.add(come, domain, &mut touched);
        }
        self.renew(touched)
    }

    /// Takes what names stand for, and returns the hosts whose service is not what it was.
    ///
    /// `answers` replace the ones before; an endpoint whose name has none stays a name.
    pub fn resolve(&mut self, answers: Answers) -> Hosts {
        let differs = |name: &&Arc<str>| answers.get(name) != self.answers.get(name);
        let touched = self.names.iter().filter(differs).flat_map(|name| self.names.hosts(name)).collect();
        self.answers = answers;
        self.renew(touched)
    }

    /// Returns what names stand for, as it was told.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Returns every name whose answer it wants to be told, in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter()
    }

    /// Returns the service with this full host; that of another host, if this is another name for it.
    pub fn get(&self, host: &str) -> Option<&Arc<Service>> {
        self.services.get(host)
    }

    /// Returns every full host in order, those that are other names included.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.services.keys()
    }

    /// Returns every service in the order of hosts.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().filter(|(host, service)| service.host == **host).map(|(_, service)| service)
    }

    /// Makes the services of `touched` hosts anew, and returns which of them are not what they were.
    fn renew(&mut self, touched: Hosts) -> Hosts {
        // What stands for another service is that one.
        let (aliases, others): (Vec<_>, Vec<_>) =
            self.with_followers(touched).into_iter().partition(|host| self.target(host).is_some());
        let mut changed = Hosts::new();
        for host in others.into_iter().chain(aliases) {
            let made = self.make(&host);
            if self.put(&host, made) {
                changed.insert(host);
            }
        }
        changed
    }

    /// Returns `hosts` and those that stand for one of them, however many names lie between.
    fn with_followers(&self, hosts: Hosts) -> Hosts {
        let mut followed: Vec<_> = hosts.iter().cloned().collect();
        let mut all = hosts;
        while let Some(host) = followed.pop() {
            let new: Vec<_> =
                self.index.aliases(&host).filter(|alias| !all.contains(*alias)).cloned().collect();
            all.extend(new.iter().cloned());
            followed.extend(new);
        }
        all
    }

    fn make(&self, host: &Arc<str>) -> Option<(Arc<Service>, Vec<Arc<str>>)> {
        if let Some(target) = self.target(host).and_then(|target| self.services.get(target)) {
            return Some((Arc::clone(target), Vec::new()));
        }
        let known = Known { index: &self.index, answers: &self.answers, domain: &self.domain };
        let made = assemble::assemble(host, &self.objects(host), known)?;
        Some((Arc::new(made.service), made.names))
    }

    /// Returns the host that `host` stands for in the end, if it only is another name for one that objects name.
    // spec: istio pilot/pkg/model/push_context.go resolveServiceAliases: what goes round in a circle stands for nothing
    fn target(&self, host: &str) -> Option<&str> {
        let mut target = self.next(host)?;
        for _ in 0..NAMES_MAX {
            match self.next(target) {
                Some(next) => target = next,
                None => return Some(target),
            }
        }
        None
    }

    /// Returns the host that `host` is another name for, if objects name that one.
    fn next(&self, host: &str) -> Option<&str> {
        if self.index.objects(host).iter().all(|object| external_name(object).is_none()) {
            return None;
        }
        let objects = self.objects(host);
        let mut describing = objects.iter().filter(|object| export_to(object).is_some());
        let (Some(only), None) = (describing.next(), describing.next()) else { return None };
        external_name(only).filter(|name| !self.index.objects(name).is_empty())
    }

    /// Returns the objects that make the service of `host`, in the order in which they rule.
    fn objects(&self, host: &str) -> Vec<&Arc<Resource>> {
        self.visibility.choose(host, self.index.objects(host), &self.domain)
    }

    fn put(&mut self, host: &Arc<str>, made: Option<(Arc<Service>, Vec<Arc<str>>)>) -> bool {
        let (service, names) = made.unzip();
        self.names.set(host, names.unwrap_or_default());
        match (self.services.entry(Arc::clone(host)), service) {
            (btree_map::Entry::Vacant(_), None) => false,
            (btree_map::Entry::Vacant(place), Some(service)) => {
                place.insert(service);
                true
            }
            (btree_map::Entry::Occupied(known), None) => {
                known.remove();
                true
            }
            (btree_map::Entry::Occupied(mut known), Some(service)) => {
                let differs = *known.get() != service;
                if differs {
                    known.insert(service);
                }
                differs
            }
        }
    }
}

/// How many names may lie between a name and what it stands for: more than anybody means to write, and a bound for
/// those that go round in a circle.
const NAMES_MAX: usize = 16;
