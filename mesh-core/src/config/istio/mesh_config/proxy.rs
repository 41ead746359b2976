//! `defaultConfig`: the settings of each proxy, of which a process without one keeps how often it begins a trace.
// spec: istio mesh/v1alpha1/proxy.proto ProxyConfig

use super::read::TELEMETRY;
use crate::{
    config::{
        decode::{Decoder, decimal},
        tree::Node,
    },
    route::Chance,
};

/// Returns how often a trace is begun, if that is said.
pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Option<Chance>> {
    let mut fields = decoder.fields(node)?;
    let sampling = fields.get("tracing", tracing).flatten();
    // Which image a proxy is made of is nobody's concern here.
    fields.take("image");
    fields.no_effect(NO_EFFECT);
    fields.finish();
    Some(sampling)
}

fn tracing<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Option<Chance>> {
    let mut fields = decoder.fields(node)?;
    let sampling = fields.get("sampling", |decoder, node| decimal(decoder, node, 0.0, 100.0));
    fields.not_obeyed(&["sampling"]);
    fields.no_effect(&[
        ("zipkin", TELEMETRY),
        ("lightstep", TELEMETRY),
        ("datadog", TELEMETRY),
        ("stackdriver", TELEMETRY),
        ("openCensusAgent", TELEMETRY),
        ("tlsSettings", TELEMETRY),
        ("customTags", TELEMETRY),
        ("maxPathTagLength", "paths are traced as the program traces them"),
        ("enableIstioTags", TELEMETRY),
    ]);
    fields.finish();
    Some(sampling.map(Chance::of_percent))
}

const NO_PROXY: &str = "there is no proxy beside the process";

const NO_EFFECT: &[(&str, &str)] = &[
    ("concurrency", "a process has as many threads as its program gives it"),
    ("terminationDrainDuration", "the server drains for as long as its program says"),
    ("drainDuration", "the server drains for as long as its program says"),
    ("parentShutdownDuration", NO_PROXY),
    ("configPath", NO_PROXY),
    ("binaryPath", NO_PROXY),
    ("customConfigFile", NO_PROXY),
    ("proxyBootstrapTemplatePath", NO_PROXY),
    ("serviceCluster", NO_PROXY),
    ("tracingServiceName", TELEMETRY),
    ("discoveryAddress", "the control endpoint is MESH_CONTROL"),
    ("discoveryRefreshDelay", NO_PROXY),
    ("connectTimeout", "write it beside defaultConfig"),
    ("zipkinAddress", TELEMETRY),
    ("statsdUdpAddress", TELEMETRY),
    ("envoyAccessLogService", TELEMETRY),
    ("envoyMetricsService", TELEMETRY),
    ("proxyStatsMatcher", TELEMETRY),
    ("extraStatTags", TELEMETRY),
    ("statNameLength", TELEMETRY),
    ("statsEvictionInterval", TELEMETRY),
    ("statsCompression", TELEMETRY),
    ("fileFlushInterval", TELEMETRY),
    ("fileFlushMinSizeKb", TELEMETRY),
    ("proxyAdminPort", "the admin listener is MESH_ADMIN"),
    ("statusPort", "the admin listener is MESH_ADMIN"),
    ("readinessProbe", "the admin listener is MESH_ADMIN"),
    ("availabilityZone", "the locality is MESH_LOCALITY"),
    ("controlPlaneAuthPolicy", NO_PROXY),
    ("interceptionMode", NO_PROXY),
    ("proxyMetadata", NO_PROXY),
    ("runtimeValues", NO_PROXY),
    ("gatewayTopology", "headers about proxies in front are taken from mesh peers only"),
    ("meshId", "there is one mesh"),
    ("holdApplicationUntilProxyStarts", NO_PROXY),
    ("caCertificatesPem", "bundles come with the identity"),
    ("privateKeyProvider", "keys are made in the process"),
    ("proxyHeaders", "headers are those of the mesh"),
];
