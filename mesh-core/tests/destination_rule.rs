//! What a DestinationRule may say, and what becomes of it in a cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mesh_core::{
    balance::{
        Cookie, Failover, HashSource, LocalityPolicy, Policy, PriorityLabel, Security, TableSize, WarmUp,
    },
    config::{
        self, At, Code, Diagnostic, Level, Location, Mark, Origin, Resource, ResourceKey, Spec,
        istio::{ConnectionPool, DefaultTrafficPolicy, Http2KeepAlive, OutlierDetection, TcpKeepalive},
    },
    health::{FailurePercentage, States, SuccessRate, Volume},
    identity::PeerRule,
    registry::Locality,
    snapshot::{Cluster, MeshSettings, Snapshot, UpstreamHttp, Viewer, compile},
    testing::TestMesh,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

// ---- what is refused, and what is noted

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_istio_refuses_is_refused_with_its_field() {
    let balancer = |text: &str| policy(&format!("loadBalancer: {{{text}}}"));
    let hash = |text: &str| policy(&format!("loadBalancer: {{consistentHash: {{{text}}}}}"));
    let locality = |text: &str| policy(&format!("loadBalancer: {{localityLbSetting: {{{text}}}}}, outlierDetection: {{maxEjectionPercent: 100}}"));
    let tcp = |text: &str| policy(&format!("connectionPool: {{tcp: {{{text}}}}}"));
    let http = |text: &str| policy(&format!("connectionPool: {{http: {{{text}}}}}"));
    let outlier = |text: &str| policy(&format!("outlierDetection: {{maxEjectionPercent: 100, {text}}}"));
    let tls = |text: &str| policy(&format!("tls: {{{text}}}"));
    let rows = [
        // The rule
        ("host: a\ntrafficPolicy: {}".to_owned(), "trafficPolicy", "must say something"),
        (policy("portLevelSettings: [{port: {number: 80}}]"), "trafficPolicy.portLevelSettings[0]", "must say something"),
        (policy("tunnel: {targetHost: a, targetPort: 1}"), "trafficPolicy.tunnel", "not supported"),
        (policy("proxyProtocol: {version: V2}"), "trafficPolicy.proxyProtocol", "not supported"),
        ("host: a\nsubsets: [{name: v_1}]".into(), "subsets[0].name", "not the name of a subset"),
        ("host: a\nsubsets: [{name: -v1}]".into(), "subsets[0].name", "not the name of a subset"),
        ("host: a\nsubsets: [{name: v1, labels: {version: v*}}]".into(), "subsets[0].labels", "not a label"),
        ("host: a\nsubsets: [{name: v1, labels: {'a b': c}}]".into(), "subsets[0].labels", "not a label"),
        ("host: a\nexportTo: [a, a]".into(), "exportTo", "listed twice"),
        ("host: a\nexportTo: ['*', a]".into(), "exportTo", "everybody"),
        ("host: a\nexportTo: ['~']".into(), "exportTo", "for a ServiceEntry"),
        ("host: a\nexportTo: [a.b]".into(), "exportTo[0]", "no namespace"),
        ("host: a\nexportTo: ['*']\nworkloadSelector: {matchLabels: {a: b}}".into(), "exportTo", "own namespace"),
        ("host: a\nworkloadSelector: {matchLabels: {a: '*'}}".into(), "workloadSelector.matchLabels", "wildcards"),
        // retryBudget
        (policy("retryBudget: {percent: 101}"), "trafficPolicy.retryBudget.percent", "out of range"),
        (policy("retryBudget: {minRetryConcurrency: -1}"), "trafficPolicy.retryBudget.minRetryConcurrency", "negative"),
        (policy("retryBudget: {budgetInterval: 10us}"), "trafficPolicy.retryBudget.budgetInterval", "at least 1ms"),
        (policy("portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}, retryBudget: {}}]"), "trafficPolicy.portLevelSettings[0].retryBudget", "unknown field"),
        // loadBalancer
        (balancer("simple: RANDOM, consistentHash: {httpHeaderName: a}"), "trafficPolicy.loadBalancer.consistentHash", "exclude"),
        (balancer("warmup: {}"), "trafficPolicy.loadBalancer.warmup.duration", "is required"),
        (balancer("warmup: {duration: 1s, minimumPercent: 101}"), "trafficPolicy.loadBalancer.warmup.minimumPercent", "out of range"),
        (balancer("warmup: {duration: 1s, aggression: 0.3}"), "trafficPolicy.loadBalancer.warmup.aggression", "out of range"),
        (balancer("warmupDurationSecs: 1ns"), "trafficPolicy.loadBalancer.warmupDurationSecs", "at least 1ms"),
        (hash("httpHeaderName: a, useSourceIp: true"), "trafficPolicy.loadBalancer.consistentHash.useSourceIp", "exclude"),
        (hash("httpHeaderName: 'a b'"), "trafficPolicy.loadBalancer.consistentHash.httpHeaderName", "not the name of a header"),
        (hash("httpCookie: {ttl: 1s}"), "trafficPolicy.loadBalancer.consistentHash.httpCookie.name", "is required"),
        (hash("httpCookie: {name: a, attributes: [{value: b}]}"), "trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[0].name", "is required"),
        (hash("httpHeaderName: a, minimumRingSize: 2, ringHash: {}"), "trafficPolicy.loadBalancer.consistentHash.ringHash", "exclude"),
        (hash("httpHeaderName: a, ringHash: {}, maglev: {}"), "trafficPolicy.loadBalancer.consistentHash.maglev", "exclude"),
        (hash("httpHeaderName: a, ringHash: {minimumRingSize: 8388609}"), "trafficPolicy.loadBalancer.consistentHash.ringHash.minimumRingSize", "out of range"),
        (hash("httpHeaderName: a, maglev: {tableSize: 0}"), "trafficPolicy.loadBalancer.consistentHash.maglev.tableSize", "out of range"),
        (hash("httpHeaderName: a, maglev: {tableSize: 65536}"), "trafficPolicy.loadBalancer.consistentHash.maglev.tableSize", "not a prime"),
        (hash("httpHeaderName: a, maglev: {tableSize: 5000011}"), "trafficPolicy.loadBalancer.consistentHash.maglev.tableSize", "out of range"),
        // localityLbSetting
        (locality("distribute: [{from: a, to: {a: 100}}], failover: [{from: a, to: b}]"), "trafficPolicy.loadBalancer.localityLbSetting.failover", "exclude"),
        (locality("failover: [{from: a, to: b}], failoverPriority: [topology.kubernetes.io/zone]"), "trafficPolicy.loadBalancer.localityLbSetting.failoverPriority", "exclude"),
        (locality("failover: [{from: a, to: a}]"), "trafficPolicy.loadBalancer.localityLbSetting.failover[0].to", "to itself"),
        (locality("failover: [{from: a/b, to: c}]"), "trafficPolicy.loadBalancer.localityLbSetting.failover[0].from", "not a region"),
        (locality("failover: [{from: a, to: 'c*'}]"), "trafficPolicy.loadBalancer.localityLbSetting.failover[0].to", "not a region"),
        (locality("distribute: [{from: a, to: {a: 80, b: 30}}]"), "trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to", "add up to 110"),
        (locality("distribute: [{from: a, to: {a: 100, b: 0}}]"), "trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to.b", "out of range"),
        (locality("distribute: [{from: a, to: {a: 50, a/b: 50}}]"), "trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to[a/b]", "overlaps with `a`"),
        (locality("distribute: [{from: a/b, to: {a: 100}}, {from: a, to: {a: 100}}]"), "trafficPolicy.loadBalancer.localityLbSetting.distribute[1].from", "overlaps with `a/b`"),
        (locality("distribute: [{from: '*/b', to: {a: 100}}]"), "trafficPolicy.loadBalancer.localityLbSetting.distribute[0].from", "at the end"),
        (locality("distribute: [{from: a//c, to: {a: 100}}]"), "trafficPolicy.loadBalancer.localityLbSetting.distribute[0].from", "must not be empty"),
        // connectionPool
        (policy("connectionPool: {}"), "trafficPolicy.connectionPool", "one of tcp and http"),
        (tcp("maxConnections: 2147483648"), "trafficPolicy.connectionPool.tcp.maxConnections", "out of range"),
        (tcp("maxConnectionDuration: 0s"), "trafficPolicy.connectionPool.tcp.maxConnectionDuration", "at least 1ms"),
        (tcp("idleTimeout: 1500us"), "trafficPolicy.connectionPool.tcp.idleTimeout", "whole number of milliseconds"),
        (tcp("tcpKeepalive: {time: 0s}"), "trafficPolicy.connectionPool.tcp.tcpKeepalive.time", "at least 1ms"),
        (tcp("tcpKeepalive: {probes: -1}"), "trafficPolicy.connectionPool.tcp.tcpKeepalive.probes", "negative"),
        (http("h2UpgradePolicy: ALWAYS"), "trafficPolicy.connectionPool.http.h2UpgradePolicy", "unknown value"),
        (http("h2UpgradePolicy: UPGRADE, useClientProtocol: true"), "trafficPolicy.connectionPool.http.useClientProtocol", "exclude"),
        (http("maxConcurrentStreams: -1"), "trafficPolicy.connectionPool.http.maxConcurrentStreams", "negative"),
        (http("http2KeepAlive: {interval: 0s}"), "trafficPolicy.connectionPool.http.http2KeepAlive.interval", "at least 1ms"),
        // outlierDetection
        (outlier("consecutiveLocalOriginFailures: 1"), "trafficPolicy.outlierDetection.consecutiveLocalOriginFailures", "counted with the 5xx"),
        (outlier("minHealthPercent: 101"), "trafficPolicy.outlierDetection.minHealthPercent", "out of range"),
        (outlier("outlierDetectionHttpErrorCodes: [99]"), "trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[0]", "out of range"),
        (outlier("outlierDetectionHttpErrorCodes: [600]"), "trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[0]", "out of range"),
        // tls
        (tls("mode: SIMPLE, credentialName: x"), "trafficPolicy.tls.credentialName", "not supported"),
        (tls("mode: MUTUAL"), "trafficPolicy.tls.privateKey", "MUTUAL needs"),
        (tls("mode: ISTIO_MUTUAL, caCrl: x"), "trafficPolicy.tls.caCrl", "leave this out"),
        (tls("mode: ISTIO_MUTUAL, insecureSkipVerify: true"), "trafficPolicy.tls.insecureSkipVerify", "leave this out"),
        (tls("mode: SIMPLE, caCertificates: x, insecureSkipVerify: true"), "trafficPolicy.tls.caCertificates", "exclude"),
        (tls("mode: SIMPLE, subjectAltNames: [x], insecureSkipVerify: true"), "trafficPolicy.tls.subjectAltNames", "exclude"),
        ("host: a\nsubsets: [{name: v1, trafficPolicy: {tls: {mode: TLS}}}]".into(), "subsets[0].trafficPolicy.tls.mode", "unknown value"),
    ];
    for (spec, path, part) in rows {
        let findings = read(&spec).diagnostics;
        let path = format!("spec.{path}");
        let said = findings.iter().any(|it| it.is_error() && it.path == path && it.message.contains(part));
        assert!(said, "{spec}\nwanted {path}: {part}\n{findings:#?}");
    }
}

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_is_taken_but_not_as_meant_is_noted_once_at_its_field() {
    use Level::{Info, Warning};
    let ejects = "outlierDetection: {maxEjectionPercent: 100}";
    for (spec, code, level, path, part) in [
        (policy("loadBalancer: {simple: LEAST_CONN}"), Code::DEPRECATED, Warning, "trafficPolicy.loadBalancer.simple", "LEAST_CONN"),
        (policy("loadBalancer: {warmupDurationSecs: 60s}"), Code::DEPRECATED, Warning, "trafficPolicy.loadBalancer.warmupDurationSecs", "deprecated"),
        (policy("loadBalancer: {consistentHash: {httpHeaderName: a, minimumRingSize: 9}}"), Code::DEPRECATED, Warning, "trafficPolicy.loadBalancer.consistentHash.minimumRingSize", "deprecated"),
        (policy("outlierDetection: {maxEjectionPercent: 100, consecutiveErrors: 2}"), Code::DEPRECATED, Warning, "trafficPolicy.outlierDetection.consecutiveErrors", "deprecated"),
        (policy("outlierDetection: {consecutive5xxErrors: 2}"), Code::NEVER_EJECTS, Warning, "trafficPolicy.outlierDetection.maxEjectionPercent", "fewer than 10"),
        (policy("loadBalancer: {consistentHash: {}}"), Code::INEFFECTIVE_POLICY, Warning, "trafficPolicy.loadBalancer.consistentHash", "no key"),
        (policy("loadBalancer: {consistentHash: {useSourceIp: true}}"), Code::INEFFECTIVE_POLICY, Warning, "trafficPolicy.loadBalancer.consistentHash.useSourceIp", "one endpoint"),
        (policy("loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}"), Code::INEFFECTIVE_POLICY, Warning, "trafficPolicy.loadBalancer.warmup", "full share"),
        (policy("loadBalancer: {consistentHash: {httpHeaderName: a}, warmup: {duration: 1s}}"), Code::INEFFECTIVE_POLICY, Warning, "trafficPolicy.loadBalancer.warmup", "full share"),
        (policy("loadBalancer: {zoneAwareLbSetting: {enabled: true}}"), Code::NO_EFFECT, Warning, "trafficPolicy.loadBalancer.zoneAwareLbSetting", "no effect"),
        (policy("loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}"), Code::INEFFECTIVE_POLICY, Warning, "trafficPolicy.loadBalancer.localityLbSetting", "no outlierDetection"),
        (policy(&format!("{ejects}, loadBalancer: {{localityLbSetting: {{distribute: [{{from: a, to: {{a: 100}}}}], failoverPriority: [x]}}}}")), Code::INEFFECTIVE_POLICY, Warning, "trafficPolicy.loadBalancer.localityLbSetting.failoverPriority", "beside distribute"),
        (policy(&format!("{ejects}, portLevelSettings: [{{port: {{number: 80}}, outlierDetection: {{maxEjectionPercent: 100}}, loadBalancer: {{localityLbSetting: {{}}}}}}]")).replace("outlierDetection: {maxEjectionPercent: 100}, loadB", "loadB"), Code::INEFFECTIVE_POLICY, Warning, "trafficPolicy.portLevelSettings[0].loadBalancer.localityLbSetting", "no outlierDetection"),
        (policy("tls: {mode: SIMPLE}"), Code::NO_SERVER_VERIFICATION, Warning, "trafficPolicy.tls.caCertificates", "authorities of the system"),
        (policy("portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]"), Code::NO_SERVER_VERIFICATION_OF_PORT, Warning, "trafficPolicy.portLevelSettings[0].tls.caCertificates", "authorities of the system"),
        (policy("tls: {mode: SIMPLE, insecureSkipVerify: true}"), Code::SECURITY_NOTE, Warning, "trafficPolicy.tls.insecureSkipVerify", "any certificate"),
        (policy("tls: {}"), Code::SECURITY_NOTE, Warning, "trafficPolicy.tls", "plaintext"),
        (policy("tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]"), Code::AUTO_MTLS_OFF, Warning, "trafficPolicy.portLevelSettings[0]", "automatic mutual TLS decides there"),
        (policy("loadBalancer: {simple: RANDOM}, retryBudget: {}, portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]"), Code::INEFFECTIVE_POLICY, Info, "trafficPolicy.portLevelSettings[0]", "without loadBalancer, retryBudget"),
        (policy(ejects) + "\nsubsets: [{name: v1, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}}]", Code::INEFFECTIVE_POLICY, Info, "subsets[0].trafficPolicy.portLevelSettings[0]", "without outlierDetection"),
    ] {
        let findings = read(&spec).diagnostics;
        let at = format!("spec.{path}");
        let found: Vec<_> = findings.iter().filter(|it| (it.code, it.level, &*it.path) == (code, level, &*at)).collect();
        let [finding] = found[..] else { panic!("{spec}\n{findings:#?}") };
        assert!(finding.message.contains(part), "{spec}\n{finding}");
        assert!(!findings.iter().any(Diagnostic::is_error), "{spec}\n{findings:#?}");
    }
}

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_istio_takes_is_taken_without_a_word() {
    for spec in [
        policy("loadBalancer: {consistentHash: {httpHeaderName: ':authority'}}"),
        policy("loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 0s}}}"),
        policy("loadBalancer: {consistentHash: {httpQueryParameterName: a, maglev: {}}}"),
        policy("loadBalancer: {localityLbSetting: {enabled: false}}"),
        policy("loadBalancer: {localityLbSetting: {distribute: [{from: 'eu/*', to: {eu/a: 80, eu/b: 20}}, {from: '*', to: {eu: 100}}]}}"),
        policy("loadBalancer: {localityLbSetting: {failoverPriority: [topology.istio.io/network, version=v2]}}, outlierDetection: {maxEjectionPercent: 100}"),
        policy("loadBalancer: {localityLbSetting: {}}") + "\nsubsets: [{name: v1, trafficPolicy: {outlierDetection: {maxEjectionPercent: 100}}}]",
        policy("outlierDetection: {maxEjectionPercent: 100}") + "\nsubsets: [{name: v1, trafficPolicy: {loadBalancer: {localityLbSetting: {}}}}]",
        policy("tls: {mode: SIMPLE, caCertificates: system, caCrl: /crl.pem, sni: a.com, subjectAltNames: [a.com]}"),
        policy("retryBudget: {}"),
        "host: a\nexportTo: [b]\nworkloadSelector: {matchLabels: {a: b}}".to_owned(),
        "host: '*.local'\nsubsets: [{name: V1-a, labels: {example.com/a_b.c: ''}}]".to_owned(),
    ] {
        assert_eq!(read(&spec).diagnostics, [], "{spec}");
    }
}

#[test]
fn a_tls_block_that_takes_mutual_tls_away_is_noted_once_and_says_what_happens() {
    let disabled = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\n\
                    spec: {mtls: {mode: DISABLE}}\n---\n";
    let plain = SERVICE.replace("security.istio.io/tlsMode: istio, ", "");
    let external = SERVICE.replace("MESH_INTERNAL", "MESH_EXTERNAL");
    for (documents, tls, part) in [
        (SERVICE.to_owned(), "mode: DISABLE", Some("called in plaintext")),
        (SERVICE.to_owned(), "mode: SIMPLE, caCertificates: system", Some("does not learn who calls")),
        (SERVICE.to_owned(), "mode: ISTIO_MUTUAL", None),
        (plain, "mode: DISABLE", None),
        (external, "mode: DISABLE", None),
        (format!("{disabled}{SERVICE}"), "mode: DISABLE", None),
    ] {
        let mesh = Mesh::of(&format!("{documents}{}", rule(&format!("tls: {{{tls}}}"))));
        let found: Vec<_> = mesh.findings.iter().filter(|it| it.code == Code::AUTO_MTLS_OFF).collect();
        assert_eq!(found.len(), usize::from(part.is_some()), "{tls}: {found:#?}");
        for finding in found {
            assert!(finding.message.contains(part.unwrap()), "{finding}");
            assert_eq!(finding.resource.as_ref().unwrap().to_string(), "DestinationRule default/reviews");
        }
    }
}

// ---- what a cluster has of it

#[test]
fn without_a_rule_a_cluster_has_istios_defaults() {
    let cluster = Mesh::of(SERVICE).cluster(80);
    assert_eq!(cluster.endpoints.policy(), Policy::LeastRequest);
    assert_eq!((&cluster.hash, cluster.warm_up, &cluster.locality), (&None, None, &None));
    assert_eq!(cluster.limits, mesh_core::health::Limits::default());
    assert_eq!(cluster.connect_timeout, Duration::from_secs(10));
    assert_eq!(cluster.idle_timeout, Duration::from_secs(3600));
    assert_eq!(cluster.max_requests_per_connection, 0);
    assert_eq!(*cluster.connection, Default::default());
    assert!(cluster.outlier.is_none() && cluster.retry_budget.is_none());
    assert_eq!(cluster.sources, Default::default());
}

#[test]
fn what_is_hashed_and_how_it_is_laid_out_reaches_the_cluster() {
    let cookie = |ttl: Option<u64>, path: &str| {
        HashSource::Cookie(Cookie {
            name: "user".to_owned(),
            path: path.to_owned(),
            ttl: ttl.map(Duration::from_secs),
            attributes: if !path.is_empty() {
                vec![("SameSite".into(), "Strict".into())]
            } else {
                Vec::new()
            },
        })
    };
    let ring = |minimum_size| Policy::RingHash { minimum_size };
    let maglev = |slots| Policy::Maglev { table_size: TableSize::new(slots).unwrap() };
    for (text, source, policy) in [
        ("httpHeaderName: X-User", HashSource::Header("x-user".parse().unwrap()), ring(1024)),
        ("httpCookie: {name: user}", cookie(None, ""), ring(1024)),
        ("httpCookie: {name: user, ttl: 0s}", cookie(Some(0), ""), ring(1024)),
        (
            "httpCookie: {name: user, ttl: 60s, path: /, attributes: [{name: SameSite, value: Strict}]}",
            cookie(Some(60), "/"),
            ring(1024),
        ),
        ("httpQueryParameterName: user", HashSource::QueryParameter("user".into()), ring(1024)),
        ("useSourceIp: true", HashSource::SourceAddress, ring(1024)),
        ("useSourceIp: true, ringHash: {}", HashSource::SourceAddress, ring(1024)),
        ("useSourceIp: true, ringHash: {minimumRingSize: 7}", HashSource::SourceAddress, ring(7)),
        ("useSourceIp: true, ringHash: {minimumRingSize: 0}", HashSource::SourceAddress, ring(1024)),
        ("useSourceIp: true, minimumRingSize: 9", HashSource::SourceAddress, ring(9)),
        ("useSourceIp: true, maglev: {}", HashSource::SourceAddress, maglev(65_537)),
        ("useSourceIp: true, maglev: {tableSize: 11}", HashSource::SourceAddress, maglev(11)),
    ] {
        let cluster = Mesh::ruled(&format!("loadBalancer: {{consistentHash: {{{text}}}}}")).cluster(80);
        let hash = cluster.hash.as_ref().unwrap();
        assert_eq!((&**hash, cluster.endpoints.policy()), (&source, policy), "{text}");
    }
    let off = Mesh::ruled("loadBalancer: {consistentHash: {useSourceIp: false}}").cluster(80);
    assert_eq!((&off.hash, off.endpoints.policy()), (&None, Policy::LeastRequest));
}

#[test]
fn how_new_endpoints_warm_up_reaches_the_cluster() {
    for (text, minimum_percent, aggression) in [
        ("warmup: {duration: 1m}", 10.0, 1.0),
        ("warmup: {duration: 1m, minimumPercent: 0, aggression: 2.5}", 0.0, 2.5),
        ("warmupDurationSecs: 60s", 10.0, 1.0),
        ("warmup: {duration: 60s}, warmupDurationSecs: 1s", 10.0, 1.0),
    ] {
        let cluster = Mesh::ruled(&format!("loadBalancer: {{simple: ROUND_ROBIN, {text}}}")).cluster(80);
        let warmup = WarmUp { duration: Duration::from_secs(60), minimum_percent, aggression };
        assert_eq!(
            (cluster.warm_up, cluster.endpoints.policy()),
            (Some(warmup), Policy::RoundRobin),
            "{text}"
        );
    }
}

#[test]
fn which_localities_get_the_requests_follows_the_rule_then_the_mesh_and_failover_needs_ejection() {
    let ejects = "outlierDetection: {maxEjectionPercent: 100}";
    let locality = |text: &str| Mesh::ruled(text).cluster(80).locality.as_deref().cloned();
    let failover = |regions: &[(&str, &str)], labels: &[(&str, Option<&str>)]| {
        Some(LocalityPolicy::Failover(Failover {
            regions: regions.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect(),
            labels: labels
                .iter()
                .map(|(name, value)| PriorityLabel {
                    name: name.to_string(),
                    value: value.map(str::to_owned),
                })
                .collect(),
        }))
    };
    let setting = |text: &str| format!("loadBalancer: {{localityLbSetting: {{{text}}}}}");
    assert_eq!(locality("loadBalancer: {simple: RANDOM}"), None);
    assert_eq!(locality(ejects), failover(&[], &[]), "the setting of the mesh");
    assert_eq!(locality(&setting("failover: [{from: eu, to: us}]")), None, "nothing is ejected");
    assert_eq!(locality(&format!("{ejects}, {}", setting("enabled: false"))), None);
    assert_eq!(
        locality(&format!("{ejects}, {}", setting("failover: [{from: eu, to: us}]"))),
        failover(&[("eu", "us")], &[])
    );
    assert_eq!(
        locality(&format!("{ejects}, {}", setting("failoverPriority: [rack, version=v2]"))),
        failover(&[], &[("rack", None), ("version", Some("v2"))])
    );
    let Some(LocalityPolicy::Distribute(distributions)) =
        locality(&setting("distribute: [{from: eu/a, to: {eu/a: 80, 'eu/b/*': 20}}]"))
    else {
        panic!("not distributed")
    };
    let [distribution] = &distributions[..] else { panic!("{distributions:?}") };
    assert!(distribution.from.covers(&Locality::parse("eu/a/1")));
    let shares: Vec<_> = distribution.to.iter().map(|(to, share)| (to.to_string(), *share)).collect();
    assert_eq!(shares, [("eu/a".to_owned(), 80), ("eu/b".to_owned(), 20)]);
}

#[test]
fn how_connections_are_made_and_kept_reaches_the_cluster() {
    let cluster = Mesh::ruled(
        "connectionPool: {tcp: {maxConnections: 1, connectTimeout: 2s, maxConnectionDuration: 3s, idleTimeout: 4s, \
         tcpKeepalive: {probes: 5, time: 6s, interval: 7s}}, http: {http1MaxPendingRequests: 8, http2MaxRequests: 9, \
         maxRequestsPerConnection: 10, maxRetries: 11, h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 12, \
         http2KeepAlive: {interval: 13s, timeout: 14s}}}",
    )
    .cluster(80);
    let limits = cluster.limits;
    assert_eq!(
        [limits.connections_max, limits.pending_max, limits.requests_max, limits.retries_max],
        [1, 8, 9, 11]
    );
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(Some(cluster.connect_timeout), seconds(2));
    assert_eq!(Some(cluster.idle_timeout), seconds(4));
    assert_eq!(cluster.max_requests_per_connection, 10);
    let connection = &cluster.connection;
    assert_eq!((connection.age_max, connection.streams_max), (seconds(3), Some(12)));
    assert_eq!(connection.http, UpstreamHttp::Http2);
    let probes = TcpKeepalive { probes: Some(5), time: seconds(6), interval: seconds(7) };
    assert_eq!(connection.tcp_keepalive, Some(probes));
    let pings = Http2KeepAlive { interval: seconds(13), timeout: seconds(14) };
    assert_eq!(connection.http2_keep_alive, Some(pings));
}

#[test]
fn a_limit_of_zero_is_the_default_and_the_idle_timeout_of_http_comes_before_that_of_tcp() {
    let zeros = Mesh::ruled(
        "connectionPool: {tcp: {maxConnections: 0}, http: {http1MaxPendingRequests: 0, http2MaxRequests: 0, \
         maxRetries: 0, maxConcurrentStreams: 0}}",
    )
    .cluster(80);
    assert_eq!(zeros.limits, mesh_core::health::Limits::default());
    assert_eq!(zeros.connection.streams_max, None);
    let both = Mesh::ruled("connectionPool: {tcp: {idleTimeout: 1s}, http: {idleTimeout: 2s}}").cluster(80);
    assert_eq!(both.idle_timeout, Duration::from_secs(2));
}

#[test]
fn every_setting_of_outlier_detection_reaches_the_cluster_and_zero_is_the_default_where_istio_says_so() {
    let all = "consecutive5xxErrors: 1, consecutiveGatewayErrors: 2, consecutiveLocalOriginFailures: 3, \
               splitExternalLocalOriginErrors: true, interval: 4s, baseEjectionTime: 5s, maxEjectionPercent: 60, \
               minHealthPercent: 7, outlierDetectionHttpErrorCodes: [404, 503]";
    let outlier =
        |text: &str| Mesh::ruled(&format!("outlierDetection: {{{text}}}")).cluster(80).outlier.unwrap();
    let policy = outlier(all);
    assert_eq!(
        [policy.consecutive_5xx, policy.consecutive_gateway, policy.consecutive_local_origin],
        [1, 2, 3]
    );
    assert!(policy.split_local_origin);
    assert_eq!([policy.interval, policy.base_ejection_time], [4, 5].map(Duration::from_secs));
    assert_eq!((policy.max_ejection_percent, policy.min_health_percent), (60, 7));
    assert!(policy.error_codes.contains(404) && !policy.error_codes.contains(500));
    let zeros = outlier(
        "consecutive5xxErrors: 0, consecutiveGatewayErrors: 0, consecutiveLocalOriginFailures: 0, maxEjectionPercent: 0",
    );
    assert_eq!([zeros.consecutive_5xx, zeros.consecutive_gateway, zeros.consecutive_local_origin], [0, 0, 5]);
    assert_eq!(zeros.max_ejection_percent, 10);
    assert_eq!(outlier("consecutiveErrors: 2").consecutive_5xx, 2);
    assert_eq!(outlier("consecutiveErrors: 2, consecutive5xxErrors: 4").consecutive_5xx, 4);
}

// ---- annotations

#[test]
fn the_rules_that_judge_intervals_are_switched_on_by_any_of_their_annotations_and_have_envoys_defaults() {
    let volume = |endpoints_min, answers_min| Volume { endpoints_min, answers_min };
    let rate = |stdev_factor, volume| Some(SuccessRate { stdev_factor, volume });
    let percentage = |threshold, volume| Some(FailurePercentage { threshold, volume });
    for (annotations, success_rate, failure_percentage) in [
        ("note: '1'", None, None),
        ("mesh/successRateStdevFactor: '1000'", rate(1000, volume(5, 100)), None),
        ("mesh/successRateMinimumHosts: '3'", rate(1900, volume(3, 100)), None),
        ("mesh/successRateRequestVolume: '10'", rate(1900, volume(5, 10)), None),
        ("mesh/failurePercentageThreshold: '50'", None, percentage(50, volume(5, 50))),
        ("mesh/failurePercentageMinimumHosts: '1'", None, percentage(85, volume(1, 50))),
        (
            "mesh/failurePercentageRequestVolume: '7', mesh/successRateStdevFactor: '1900'",
            rate(1900, volume(5, 100)),
            percentage(85, volume(5, 7)),
        ),
    ] {
        let policy = "trafficPolicy: {outlierDetection: {maxEjectionPercent: 100}}";
        let mesh = Mesh::of(&format!("{SERVICE}{}", annotated(annotations, policy)));
        let outlier = mesh.cluster(80).outlier.unwrap();
        assert_eq!((outlier.success_rate, outlier.failure_percentage), (success_rate, failure_percentage));
    }
}

#[test]
fn one_endpoint_of_few_may_be_ejected_where_the_rule_is_annotated_so_and_the_warning_that_suggests_it_is_gone()
 {
    let ejects = "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}";
    for (annotation, expected) in [("'true'", true), ("'false'", false)] {
        let rule = annotated(&format!("mesh/alwaysEjectOneHost: {annotation}"), ejects);
        let findings = config::load("rule.yaml", &rule, &config::Options::default()).diagnostics;
        let warned = findings.iter().find(|finding| finding.code == Code::NEVER_EJECTS);
        assert_eq!(warned.is_none(), expected, "{annotation}");
        let help = warned.and_then(|finding| finding.help.as_deref()).unwrap_or_default();
        assert_eq!(help.contains("mesh/alwaysEjectOneHost: \"true\""), !expected, "{help}");

        let yaml = format!("{SERVICE}{rule}");
        assert_eq!(Mesh::of(&yaml).cluster(80).outlier.unwrap().always_eject_one, expected);
        let story = TestMesh::of_yaml(&yaml).caller("default/shop").get("http://reviews/").explain();
        let row = story.policy.iter().find(|row| row.field == "outlierDetection.maxEjectionPercent").unwrap();
        assert_eq!(row.value.contains("one in any case: mesh/alwaysEjectOneHost"), expected, "{row:?}");
    }
}

#[test]
fn an_annotation_reaches_every_outlier_detection_of_the_rule_and_switches_none_on() {
    let ejects = "outlierDetection: {maxEjectionPercent: 100}";
    let subsets =
        "subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {outlierDetection: {interval: 1s}}}]";
    for (spec, part, expected) in [
        (format!("trafficPolicy: {{{ejects}}}"), "|80||", true),
        (format!("trafficPolicy: {{{ejects}}}\n{subsets}"), "|80|v1|", true),
        (
            format!("trafficPolicy: {{portLevelSettings: [{{port: {{number: 80}}, {ejects}}}]}}"),
            "|80||",
            true,
        ),
        (subsets.to_owned(), "|80||", false),
    ] {
        let rule = annotated("mesh/successRateStdevFactor: '1900'", &spec);
        let mesh = Mesh::of(&format!("{SERVICE}{rule}---{ROUTE}"));
        let judged = mesh.named(part).outlier.is_some_and(|outlier| outlier.success_rate.is_some());
        assert_eq!(judged, expected, "{spec}");
    }
}

#[test]
fn peak_ewma_is_the_algorithm_wherever_an_annotated_rule_names_none() {
    let port = "portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]";
    let subset = |balancer| {
        format!(
            "subsets: [{{name: v1, labels: {{version: v1}}, trafficPolicy: {{loadBalancer: {balancer}}}}}]"
        )
    };
    for (spec, part, expected) in [
        (String::new(), "|80||", Policy::PeakEwma),
        ("trafficPolicy: {tls: {mode: DISABLE}}".to_owned(), "|80||", Policy::PeakEwma),
        (
            "trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: false}}}".to_owned(),
            "|80||",
            Policy::PeakEwma,
        ),
        (format!("trafficPolicy: {{{port}}}"), "|80||", Policy::PeakEwma),
        (subset("{warmup: {duration: 1s}}"), "|80|v1|", Policy::PeakEwma),
        (subset("{simple: RANDOM}"), "|80|v1|", Policy::Random),
        (subset("{simple: RANDOM}"), "|80||", Policy::PeakEwma),
    ] {
        let rule = annotated("mesh/loadBalancer: PEAK_EWMA", &spec);
        let mesh = Mesh::of(&format!("{SERVICE}{rule}---{ROUTE}"));
        assert_eq!(mesh.named(part).endpoints.policy(), expected, "{spec}");
    }
}

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_is_wrong_with_an_annotation_is_said_with_what_to_write() {
    let ejects = "trafficPolicy: {outlierDetection: {maxEjectionPercent: 100}}";
    for (annotation, spec, code, part, help) in [
        ("mesh/loadBalancer: PEAK", "", Code::SCHEMA, "`PEAK` is no algorithm", "write `mesh/loadBalancer: PEAK_EWMA`"),
        ("mesh/loadBalancer: RANDOM", "", Code::SCHEMA, "`RANDOM` is no algorithm", "`loadBalancer.simple` for Istio's"),
        ("mesh/loadBalancer: PEAK_EWMA", "trafficPolicy: {loadBalancer: {simple: RANDOM}}", Code::SCHEMA, "both name", "leave out"),
        ("mesh/loadBalancer: PEAK_EWMA", "trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: a}}}", Code::SCHEMA, "both name", "leave out"),
        ("mesh/loadBalancer: PEAK_EWMA", "trafficPolicy: {loadBalancer: {warmup: {duration: 1s}}}", Code::INEFFECTIVE_POLICY, "not warmed up", ""),
        ("mesh/successRateStdevFactor: '1.9'", ejects, Code::SCHEMA, "`1.9`", "whole number from 1 on"),
        ("mesh/successRateMinimumHosts: '0'", ejects, Code::SCHEMA, "`0`", "whole number from 1 on"),
        ("mesh/successRateRequestVolume: '1000001'", ejects, Code::SCHEMA, "`1000001`", "from 1 to 1000000"),
        ("mesh/failurePercentageThreshold: '101'", ejects, Code::SCHEMA, "`101`", "from 1 to 100"),
        ("mesh/failurePercentageMinimumHosts: '-1'", ejects, Code::SCHEMA, "`-1`", "whole number from 1 on"),
        ("mesh/failurePercentageRequestVolume: ''", ejects, Code::SCHEMA, "``", "from 1 to 1000000"),
        ("mesh/alwaysEjectOneHost: 'yes'", ejects, Code::SCHEMA, "`yes` is neither", "\"true\" or \"false\""),
        ("mesh/alwaysEjectOneHost: 'true'", "", Code::INEFFECTIVE_POLICY, "the rule writes none", "outlierDetection"),
        ("mesh/failurePercentageThreshold: '50'", "", Code::INEFFECTIVE_POLICY, "the rule writes none", "outlierDetection"),
        ("mesh/successRateStdevFaktor: '1'", ejects, Code::SCHEMA_WARNING, "unknown annotation", "write `mesh/successRateStdevFactor`"),
        ("mesh/other: '1'", "", Code::SCHEMA_WARNING, "unknown annotation", "are mesh/loadBalancer, mesh/"),
    ] {
        let findings = config::load("rule.yaml", &annotated(annotation, spec), &config::Options::default()).diagnostics;
        let [finding] = &findings[..] else { panic!("{annotation}\n{findings:#?}") };
        assert_eq!((finding.code, &*finding.path), (code, "metadata.annotations"), "{finding}");
        assert_eq!(finding.is_error(), code == Code::SCHEMA, "{finding}");
        assert!(finding.message.contains(part), "{finding}");
        assert!(finding.help.as_deref().unwrap_or_default().contains(help), "{finding:?}");
        assert!(finding.location.as_ref().unwrap().line == 4, "{finding}");
    }
}

#[test]
fn a_retry_budget_has_envoys_defaults_and_counts_over_its_interval() {
    let budget = |text: &str| {
        Mesh::ruled(&format!("retryBudget: {{{text}}}")).cluster(80).retry_budget.clone().unwrap()
    };
    let default = budget("");
    assert_eq!((default.percent, default.retries_min), (20.0, 3));
    assert!(default.recent.is_none());
    let written = budget("percent: 12.5, minRetryConcurrency: 0, budgetInterval: 10s");
    assert_eq!((written.percent, written.retries_min), (12.5, 0));
    assert_eq!(written.recent.unwrap().interval, Duration::from_secs(10));
}

#[test]
fn the_count_of_recent_requests_survives_a_reload() {
    let states = States::default();
    let text = format!("{SERVICE}{}", rule("retryBudget: {budgetInterval: 10s}"));
    let counts = || {
        let cluster = Mesh::compiled(&text, &settings(), &states).cluster(80);
        Arc::clone(&cluster.retry_budget.as_ref().unwrap().recent.as_ref().unwrap().counts)
    };
    let before = counts();
    assert!(Arc::ptr_eq(&before, &counts()));
}

#[test]
fn names_of_the_rule_are_the_identities_that_may_answer_and_the_server_name_is_the_rules() {
    let rule =
        "tls: {mode: ISTIO_MUTUAL, sni: reviews.example.com, subjectAltNames: ['spiffe://other/ns/a/sa/b']}";
    let cluster = Mesh::ruled(rule).cluster(80);
    let Security::Mutual(mutual) = &cluster.endpoints.as_slice()[0].security else { panic!("not mutual") };
    assert_eq!(&*mutual.sni, "reviews.example.com");
    assert_eq!(mutual.peers, PeerRule::AnyOf(Arc::new(["spiffe://other/ns/a/sa/b".parse().unwrap()])));
}

#[test]
fn a_rule_is_for_whom_it_is_exported_to_and_for_whom_it_selects() {
    for (scope, own, other) in [
        ("exportTo: ['*']", true, true),
        ("exportTo: ['.']", true, false),
        ("exportTo: [default]", true, false),
        ("exportTo: [shop]", false, true),
        ("workloadSelector: {matchLabels: {app: checkout}}", true, false),
        ("workloadSelector: {matchLabels: {app: cart}}", false, false),
    ] {
        let rule =
            object(&format!("host: reviews\n{scope}\ntrafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}"));
        let applies = |namespace: &str| {
            let labels = BTreeMap::from([("app".to_owned(), "checkout".to_owned())]);
            let viewer = Viewer { namespace: namespace.to_owned(), service: None, labels };
            let mesh = Mesh::seen(&format!("{SERVICE}{rule}"), &viewer, &settings(), &States::default());
            mesh.cluster(80).endpoints.policy() == Policy::Random
        };
        assert_eq!((applies("default"), applies("shop")), (own, other), "{scope}");
    }
}

#[test]
fn a_rule_that_selects_the_workload_stands_apart_from_older_ones_and_younger_ones_add_to_it() {
    let rule = |name: &str, year: u32, selector: &str, balancer: &str| {
        let text = object(&format!(
            "host: reviews\n{selector}\ntrafficPolicy: {{loadBalancer: {{simple: {balancer}}}}}\n\
             subsets: [{{name: {name}, labels: {{version: v1}}}}]"
        ));
        let created = format!("{{name: {name}, creationTimestamp: '{year}-01-01T00:00:00Z'}}");
        text.replace("{name: reviews}", &created) + "---\n"
    };
    let selecting = "workloadSelector: {matchLabels: {app: checkout}}";
    let rules = rule("old", 2020, "", "ROUND_ROBIN")
        + &rule("selects", 2021, selecting, "RANDOM")
        + &rule("young", 2022, "", "ROUND_ROBIN");
    let to = |subset: &str| {
        ROUTE.replace("subset: v1", &format!("subset: {subset}")).replace("subset: v2", "subset: x")
    };
    let labels = BTreeMap::from([("app".to_owned(), "checkout".to_owned())]);
    let viewer = Viewer { namespace: "default".to_owned(), service: None, labels };
    for (subset, exists) in [("old", false), ("selects", true), ("young", true)] {
        let text = format!("{SERVICE}{}{rules}", to(subset));
        let mesh = Mesh::seen(&text, &viewer, &settings(), &States::default());
        assert_eq!(mesh.cluster(80).endpoints.policy(), Policy::Random);
        let found = mesh.snapshot.clusters().any(|it| *it.subset == *subset);
        assert_eq!(found, exists, "{subset}");
    }
}

#[test]
fn passthrough_dials_the_host_itself_as_its_endpoints_would_be_called() {
    let plain = SERVICE.replace("security.istio.io/tlsMode: istio, ", "");
    for (service, mutual) in [(SERVICE, true), (&*plain, false)] {
        let text = format!("{service}{}", rule("loadBalancer: {simple: PASSTHROUGH}"));
        let cluster = Mesh::of(&text).cluster(80);
        let [endpoint] = cluster.endpoints.as_slice() else { panic!("{:?}", cluster.endpoints) };
        assert_eq!(endpoint.address.to_string(), "reviews.default.svc.cluster.local:80");
        assert_eq!(matches!(endpoint.security, Security::Mutual(_)), mutual);
    }
}

// ---- layers

#[test]
fn the_layers_replace_whole_blocks_and_a_port_entry_resets_the_others_but_the_retry_budget_above_it() {
    let mesh = Mesh::of(&format!(
        "{SERVICE}{ROUTE}
kind: DestinationRule
apiVersion: networking.istio.io/v1
metadata: {{name: reviews}}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN}}
    connectionPool: {{tcp: {{maxConnections: 1}}, http: {{maxRetries: 2}}}}
    outlierDetection: {{consecutive5xxErrors: 3}}
    retryBudget: {{percent: 50}}
    portLevelSettings:
    - port: {{number: 81}}
      connectionPool: {{http: {{maxRetries: 4}}}}
  subsets:
  - name: v1
    labels: {{version: v1}}
    trafficPolicy:
      loadBalancer: {{simple: RANDOM}}
      retryBudget: {{percent: 60}}
      portLevelSettings:
      - port: {{number: 81}}
        outlierDetection: {{consecutive5xxErrors: 5}}
  - name: v2
    labels: {{version: v2}}
    trafficPolicy:
      portLevelSettings:
      - port: {{number: 80}}
        loadBalancer: {{simple: RANDOM}}
"
    ));
    let summary = |name: &str| {
        let cluster = mesh.named(name);
        (
            cluster.endpoints.policy(),
            cluster.limits.connections_max,
            cluster.limits.retries_max,
            cluster.outlier.map(|outlier| outlier.consecutive_5xx),
            cluster.retry_budget.as_ref().map(|budget| budget.percent),
        )
    };
    const NONE: u32 = u32::MAX;
    for (cluster, expected) in [
        ("|80||", (Policy::RoundRobin, 1, 2, Some(3), Some(50.0))),
        ("|81||", (Policy::LeastRequest, NONE, 4, None, None)),
        ("|80|v1|", (Policy::Random, 1, 2, Some(3), Some(60.0))),
        ("|81|v1|", (Policy::LeastRequest, NONE, NONE, Some(5), None)),
        ("|80|v2|", (Policy::Random, NONE, NONE, None, Some(50.0))),
        ("|81|v2|", (Policy::LeastRequest, NONE, 4, None, None)),
    ] {
        assert_eq!(summary(cluster), expected, "{cluster}");
    }
}

#[test]
fn what_the_mesh_writes_is_the_default_of_whole_blocks() {
    let pool = ConnectionPool {
        connect_timeout: Some(Duration::from_secs(1)),
        max_connections: Some(7),
        ..ConnectionPool::default()
    };
    let outlier = OutlierDetection { consecutive_5xx: Some(9), ..OutlierDetection::default() };
    let at = |line| Mark { line, column: 1 };
    let source = Origin {
        resource: ResourceKey::new("MeshConfig", "istio-system", "istio"),
        location: Location { file: "mesh.yaml".into(), line: 1, column: 1 },
    };
    let mut settings = settings();
    settings.default_traffic_policy = Some(DefaultTrafficPolicy {
        connection_pool: Some(At { value: pool, at: at(3) }),
        outlier_detection: Some(At { value: outlier, at: at(5) }),
        source: Some(source),
    });
    let rule = rule(
        "connectionPool: {http: {maxRetries: 1}}, portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]",
    );
    let mesh = Mesh::compiled(&format!("{SERVICE}{rule}"), &settings, &States::default());
    let ruled = mesh.cluster(80);
    assert_eq!(
        (ruled.limits.connections_max, ruled.limits.retries_max),
        (u32::MAX, 1),
        "the rule's block replaces the mesh's whole"
    );
    assert_eq!(ruled.outlier.unwrap().consecutive_5xx, 9);
    let outlier = ruled.sources.outlier_detection.as_ref().unwrap();
    assert_eq!(
        (outlier.resource.to_string(), outlier.location.line),
        ("MeshConfig istio-system/istio".into(), 5)
    );
    assert_eq!(
        ruled.sources.connection_pool.as_ref().unwrap().resource.to_string(),
        "DestinationRule default/reviews"
    );
    let reset = mesh.cluster(81);
    assert_eq!(
        (reset.limits.connections_max, reset.connect_timeout),
        (7, Duration::from_secs(1)),
        "the mesh's block is the default that an entry resets to"
    );
}

#[test]
fn each_block_knows_the_object_and_the_line_it_was_written_in() {
    let mesh = Mesh::of(&format!(
        "{SERVICE}{ROUTE}
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer:
      simple: RANDOM
    tls: {{mode: ISTIO_MUTUAL}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: b}}
spec:
  host: reviews
  subsets:
  - name: v1
    labels: {{version: v1}}
    trafficPolicy:
      tls: {{mode: ISTIO_MUTUAL}}
      retryBudget: {{percent: 5}}
  - name: v2
    labels: {{version: v2}}
"
    ));
    let first = format!("{SERVICE}{ROUTE}").lines().count() as u32;
    let sources = &mesh.named("|80|v1|").sources;
    let place = |origin: &Option<Box<Origin>>| {
        origin.as_ref().map(|it| (it.resource.name.to_string(), it.location.line - first))
    };
    assert_eq!(place(&sources.load_balancer), Some(("a".into(), 8)));
    assert_eq!(place(&sources.tls), Some(("b".into(), 21)));
    assert_eq!(place(&sources.retry_budget), Some(("b".into(), 22)));
    assert_eq!((place(&sources.connection_pool), place(&sources.outlier_detection)), (None, None));
}

// ---- the mesh of these tests

const SERVICE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: other, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.1, ports: {http: 5001}, labels: {security.istio.io/tlsMode: istio, version: v1}, serviceAccount: reviews}
  - {address: 127.0.0.2, ports: {http: 5001}, labels: {security.istio.io/tlsMode: istio, version: v2}, serviceAccount: reviews}
---
";

/// Refers to both subsets at both ports, so that there are clusters for them.
const ROUTE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /80}}]
    route:
    - {destination: {host: reviews, subset: v1, port: {number: 80}}, weight: 1}
    - {destination: {host: reviews, subset: v2, port: {number: 80}}, weight: 1}
  - match: [{uri: {prefix: /81}}]
    route:
    - {destination: {host: reviews, subset: v1, port: {number: 81}}, weight: 1}
    - {destination: {host: reviews, subset: v2, port: {number: 81}}, weight: 1}
  - match: [{uri: {prefix: /all/80}}]
    route: [{destination: {host: reviews, port: {number: 80}}}]
  - route: [{destination: {host: reviews, port: {number: 81}}}]
---
";

fn policy(text: &str) -> String {
    format!("host: a\ntrafficPolicy: {{{text}}}")
}

/// A rule of `reviews` with this traffic policy, in flow style.
fn rule(traffic_policy: &str) -> String {
    object(&format!("host: reviews\ntrafficPolicy: {{{traffic_policy}}}"))
}

/// A rule of `reviews` with these annotations, in flow style, in the fourth line.
fn annotated(annotations: &str, spec: &str) -> String {
    let annotations = format!("metadata:\n  annotations: {{{annotations}}}\n  name: reviews\n");
    object(&format!("host: reviews\n{spec}")).replace("metadata: {name: reviews}\n", &annotations)
}

fn object(spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: reviews}}\nspec:\n  {spec}\n"
    )
}

fn read(spec: &str) -> config::Loaded {
    let loaded = config::load("rule.yaml", &object(spec), &config::Options::default());
    let read = |resource: &Resource| matches!(resource.spec, Spec::DestinationRule(_));
    assert!(loaded.resources.iter().all(read));
    loaded
}

fn settings() -> MeshSettings {
    MeshSettings::new("cluster.local".parse().unwrap())
}

struct Mesh {
    snapshot: Snapshot,
    findings: Vec<Diagnostic>,
}

impl Mesh {
    fn ruled(traffic_policy: &str) -> Self {
        Self::of(&format!("{SERVICE}{}", rule(traffic_policy)))
    }

    fn of(text: &str) -> Self {
        Self::compiled(text, &settings(), &States::default())
    }

    fn compiled(text: &str, settings: &MeshSettings, states: &States) -> Self {
        let viewer = Viewer { namespace: "default".to_owned(), service: None, labels: BTreeMap::new() };
        Self::seen(text, &viewer, settings, states)
    }

    fn seen(text: &str, viewer: &Viewer, settings: &MeshSettings, states: &States) -> Self {
        let loaded = config::load("mesh.yaml", text, &config::Options::default());
        let errors: Vec<_> = loaded.diagnostics.iter().filter(|it| it.is_error()).collect();
        assert!(errors.is_empty(), "{text}\n{errors:#?}");
        let resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
        let (snapshot, findings) = compile("1", &resources, viewer, settings, states);
        Self { snapshot, findings }
    }

    /// Returns the cluster of the whole service at `port`.
    fn cluster(&self, port: u16) -> Arc<Cluster> {
        Arc::clone(self.named(&format!("|{port}||")))
    }

    fn named(&self, part: &str) -> &Arc<Cluster> {
        let found = self.snapshot.clusters().find(|cluster| cluster.name.contains(part));
        found.unwrap_or_else(|| panic!("no {part} in {:#?}", self.snapshot))
    }
}
