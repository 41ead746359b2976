//! What a MeshConfig changes of the settings of the mesh.

use super::MeshSettings;
use crate::{
    balance::Policy,
    config::{
        Code, Diagnostic, Mark, Options, Resource, Spec,
        istio::{Compat, HttpRetry, LocalitySetting, MeshConfig, MtlsMode},
        load::mesh_config_file,
    },
    health::Limits,
    identity::TrustDomain,
    retry::{Backoff, Condition, RetryOn, RetryPolicy},
};
use std::sync::Arc;

impl MeshSettings {
    /// Returns the settings of a mesh whose MeshConfig has a file of its own, `text`, and what is to be said of it. The
    /// trust domain is the one it names, else `cluster.local`; what does not read is Istio's default.
    pub fn of_file(file: &str, text: &str, options: &Options) -> (Self, Vec<Diagnostic>) {
        let loaded = mesh_config_file(file, text, options);
        let domain = loaded.resources.iter().find_map(|resource| match &resource.spec {
            Spec::MeshConfig(config) => config.trust_domain.as_deref().cloned(),
            _ => None,
        });
        let resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
        let default = Self::new(domain.unwrap_or_else(TrustDomain::cluster_local));
        let (settings, found) = default.of(&resources);
        (settings, loaded.diagnostics.into_iter().chain(found).collect())
    }

    /// Returns these settings with those of the MeshConfig among `resources` over them: the ConfigMap `istio` of the
    /// root namespace.
    pub fn of(&self, resources: &[Arc<Resource>]) -> (Self, Vec<Diagnostic>) {
        let (mut settings, mut findings) = (self.clone(), Vec::new());
        for resource in resources {
            let Spec::MeshConfig(config) = &resource.spec else { continue };
            if *resource.key.namespace != *self.root_namespace {
                findings.push(self.elsewhere(resource));
                continue;
            }
            let (changed, found) = self.with(config);
            let at = config.trust_domain.as_ref().map(|domain| domain.at).unwrap_or_default();
            findings.extend(found.into_iter().map(|it| it.about(&resource.key).at(resource.locate(at))));
            settings = changed;
            if let Some(policy) = &mut settings.default_traffic_policy {
                policy.source = Some(resource.origin(Mark::default()));
            }
        }
        (settings, findings)
    }

    fn elsewhere(&self, resource: &Resource) -> Diagnostic {
        let message =
            format!("a MeshConfig counts in the root namespace only, which is {}", self.root_namespace);
        Diagnostic::warning(Code::NO_EFFECT, message)
            .about(&resource.key)
            .at(resource.location.clone())
            .path("metadata.namespace")
    }

    /// Returns these settings with those of `config` over them: first the defaults that its `compat` means, then what
    /// it says.
    pub fn with(&self, config: &MeshConfig) -> (Self, Vec<Diagnostic>) {
        let mut settings = match config.compat {
            Compat::Current => self.clone(),
            Compat::Istio1_3 => self.as_istio_1_3(),
        };
        settings.trust_domain_aliases.extend(config.trust_domain_aliases.iter().cloned());
        overlay(&mut settings.root_namespace, &config.root_namespace);
        overlay(&mut settings.auto_mtls, &config.auto_mtls);
        overlay(&mut settings.allow_any, &config.allow_any);
        overlay(&mut settings.connect_timeout, &config.connect_timeout);
        overlay(&mut settings.locality, &config.locality);
        settings.tcp_keepalive = config.tcp_keepalive.or(settings.tcp_keepalive);
        settings.h2_upgrade |= config.h2_upgrade;
        settings.retry = retry(config.retry.as_ref(), &settings, false);
        settings.default_traffic_policy = config.traffic_policy.clone();
        settings.access_log = config.access_log.clone();
        settings.sampling = config.sampling.or(settings.sampling);
        settings.tls_version_min = settings.tls_version_min.max(config.tls_version_min);
        settings.path_normalization = config.path_normalization;
        settings.service_export_to = config.service_export_to.clone();
        settings.virtual_service_export_to = config.virtual_service_export_to.clone();
        settings.destination_rule_export_to = config.destination_rule_export_to.clone();
        (settings, self.note_trust_domain(config).into_iter().collect())
    }

    /// The trust domain is in every certificate: a file cannot change it.
    fn note_trust_domain(&self, config: &MeshConfig) -> Option<Diagnostic> {
        let written = config.trust_domain.as_ref().filter(|domain| domain.value != self.trust_domain)?;
        let message =
            format!("trustDomain {} is not that of this mesh, {}", written.value, self.trust_domain);
        let finding = Diagnostic::warning(Code::SECURITY_NOTE, message)
            .path("data.mesh.trustDomain")
            .help("it is named where the mesh begins: `meshctl serve --trust-domain`");
        Some(finding.kept(format!("the trust domain is {}", self.trust_domain)))
    }

    /// Returns these settings with the defaults of Istio 1.3, which differ from today's where users notice.
    // spec: istio 1.3.0 pilot/pkg/networking/core/v1alpha3/cluster.go, route/retry/retry.go
    fn as_istio_1_3(&self) -> Self {
        let limits =
            Limits { connections_max: 1024, pending_max: 1024, requests_max: 1024, retries_max: 1024 };
        Self {
            compat: Compat::Istio1_3,
            balance: Policy::RoundRobin,
            retry: built_in(Compat::Istio1_3),
            limits,
            auto_mtls: false,
            default_mtls: MtlsMode::Disable,
            locality: LocalitySetting { enabled: false, ..LocalitySetting::default() },
            ..self.clone()
        }
    }
}

fn overlay<T: Clone>(setting: &mut T, written: &Option<T>) {
    if let Some(written) = written {
        setting.clone_from(written);
    }
}

/// Returns the retries that are `written`, or those of the mesh if nothing is.
///
/// What is written replaces the mesh's policy as a whole: what it leaves out, such as the list of `retryOn`, is Istio's
/// own default. `attempts: 0` switches retries off.
// spec: istio pilot/pkg/networking/core/route/route.go applyHTTPRouteDestination, route/retry/retry.go ConvertPolicy
pub(super) fn retry(written: Option<&HttpRetry>, settings: &MeshSettings, hashed: bool) -> RetryPolicy {
    // A destination that is hashed is tried again at the same host, unless somebody says otherwise.
    let elsewhere = |policy: RetryPolicy| RetryPolicy {
        avoid_previous_hosts: policy.avoid_previous_hosts && !hashed,
        ..policy
    };
    let Some(written) = written else { return elsewhere(settings.retry.clone()) };
    let default = elsewhere(built_in(settings.compat));
    let on = written.retry_on.as_ref();
    RetryPolicy {
        retries_max: written.attempts.unwrap_or(default.retries_max),
        explicit: on.is_some() || default.explicit,
        per_try_timeout: written.per_try_timeout.filter(|timeout| !timeout.is_zero()),
        backoff: written.backoff.filter(|base| !base.is_zero()).map_or(default.backoff, Backoff::from_base),
        avoid_previous_hosts: written.ignore_previous_hosts.unwrap_or(default.avoid_previous_hosts),
        leave_localities: written.remote_localities.unwrap_or(default.leave_localities),
        on: on.cloned().unwrap_or(default.on),
        asked: None,
        hedge: None,
    }
}

/// Returns the retries where nobody writes any. Istio 1.3 also retried 503, and gRPC's `resource-exhausted`; whoever asks
/// for that profile asks for these conditions by name.
fn built_in(compat: Compat) -> RetryPolicy {
    let today = RetryPolicy::default();
    if compat == Compat::Current {
        return today;
    }
    let more = format!("{},{},503", today.on, Condition::ResourceExhausted);
    RetryPolicy { on: RetryOn::parse(&more).unwrap_or_default(), explicit: true, ..today }
}
