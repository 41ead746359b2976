//! MeshConfig: the settings of the whole mesh, from the ConfigMap `istio` or a file of their own.
// spec: istio mesh/v1alpha1/config.proto

mod proxy;
mod read;

use super::{
    destination_rule::{DefaultTrafficPolicy, LocalitySetting, TcpKeepalive},
    server_tls::TlsVersion,
    virtual_service::HttpRetry,
};
use crate::{config::resource::At, identity::TrustDomain, route::Chance};
use std::time::Duration;

/// What a MeshConfig says. `None`, or empty, is Istio's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshConfig {
    /// `compat`: a field of our own.
    pub compat: Compat,
    /// `trustDomain`.
    pub trust_domain: Option<At<TrustDomain>>,
    /// `trustDomainAliases`.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// `rootNamespace`.
    pub root_namespace: Option<String>,
    /// `enableAutoMtls`.
    pub auto_mtls: Option<bool>,
    /// `outboundTrafficPolicy.mode`: true is ALLOW_ANY, false REGISTRY_ONLY.
    pub allow_any: Option<bool>,
    /// `connectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `tcpKeepalive`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `h2UpgradePolicy`: true is UPGRADE.
    pub h2_upgrade: bool,
    /// `defaultHttpRetryPolicy`.
    pub retry: Option<HttpRetry>,
    /// `localityLbSetting`.
    pub locality: Option<LocalitySetting>,
    /// `defaultTrafficPolicy`.
    pub traffic_policy: Option<DefaultTrafficPolicy>,
    /// `accessLogFile`, `accessLogEncoding` and `accessLogFormat`.
    pub access_log: AccessLogSettings,
    /// `enableTracing` and `defaultConfig.tracing.sampling`: how often a trace is begun.
    pub sampling: Option<Chance>,
    /// `meshMTLS.minProtocolVersion`.
    pub tls_version_min: TlsVersion,
    /// `pathNormalization.normalization`.
    pub path_normalization: PathNormalization,
    /// `defaultServiceExportTo`.
    pub service_export_to: Vec<String>,
    /// `defaultVirtualServiceExportTo`.
    pub virtual_service_export_to: Vec<String>,
    /// `defaultDestinationRuleExportTo`.
    pub destination_rule_export_to: Vec<String>,
}

/// Which Istio's defaults are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// Those of today.
    #[default]
    Current,
    /// Those of Istio 1.3: round robin, 503 retried, mutual TLS only where rules and policies ask for it.
    Istio1_3,
}

/// How requests are logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// `accessLogFile`; `None` logs none.
    pub file: Option<String>,
    /// `accessLogEncoding`: true is JSON, false text.
    pub json: bool,
    /// `accessLogFormat`; `None` is Istio's.
    pub format: Option<String>,
}

/// `pathNormalization.normalization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathNormalization {
    /// `BASE`, and `DEFAULT`: dot segments and backslashes.
    #[default]
    Base,
    /// `NONE`: nothing.
    Unchanged,
    /// `MERGE_SLASHES`: `BASE`, and several slashes are one.
    MergeSlashes,
    /// `DECODE_AND_MERGE_SLASHES`: likewise, once `%2F` and `%5C` are decoded.
    DecodeAndMergeSlashes,
}
