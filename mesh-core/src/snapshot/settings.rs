//! What a MeshConfig changes of the settings of the mesh.

use super::MeshSettings;
use crate::{
    balance::Policy,
    config::{
        Code, Diagnostic, Resource, Spec,
        istio::{Compat, HttpRetry, LocalitySetting, MeshConfig, MtlsMode},
    },
    health::Limits,
    retry::{Backoff, Condition, RetryOn, RetryPolicy},
};
use std::sync::Arc;

impl MeshSettings {
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
        settings.retry = retry(config.retry.as_ref(), &settings.retry);
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
            retry: RetryPolicy { on: retry_on_of_1_3(), explicit: true, ..self.retry.clone() },
            limits,
            auto_mtls: false,
            default_mtls: MtlsMode::Disable,
            locality: LocalitySetting { enabled: Some(false), ..LocalitySetting::default() },
            ..self.clone()
        }
    }
}

fn overlay<T: Clone>(setting: &mut T, written: &Option<T>) {
    if let Some(written) = written {
        setting.clone_from(written);
    }
}

/// Returns `default` with what `written` says over it. `attempts: 0` switches retries off; without `retryOn` the list
/// of `default` stays.
pub(super) fn retry(written: Option<&HttpRetry>, default: &RetryPolicy) -> RetryPolicy {
    let Some(written) = written else { return default.clone() };
    let on = written.retry_on.as_ref();
    let per_try_timeout = written.per_try_timeout.filter(|timeout| !timeout.is_zero());
    let backoff = written.backoff.filter(|base| !base.is_zero());
    RetryPolicy {
        retries_max: written.attempts.unwrap_or(default.retries_max),
        explicit: on.is_some() || default.explicit,
        on: on.unwrap_or(&default.on).clone(),
        per_try_timeout: per_try_timeout.or(default.per_try_timeout),
        backoff: backoff.map_or(default.backoff, Backoff::from_base),
        avoid_previous_hosts: written.ignore_previous_hosts.unwrap_or(default.avoid_previous_hosts),
    }
}

/// Today's list, and what was retried beside it: 503, and gRPC's `resource-exhausted`.
fn retry_on_of_1_3() -> RetryOn {
    let words = RetryOn::default().to_string();
    let more = format!("{words},{},503", Condition::ResourceExhausted);
    RetryOn::parse(&more).unwrap_or_default()
}
