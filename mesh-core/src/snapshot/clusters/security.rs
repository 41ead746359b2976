//! How endpoints are called: by mutual TLS with whom, by TLS, or in plaintext.

use super::{Clusters, Plan};
use crate::{
    balance::{ClientFiles, Endpoint, Mutual, Security, TlsOrigination},
    config::{
        Code, Diagnostic, Level,
        istio::{ClientTls, ClientTlsMode, EntryLocation, MtlsMode},
    },
    identity::{PeerRule, SpiffeId},
    registry::{Address, Instance, Service},
    snapshot::mutual_tls::{self, Target},
};
use std::sync::Arc;

impl Clusters<'_, '_> {
    /// A DestinationRule's `tls` block decides; without one, mutual TLS goes to endpoints that speak it.
    // spec: istio pilot/pkg/networking/core/cluster_tls.go buildAutoMtlsSettings
    pub(super) fn security(&mut self, plan: &Plan<'_>, instance: &Instance, address: &Address) -> Security {
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

    fn speaks_mutual_tls(&self, plan: &Plan<'_>, instance: &Instance, address: &Address) -> bool {
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
    pub(super) fn note_mutual_tls_lost(&mut self, plan: &Plan<'_>, instances: &[&Instance]) {
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
}

impl Plan<'_> {
    fn speaks_tls(&self) -> bool {
        self.service.location == EntryLocation::MeshExternal
            && matches!(self.port.protocol.as_str(), "HTTPS" | "TLS")
    }

    /// A service inside the mesh without endpoints would be called with mutual TLS.
    pub(super) fn tls(&self, endpoints: &[Endpoint], auto: bool) -> ClientTlsMode {
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

/// Names the authorities of the system, as their absence does.
// spec: istio networking/v1alpha3/destination_rule.proto ClientTLSSettings.ca_certificates
const SYSTEM: &str = "system";
