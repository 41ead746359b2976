//! Services become clusters: one per service port and subset that something refers to, numbered as they are met.

use super::{
    Cluster,
    inbound::{self, Target},
    policy::Blocks,
    view::{Typed, View, carries},
};
use crate::{
    balance::{Endpoint, EndpointSet, Mutual, Security, SetPolicy},
    config::{
        Code, Diagnostic, Level, Origin,
        istio::{ClientTlsMode, DestinationRule, EntryLocation, MtlsMode, Subset},
    },
    health::States,
    identity::{PeerRule, SpiffeId},
    registry::{Instance, Port, Service},
    route::ClusterId,
};
use std::{collections::HashMap, sync::Arc};

/// The clusters of the snapshot being compiled.
pub(super) struct Clusters<'a> {
    view: &'a View<'a>,
    states: &'a States,
    numbers: HashMap<(Arc<str>, u16, Arc<str>), ClusterId>,
    built: Vec<Arc<Cluster>>,
    last: Option<Arc<Mutual>>,
    pub(super) findings: Vec<Diagnostic>,
}

/// A cluster about to be built.
struct Plan<'a> {
    service: &'a Service,
    port: &'a Port,
    subset: Option<&'a Subset>,
    rule: Option<Typed<'a, DestinationRule>>,
    blocks: Blocks<'a>,
}

impl<'a> Clusters<'a> {
    pub(super) fn new(view: &'a View<'a>, states: &'a States) -> Self {
        Self { view, states, numbers: HashMap::new(), built: Vec::new(), last: None, findings: Vec::new() }
    }

    pub(super) fn finish(self) -> Box<[Arc<Cluster>]> {
        self.built.into_boxed_slice()
    }

    /// Returns the cluster of `subset` (or of the whole service, if it is empty) at service port `port`, built on first
    /// use; `None` if the port or the subset does not exist.
    pub(super) fn number(&mut self, service: &'a Service, port: u16, subset: &str) -> Option<ClusterId> {
        let key = (Arc::clone(&service.host), port, Arc::<str>::from(subset));
        if let Some(known) = self.numbers.get(&key) {
            return Some(*known);
        }
        let cluster = self.build(service, port, subset)?;
        let number = ClusterId(u32::try_from(self.built.len()).ok()?);
        self.built.push(Arc::new(cluster));
        self.numbers.insert(key, number);
        Some(number)
    }

    fn build(&mut self, service: &'a Service, port: u16, subset: &str) -> Option<Cluster> {
        let port = service.ports.iter().find(|known| known.number == port)?;
        let rules = self.view.destination_rules(service);
        let subset = match subset {
            "" => None,
            name => Some(
                rules.iter().flat_map(|rule| &rule.spec.subsets).find(|known| known.name.value == name)?,
            ),
        };
        let rule = rules.iter().find(|rule| rule.spec.traffic_policy.is_some()).or(rules.first()).copied();
        let policy = rule.and_then(|rule| rule.spec.traffic_policy.as_ref());
        let blocks = Blocks::default()
            .under(policy, port.number)
            .under(subset.and_then(|subset| subset.traffic_policy.as_ref()), port.number);
        Some(self.cluster(&Plan { service, port, subset, rule, blocks }))
    }

    fn cluster(&mut self, plan: &Plan<'_>) -> Cluster {
        let (service, blocks) = (plan.service, &plan.blocks);
        let name: Arc<str> = plan.name("|").into();
        let endpoints = service
            .instances
            .iter()
            .filter(|instance| plan.subset.is_none_or(|subset| carries(&instance.labels, &subset.labels)))
            .map(|instance| self.endpoint(plan, instance, &name))
            .collect::<Vec<_>>();
        let outlier = blocks.outlier();
        Cluster {
            tls: plan.tls(&endpoints),
            rule: plan
                .rule
                .map(|rule| rule.resource.origin(blocks.tls.map_or(rule.spec.host.at, |tls| tls.at))),
            host: Arc::clone(&service.host),
            namespace: Arc::clone(&service.namespace),
            subset: plan.subset.map_or("", |subset| &subset.name.value).into(),
            port: plan.port.number,
            endpoints: EndpointSet::build(
                endpoints,
                &SetPolicy {
                    policy: blocks.balance(),
                    min_health_percent: outlier.map_or(0, |outlier| outlier.min_health_percent),
                    ..SetPolicy::default()
                },
            ),
            balance: blocks.balance(),
            limits: blocks.limits(),
            connect_timeout: blocks.connect_timeout(self.view.settings),
            idle_timeout: blocks.idle_timeout(),
            max_requests_per_connection: blocks.max_requests_per_connection(),
            outlier,
            state: self.states.cluster(&name),
            budget: self.states.budget(&service.host),
            name,
        }
    }

    fn endpoint(&mut self, plan: &Plan<'_>, instance: &Instance, cluster: &str) -> Endpoint {
        let address = plan.service.address(instance, plan.port);
        Endpoint {
            labels: Arc::clone(&instance.labels),
            locality: instance.locality.clone(),
            weight: instance.weight,
            security: self.security(plan, instance, &address),
            state: self.states.endpoint(cluster, &address),
            address,
        }
    }

    /// A DestinationRule's `tls` block decides; without one, mutual TLS goes to endpoints that speak it.
    // spec: istio pilot/pkg/networking/core/cluster_tls.go buildAutoMtlsSettings
    fn security(
        &mut self,
        plan: &Plan<'_>,
        instance: &Instance,
        address: &crate::registry::Address,
    ) -> Security {
        let Some(tls) = plan.blocks.tls else {
            return match self.speaks_mutual_tls(plan, instance, address) {
                true => self.mutual(plan, instance),
                false => Security::Plaintext,
            };
        };
        match tls.mode {
            ClientTlsMode::Disable => Security::Plaintext,
            ClientTlsMode::IstioMutual => self.mutual(plan, instance),
            ClientTlsMode::Simple | ClientTlsMode::Mutual => self.refuse(
                plan,
                "DestinationRule tls mode SIMPLE and MUTUAL are not supported; write ISTIO_MUTUAL, or DISABLE for plaintext",
            ),
        }
    }

    fn speaks_mutual_tls(
        &self,
        plan: &Plan<'_>,
        instance: &Instance,
        address: &crate::registry::Address,
    ) -> bool {
        let meshed = instance.labels.get(TLS_MODE_LABEL).is_some_and(|mode| mode == "istio");
        let target = Target {
            namespace: &instance.namespace,
            service: &plan.service.host,
            labels: &instance.labels,
            port: address.port(),
        };
        meshed
            && plan.service.location == EntryLocation::MeshInternal
            && inbound::mode(self.view, &target) != MtlsMode::Disable
    }

    fn mutual(&mut self, plan: &Plan<'_>, instance: &Instance) -> Security {
        match self.expected_peers(plan, instance) {
            Ok(peers) => Security::Mutual(self.shared(Mutual { sni: plan.name("_").into(), peers })),
            Err(why) => self.refuse(plan, &why),
        }
    }

    /// The endpoints of a cluster mostly have the same settings: those are held once.
    fn shared(&mut self, mutual: Mutual) -> Arc<Mutual> {
        match &self.last {
            Some(last) if **last == mutual => Arc::clone(last),
            _ => Arc::clone(self.last.insert(Arc::new(mutual))),
        }
    }

    /// Who may answer: the names the rule or the entry lists, else the account of the instance, else the trust domain.
    fn expected_peers(&self, plan: &Plan<'_>, instance: &Instance) -> Result<PeerRule, String> {
        let of_rule = plan.blocks.tls.map(|tls| &tls.subject_alt_names).filter(|names| !names.is_empty());
        let listed = of_rule.unwrap_or(&plan.service.subject_alt_names);
        let domain = &self.view.settings.trust_domain;
        if !listed.is_empty() {
            let ids: Result<Vec<SpiffeId>, _> = listed
                .iter()
                .map(|name| name.parse().map_err(|error| format!("subjectAltNames entry {name:?}: {error}")))
                .collect();
            return Ok(PeerRule::AnyOf(ids?.into()));
        }
        match &instance.service_account {
            None => Ok(PeerRule::TrustDomain(domain.clone())),
            Some(account) => {
                let id = SpiffeId::of_account(domain, &instance.namespace, account)
                    .map_err(|error| format!("serviceAccount {account:?}: {error}"))?;
                Ok(PeerRule::AnyOf(Arc::new([id])))
            }
        }
    }

    fn refuse(&mut self, plan: &Plan<'_>, why: &str) -> Security {
        let mut finding = Diagnostic::error(Code::SECURITY_NOTE, format!("{}: {why}", plan.name("|")))
            .kept("calls to these endpoints fail; nothing is sent in plaintext instead");
        if let Some(rule) = &plan.rule {
            let mark = plan.blocks.tls.map_or(rule.spec.host.at, |tls| tls.at);
            finding = finding
                .about(&rule.resource.key)
                .at(rule.resource.locate(mark))
                .path("spec.trafficPolicy.tls");
        }
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
        Security::Refused(why.into())
    }

    /// Notes that the subset to which `origin` sends selects no endpoint.
    pub(super) fn note_empty(&mut self, number: ClusterId, origin: Origin) {
        let cluster = &self.built[number.0 as usize];
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

impl Plan<'_> {
    /// A service inside the mesh without endpoints would be called with mutual TLS.
    fn tls(&self, endpoints: &[Endpoint]) -> ClientTlsMode {
        let inside = self.service.location == EntryLocation::MeshInternal;
        let mutual = endpoints.iter().any(|endpoint| matches!(endpoint.security, Security::Mutual(_)));
        match self.blocks.tls {
            Some(tls) => tls.mode,
            None if mutual || (inside && endpoints.is_empty()) => ClientTlsMode::IstioMutual,
            None => ClientTlsMode::Disable,
        }
    }

    /// `outbound|80|v1|host` as a cluster name, `outbound_.80_.v1_.host` as a server name.
    // spec: istio pilot/pkg/model BuildSubsetKey, BuildDNSSrvSubsetKey
    fn name(&self, separator: &str) -> String {
        let separator = if separator == "_" { "_." } else { separator };
        let subset = self.subset.map_or("", |subset| subset.name.value.as_str());
        ["outbound", &self.port.number.to_string(), subset, &self.service.host].join(separator)
    }
}

// spec: istio pkg/model SecurityTLSModeLabelName
const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
