//! The settings of the whole mesh: how they are read, and what they change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::{HeaderMap, Method, StatusCode};
use mesh_core::{
    balance::{LocalityPolicy, Policy, Security},
    config::{
        Code, Diagnostic, Loaded, Options, Resource, Spec,
        istio::{Compat, MeshConfig, MtlsMode, PathNormalization, TcpKeepalive, TlsVersion},
        load,
        load::mesh_config_file,
    },
    dice::Seeded,
    health::States,
    retry::{Condition, RetryOn},
    route::{Chance, Decision, Forward, Head},
    snapshot::{Cluster, MeshSettings, Snapshot, UpstreamHttp, Viewer, compile},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

// ---- reading

#[test]
fn every_setting_that_is_obeyed_is_read() {
    let config = config(
        "compat: istio-1.3
trustDomain: cluster.local
trustDomainAliases: [old.example.com]
rootNamespace: mesh-root
enableAutoMtls: true
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
connectTimeout: 3s
tcpKeepalive: {probes: 3, time: 60s}
h2UpgradePolicy: UPGRADE
defaultHttpRetryPolicy: {attempts: 5, retryOn: 5xx, backoff: 10ms, perTryTimeout: 1s}
localityLbSetting: {enabled: true, failover: [{from: eu, to: us}], failoverPriority: [a]}
defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}, outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 100}}
accessLogFile: /dev/stdout
accessLogEncoding: JSON
accessLogFormat: '%REQ(:PATH)%'
meshMTLS: {minProtocolVersion: TLSV1_3}
pathNormalization: {normalization: MERGE_SLASHES}
defaultServiceExportTo: [.]
defaultVirtualServiceExportTo: [a]
defaultDestinationRuleExportTo: [b]
defaultConfig: {tracing: {sampling: 12.5}, image: {imageType: distroless}}
serviceSettings: [{hosts: ['*.a.svc.cluster.local'], settings: {clusterLocal: true}}]
",
    );
    assert_eq!(config.compat, Compat::Istio1_3);
    assert_eq!(config.trust_domain.unwrap().as_str(), "cluster.local");
    assert_eq!(config.trust_domain_aliases[0].as_str(), "old.example.com");
    assert_eq!(config.root_namespace.as_deref(), Some("mesh-root"));
    assert_eq!((config.auto_mtls, config.allow_any), (Some(true), Some(false)));
    assert_eq!(config.connect_timeout, Some(Duration::from_secs(3)));
    let keepalive = TcpKeepalive { probes: Some(3), time: Some(Duration::from_secs(60)), interval: None };
    assert_eq!((config.tcp_keepalive, config.h2_upgrade), (Some(keepalive), true));
    assert_eq!(config.retry.unwrap().attempts, Some(5));
    let locality = config.locality.unwrap();
    assert!(locality.enabled);
    let LocalityPolicy::Failover(failover) = &*locality.policy else { panic!("{locality:?}") };
    assert_eq!(failover.regions, [("eu".to_owned(), "us".to_owned())]);
    assert_eq!(failover.labels[0].name, "a");
    let traffic_policy = config.traffic_policy.unwrap();
    assert_eq!(traffic_policy.connection_pool.unwrap().max_connections, Some(7));
    assert_eq!(traffic_policy.outlier_detection.unwrap().consecutive_5xx, Some(3));
    assert_eq!(config.access_log.file.as_deref(), Some("/dev/stdout"));
    assert!(config.access_log.json && config.access_log.format.is_some());
    assert_eq!(config.tls_version_min, TlsVersion::V1_3);
    assert_eq!(config.path_normalization, PathNormalization::MergeSlashes);
    assert_eq!(config.sampling, Some(Chance::of_percent(12.5)));
    assert_eq!(self::config("enableTracing: false").sampling, Some(Chance::NEVER));
    assert_eq!(
        [
            &config.service_export_to[0],
            &config.virtual_service_export_to[0],
            &config.destination_rule_export_to[0]
        ],
        [".", "a", "b"]
    );
}

/// One row per mistake: the text, where it is, and what is said.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_is_wrong_with_the_settings_is_said_where_it_is() {
    for (text, place, path, error, part) in [
        ("enableAutoMtl: true", (1, 1), "enableAutoMtl", true, "did you mean `enableAutoMtls`?"),
        ("\n\na: 1", (3, 1), "a", true, "unknown field"),
        ("compat: istio-1.4", (1, 9), "compat", true, "current, istio-1.3"),
        ("trustDomain: a b", (1, 14), "trustDomain", true, "expected a trust domain"),
        ("rootNamespace: A", (1, 16), "rootNamespace", true, "not a namespace"),
        ("connectTimeout: 0s", (1, 17), "connectTimeout", true, "at least 1ms"),
        ("defaultHttpRetryPolicy: {retryOn: no}", (1, 35), "defaultHttpRetryPolicy.retryOn", true, "not a valid retryOn"),
        ("localityLbSetting: {distribute: [], failover: []}", (1, 37), "localityLbSetting.failover", true, "exclude each other"),
        ("localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}", (1, 48), "localityLbSetting.distribute[0].to", true, "add up to 100"),
        ("localityLbSetting: {failover: [{from: a, to: a}]}", (1, 42), "localityLbSetting.failover[0].to", true, "to itself"),
        ("meshMTLS: {ecdhCurves: [P-256]}", (1, 12), "meshMTLS.ecdhCurves", true, "no curves"),
        ("defaultTrafficPolicy: {tls: {}}", (1, 24), "defaultTrafficPolicy.tls", true, "unknown field"),
        ("serviceSettings: [{hosts: [a b]}]", (1, 28), "serviceSettings[0].hosts[0]", true, "not a host"),
        ("defaultConfig: {concurency: 2}", (1, 17), "defaultConfig.concurency", true, "did you mean `concurrency`?"),
        ("defaultConfig: {concurrency: 2}", (1, 17), "defaultConfig.concurrency", false, "has no effect"),
        ("enablePrometheusMerge: true", (1, 1), "enablePrometheusMerge", false, "has no effect"),
        ("accessLogFile: a\naccessLogEncoding: TEXT", (1, 1), "accessLogFile", false, "accessLogFile, accessLogEncoding have no effect yet"),
        ("meshMTLS: {cipherSuites: [a]}", (1, 12), "meshMTLS.cipherSuites", false, "has no effect"),
        ("h2UpgradePolicy: ALWAYS", (1, 18), "h2UpgradePolicy", true, "DO_NOT_UPGRADE, UPGRADE"),
        ("pathNormalization: {normalization: NONE}", (1, 21), "pathNormalization.normalization", false, "as BASE says"),
        ("pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}", (1, 21), "pathNormalization.normalization", false, "refused with 400, not decoded"),
    ] {
        let loaded = mesh_config_file("mesh", text, &Options::default());
        let [finding] = &loaded.diagnostics[..] else { panic!("{text}\n{:#?}", loaded.diagnostics) };
        let at = finding.location.as_ref().unwrap();
        assert_eq!(((at.line, at.column), &*finding.path, finding.is_error()), (place, &*format!("data.mesh.{path}"), error), "{text}");
        assert!(finding.to_string().contains(part), "{finding}");
        assert_eq!(loaded.resources.len(), usize::from(!error), "{text}");
        // In a ConfigMap the same is found, further down and to the right.
        let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
        let loaded = load("map", &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio}}\ndata:\n  mesh: |-\n{indented}"), &Options::default());
        let inside = loaded.diagnostics[0].location.as_ref().unwrap();
        assert_eq!((inside.line, inside.column), (at.line + 5, at.column + 4), "{text}");
        assert_eq!(loaded.diagnostics[0].message, finding.message);
    }
}

#[test]
fn settings_that_are_served_on_read_the_same() {
    let loaded = mesh_config_file("mesh", "connectTimeout: 3s\n", &Options::default());
    let [resource] = &loaded.resources[..] else { panic!("{loaded:#?}") };
    assert_eq!(resource.key.to_string(), "ConfigMap istio-system/istio");
    let served = load("served", &resource.document.to_json().to_string(), &Options::default());
    assert_eq!(served.diagnostics, []);
    assert_eq!(served.resources[0].spec, resource.spec);
}

#[test]
fn a_config_map_without_settings_changes_nothing_and_another_one_is_left_out() {
    let map =
        |rest: &str| load("m", &format!("apiVersion: v1\nkind: ConfigMap\n{rest}"), &Options::default());
    for rest in ["metadata: {name: istio}\n", "metadata: {name: istio}\ndata: {mesh: ''}\n"] {
        assert_eq!(spec(&map(rest)), MeshConfig::default());
    }
    let other = map("metadata: {name: app}\ndata: {mesh: 'a: 1'}\n");
    assert_eq!((other.resources.len(), other.diagnostics[0].code), (0, Code::FOREIGN_KIND));
}

// ---- obeying

#[test]
fn the_defaults_of_istio_1_3_balance_in_turn_retry_503_and_call_in_plaintext() {
    let today = Mesh::of("", &[MESHED]);
    let then = Mesh::of("compat: istio-1.3", &[MESHED]);
    assert_eq!(
        (today.cluster().endpoints.policy(), then.cluster().endpoints.policy()),
        (Policy::LeastRequest, Policy::RoundRobin)
    );
    assert_eq!((today.cluster().limits.retries_max, then.cluster().limits.retries_max), (u32::MAX, 1024));

    assert!(matches!(today.cluster().endpoints.as_slice()[0].security, Security::Mutual(_)));
    assert!(matches!(then.cluster().endpoints.as_slice()[0].security, Security::Plaintext));
    assert_eq!(
        (today.snapshot.inbound().mode, then.snapshot.inbound().mode),
        (MtlsMode::Permissive, MtlsMode::Disable)
    );

    let (today, then) = (&today.forward().retry, &then.forward().retry);
    assert_eq!((today.on.statuses(), then.on.statuses()), (&[][..], &[StatusCode::SERVICE_UNAVAILABLE][..]));
    assert!(!today.on.has(Condition::ResourceExhausted) && then.on.has(Condition::ResourceExhausted));
    assert!(then.on.has(Condition::ConnectFailure));
    assert!(!today.explicit && then.explicit, "503 was repeated whatever the method");
    assert_eq!((today.retries_max, then.retries_max), (2, 2));
}

#[test]
fn what_is_written_beside_the_profile_beats_it() {
    let policy = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: STRICT}}\n";
    let config = "compat: istio-1.3\nenableAutoMtls: true\ndefaultHttpRetryPolicy: {retryOn: 5xx}";
    let mesh = Mesh::of(config, &[MESHED, policy]);
    assert!(matches!(mesh.cluster().endpoints.as_slice()[0].security, Security::Mutual(_)));
    assert_eq!(mesh.forward().retry.on.to_string(), "5xx");
    assert_eq!(mesh.cluster().endpoints.policy(), Policy::RoundRobin);
}

#[test]
fn the_default_retries_are_those_of_routes_and_services_without() {
    let policy = "defaultHttpRetryPolicy: {attempts: 5, retryOn: 5xx, backoff: 10ms, perTryTimeout: 1s, retryIgnorePreviousHosts: false, retryRemoteLocalities: true}";
    for rules in [&[MESHED][..], &[MESHED, ROUTE]] {
        let mesh = Mesh::of(policy, rules);
        let retry = &mesh.forward().retry;
        assert_eq!((retry.retries_max, retry.on.to_string().as_str()), (5, "5xx"));
        assert_eq!(retry.per_try_timeout, Some(Duration::from_secs(1)));
        assert_eq!(retry.backoff.base, Duration::from_millis(10));
        assert!(retry.explicit && !retry.avoid_previous_hosts && retry.leave_localities);
    }
    let own = ROUTE.replace("route: [", "retries: {attempts: 1}\n    route: [");
    for (config, on) in [(policy, RetryOn::default().to_string()), ("compat: istio-1.3", OF_1_3.to_owned())] {
        let mesh = Mesh::of(config, &[MESHED, &own]);
        let retry = &mesh.forward().retry;
        assert_eq!((retry.retries_max, retry.on.to_string(), retry.per_try_timeout), (1, on, None));
    }
    assert_eq!(Mesh::of("defaultHttpRetryPolicy: {attempts: 0}", &[MESHED]).forward().retry.retries_max, 0);
}

#[test]
fn automatic_mutual_tls_can_be_switched_off() {
    let mesh = Mesh::of("enableAutoMtls: false", &[MESHED]);
    assert!(matches!(mesh.cluster().endpoints.as_slice()[0].security, Security::Plaintext));
    let asked = rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
    let mesh = Mesh::of("enableAutoMtls: false", &[MESHED, &asked]);
    assert!(matches!(mesh.cluster().endpoints.as_slice()[0].security, Security::Mutual(_)));
}

#[test]
fn how_connections_are_probed_and_which_http_they_speak_is_the_meshs_where_no_rule_says() {
    let text = "tcpKeepalive: {probes: 3}\nh2UpgradePolicy: UPGRADE";
    let connection = |text: &str, rules: &[&str]| Arc::clone(&Mesh::of(text, rules).cluster().connection);
    let own = rule(
        "trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {time: 5s}}, http: {h2UpgradePolicy: DO_NOT_UPGRADE}}}",
    );
    let (meshs, rules) = (connection(text, &[MESHED]), connection(text, &[MESHED, &own]));
    assert_eq!((meshs.http, rules.http), (UpstreamHttp::Http2, UpstreamHttp::Http1));
    let probes = TcpKeepalive { probes: Some(3), ..TcpKeepalive::default() };
    assert_eq!(meshs.tcp_keepalive, Some(probes));
    assert_eq!(rules.tcp_keepalive, Some(TcpKeepalive { time: Some(Duration::from_secs(5)), ..probes }));
    assert_eq!(*connection("", &[MESHED]), Default::default());
}

#[test]
fn a_block_of_the_default_policy_holds_until_a_rule_writes_that_block() {
    let policy = "defaultTrafficPolicy:\n  connectionPool: {tcp: {maxConnections: 7, connectTimeout: 2s}}\n  outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 100}";
    let mesh = Mesh::of(policy, &[MESHED]);
    let cluster = mesh.cluster();
    assert_eq!((cluster.limits.connections_max, cluster.connect_timeout), (7, Duration::from_secs(2)));
    assert_eq!(cluster.outlier.unwrap().consecutive_5xx, 3);

    let rule = rule("trafficPolicy: {connectionPool: {http: {http2MaxRequests: 9}}}");
    let mesh = Mesh::of(policy, &[MESHED, &rule]);
    let cluster = mesh.cluster();
    assert_eq!((cluster.limits.connections_max, cluster.limits.requests_max), (u32::MAX, 9));
    assert_eq!(cluster.outlier.unwrap().consecutive_5xx, 3);
}

#[test]
fn localities_get_what_the_mesh_says_until_a_rule_says_otherwise() {
    let ejecting = rule("trafficPolicy: {outlierDetection: {maxEjectionPercent: 100}}");
    let locality = |setting: &str, rule: &str| {
        Mesh::of(&format!("localityLbSetting: {{{setting}}}"), &[MESHED, rule]).cluster().locality.clone()
    };
    for setting in [
        "enabled: true",
        "failover: [{from: eu, to: us}]",
        "failoverPriority: [rack, version=v2]",
        "distribute: [{from: eu/*, to: {'eu/*': 80, 'us/*': 20}}]",
    ] {
        let own = format!("{{loadBalancer: {{localityLbSetting: {{{setting}}}}}, outlier");
        let said = locality(setting, &ejecting);
        assert!(said.is_some(), "{setting}");
        assert_eq!(said, locality("enabled: false", &ejecting.replace("{outlier", &own)), "{setting}");
    }
    assert_eq!(locality("enabled: false", &ejecting), None);
}

#[test]
fn unknown_hosts_are_blocked_and_connections_bounded_as_the_mesh_says() {
    let open = Mesh::of("", &[MESHED]);
    assert!(matches!(open.decide("http://unknown.example.com/"), Decision::Passthrough));
    let closed = Mesh::of("outboundTrafficPolicy: {}\nconnectTimeout: 3s", &[MESHED]);
    assert!(matches!(closed.decide("http://unknown.example.com/"), Decision::Blocked));
    assert_eq!(closed.cluster().connect_timeout, Duration::from_secs(3));
}

#[test]
fn objects_without_an_export_list_have_that_of_the_mesh() {
    let elsewhere = |text: &str| text.replace("{name: ", "{namespace: bank, name: ");
    let (service, rule) = (elsewhere(MESHED), elsewhere(&rule("trafficPolicy: {tls: {mode: DISABLE}}")));
    let route = elsewhere(ROUTE)
        .replace("hosts: [pay]", "hosts: [pay.example.com]")
        .replace("name: route", "name: far");
    let url = "http://pay.bank.svc.cluster.local/";
    let open = Mesh::of("", &[&service, &rule, &route]);
    assert!(matches!(open.decide(url), Decision::Forward { .. }));
    assert!(matches!(open.cluster().endpoints.as_slice()[0].security, Security::Plaintext));
    assert!(matches!(open.decide("http://pay.example.com/"), Decision::Forward { .. }));

    let mesh = Mesh::of("defaultServiceExportTo: [.]", &[&service, &rule, &route]);
    assert!(matches!(mesh.decide(url), Decision::Blocked));
    let mesh = Mesh::of("defaultDestinationRuleExportTo: [other]", &[&service, &rule, &route]);
    assert!(matches!(mesh.cluster().endpoints.as_slice()[0].security, Security::Mutual(_)));
    let mesh = Mesh::of("defaultVirtualServiceExportTo: [.]", &[&service, &rule, &route]);
    assert!(matches!(mesh.decide("http://pay.example.com/"), Decision::Passthrough));
}

#[test]
fn a_delegate_without_an_export_list_has_that_of_the_mesh() {
    let root = ROUTE
        .replace("route: [{destination: {host: pay}}]", "delegate: {name: child, namespace: bank}")
        .replace("hosts:", "exportTo: [.]\n  hosts:");
    let child = |spec: &str| {
        ROUTE
            .replace("{name: route}", "{name: child, namespace: bank}")
            .replace("  hosts: [pay]\n", &format!("  {spec}\n"))
            .replace("host: pay", "host: pay.default")
    };
    let (plain, public) = (child("exportTo: []"), child("exportTo: ['*']"));
    for (config, child, routed) in [
        ("", &plain, true),
        ("defaultVirtualServiceExportTo: [.]", &plain, false),
        ("defaultVirtualServiceExportTo: [default]", &plain, true),
        ("defaultVirtualServiceExportTo: [.]", &public, true),
    ] {
        let mesh = Mesh::of(config, &[MESHED, &root, child]);
        assert_eq!(
            matches!(mesh.decide("http://pay/"), Decision::Forward { .. }),
            routed,
            "{config} {child}"
        );
    }
}

#[test]
fn another_trust_domain_than_the_meshs_is_noted_and_not_taken() {
    let mesh = Mesh::of("trustDomain: cluster.local", &[]);
    assert_eq!(mesh.findings, []);
    assert_eq!(mesh.settings.trust_domain.as_str(), "cluster.local");
    let mesh = Mesh::of("trustDomainAliases: [old.com]\ntrustDomain: other.com\nrootNamespace: root", &[]);
    let [finding] = &mesh.findings[..] else { panic!("{:#?}", mesh.findings) };
    assert_eq!((finding.code, finding.is_error()), (Code::SECURITY_NOTE, false));
    assert_eq!(finding.location.as_ref().unwrap().to_string(), "mesh:2:14");
    assert_eq!(mesh.settings.trust_domain.as_str(), "cluster.local");
    assert_eq!(mesh.settings.trust_domain_aliases[0].as_str(), "old.com");
    assert_eq!(mesh.settings.root_namespace, "root");
}

#[test]
fn settings_of_another_namespace_than_the_root_are_nobodys() {
    let loaded = load(
        "m",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: shop}\ndata: {mesh: 'enableAutoMtls: false'}\n",
        &Options::default(),
    );
    let resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
    let (settings, findings) = settings().of(&resources);
    assert!(settings.auto_mtls);
    assert_eq!((findings.len(), findings[0].code), (1, Code::NO_EFFECT));
}

// ---- a mesh

const OF_1_3: &str =
    "connect-failure,refused-stream,retriable-status-codes,cancelled,resource-exhausted,unavailable,503";

const MESHED: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pay}
spec:
  hosts: [pay]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1, labels: {security.istio.io/tlsMode: istio}}]
";

const ROUTE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: route}
spec:
  hosts: [pay]
  http:
  - name: r
    route: [{destination: {host: pay}}]
";

fn rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: rule}}\nspec:\n  host: pay\n  {spec}\n"
    )
}

struct Mesh {
    snapshot: Snapshot,
    settings: MeshSettings,
    findings: Vec<Diagnostic>,
}

impl Mesh {
    fn of(config: &str, documents: &[&str]) -> Self {
        let mut all = mesh_config_file("mesh", config, &Options::default()).resources;
        for document in documents {
            let loaded = load("f", document, &Options::default());
            assert!(loaded.broken.is_empty(), "{:#?}", loaded.diagnostics);
            all.extend(loaded.resources);
        }
        let mut resources: Vec<Arc<Resource>> = all.into_iter().map(Arc::new).collect();
        resources.sort_by(|a, b| a.key.cmp(&b.key));
        let viewer = Viewer { namespace: "default".to_owned(), service: None, labels: BTreeMap::new() };
        let (snapshot, findings) = compile("1", &resources, &viewer, &settings(), &States::default());
        Self { snapshot, settings: settings().of(&resources).0, findings }
    }

    fn decide(&self, url: &str) -> Decision<'_> {
        let (authority, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let (path, headers) = (format!("/{path}"), HeaderMap::new());
        let method = &Method::GET;
        let head = Head { method, scheme: "http", authority, path_and_query: &path, headers: &headers };
        self.snapshot.route(&head, &mut Seeded::new(0))
    }

    fn forward(&self) -> &Forward {
        match self.decide("http://pay/") {
            Decision::Forward { forward, .. } => forward,
            other => panic!("{other:?}"),
        }
    }

    fn cluster(&self) -> &Arc<Cluster> {
        self.snapshot.clusters().find(|cluster| cluster.host.starts_with("pay.")).unwrap()
    }
}

fn settings() -> MeshSettings {
    MeshSettings::new("cluster.local".parse().unwrap())
}

fn config(text: &str) -> MeshConfig {
    let loaded = mesh_config_file("mesh", text, &Options::default());
    assert!(!loaded.diagnostics.iter().any(Diagnostic::is_error), "{:#?}", loaded.diagnostics);
    spec(&loaded)
}

fn spec(loaded: &Loaded) -> MeshConfig {
    match &loaded.resources[..] {
        [Resource { spec: Spec::MeshConfig(config), .. }] => (**config).clone(),
        other => panic!("{other:#?}"),
    }
}
