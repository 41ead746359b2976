//! Services become clusters: one per service port and subset that something refers to, numbered as they are met.
//!
//! A number stays that of its cluster as long as anything refers to it, so that a change of a cluster leaves the routes
//! that lead there alone.

use super::{
    Cluster,
    cluster_table::ClusterTable,
    mutual_tls::{self, Target},
    passthrough,
    policy::Blocks,
    view::{Typed, View, carries},
};
use crate::{
    balance::{ClientFiles, Endpoint, EndpointSet, Mutual, Nearness, Security, SetPolicy, TlsOrigination},
    config::{
        Code, Diagnostic, Level, Origin,
        istio::{ClientTls, ClientTlsMode, DestinationRule, EntryLocation, MtlsMode, Subset},
    },
    health::States,
    identity::{PeerRule, SpiffeId},
    registry::{Instance, Locality, Port, Service},
    route::ClusterId,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Every cluster that is in use, kept from one snapshot to the next.
#[derive(Debug)]
pub(super) struct ClusterStore {
    pub(super) table: ClusterTable,
    /// By host.
    numbers: HashMap<Arc<str>, Vec<Numbered>>,
    /// By number: how many hosts' routes lead there.
    uses: Vec<u32>,
    /// Numbers whose uses have changed.
    recounted: Vec<ClusterId>,
    free: Vec<ClusterId>,
    /// What was found about a cluster when it was built.
    findings: BTreeMap<ClusterId, Vec<Diagnostic>>,
    /// What stands where a number is free.
    vacant: Arc<Cluster>,
}

/// The number of one cluster of a host.
#[derive(Debug)]
struct Numbered {
    port: u16,
    subset: Arc<str>,
    id: ClusterId,
}

/// The clusters that the routes of one host lead to, as they are compiled.
pub(super) struct Clusters<'a, 's> {
    view: View<'a>,
    states: &'s States,
    store: &'s mut ClusterStore,
    used: BTreeSet<ClusterId>,
    depends: BTreeSet<Arc<str>>,
    last: Option<Arc<Mutual>>,
    /// About the cluster being built.
    about_cluster: Vec<Diagnostic>,
    findings: Vec<Diagnostic>,
}

/// A cluster about to be built.
struct Plan<'a> {
    service: &'a Service,
    port: &'a Port,
    subset: Option<&'a Subset>,
    rule: Option<Typed<'a, DestinationRule>>,
    blocks: Blocks<'a>,
}

impl ClusterStore {
    pub(super) fn new() -> Self {
        Self {
            table: ClusterTable::default(),
            numbers: HashMap::new(),
            uses: Vec::new(),
            recounted: Vec::new(),
            free: Vec::new(),
            findings: BTreeMap::new(),
            vacant: Arc::new(Cluster::vacant()),
        }
    }

    /// Builds the clusters of `host` again, because its service, its rules or its endpoints changed.
    ///
    /// What cannot be built any more has no number from now on; the routes that led there are compiled again too.
    pub(super) fn refresh(&mut self, view: View<'_>, states: &States, host: &str) {
        let Some(known) = self.numbers.remove(host) else { return };
        // A host that has become another name has no clusters of its own any more.
        let service = view.registry.get(host).filter(|service| *service.host == *host);
        let mut kept = Vec::new();
        for numbered in known {
            let mut clusters = Clusters::new(view, states, self);
            let build = |service: &Arc<Service>| clusters.build(service, numbered.port, &numbered.subset);
            if let Some(cluster) = service.and_then(build) {
                let findings = clusters.about_cluster;
                self.put(numbered.id, cluster, findings);
                kept.push(numbered);
            }
        }
        if !kept.is_empty() {
            self.numbers.insert(host.into(), kept);
        }
    }

    /// Counts the uses of a host's routes, or takes them back.
    pub(super) fn count(&mut self, used: &[ClusterId], change: fn(u32, u32) -> u32) {
        for id in used {
            if let Some(uses) = self.uses.get_mut(id.0 as usize) {
                *uses = change(*uses, 1);
            }
            self.recounted.push(*id);
        }
    }

    /// Frees the numbers that nothing leads to any more.
    pub(super) fn free_unused(&mut self) {
        for id in std::mem::take(&mut self.recounted) {
            let unused = self.uses.get(id.0 as usize) == Some(&0);
            let cluster = Arc::clone(self.table.get(id));
            if !unused || Arc::ptr_eq(&cluster, &self.vacant) {
                continue;
            }
            if let Some(known) = self.numbers.get_mut(&cluster.host) {
                known.retain(|other| other.id != id);
                if known.is_empty() {
                    self.numbers.remove(&cluster.host);
                }
            }
            self.findings.remove(&id);
            self.table.replace(id, Arc::clone(&self.vacant));
            self.free.push(id);
        }
    }

    pub(super) fn findings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.findings.values().flatten()
    }

    fn number(&self, host: &str, port: u16, subset: &str) -> Option<ClusterId> {
        let known = self.numbers.get(host)?;
        let found = known.iter().find(|other| other.port == port && *other.subset == *subset);
        found.map(|found| found.id)
    }

    fn add(&mut self, cluster: Cluster, findings: Vec<Diagnostic>) -> Option<ClusterId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let id = ClusterId(u32::try_from(self.table.len()).ok()?);
                self.table.push(Arc::clone(&self.vacant));
                self.uses.push(0);
                id
            }
        };
        let known = self.numbers.entry(Arc::clone(&cluster.host)).or_default();
        known.push(Numbered { port: cluster.port, subset: Arc::clone(&cluster.subset), id });
        self.put(id, cluster, findings);
        Some(id)
    }

    fn put(&mut self, id: ClusterId, cluster: Cluster, findings: Vec<Diagnostic>) {
        self.table.replace(id, Arc::new(cluster));
        match findings.is_empty() {
            true => drop(self.findings.remove(&id)),
            false => drop(self.findings.insert(id, findings)),
        }
    }
}

impl<'a, 's> Clusters<'a, 's> {
    pub(super) fn new(view: View<'a>, states: &'s States, store: &'s mut ClusterStore) -> Self {
        Self {
            view,
            states,
            store,
            used: BTreeSet::new(),
            depends: BTreeSet::new(),
            last: None,
            about_cluster: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Returns which clusters were used, what was looked at, and what was found.
    pub(super) fn finish(self) -> (Vec<ClusterId>, Vec<Arc<str>>, Vec<Diagnostic>) {
        (self.used.into_iter().collect(), self.depends.into_iter().collect(), self.findings)
    }

    /// Notes that what is compiled depends on `name`, a host or an object.
    pub(super) fn depend(&mut self, name: &Arc<str>) {
        if !self.depends.contains(name) {
            self.depends.insert(Arc::clone(name));
        }
    }

    /// Returns the service with this full host, if it is exported to this workload; on it what is compiled then depends,
    /// known or not.
    // spec: istio pilot/pkg/model/sidecar.go: a Sidecar imports the destinations of its rules, and what is not exported has no cluster
    pub(super) fn service(&mut self, host: &Arc<str>) -> Option<&'a Arc<Service>> {
        self.depend(host);
        self.view.destination(host)
    }

    /// Returns the cluster of `subset` (or of the whole service, if it is empty) at service port `port`, built on first
    /// use; `None` if the port or the subset does not exist.
    pub(super) fn number(&mut self, service: &Service, port: u16, subset: &str) -> Option<ClusterId> {
        // It may have been asked for by another name.
        self.depend(&service.host);
        let id = match self.store.number(&service.host, port, subset) {
            Some(known) => known,
            None => {
                let cluster = self.build(service, port, subset)?;
                let findings = std::mem::take(&mut self.about_cluster);
                self.store.add(cluster, findings)?
            }
        };
        self.used.insert(id);
        Some(id)
    }

    /// Returns cluster number `id` of those built so far.
    pub(super) fn get(&self, id: ClusterId) -> &Cluster {
        self.store.table.get(id)
    }

    fn build(&mut self, service: &Service, port: u16, subset: &str) -> Option<Cluster> {
        let port = service.ports.iter().find(|known| known.number == port)?;
        let rules = self.view.destination_rules(service);
        let subset = match subset {
            "" => None,
            name => Some(rules.iter().find_map(|rule| {
                let subset = rule.spec.subsets.iter().find(|known| known.name.value == name)?;
                Some((subset, &**rule.resource))
            })?),
        };
        let rule = rules.iter().find(|rule| rule.spec.traffic_policy.is_some()).or(rules.first()).copied();
        let mut blocks = Blocks::default();
        if let Some(rule) = rule {
            blocks = blocks.under(rule.spec.traffic_policy.as_ref(), rule.resource, port.number);
        }
        if let Some((subset, resource)) = subset {
            blocks = blocks.under(subset.traffic_policy.as_ref(), resource, port.number);
        }
        let blocks = blocks.above_mesh(self.view.settings);
        let subset = subset.map(|(subset, _)| subset);
        Some(self.cluster(&Plan { service, port, subset, rule, blocks }))
    }

    fn cluster(&mut self, plan: &Plan<'_>) -> Cluster {
        let (service, blocks) = (plan.service, &plan.blocks);
        let name: Arc<str> = plan.name("|").into();
        let itself = blocks.passes_through().then(|| passthrough::itself(service));
        let instances: Vec<_> = match &itself {
            Some(itself) => itself.iter().collect(),
            None => service.instances.iter().filter(|instance| plan.selects(instance)).collect(),
        };
        let endpoints: Vec<_> =
            instances.iter().filter_map(|instance| self.endpoint(plan, instance, &name)).collect();
        self.note_mutual_tls_lost(plan, &instances);
        let outlier = blocks.outlier();
        let (viewer, locality) = (self.view.viewer, blocks.locality(self.view.settings));
        let here = Locality::of_labels(&viewer.labels);
        let set_policy = SetPolicy {
            policy: blocks.balance(self.view.settings),
            min_health_percent: outlier.map_or(0, |outlier| outlier.min_health_percent),
            warm_up: blocks.warm_up(),
            nearness: locality.as_deref().map(|policy| Nearness {
                locality: &here,
                labels: &viewer.labels,
                policy,
            }),
        };
        Cluster {
            tls: plan.tls(&endpoints, self.view.settings.auto_mtls),
            rule: plan
                .rule
                .map(|rule| rule.resource.origin(blocks.tls().map_or(rule.spec.host.at, |tls| tls.at))),
            host: Arc::clone(&service.host),
            namespace: Arc::clone(&service.namespace),
            subset: plan.subset.map_or("", |subset| &subset.name.value).into(),
            port: plan.port.number,
            endpoints: EndpointSet::build(endpoints, &set_policy),
            hash: blocks.hash(),
            warm_up: blocks.warm_up(),
            locality,
            limits: blocks.limits(self.view.settings),
            connect_timeout: blocks.connect_timeout(self.view.settings),
            idle_timeout: blocks.idle_timeout(),
            max_requests_per_connection: blocks.max_requests_per_connection(),
            connection: blocks.connection(plan.port),
            outlier,
            state: self.states.cluster(&name),
            budget: self.states.budget(&service.host),
            retry_budget: blocks.retry_budget(self.states, &name),
            sources: blocks.sources(),
            name,
        }
    }

    fn endpoint(&mut self, plan: &Plan<'_>, instance: &Instance, cluster: &str) -> Option<Endpoint> {
        let address = plan.service.address(instance, plan.port)?;
        Some(Endpoint {
            labels: Arc::clone(&instance.labels),
            locality: instance.locality.clone(),
            weight: instance.weight,
            security: self.security(plan, instance, &address),
            state: self.states.endpoint(cluster, &address),
            address,
        })
    }

    /// A DestinationRule's `tls` block decides; without one, mutual TLS goes to endpoints that speak it.
    // spec: istio pilot/pkg/networking/core/cluster_tls.go buildAutoMtlsSettings
    fn security(
        &mut self,
        plan: &Plan<'_>,
        instance: &Instance,
        address: &crate::registry::Address,
    ) -> Security {
        let Some(tls) = plan.blocks.tls() else {
            return match self.speaks_mutual_tls(plan, instance, address) {
                true => self.mutual(plan, instance),
                // Nobody means plaintext by a port that is declared to speak TLS.
                false if plan.speaks_tls() => {
                    Security::Origination(Arc::new(TlsOrigination::simple(&plan.service.host)))
                }
                false => Security::Plaintext,
            };
        };
        match tls.mode {
            ClientTlsMode::Disable => Security::Plaintext,
            ClientTlsMode::IstioMutual => self.mutual(plan, instance),
            ClientTlsMode::Simple | ClientTlsMode::Mutual => originate(plan, tls),
        }
    }

    fn speaks_mutual_tls(
        &self,
        plan: &Plan<'_>,
        instance: &Instance,
        address: &crate::registry::Address,
    ) -> bool {
        let target = Target {
            namespace: &instance.namespace,
            service: &plan.service.host,
            labels: &instance.labels,
            port: address.port(),
            service_port: Some(plan.port.number),
        };
        instance.is_meshed()
            && self.view.settings.auto_mtls
            && plan.service.location == EntryLocation::MeshInternal
            && mutual_tls::mode(&self.view, &target) != MtlsMode::Disable
    }

    /// Notes that a rule keeps endpoints from being called with mutual TLS.
    fn note_mutual_tls_lost(&mut self, plan: &Plan<'_>, instances: &[&Instance]) {
        let Some(finding) = plan.blocks.takes_mutual_tls_away(&plan.service.host) else { return };
        let inside = plan.service.location == EntryLocation::MeshInternal;
        let speaks = |instance: &&Instance| {
            let address = plan.service.address(instance, plan.port);
            address.is_some_and(|address| self.speaks_mutual_tls(plan, instance, &address))
        };
        if (inside && instances.is_empty()) || instances.iter().any(speaks) {
            self.about_cluster.push(finding);
        }
    }

    fn mutual(&mut self, plan: &Plan<'_>, instance: &Instance) -> Security {
        match self.expected_peers(plan, instance) {
            Ok(peers) => {
                self.note_anybody(plan.service, &peers);
                Security::Mutual(self.shared(Mutual { sni: plan.server_name(), peers }))
            }
            Err(why) => self.refuse(plan, &why),
        }
    }

    /// Notes that any identity of the trust domain may answer for `service`: in the same words for each of its clusters,
    /// so that it is said once.
    fn note_anybody(&mut self, service: &Service, peers: &PeerRule) {
        let PeerRule::TrustDomain(domain) = peers else { return };
        let host = &service.host;
        let message =
            format!("nothing says which account {host} runs as: any identity of {domain} may answer for it");
        let finding = Diagnostic::new(Code::SECURITY_NOTE, Level::Info, message)
            .help("write the `serviceAccount` of its endpoints, or `subjectAltNames`");
        if !self.about_cluster.contains(&finding) {
            self.about_cluster.push(finding);
        }
    }

    /// The endpoints of a cluster mostly have the same settings: those are held once.
    fn shared(&mut self, mutual: Mutual) -> Arc<Mutual> {
        match &self.last {
            Some(last) if **last == mutual => Arc::clone(last),
            _ => Arc::clone(self.last.insert(Arc::new(mutual))),
        }
    }

    /// Who may answer: the names the rule lists, else those the entry lists and the accounts known, else the trust domain.
    // spec: istio networking/v1alpha3/service_entry.proto subjectAltNames
    fn expected_peers(&self, plan: &Plan<'_>, instance: &Instance) -> Result<PeerRule, String> {
        let (service, domain) = (plan.service, &self.view.settings.trust_domain);
        let of_rule = plan.blocks.tls().map(|tls| &tls.subject_alt_names).filter(|names| !names.is_empty());
        let listed = of_rule
            .unwrap_or(&service.subject_alt_names)
            .iter()
            .map(|name| name.parse().map_err(|error| format!("subjectAltNames entry {name:?}: {error}")));
        let own = instance.service_account.iter().map(|account| (&instance.namespace, account));
        let allowed = service.service_accounts.iter().map(|account| (&service.namespace, account));
        let accounts = own.chain(allowed).filter(|_| of_rule.is_none()).map(|(namespace, account)| {
            SpiffeId::of_account(domain, namespace, account)
                .map_err(|error| format!("serviceAccount {account:?}: {error}"))
        });
        let mut ids = listed.chain(accounts).collect::<Result<Vec<SpiffeId>, _>>()?;
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            Ok(PeerRule::TrustDomain(domain.clone()))
        } else {
            Ok(PeerRule::AnyOf(ids.into()))
        }
    }

    fn refuse(&mut self, plan: &Plan<'_>, why: &str) -> Security {
        let mut finding = Diagnostic::error(Code::SECURITY_NOTE, format!("{}: {why}", plan.name("|")))
            .kept("calls to these endpoints fail; nothing is sent in plaintext instead");
        if let Some(rule) = &plan.rule {
            let mark = plan.blocks.tls().map_or(rule.spec.host.at, |tls| tls.at);
            finding = finding
                .about(&rule.resource.key)
                .at(rule.resource.locate(mark))
                .path("spec.trafficPolicy.tls");
        }
        if !self.about_cluster.contains(&finding) {
            self.about_cluster.push(finding);
        }
        Security::Refused(why.into())
    }

    /// Notes that the subset to which `origin` sends selects no endpoint.
    pub(super) fn note_empty(&mut self, number: ClusterId, origin: Origin) {
        let cluster = self.get(number);
        if cluster.endpoints.is_empty() && !cluster.subset.is_empty() {
            let message = format!("no endpoint of {} belongs to subset {:?}", cluster.host, cluster.subset);
            let finding = Diagnostic::new(Code::EMPTY_SUBSET, Level::Info, message)
                .about(&origin.resource)
                .at(origin.location);
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }
}

/// The server name and the names asked for are those of the host, unless the rule says others.
// spec: istio pilot/pkg/networking/core/cluster_tls.go buildUpstreamClusterTLSContext
fn originate(plan: &Plan<'_>, tls: &ClientTls) -> Security {
    let shared = |text: &String| Arc::from(text.as_str());
    let identity = tls.client_certificate.as_ref().zip(tls.private_key.as_ref());
    let listed = [&tls.subject_alt_names, &plan.service.subject_alt_names];
    let names = listed.into_iter().find(|names| !names.is_empty());
    Security::Origination(Arc::new(TlsOrigination {
        sni: tls.sni.as_ref().map_or_else(|| Arc::clone(&plan.service.host), shared),
        names: names.cloned().unwrap_or_default().into(),
        authorities: tls.ca_certificates.as_ref().filter(|file| *file != SYSTEM).map(shared),
        revocations: tls.ca_crl.as_ref().map(shared),
        identity: identity.map(|(certificate, private_key)| ClientFiles {
            certificate: shared(certificate),
            private_key: shared(private_key),
        }),
        skip_verify: tls.insecure_skip_verify,
    }))
}

impl Plan<'_> {
    fn speaks_tls(&self) -> bool {
        self.service.location == EntryLocation::MeshExternal
            && matches!(self.port.protocol.as_str(), "HTTPS" | "TLS")
    }

    fn selects(&self, instance: &Instance) -> bool {
        self.subset.is_none_or(|subset| carries(&instance.labels, &subset.labels))
    }

    /// A service inside the mesh without endpoints would be called with mutual TLS.
    fn tls(&self, endpoints: &[Endpoint], auto: bool) -> ClientTlsMode {
        let inside = auto && self.service.location == EntryLocation::MeshInternal;
        let mutual = endpoints.iter().any(|endpoint| matches!(endpoint.security, Security::Mutual(_)));
        match self.blocks.tls() {
            Some(tls) => tls.mode,
            None if self.speaks_tls() => ClientTlsMode::Simple,
            None if mutual || (inside && endpoints.is_empty()) => ClientTlsMode::IstioMutual,
            None => ClientTlsMode::Disable,
        }
    }

    /// The name that the rule gives, else the one that Istio generates.
    // spec: istio pilot/pkg/networking/core/cluster_tls.go buildUpstreamTLSSettings
    fn server_name(&self) -> Arc<str> {
        let written = self.blocks.tls().and_then(|tls| tls.sni.as_deref());
        written.map_or_else(|| self.name("_").into(), Arc::from)
    }

    /// `outbound|80|v1|host` as a cluster name, `outbound_.80_.v1_.host` as a server name.
    // spec: istio pilot/pkg/model BuildSubsetKey, BuildDNSSrvSubsetKey
    fn name(&self, separator: &str) -> String {
        let separator = if separator == "_" { "_." } else { separator };
        let subset = self.subset.map_or("", |subset| subset.name.value.as_str());
        ["outbound", &self.port.number.to_string(), subset, &self.service.host].join(separator)
    }
}

/// Names the authorities of the system, as their absence does.
// spec: istio networking/v1alpha3/destination_rule.proto ClientTLSSettings.ca_certificates
const SYSTEM: &str = "system";
