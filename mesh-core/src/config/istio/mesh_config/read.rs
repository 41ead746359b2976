//! Reads a MeshConfig. Of what Istio knows, that which concerns Envoy, Kubernetes or istiod has no effect.
// spec: istio pkg/config/validation/agent ValidateMeshConfig

use super::{
    AccessLogSettings, Compat, DefaultTrafficPolicy, LocalitySetting, MeshConfig, PathNormalization, proxy,
};
use crate::{
    config::{
        decode::{Decoder, Fields, choice, flag, lasting, name, parsed, shortened, text},
        diagnostic::{Code, Diagnostic},
        istio::{common, destination_rule::TcpKeepalive, server_tls::TlsVersion, virtual_service::HttpRetry},
        resource::At,
        schema::Support,
        tree::Node,
    },
    identity::TrustDomain,
    route::Chance,
};

impl MeshConfig {
    /// Reads the ConfigMap `istio`, whose key `mesh` holds a MeshConfig as text.
    pub(crate) fn read_config_map<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = fields.get("data", |decoder, node| {
            let mut fields = decoder.fields(node)?;
            let place = fields.place_of("mesh");
            let written = fields.has("mesh");
            let read = fields.get("mesh", |decoder, node| decoder.embedded(node, place, Self::read));
            fields.no_effect(&[("meshNetworks", "there is one network")]);
            fields.finish();
            if written { read } else { Some(Self::default()) }
        });
        let absent = !fields.has("data");
        // The envelope reports what else stands in a ConfigMap.
        if absent { Some(Self::default()) } else { read }
    }

    /// Reads a MeshConfig.
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let tracing = fields.get("enableTracing", flag);
        let sampling = fields.get("defaultConfig", proxy::read).flatten();
        let read = Self {
            compat: fields.get("compat", |d, n| choice(d, n, COMPAT)).unwrap_or_default(),
            trust_domain: fields.get("trustDomain", |decoder, node| {
                Some(At { value: trust_domain(decoder, node)?, at: node.at })
            }),
            trust_domain_aliases: fields.list("trustDomainAliases", trust_domain),
            root_namespace: fields.get("rootNamespace", namespace),
            auto_mtls: fields.get("enableAutoMtls", flag),
            allow_any: fields.get("outboundTrafficPolicy", outbound_policy),
            connect_timeout: fields.get("connectTimeout", lasting),
            tcp_keepalive: fields.get("tcpKeepalive", TcpKeepalive::read),
            h2_upgrade: fields.get("h2UpgradePolicy", |d, n| choice(d, n, UPGRADES)).unwrap_or_default(),
            retry: fields.get("defaultHttpRetryPolicy", HttpRetry::read),
            locality: fields.get("localityLbSetting", LocalitySetting::read),
            traffic_policy: fields.get("defaultTrafficPolicy", DefaultTrafficPolicy::read),
            access_log: AccessLogSettings::read(&mut fields),
            sampling: if tracing == Some(false) { Some(Chance::NEVER) } else { sampling },
            tls_version_min: fields.get("meshMTLS", mutual_tls).unwrap_or_default(),
            path_normalization: fields.get("pathNormalization", PathNormalization::read).unwrap_or_default(),
            service_export_to: fields.list("defaultServiceExportTo", name),
            virtual_service_export_to: fields.list("defaultVirtualServiceExportTo", name),
            destination_rule_export_to: fields.list("defaultDestinationRuleExportTo", name),
        };
        fields.list("serviceSettings", service_settings);
        fields.not_obeyed(&["accessLogFile", "accessLogEncoding", "accessLogFormat", "enableTracing"]);
        fields.no_effect(NO_EFFECT);
        fields.finish();
        Some(read)
    }
}

const UPGRADES: &[(&str, bool)] = &[("DO_NOT_UPGRADE", false), ("UPGRADE", true)];

const COMPAT: &[(&str, Compat)] = &[("current", Compat::Current), ("istio-1.3", Compat::Istio1_3)];

fn trust_domain(decoder: &mut Decoder<'_>, node: &Node) -> Option<TrustDomain> {
    parsed(decoder, node, "a trust domain such as cluster.local")
}

fn namespace(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let name = name(decoder, node)?;
    if !common::is_label(&name) {
        decoder.refuse(node.at, format!("`{}` is not a namespace", shortened(&name)));
        return None;
    }
    Some(name)
}

/// Reads `{mode: ...}`. Without a mode it is REGISTRY_ONLY, protobuf's zero.
fn outbound_policy<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<bool> {
    let mut fields = decoder.fields(node)?;
    let mode = fields.get("mode", |decoder, node| choice(decoder, node, OUTBOUND));
    fields.finish();
    Some(mode.unwrap_or(false))
}

const OUTBOUND: &[(&str, bool)] = &[("ALLOW_ANY", true), ("REGISTRY_ONLY", false)];

impl AccessLogSettings {
    fn read(fields: &mut Fields<'_, '_>) -> Self {
        let encoding = fields.get("accessLogEncoding", |decoder, node| choice(decoder, node, ENCODINGS));
        Self {
            file: fields.get("accessLogFile", text).filter(|file| !file.is_empty()),
            json: encoding.unwrap_or_default(),
            format: fields.get("accessLogFormat", text).filter(|format| !format.is_empty()),
        }
    }
}

const ENCODINGS: &[(&str, bool)] = &[("TEXT", false), ("JSON", true)];

// spec: istio pkg/config/validation/agent ValidateMeshTLSConfig
fn mutual_tls<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<TlsVersion> {
    let mut fields = decoder.fields(node)?;
    let version = fields.get("minProtocolVersion", TlsVersion::read);
    fields.list("ecdhCurves", name);
    if fields.has("ecdhCurves") {
        fields.refuse("ecdhCurves", NO_CURVES);
    }
    fields.describe(&["ecdhCurves"], Support::Refused, NO_CURVES);
    fields.no_effect(&[("cipherSuites", "peers agree on the suites that are safe, and on no others")]);
    fields.finish();
    Some(version.unwrap_or_default())
}

const NO_CURVES: &str = "mutual TLS of the mesh has no curves to choose";

impl PathNormalization {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = fields.get("normalization", |decoder, node| choice(decoder, node, NORMALIZATIONS));
        let read = read.unwrap_or_default();
        let stricter = match read {
            Self::Base | Self::MergeSlashes => None,
            Self::Unchanged => {
                Some("paths are normalised all the same, as BASE says: policy judges that spelling")
            }
            Self::DecodeAndMergeSlashes => {
                Some("slashes are merged, but paths with `%2F` and `%5C` are refused with 400, not decoded")
            }
        };
        if let Some(message) = stricter {
            fields.find("normalization", Diagnostic::warning(Code::SECURITY_NOTE, message));
        }
        fields.finish();
        Some(read)
    }
}

const NORMALIZATIONS: &[(&str, PathNormalization)] = &[
    ("DEFAULT", PathNormalization::Base),
    ("NONE", PathNormalization::Unchanged),
    ("BASE", PathNormalization::Base),
    ("MERGE_SLASHES", PathNormalization::MergeSlashes),
    ("DECODE_AND_MERGE_SLASHES", PathNormalization::DecodeAndMergeSlashes),
];

fn service_settings<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
    let mut fields = decoder.fields(node)?;
    fields.list("hosts", |decoder, node| common::host(decoder, node));
    fields.describe(&["hosts"], Support::NoEffect, "no setting of a service is obeyed");
    fields.get("settings", |decoder, node| {
        let mut fields = decoder.fields(node)?;
        fields.no_effect(&[("clusterLocal", "there is one cluster")]);
        fields.finish();
        Some(())
    });
    fields.finish();
    Some(())
}

const NO_PROXY: &str = "there is no proxy beside the process";
const NO_INGRESS: &str = "no Ingress of Kubernetes is served";
const MIXER: &str = "Mixer went with Istio 1.5";
pub(super) const TELEMETRY: &str =
    "metrics are read at MESH_ADMIN, and events go to the `tracing` of the program";

/// Everything else that a MeshConfig may hold, or could when Istio was younger.
const NO_EFFECT: &[(&str, &str)] = &[
    ("proxyListenPort", NO_PROXY),
    ("proxyInboundListenPort", NO_PROXY),
    ("proxyHttpPort", NO_PROXY),
    ("protocolDetectionTimeout", "protocols are not guessed"),
    ("ingressClass", NO_INGRESS),
    ("ingressService", NO_INGRESS),
    ("ingressControllerMode", NO_INGRESS),
    ("ingressSelector", NO_INGRESS),
    ("enableEnvoyAccessLogService", TELEMETRY),
    ("disableEnvoyListenerLog", TELEMETRY),
    ("extensionProviders", TELEMETRY),
    ("defaultProviders", TELEMETRY),
    ("enablePrometheusMerge", "metrics are the process's own"),
    ("inboundClusterStatName", "metrics have the names they have"),
    ("outboundClusterStatName", "metrics have the names they have"),
    ("inboundTrafficPolicy", "a server listens where its program says"),
    ("configSources", "configuration comes from files or the control endpoint"),
    ("discoverySelectors", "every namespace is read"),
    ("serviceScopeConfigs", "every service is the mesh's own"),
    ("caCertificates", "bundles come with the identity"),
    ("ca", "certificates come from the control endpoint or from files"),
    ("certificates", "certificates come from the control endpoint or from files"),
    ("verifyCertificateAtClient", "a server's certificate is always verified"),
    ("tlsDefaults", "peers agree on the curves and suites that are safe, and on no others"),
    ("compliancePolicy", "the TLS library decides what it is certified for"),
    ("dnsRefreshRate", "names are looked up again every half minute"),
    ("thriftConfig", "Thrift is not spoken"),
    ("terminationDrainDuration", "the server drains for as long as its program says"),
    ("authPolicy", "write `compat: istio-1.3`, PeerAuthentication and DestinationRule"),
    ("mixerCheckServer", MIXER),
    ("mixerReportServer", MIXER),
    ("mixerAddress", MIXER),
    ("disablePolicyChecks", MIXER),
    ("disableMixerHttpReports", MIXER),
    ("enableClientSidePolicyCheck", MIXER),
    ("policyCheckFailOpen", MIXER),
    ("sidecarToTelemetrySessionAffinity", MIXER),
    ("disableReportBatch", MIXER),
    ("reportBatchMaxEntries", MIXER),
    ("reportBatchMaxTime", MIXER),
    ("rdsRefreshDelay", NO_PROXY),
    ("sdsUdsPath", NO_PROXY),
    ("sdsRefreshDelay", NO_PROXY),
    ("enableSdsTokenMount", NO_PROXY),
    ("sdsUseK8sSaJwt", NO_PROXY),
];
