//! What a user may write in a file, and what is said about what a user may not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mesh_core::config::{
    Code, Diagnostic, Level, Loaded, Options, Resource, Spec,
    istio::{
        AuthorizationAction, ClientTlsMode, Condition as When, EntryLocation, HttpRoute, KeySource, MtlsMode,
        Resolution, SimpleLb, StringMatch, TargetPort, VirtualService,
    },
    load,
};
use mesh_core::{
    retry::Condition,
    route::{Abort, AbortAnswer, Chance, Delay, Substitution},
};
use std::{collections::BTreeMap, time::Duration};

#[test]
fn the_canary_loads_in_every_style_with_one_warning_about_the_version_of_mesh_policy() {
    let canary = include_str!("fixtures/canary.yaml");
    let json = as_json(canary);
    let list = format!("{{\"kind\": \"List\", \"apiVersion\": \"v1\", \"items\": [{}]}}", json.join(","));
    let served = format!("{{\"version\": \"7\", \"items\": [{}]}}", json.join(",\n\t"));
    for text in [
        canary,
        include_str!("fixtures/canary-block.yaml"),
        include_str!("fixtures/canary-flow.yaml"),
        &format!("\u{feff}{canary}"),
        &canary.replace('\n', "\r\n"),
        &json.join("\n---\n"),
        &format!("[{}]", json.join(",")),
        &list,
        &served,
    ] {
        let loaded = read(text);
        let [warning] = &loaded.diagnostics[..] else { panic!("{:#?}", loaded.diagnostics) };
        assert_eq!((warning.code, warning.level), (Code::ODD_API_VERSION, Level::Warning));
        assert!(warning.help.as_ref().unwrap().contains("authentication.istio.io/v1alpha1"));
        assert!(loaded.complete && loaded.broken.is_empty());

        let [rule, route, policy] = &loaded.resources[..] else { panic!("{:#?}", loaded.resources) };
        let Spec::DestinationRule(spec) = &rule.spec else { panic!() };
        let subsets: Vec<_> = spec.subsets.iter().map(|s| (&*s.name.value, &*s.labels["version"])).collect();
        assert_eq!(subsets, [("v1", "v1"), ("v2", "v2")]);
        let to = &virtual_service(route).http[0].route;
        let split: Vec<_> =
            to.iter().map(|to| (to.destination.subset.as_ref().unwrap().as_str(), to.weight.value)).collect();
        assert_eq!(split, [("v1", 90), ("v2", 10)]);
        assert!(matches!(&policy.spec, Spec::LegacyPolicy(policy) if policy.mode == MtlsMode::Strict));
        let keys: Vec<_> = loaded.resources.iter().map(|resource| resource.key.to_string()).collect();
        assert_eq!(
            keys,
            [
                "DestinationRule default/payment-service",
                "VirtualService default/payment-route",
                "MeshPolicy istio-system/default"
            ]
        );
    }
}

#[test]
fn every_field_that_has_an_effect_is_read() {
    let loaded = read(include_str!("fixtures/every-field.yaml"));
    assert_eq!(loaded.diagnostics, []);
    let [route, rule, entry, service, peers, policy, access] = &loaded.resources[..] else { panic!() };

    assert_eq!(route.meta.labels["tier"], "1");
    assert_eq!(route.meta.annotations["note"], "yes: indeed");
    assert_eq!(route.meta.created.as_deref(), Some("2024-05-01T10:00:00Z"));
    let spec = virtual_service(route);
    assert_eq!(spec.hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>(), ["reviews", "*.example.com"]);
    assert_eq!(
        (&spec.gateways[..], &spec.export_to[..]),
        (&["mesh".into(), "edge".into()][..], &[".".into()][..])
    );
    let [full, regex, prefix, redirect, delegate, bytes, direct] = &spec.http[..] else { panic!() };
    let all = &full.matches[0];
    assert_eq!(all.uri, Some(StringMatch::Prefix("/api".into())));
    assert!(all.ignore_uri_case);
    assert!(
        matches!(&all.method, Some(StringMatch::Regex(regex)) if regex.is_match("HEAD") && !regex.is_match("GETS"))
    );
    assert_eq!(all.authority, Some(StringMatch::Prefix("reviews".into())));
    assert_eq!(all.scheme, Some(StringMatch::Exact("http".into())));
    assert_eq!(
        all.headers,
        [
            ("x-user".into(), StringMatch::Exact("jason".into())),
            ("cookie".into(), StringMatch::Present),
            ("x-any".into(), StringMatch::Present)
        ]
    );
    assert_eq!(all.without_headers, [("x-bot".into(), StringMatch::Present)]);
    assert_eq!(all.query_params, [("debug".into(), StringMatch::Exact(String::new()))]);
    assert_eq!((all.port, all.source_namespace.as_deref()), (Some(9080), Some("shop")));
    assert_eq!((&all.source_labels["version"][..], &all.gateways[0][..]), ("v1", "mesh"));
    assert_eq!(full.route[0].destination.port, Some(9080));
    assert_eq!(full.route[0].headers.request.set, [("x-to".into(), "v1".into())]);
    let rewrite_of = |route: &HttpRoute| route.rewrite.clone().unwrap();
    let rewrite = rewrite_of(full);
    assert_eq!(
        (rewrite.uri.as_deref(), rewrite.authority.as_deref()),
        (Some("/v2"), Some("reviews.internal"))
    );
    assert_eq!(full.timeout.as_ref().unwrap().value, Duration::from_millis(2500));
    let retries = full.retries.as_ref().unwrap();
    assert_eq!((retries.attempts, retries.ignore_previous_hosts), (Some(3), Some(false)));
    assert_eq!(retries.per_try_timeout, Some(Duration::from_millis(500)));
    assert_eq!(retries.backoff, Some(Duration::from_millis(10)));
    assert!(retries.retry_on.as_ref().unwrap().has(Condition::ServerError));
    assert_eq!(retries.retry_on.as_ref().unwrap().statuses(), [503]);
    assert_eq!(full.headers.request.remove, ["x-c"]);
    assert_eq!(full.headers.request.add, [("x-b".into(), "b".into())]);
    assert_eq!(full.headers.response.add, [("x-d".into(), "d".into())]);
    let fault = full.fault.as_ref().unwrap();
    let delay = Delay { chance: Chance::of_percent(0.5), duration: Duration::from_secs(2) };
    let abort = Abort { chance: Chance::of_percent(12.5), answer: AbortAnswer::Grpc(14) };
    assert_eq!((fault.delay, fault.abort), (Some(delay), Some(abort)));
    assert_eq!(full.mirror.as_ref().unwrap().subset.as_ref().unwrap().value, "v3");
    assert_eq!(full.mirror_percentage, Some(Chance::of_percent(25.0)));
    let pattern = regex::Regex::new("^/regex/(.*)").unwrap();
    assert_eq!(rewrite_of(regex).regex, Some(Substitution::new(pattern, r"/\1").unwrap()));
    let shares: Vec<_> = regex.mirrors.iter().map(|mirror| mirror.percentage).collect();
    assert_eq!(shares, [Some(Chance::of_percent(50.0)), None]);
    assert_eq!(regex.route[0].headers.response.remove, ["x-e"]);
    let prefix = prefix.redirect.as_ref().unwrap();
    assert_eq!(
        (prefix.prefix_rewrite.as_deref(), prefix.request_port, prefix.code),
        (Some("/new/"), true, 301)
    );
    let delegate = delegate.delegate.as_ref().unwrap();
    assert_eq!((&*delegate.name, delegate.namespace.as_deref()), ("team", Some("teams")));
    assert_eq!(bytes.direct_response.as_ref().unwrap().body, [0, 1, 2]);
    let redirect = redirect.redirect.as_ref().unwrap();
    assert_eq!((redirect.code, redirect.port, redirect.scheme.as_deref()), (307, Some(8080), Some("https")));
    assert_eq!(direct.direct_response.as_ref().unwrap().body, b"teapot");

    let Spec::DestinationRule(spec) = &rule.spec else { panic!() };
    assert_eq!(spec.workload_selector.as_ref().unwrap().labels["app"], "checkout");
    let policy_of_rule = spec.traffic_policy.as_ref().unwrap();
    assert_eq!(policy_of_rule.load_balancer.as_ref().unwrap().simple, Some(SimpleLb::RoundRobin));
    let pool = policy_of_rule.connection_pool.as_ref().unwrap();
    assert_eq!(
        [
            pool.max_connections,
            pool.max_pending_requests,
            pool.max_requests,
            pool.max_requests_per_connection,
            pool.max_retries
        ],
        [Some(10), Some(20), Some(30), Some(40), Some(5)]
    );
    assert_eq!(pool.connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(pool.idle_timeout, Some(Duration::from_secs(60)));
    let outlier = policy_of_rule.outlier_detection.as_ref().unwrap();
    assert_eq!(
        [outlier.consecutive_5xx, outlier.consecutive_gateway, outlier.consecutive_local_origin],
        [Some(7), Some(3), Some(2)]
    );
    assert!(outlier.split_local_origin);
    assert_eq!(outlier.base_ejection_time, Some(Duration::from_secs(90)));
    assert_eq!((outlier.max_ejection_percent, outlier.min_health_percent), (Some(100), Some(20)));
    let tls = policy_of_rule.tls.as_ref().unwrap();
    assert_eq!(
        (tls.mode, &tls.subject_alt_names[..]),
        (ClientTlsMode::Mutual, &["a".into(), "b".into()][..])
    );
    assert_eq!(
        policy_of_rule.port_level[0].policy.load_balancer.as_ref().unwrap().simple,
        Some(SimpleLb::Random)
    );
    assert_eq!(spec.subsets[0].labels["build"], "1.10", "a label is text, never a number");

    let Spec::ServiceEntry(spec) = &entry.spec else { panic!() };
    assert_eq!((spec.location, spec.resolution), (EntryLocation::MeshInternal, Resolution::Static));
    assert_eq!(spec.ports[0].protocol, "HTTPS");
    assert_eq!(spec.ports[0].target_port, Some(TargetPort::Number(8443)));
    assert_eq!(spec.addresses, ["10.1.1.1".parse::<std::net::IpAddr>().unwrap()]);
    let endpoint = &spec.endpoints[0];
    assert_eq!((endpoint.ports["https"], endpoint.weight, &endpoint.locality[..]), (9443, Some(3), "eu/a/1"));
    assert_eq!(endpoint.service_account.as_deref(), Some("payments"));

    let Spec::Service(spec) = &service.spec else { panic!() };
    let ports: Vec<_> =
        spec.ports.iter().map(|port| (port.number, &*port.protocol, port.target_port.clone())).collect();
    let (number, named) = (TargetPort::Number(8080), TargetPort::Named("named".into()));
    assert_eq!(ports, [(9080, "HTTP", Some(number)), (9090, "GRPC", Some(named)), (53, "UDP", None)]);
    assert_eq!((&spec.selector["app"][..], spec.cluster_ips.len()), ("reviews", 0));

    let Spec::PeerAuthentication(spec) = &peers.spec else { panic!() };
    assert_eq!((spec.mode, spec.ports[&8080]), (MtlsMode::Strict, MtlsMode::Permissive));
    let Spec::LegacyPolicy(spec) = &policy.spec else { panic!() };
    assert_eq!(
        (spec.mode, &spec.targets[0].name[..], spec.targets[0].ports[0]),
        (MtlsMode::Permissive, "reviews", 9080)
    );

    let Spec::AuthorizationPolicy(spec) = &access.spec else { panic!() };
    assert_eq!(spec.action, AuthorizationAction::Deny);
    let [source, accounts] = &spec.rules[0].from[..] else { panic!() };
    assert_eq!(source.ip_blocks.not_values[0].to_string(), "10.1.2.3/32");
    assert_eq!(source.remote_ip_blocks.not_values[0].to_string(), "203.0.113.9/32");
    assert_eq!(source.trust_domains.values, ["cluster.local"]);
    let accounts: Vec<_> =
        accounts.service_accounts.values.iter().map(|a| (&*a.namespace, &*a.name)).collect();
    assert_eq!(accounts, [("shop", "c"), ("other", "d")]);
    let operation = &spec.rules[0].to[0];
    assert_eq!((operation.ports.values[0], &operation.paths.not_values[0][..]), (8080, "/api/private"));
    let [When::Header(name, users), When::DestinationPort(ports)] = &spec.rules[0].when[..] else { panic!() };
    assert_eq!(
        (name.as_str(), &users.values[..], &users.not_values[..]),
        ("x-user", &["ann".into()][..], &["bob".into()][..])
    );
    assert_eq!(ports.values, [8080]);
}

#[test]
fn both_spellings_of_a_field_are_read_and_a_null_is_no_value() {
    let loaded = read(&object(
        "VirtualService",
        "hosts: [a]\nhttp:\n- direct_response: {status: 200}\n  retries: null\n  timeout: ~\n  rewrite:\n",
    ));
    assert_eq!(loaded.diagnostics, []);
    assert_eq!(virtual_service(&loaded.resources[0]).http[0].direct_response.as_ref().unwrap().status, 200);
}

/// One row per rule: kind, `spec`, the code, the field and a part of the message.
#[test]
fn what_istio_would_refuse_is_an_error_at_its_field() {
    const ROUTE: &str = "route: [{destination: {host: a}}]";
    let http = |route: &str| format!("hosts: [a]\nhttp: [{{{route}}}]\n");
    let with = |more: &str| http(&format!("{ROUTE}, {more}"));
    let policy = |block: &str| format!("host: a\ntrafficPolicy: {{{block}}}\n");
    let entry = |more: &str| format!("hosts: [a.com]\nports: [{{number: 80, name: http}}]\n{more}\n");
    let source = |source: &str| format!("rules: [{{from: [{{source: {{{source}}}}}]}}]\n");
    let when = |when: &str| format!("rules: [{{when: [{{{when}}}]}}]\n");
    let jwt = |rule: &str| format!("jwtRules: [{{issuer: a, {rule}}}]\n");
    let (schema, regexp) = (Code::SCHEMA, Code::INVALID_REGEXP);
    #[rustfmt::skip] // A table: one row, one line.
    let rows: Vec<(&str, String, Code, &str, &str)> = vec![
        // VirtualService
        ("VirtualService", format!("hosts: ['*']\nhttp: [{{{ROUTE}}}]"), schema, "spec.hosts", "host `*` is not allowed"),
        ("VirtualService", format!("hosts: [a.b, A.B]\nhttp: [{{{ROUTE}}}]"), schema, "spec.hosts", "overlap"),
        ("VirtualService", format!("hosts: ['*.foo.bar', '*.bar']\nhttp: [{{{ROUTE}}}]"), schema, "spec.hosts", "overlap"),
        ("VirtualService", format!("hosts: ['*.bar', x.bar]\nhttp: [{{{ROUTE}}}]"), schema, "spec.hosts", "overlap"),
        ("VirtualService", format!("hosts: ['http://a']\nhttp: [{{{ROUTE}}}]"), schema, "spec.hosts[0]", "is not a host name"),
        ("VirtualService", format!("hosts: ['a:80']\nhttp: [{{{ROUTE}}}]"), schema, "spec.hosts[0]", "is not a host name"),
        ("VirtualService", format!("hosts: [{{}}]\nhttp: [{{{ROUTE}}}]"), schema, "spec.hosts[0]", "expected a text, found a mapping"),
        ("VirtualService", "hosts: [a]".into(), schema, "spec", "one of http, tcp and tls"),
        ("VirtualService", "hosts: [a]\nhttp: {}".into(), schema, "spec.http", "expected a list, found a mapping"),
        ("VirtualService", "hosts: [a]\nhttp:\n- \n".into(), schema, "spec.http[0]", "must not be empty"),
        ("VirtualService", http("name: x"), schema, "spec.http[0]", "one of route, redirect, directResponse and delegate"),
        ("VirtualService", with("redirect: {uri: /}"), schema, "spec.http[0]", "exclude each other"),
        ("VirtualService", http("route: []"), schema, "spec.http[0].route", "at least one destination"),
        ("VirtualService", http("redirect: {uri: /}, rewrite: {uri: /}"), schema, "spec.http[0].rewrite", "exclude each other"),
        ("VirtualService", http("redirect: {redirectCode: 200}"), schema, "spec.http[0].redirect.redirectCode", "200 is not a redirect"),
        ("VirtualService", http("directResponse: {}"), schema, "spec.http[0].directResponse.status", "is required"),
        ("VirtualService", http("directResponse: {status: 99}"), schema, "spec.http[0].directResponse.status", "out of range"),
        ("VirtualService", http("route: [{weight: 1}]"), schema, "spec.http[0].route[0].destination", "is required"),
        ("VirtualService", http("route: [{destination: {subset: a}}]"), schema, "spec.http[0].route[0].destination.host", "is required"),
        ("VirtualService", http("route: [{destination: {host: a}, weight: -5}]"), schema, "spec.http[0].route[0].weight", "-5 must not be negative"),
        ("VirtualService", http("route: [{destination: {host: a}, weight: 1.5}]"), schema, "spec.http[0].route[0].weight", "expected a whole number, found `1.5`"),
        ("VirtualService", http("route: [{destination: {host: a}, weight: 2147483648}]"), schema, "spec.http[0].route[0].weight", "out of range"),
        ("VirtualService", http("route: [{destination: {host: a}}, {destination: {host: b}}]"), schema, "spec.http[0].route", "total destination weight = 0"),
        ("VirtualService", http("route: [{destination: {host: a, port: {number: 0}}}]"), schema, "spec.http[0].route[0].destination.port.number", "out of range"),
        ("VirtualService", http("route: [{destination: {host: a, port: 80}}]"), schema, "spec.http[0].route[0].destination.port", "expected a mapping, found `80`"),
        ("VirtualService", with("timeout: 5"), schema, "spec.http[0].timeout", "write `5s`"),
        ("VirtualService", with("timeout: -1s"), schema, "spec.http[0].timeout", "negative"),
        ("VirtualService", with("retries: {attempts: -1}"), schema, "spec.http[0].retries.attempts", "must not be negative"),
        ("VirtualService", with("retries: {attempts: 0, perTryTimeout: 1s}"), schema, "spec.http[0].retries.perTryTimeout", "attempts is 0"),
        ("VirtualService", with("retries: {attempts: 0, retryOn: 5xx}"), schema, "spec.http[0].retries.retryOn", "attempts is 0"),
        ("VirtualService", with("retries: {perTryTimeout: 1us}"), schema, "spec.http[0].retries.perTryTimeout", "at least 1ms"),
        ("VirtualService", with("retries: {retryOn: 'sometimes'}"), schema, "spec.http[0].retries.retryOn", "sometimes"),
        ("VirtualService", with("match: [{uri: {exact: a, prefix: b}}]"), schema, "spec.http[0].match[0].uri", "only one of"),
        ("VirtualService", with("match: [{uri: {regex: '['}}]"), regexp, "spec.http[0].match[0].uri.regex", "unclosed character class"),
        ("VirtualService", with("match: [{uri: {regex: 'a)|(?:b'}}]"), regexp, "spec.http[0].match[0].uri.regex", "is not valid"),
        ("VirtualService", with(&format!("match: [{{uri: {{regex: {}}}}}]", "a".repeat(1025))), regexp, "spec.http[0].match[0].uri.regex", "at most 1024"),
        ("VirtualService", with(r"match: [{uri: {regex: '(\w{500}){500}'}}]"), regexp, "spec.http[0].match[0].uri.regex", "exceeds"),
        ("VirtualService", with("match: [{headers: {'@request.auth.claims.sub': {exact: a}}}]"), schema, "spec.http[0].match[0].headers[@request.auth.claims.sub]", "works at gateways only"),
        ("VirtualService", with("match: [{ignoreUriCase: maybe}]"), schema, "spec.http[0].match[0].ignoreUriCase", "true or false"),
        ("VirtualService", with("headers: {request: {set: {a b: c}}}"), schema, "spec.http[0].headers.request.set[a b]", "not the name of a header"),
        ("VirtualService", with("headers: {request: {set: {a: \"b\\nc\"}}}"), schema, "spec.http[0].headers.request.set.a", "control characters"),
        ("VirtualService", with("rewrite: {authority: x}, headers: {request: {set: {':authority': y}}}"), schema, "spec.http[0].rewrite", "set by headers too"),
        ("VirtualService", with("wieght: 1"), schema, "spec.http[0].wieght", "unknown field `wieght`"),
        ("VirtualService", with("timeouts: 1s"), schema, "spec.http[0].timeouts", "did you mean `timeout`?"),
        ("VirtualService", with("<<: {a: b}"), schema, "spec.http[0][<<]", "unknown field"),
        ("VirtualService", with("direct_response: {status: 200}, directResponse: {status: 200}"), schema, "spec.http[0].directResponse", "are the same field"),
        // DestinationRule
        ("DestinationRule", "subsets: []".into(), schema, "spec.host", "`host` is required"),
        ("DestinationRule", "host: a\nsubsets: [{labels: {a: b}}]".into(), schema, "spec.subsets[0].name", "is required"),
        ("DestinationRule", "host: a\nsubsets: [{name: v1}, {name: v1}]".into(), schema, "spec.subsets", "`v1` is defined twice"),
        ("DestinationRule", policy("loadBalancer: {simple: LEAST_REQUESTS}"), schema, "spec.trafficPolicy.loadBalancer.simple", "did you mean `LEAST_REQUEST`?"),
        ("DestinationRule", policy("loadBalancer: {simple: RANDOM, consistentHash: {}}"), schema, "spec.trafficPolicy.loadBalancer.consistentHash", "exclude each other"),
        ("DestinationRule", policy("connectionPool: {tcp: {maxConnections: -1}}"), schema, "spec.trafficPolicy.connectionPool.tcp.maxConnections", "must not be negative"),
        ("DestinationRule", policy("connectionPool: {tcp: {connectTimeout: 1}}"), schema, "spec.trafficPolicy.connectionPool.tcp.connectTimeout", "has no unit"),
        ("DestinationRule", policy("outlierDetection: {maxEjectionPercent: 101}"), schema, "spec.trafficPolicy.outlierDetection.maxEjectionPercent", "101 is out of range"),
        ("DestinationRule", policy("outlierDetection: {interval: 0s}"), schema, "spec.trafficPolicy.outlierDetection.interval", "at least 1ms"),
        ("DestinationRule", policy("tls: {mode: ISTIO_MUTUAL, privateKey: /k}"), schema, "spec.trafficPolicy.tls.privateKey", "leave this out"),
        ("DestinationRule", policy("tls: {mode: MUTUAL, privateKey: /k}"), schema, "spec.trafficPolicy.tls.clientCertificate", "MUTUAL needs `clientCertificate`"),
        ("DestinationRule", policy("tls: {mode: SIMPLE, credentialName: x}"), schema, "spec.trafficPolicy.tls.credentialName", "not supported"),
        ("DestinationRule", policy("portLevelSettings: [{tls: {mode: SIMPLE}}]"), schema, "spec.trafficPolicy.portLevelSettings[0].port", "is required"),
        // ServiceEntry and Service
        ("ServiceEntry", "ports: [{number: 80, name: http}]".into(), schema, "spec.hosts", "`hosts` is required"),
        ("ServiceEntry", "hosts: ['*']\nports: [{number: 80, name: http}]".into(), schema, "spec.hosts[0]", "is not allowed"),
        ("ServiceEntry", "hosts: [10.0.0.1]\nports: [{number: 80, name: http}]".into(), schema, "spec.hosts[0]", "is not a host name"),
        ("ServiceEntry", "hosts: [a.com, b.com]\nresolution: DNS\nports: [{number: 80, name: a}]".into(), schema, "spec.ports", "a protocol of HTTP or TLS"),
        ("ServiceEntry", "hosts: [a.com, b.com]\nresolution: STATIC\nports: [{number: 80, name: a, protocol: MONGO}]".into(), schema, "spec.ports", "port 80"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a_b}]".into(), schema, "spec.ports[0].name", "`a_b` is not the name of a port"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a, protocol: SPDY}]".into(), schema, "spec.ports[0].protocol", "unknown protocol `SPDY`"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a, targetPort: 0}]".into(), schema, "spec.ports[0].targetPort", "out of range"),
        ("ServiceEntry", entry("addresses: [here]"), schema, "spec.addresses[0]", "neither an IP address"),
        ("ServiceEntry", entry("addresses: [10.0.0.0/8]\nresolution: DNS"), schema, "spec.addresses[0]", "NONE or STATIC"),
        ("ServiceEntry", entry("resolution: STATIC\nworkloadSelector: {labels: {app: a}}\nendpoints: [{address: 1.2.3.4}]"), schema, "spec.workloadSelector", "exclude each other"),
        ("ServiceEntry", entry("resolution: STATIC\nworkloadSelector: {labels: {app: 'a*'}}"), schema, "spec.workloadSelector.labels", "is not a label"),
        ("ServiceEntry", entry("resolution: STATIC\nendpoints: [{labels: {a: b}}]"), schema, "spec.endpoints[0].address", "is required"),
        ("ServiceEntry", entry("resolution: STATIC\nendpoints: [{address: 1.2.3.4, labels: {a: '*'}}]"), schema, "spec.endpoints[0].labels", "is not a label"),
        ("ServiceEntry", entry("exportTo: ['*', '.']"), schema, "spec.exportTo", "`*` stands alone"),
        ("ServiceEntry", entry("exportTo: ['~', a]"), schema, "spec.exportTo", "`~` stands alone"),
        ("ServiceEntry", entry("exportTo: [a, a]"), schema, "spec.exportTo", "written twice"),
        ("WorkloadEntry", "ports: {http: 80}".into(), schema, "spec.address", "is required"),
        ("WorkloadEntry", "address: 'http://a'".into(), schema, "spec.address", "without scheme and port"),
        ("WorkloadEntry", "address: 1.2.3.4\nports: {http_1: 80}".into(), schema, "spec.ports.http_1", "not the name of a port"),
        ("WorkloadEntry", "address: 1.2.3.4\nports: {http: 0}".into(), schema, "spec.ports.http", "out of range"),
        ("WorkloadEntry", "address: 1.2.3.4\nlabels: {'a/b/c': d}".into(), schema, "spec.labels", "is not a label"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80}]".into(), schema, "spec.ports[0].name", "is required"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 70000, name: a}]".into(), schema, "spec.ports[0].number", "out of range"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a}, {number: 80, name: b}]".into(), schema, "spec.ports", "port 80 is defined twice"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a}, {number: 81, name: a}]".into(), schema, "spec.ports", "name `a` is used twice"),
        ("ServiceEntry", entry("endpoints: [{address: 1.2.3.4}]"), schema, "spec.endpoints", "resolution NONE"),
        ("ServiceEntry", entry("resolution: STATIC\nendpoints: [{address: a.com}]"), schema, "spec.endpoints", "no IP address"),
        ("ServiceEntry", entry("resolution: DNS\nendpoints: [{address: 'a.com:80'}]"), schema, "spec.endpoints[0].address", "without scheme and port"),
        ("ServiceEntry", entry("resolution: DNS\nendpoints: [{address: a.com, ports: {tcp: 1}}]"), schema, "spec.endpoints", "`tcp` is not among the ports"),
        ("ServiceEntry", entry("resolution: DNS_ROUND_ROBIN\nendpoints: [{address: a.com}, {address: b.com}]"), schema, "spec.endpoints", "at most one"),
        ("ServiceEntry", "hosts: ['*.a.com']\nports: [{number: 80, name: a}]\nresolution: DNS".into(), schema, "spec.hosts", "needs a full name"),
        ("ServiceEntry", entry("discovery: DNS"), schema, "spec.discovery", "unknown field"),
        ("Service", "ports: [{name: a}]".into(), schema, "spec.ports[0].port", "is required"),
        ("Service", "type: Internal".into(), schema, "spec.type", "unknown value `Internal`"),
        ("Service", "type: ExternalName".into(), schema, "spec.externalName", "is required"),
        ("Service", "type: ExternalName\nexternalName: 'http://a'".into(), schema, "spec.externalName", "is not a host name"),
        // Security
        ("PeerAuthentication", "mtls: {mode: STRIKT}".into(), schema, "spec.mtls.mode", "did you mean `STRICT`?"),
        ("PeerAuthentication", "mtls: STRICT".into(), schema, "spec.mtls", "expected a mapping"),
        ("PeerAuthentication", "portLevelMtls: {80: {mode: STRICT}}".into(), schema, "spec.portLevelMtls", "selector"),
        ("PeerAuthentication", "selector: {matchLabels: {a: 'b*'}}".into(), schema, "spec.selector.matchLabels", "wildcards select nothing"),
        ("PeerAuthentication", "selector: {matchLabels: {a: b}}\nportLevelMtls: {http: {}}".into(), schema, "spec.portLevelMtls.http", "is not a port"),
        ("MeshPolicy", "targets: [{name: a}]".into(), schema, "spec.targets", "no targets"),
        ("PeerAuthentication", "selector: {matchLabels: {a: b}}\nportLevelMtls: {}".into(), schema, "spec.portLevelMtls", "at least one port"),
        ("MeshPolicy", "peers: [{jwt: {}}]".into(), schema, "spec.peers[0].jwt.issuer", "is required"),
        ("MeshPolicy", "peers: [{mtls: {}, jwt: {issuer: a}}]".into(), schema, "spec.peers[0]", "`mtls: {}` or `jwt: {...}`"),
        ("MeshPolicy", "peers: [{}]".into(), schema, "spec.peers[0]", "`mtls: {}` or `jwt: {...}`"),
        ("MeshPolicy", "origins: [{}]".into(), schema, "spec.origins[0].jwt", "is required"),
        ("MeshPolicy", "origins: [{jwt: {issuer: a, jwksUri: b}}]".into(), schema, "spec.origins[0].jwt.jwksUri", "not the URI"),
        ("MeshPolicy", "origins: [{jwt: {issuer: a, triggerRules: []}}]".into(), schema, "spec.origins[0].jwt.triggerRules", "not supported"),
        ("MeshPolicy", "peers: [{mtls: {mode: LOOSE}}]".into(), schema, "spec.peers[0].mtls.mode", "unknown value"),
        ("Policy", "peers: [{mtls: {}}]\ntargets: [{name: a.b}]".into(), schema, "spec.targets[0].name", "not the short name"),
        ("Policy", "peers: [{mtls: {}}]\ntargets: [{name: a, ports: [{name: http}]}]".into(), schema, "spec.targets[0].ports[0].number", "is required"),
        ("AuthorizationPolicy", "action: AUDIT".into(), schema, "spec.rules", "an AUDIT without rules"),
        ("AuthorizationPolicy", "action: DENY".into(), schema, "spec.rules", "a DENY without rules"),
        ("AuthorizationPolicy", "action: DENY\nrules: []".into(), schema, "spec.rules", "a DENY without rules"),
        ("AuthorizationPolicy", "action: CUSTOM\nprovider: {name: x}".into(), schema, "spec.action", "CUSTOM is not supported"),
        ("AuthorizationPolicy", "rules: [{}]\nprovider: {name: x}".into(), schema, "spec.provider", "for action CUSTOM"),
        ("AuthorizationPolicy", "action: deny".into(), schema, "spec.action", "did you mean `DENY`?"),
        ("AuthorizationPolicy", when("values: [b]"), schema, "spec.rules[0].when[0].key", "is required"),
        ("AuthorizationPolicy", when("key: source.ip"), schema, "spec.rules[0].when[0]", "at least one of"),
        ("AuthorizationPolicy", when("key: source.ip, values: [], notValues: []"), schema, "spec.rules[0].when[0]", "at least one of"),
        ("AuthorizationPolicy", when("key: source.ip, values: [x]"), schema, "spec.rules[0].when[0].values[0]", "CIDR"),
        ("AuthorizationPolicy", when("key: remote.ip, notValues: [1.2.3.4/33]"), schema, "spec.rules[0].when[0].notValues[0]", "CIDR"),
        ("AuthorizationPolicy", when("key: destination.port, values: ['65536']"), schema, "spec.rules[0].when[0].values[0]", "out of range"),
        ("AuthorizationPolicy", when("key: destination.port, values: [http]"), schema, "spec.rules[0].when[0].values[0]", "whole number"),
        ("AuthorizationPolicy", when("key: source.serviceAccount, values: [a/b/c]"), schema, "spec.rules[0].when[0].values[0]", "not a service account"),
        ("AuthorizationPolicy", when("key: source.namespace, values: ['']"), schema, "spec.rules[0].when[0].values[0]", "must not be empty"),
        ("AuthorizationPolicy", when("key: source.pod, values: [a]"), schema, "spec.rules[0].when[0].key", "`source.pod` is no key"),
        ("AuthorizationPolicy", when("key: 'source.ip[a]', values: [a]"), schema, "spec.rules[0].when[0].key", "is no key"),
        ("AuthorizationPolicy", when("key: 'destination.labels[a]', values: [a]"), schema, "spec.rules[0].when[0].key", "is no key"),
        ("AuthorizationPolicy", when("key: request.headers, values: [a]"), schema, "spec.rules[0].when[0].key", "names nothing"),
        ("AuthorizationPolicy", when("key: 'request.headers[]', values: [a]"), schema, "spec.rules[0].when[0].key", "names nothing"),
        ("AuthorizationPolicy", when("key: 'request.headers[a b]', values: [a]"), schema, "spec.rules[0].when[0].key", "names no header"),
        ("AuthorizationPolicy", when("key: 'request.headers[:path]', values: [a]"), schema, "spec.rules[0].when[0].key", "not supported"),
        ("AuthorizationPolicy", when("key: 'request.auth.claims[a', values: [a]"), schema, "spec.rules[0].when[0].key", "names nothing"),
        ("AuthorizationPolicy", when("key: 'experimental.envoy.filters.a[b]', values: [a]"), schema, "spec.rules[0].when[0].key", "not supported"),
        ("AuthorizationPolicy", "rules:\n- \n".into(), schema, "spec.rules[0]", "must not be empty"),
        ("AuthorizationPolicy", "rules: [{from: []}]".into(), schema, "spec.rules[0].from", "must not be empty"),
        ("AuthorizationPolicy", "rules: [{from: [{}]}]".into(), schema, "spec.rules[0].from[0].source", "is required"),
        ("AuthorizationPolicy", "rules: [{from: [{source: {}}]}]".into(), schema, "spec.rules[0].from[0].source", "at least one field"),
        ("AuthorizationPolicy", "rules: [{to: [{operation: {paths: []}}]}]".into(), schema, "spec.rules[0].to[0].operation", "`paths` must not be empty"),
        ("AuthorizationPolicy", "rules: [{to: [{operation: {paths: ['']}}]}]".into(), schema, "spec.rules[0].to[0].operation.paths[0]", "must not be empty"),
        ("AuthorizationPolicy", "rules: [{to: [{operation: {paths: ['/a/{*}b']}}]}]".into(), schema, "spec.rules[0].to[0].operation.paths[0]", "template"),
        ("AuthorizationPolicy", "rules: [{to: [{operation: {ports: [http]}}]}]".into(), schema, "spec.rules[0].to[0].operation.ports[0]", "whole number"),
        ("AuthorizationPolicy", source("ipBlocks: [1.2.3]"), schema, "spec.rules[0].from[0].source.ipBlocks[0]", "CIDR"),
        ("AuthorizationPolicy", source("serviceAccounts: [a], principals: [b]"), schema, "spec.rules[0].from[0].source.principals", "beside service accounts"),
        ("AuthorizationPolicy", source("serviceAccounts: ['a/b/c']"), schema, "spec.rules[0].from[0].source.serviceAccounts[0]", "not a service account"),
        ("AuthorizationPolicy", source("remoteIpBlocks: [1.2.3]"), schema, "spec.rules[0].from[0].source.remoteIpBlocks[0]", "CIDR"),
        ("AuthorizationPolicy", source("notRequestPrincipals: ['']"), schema, "spec.rules[0].from[0].source.notRequestPrincipals[0]", "must not be empty"),
        ("AuthorizationPolicy", "targetRefs: [{kind: Gateway, name: a}]".into(), schema, "spec.targetRefs[0].kind", "not attached to a `Gateway`"),
        ("AuthorizationPolicy", "targetRef: {kind: Service}".into(), schema, "spec.targetRef.name", "is required"),
        ("AuthorizationPolicy", "targetRef: {kind: Service, name: a, namespace: b}".into(), schema, "spec.targetRef.namespace", "leave this out"),
        ("AuthorizationPolicy", "selector: {}\ntargetRefs: [{kind: Service, name: a}]".into(), schema, "spec", "only one of"),
        ("RequestAuthentication", "jwtRules: [{}]".into(), schema, "spec.jwtRules[0]", "one of issuer, jwks and jwksUri"),
        ("RequestAuthentication", "jwtRules: [{issuer: ''}]".into(), schema, "spec.jwtRules[0]", "one of issuer, jwks and jwksUri"),
        ("RequestAuthentication", jwt("audiences: ['']"), schema, "spec.jwtRules[0].audiences[0]", "must not be empty"),
        ("RequestAuthentication", jwt("jwksUri: 'ftp://a/b'"), schema, "spec.jwtRules[0].jwksUri", "not the URI of keys"),
        ("RequestAuthentication", jwt("jwksUri: a.b/c"), schema, "spec.jwtRules[0].jwksUri", "not the URI of keys"),
        ("RequestAuthentication", jwt("jwksUri: 'https://a/b', jwks: '{\"keys\": []}'"), schema, "spec.jwtRules[0].jwksUri", "exclude each other"),
        ("RequestAuthentication", jwt("jwks: 'SECRET'"), schema, "spec.jwtRules[0].jwks", "not a JSON object"),
        ("RequestAuthentication", jwt("jwks: '{\"k\": \"SECRET\"}'"), schema, "spec.jwtRules[0].jwks", "no list `keys`"),
        ("RequestAuthentication", jwt("jwks: '{\"keys\": [{\"k\": \"SECRET\"}]}'"), schema, "spec.jwtRules[0].jwks", "no `kty`"),
        ("RequestAuthentication", jwt("fromHeaders: [{prefix: a}]"), schema, "spec.jwtRules[0].fromHeaders[0].name", "is required"),
        ("RequestAuthentication", jwt("fromHeaders: [{name: 'a b'}]"), schema, "spec.jwtRules[0].fromHeaders[0].name", "not the name of a header"),
        ("RequestAuthentication", jwt("fromParams: ['']"), schema, "spec.jwtRules[0].fromParams[0]", "must not be empty"),
        ("RequestAuthentication", jwt("fromCookies: ['']"), schema, "spec.jwtRules[0].fromCookies[0]", "must not be empty"),
        ("RequestAuthentication", jwt("outputClaimToHeaders: [{header: x}]"), schema, "spec.jwtRules[0].outputClaimToHeaders[0].claim", "is required"),
        ("RequestAuthentication", jwt("outputClaimToHeaders: [{header: ':x', claim: a}]"), schema, "spec.jwtRules[0].outputClaimToHeaders[0].header", "not the name of a header"),
        ("RequestAuthentication", jwt("outputPayloadToHeader: 'a b'"), schema, "spec.jwtRules[0].outputPayloadToHeader", "not the name of a header"),
        ("RequestAuthentication", jwt("timeout: 1us"), schema, "spec.jwtRules[0].timeout", "at least 1ms"),
    ];
    for (kind, spec, code, path, part) in rows {
        let loaded = read(&object(kind, &spec));
        let errors: Vec<_> = loaded.diagnostics.iter().filter(|finding| finding.is_error()).collect();
        let said = errors.iter().find(|error| error.path == path && error.message.contains(part));
        let said = said.unwrap_or_else(|| panic!("{kind} {spec}\nwanted {path}: {part}\n{errors:#?}"));
        assert_eq!(said.code, code, "{spec}");
        assert!(!loaded.diagnostics.iter().any(|finding| finding.to_string().contains("SECRET")), "{spec}");
        assert_eq!(loaded.broken.len(), 1, "{spec}");
        assert_eq!(said.resource.as_ref(), Some(&loaded.broken[0]), "{spec}");
        let good = |resource: &&Resource| !matches!(resource.spec, Spec::Malformed { .. });
        assert_eq!(loaded.resources.iter().find(good), None, "{spec}");
    }
}

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_istio_has_and_this_mesh_has_not_is_a_warning_and_the_rest_works() {
    for (kind, spec, code, path) in [
        ("VirtualService", "hosts: [a]\nhttp: [{route: [{destination: {host: a}}], corsPolicy: {}}]", Code::NO_EFFECT, "spec.http[0].corsPolicy"),
        ("VirtualService", "hosts: [a]\nhttp: [{route: [{destination: {host: a}}], match: [{headers: {uri: {exact: a}}}]}]", Code::NO_EFFECT, "spec.http[0].match[0].headers.uri"),
        ("VirtualService", "hosts: [a]\nhttp: [{route: [{destination: {host: a}}], headers: {request: {set: {':path': /}}}}]", Code::NO_EFFECT, "spec.http[0].headers.request.set[:path]"),
        ("VirtualService", "hosts: [a]\ntcp: [{}]", Code::NO_EFFECT, "spec.tcp"),
        ("DestinationRule", "host: a\ntrafficPolicy: {loadBalancer: {simple: LEAST_CONN}}", Code::DEPRECATED, "spec.trafficPolicy.loadBalancer.simple"),
        ("DestinationRule", "host: a\ntrafficPolicy: {loadBalancer: {zoneAwareLbSetting: {enabled: true}}}", Code::NO_EFFECT, "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting"),
        ("DestinationRule", "host: a\ntrafficPolicy: {outlierDetection: {maxEjectionPercent: 50, consecutiveErrors: 3}}", Code::DEPRECATED, "spec.trafficPolicy.outlierDetection.consecutiveErrors"),
        ("DestinationRule", "host: a\ntrafficPolicy: {outlierDetection: {}}", Code::NEVER_EJECTS, "spec.trafficPolicy.outlierDetection.maxEjectionPercent"),
        ("DestinationRule", "host: a\ntrafficPolicy: {tls: {}}", Code::SECURITY_NOTE, "spec.trafficPolicy.tls"),
        ("ServiceEntry", "hosts: [a.com]", Code::NO_EFFECT, "spec.ports"),
        ("ServiceEntry", "hosts: ['*a.com']\nports: [{number: 80, name: a, protocol: HTTP}]", Code::SCHEMA_WARNING, "spec.hosts[0]"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a}]", Code::ADDRESSES_REQUIRED, "spec.ports"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a, protocol: TCP}]", Code::ADDRESSES_REQUIRED, "spec.ports"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a, protocol: HTTP}]\nresolution: DYNAMIC_DNS", Code::NO_EFFECT, "spec.resolution"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a, protocol: HTTP}]\naddresses: [10.0.0.0/8]", Code::NO_EFFECT, "spec.addresses[0]"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a, protocol: HTTP}]\nworkloadSelector: {labels: {app: a}}", Code::SCHEMA_WARNING, "spec.workloadSelector"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a, protocol: HTTP}]\nresolution: DNS\nworkloadSelector: {labels: {app: a}}", Code::SCHEMA_WARNING, "spec.workloadSelector"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a, protocol: HTTP}]\nresolution: STATIC\nworkloadSelector: {}", Code::SCHEMA_WARNING, "spec.workloadSelector"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a, protocol: HTTP}]\nresolution: STATIC\nendpoints: [{network: a}]", Code::NO_EFFECT, "spec.endpoints[0].network"),
        ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: a, protocol: HTTP}]\nresolution: STATIC\nendpoints: [{address: 'unix:///s'}]", Code::NO_EFFECT, "spec.endpoints[0].address"),
        ("WorkloadEntry", "address: 'unix:///s'", Code::NO_EFFECT, "spec.address"),
        ("WorkloadEntry", "network: a", Code::NO_EFFECT, "spec.network"),
        ("WorkloadEntry", "address: 1.2.3.4\nnetwork: a", Code::NO_EFFECT, "spec.network"),
        ("Service", "type: ExternalName\nexternalName: a.com", Code::NO_EFFECT, "spec.ports"),
        ("MeshPolicy", "peers: [{mtls: {}}]\nprincipalBinding: USE_ORIGIN", Code::NO_EFFECT, "spec.principalBinding"),
        ("RequestAuthentication", "jwtRules: [{jwks: '{\"keys\": [{\"kty\": \"oct\"}]}'}]", Code::SECURITY_NOTE, "spec.jwtRules[0].jwks"),
        ("AuthorizationPolicy", "selector: {}", Code::SCHEMA_WARNING, "spec.selector"),
        ("AuthorizationPolicy", "targetRefs: [{kind: Service, name: a}]", Code::INEFFECTIVE_POLICY, "spec.targetRefs"),
        ("AuthorizationPolicy", "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: a}", Code::INEFFECTIVE_POLICY, "spec.targetRef"),
    ] {
        let loaded = read(&object(kind, spec));
        let [finding] = &loaded.diagnostics[..] else { panic!("{spec}: {:#?}", loaded.diagnostics) };
        assert_eq!((finding.code, finding.level, &finding.path[..]), (code, Level::Warning, path), "{spec}");
        assert_eq!((loaded.resources.len(), loaded.broken.len()), (1, 0), "{spec}");
    }
}

/// What Kubernetes keeps stands beside `metadata`, and most of it is none of the mesh's business.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn of_kubernetes_lists_and_pods_only_the_addresses_have_to_be_in_order() {
    let slice = |labels: &str, body: &str| format!("{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: x, labels: {{{labels}}}}}, {body}}}");
    let core = |kind: &str, body: &str| format!("{{apiVersion: v1, kind: {kind}, metadata: {{name: x}}, {body}}}");
    let named = "kubernetes.io/service-name: a";
    for (text, findings) in [
        (slice(named, "addressType: IPv4, endpoints: [{addresses: [10.0.0.1], hints: {forZones: []}, targetRef: {kind: Pod}, nodeName: n, hostname: h, conditions: {ready: true, serving: true, terminating: false}}], ports: [{name: a, port: 1, appProtocol: http}]"), &[][..]),
        (slice(named, "addressType: FQDN, endpoints: [{addresses: [a.com]}]"), &["warning addressType"]),
        (slice("", "addressType: IPv6, endpoints: []"), &["warning metadata"]),
        (slice(named, "addressType: IPv4, endpoints: [{addresses: [a.com]}]"), &["error endpoints[0].addresses[0]"]),
        (slice(named, "addressType: IPv5"), &["error addressType"]),
        (slice(named, "endpoints: [{conditions: {}}]"), &["error endpoints[0].addresses"]),
        (core("Endpoints", "subsets: [{addresses: [{ip: 10.0.0.1, targetRef: {}, nodeName: n}], ports: [{port: 1}]}]"), &[]),
        (core("Endpoints", "subsets: [{addresses: [{hostname: a}], ports: [{port: 0}], rest: 1}]"), &["error subsets[0].ports[0].port", "error subsets[0].addresses[0].ip", "error subsets[0].rest"]),
        (core("Pod", "spec: {anything: {goes: [1]}, containers: [{name: a, ports: [{containerPort: 1, x: y}]}]}, status: {z: 1}"), &[]),
        (core("Pod", "status: {podIP: here}"), &["error status.podIP"]),
        (core("Pod", "spec: {}"), &[]),
    ] {
        let loaded = read(&text);
        let said: Vec<_> = loaded.diagnostics.iter().map(|finding| format!("{} {}", finding.level, finding.path)).collect();
        assert_eq!(said, findings, "{text}");
        assert_eq!(loaded.resources.len() + loaded.broken.len(), 1, "{text}");
    }
}

#[test]
fn the_note_on_ejection_says_how_many_hosts_it_takes() {
    for (percent, said) in [
        ("maxEjectionPercent: 0", Some("10 (the default)")),
        ("maxEjectionPercent: 11", Some("fewer than 10")),
        ("maxEjectionPercent: 20", Some("fewer than 5")),
        ("interval: 1s", Some("10 (the default) no endpoint is ejected while the host has fewer than 10")),
        ("maxEjectionPercent: 25", None),
        ("maxEjectionPercent: 100", None),
    ] {
        let spec = format!("host: a\ntrafficPolicy: {{outlierDetection: {{{percent}}}}}");
        let loaded = read(&object("DestinationRule", &spec));
        let message = loaded.diagnostics.first().map(|finding| finding.message.as_str());
        assert_eq!(message.is_some(), said.is_some(), "{percent}");
        assert!(message.unwrap_or_default().contains(said.unwrap_or_default()), "{percent}: {message:?}");
    }
}

#[test]
fn lenient_reading_warns_of_unknown_fields_and_of_nothing_else_less() {
    let text = object("VirtualService", "hosts: [a]\nhttp: [{route: [{destination: {host: a}, wieght: 1}]}]");
    let lenient = {
        let mut options = Options::default();
        options.lenient = true;
        options
    };
    let loaded = load("mesh.yaml", &text, &lenient);
    assert_eq!((loaded.resources.len(), loaded.diagnostics.len()), (1, 1));
    assert_eq!(loaded.diagnostics[0].level, Level::Warning);
    let negative = text.replace("wieght: 1", "weight: -1");
    assert_eq!(load("mesh.yaml", &negative, &lenient).broken.len(), 1);
}

#[test]
fn findings_are_placed_by_line_and_column_also_in_the_tenth_document() {
    let good = object("DestinationRule", "host: a\n");
    let mut text = String::new();
    for number in 1..10 {
        text += &good.replace("name: x", &format!("name: x{number}"));
        text += "---\n# a comment\n";
    }
    let start = text.lines().count() as u32;
    text += "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: ten\nspec:\n  hosts: [é, bé]\n";
    text += "  http:\n  - route:\n    - destination: {host: ü, subset: v1}\n      weight: -1\n";
    let loaded = read(&text);
    let places: Vec<_> =
        loaded.diagnostics.iter().map(|finding| (place(finding), &finding.path[..])).collect();
    assert_eq!(
        places,
        [
            ((start + 6, 11), "spec.hosts[0]"),
            ((start + 6, 14), "spec.hosts[1]"),
            ((start + 9, 27), "spec.http[0].route[0].destination.host"),
            ((start + 10, 15), "spec.http[0].route[0].weight"),
        ]
    );
    assert_eq!(loaded.resources.len(), 9);
    assert_eq!(loaded.resources[8].location.line, start - good.lines().count() as u32 - 1);
}

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn a_broken_document_is_an_error_at_its_place_and_takes_no_other_with_it() {
    for (broken, line, column, part) in [
        ("key: [1, 2\n", 1, 6, "bracket"),
        ("key: {a: 1\n", 1, 6, "bracket"),
        ("key: \"unfinished\n", 1, 6, "quote"),
        ("a:\n\tb: 1\n", 2, 2, "spaces"),
        ("a: b: c\n", 1, 5, "indentation"),
        ("a: *nowhere\n", 1, 4, "quoted"),
        ("a: !custom b\n", 1, 4, "tag"),
        ("a:\n  b: 1\n c: 2\n", 3, 2, "indentation"),
        ("host: {{ .Values.host }}\n", 1, 8, "template"),
        ("a: &x [*x]\n", 1, 8, "inside the very node"),
        ("kind: VirtualService\nkind: VirtualService\n", 2, 1, "is written twice"),
        ("just some text\n", 1, 1, "expected an object"),
        ("a: b\n", 1, 1, "`kind` is required"),
        ("[1, 2]\n", 1, 2, "expected an object"),
    ] {
        let (one, two) = (
            object("DestinationRule", "host: a"),
            object("ServiceEntry", "hosts: [a.com]\nports: [{number: 1, name: a}]"),
        );
        let text = format!("{one}---\n{broken}---\n{two}");
        let loaded = read(&text);
        let kinds: Vec<_> = loaded.resources.iter().map(|resource| resource.kind.as_str()).collect();
        assert_eq!(kinds, ["DestinationRule", "ServiceEntry"], "{broken}");
        assert!(!loaded.complete, "{broken}");
        let finding = loaded.diagnostics.iter().find(|finding| finding.is_error()).unwrap();
        let first = one.lines().count() as u32 + 1;
        assert_eq!(place(finding), (first + line, column), "{broken}: {finding}");
        let said = finding.to_string();
        assert!(said.contains(part), "{broken}: {said}");
    }
}

#[test]
fn a_document_that_breaks_off_still_says_which_object_it_was() {
    let text = object("VirtualService", "hosts: [a]\nhttp: [");
    let loaded = read(&text);
    assert_eq!(loaded.diagnostics.len(), 1);
    assert_eq!(loaded.diagnostics[0].resource.as_ref().unwrap().to_string(), "VirtualService default/x");
    assert_eq!(loaded.broken.len(), 1);
    // The value that broke is the mistake, its key was there.
    let loaded = read(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: [a: b: c\n",
    );
    assert_eq!(loaded.broken.len(), 1);
    // Its namespace may have stood behind the mistake: nobody knows which object it was.
    let loaded = read("kind: VirtualService\nmetadata:\n  name: a\n  labels: [\n");
    assert_eq!(loaded.broken, []);
}

#[test]
fn a_fault_in_a_list_spoils_every_item_and_is_reported_once() {
    let policy = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p}, spec: {action: DENY, rules: [{}]}}";
    let rule = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: r}, spec: {host: a, host: b}}";
    for text in
        [format!("[{policy}, {rule}]"), format!("kind: List\napiVersion: v1\nitems:\n- {policy}\n- {rule}\n")]
    {
        let loaded = read(&text);
        assert_eq!(loaded.diagnostics.len(), 1, "{:#?}", loaded.diagnostics);
        let broken: Vec<_> = loaded.broken.iter().map(ToString::to_string).collect();
        assert_eq!(broken, ["AuthorizationPolicy default/p", "DestinationRule default/r"]);
        assert!(!loaded.complete);
        assert_eq!(loaded.resources[0].spec, Spec::Malformed { selector: None, deny: true });
    }
}

#[test]
fn what_a_file_says_breaks_no_log_line_and_fills_none() {
    let long = "x".repeat(5000);
    let evil = "a\\n2026-01-01 ERROR forged\\e[31m";
    for spec in [
        format!(
            "hosts: [\"{evil}\"]\nhttp: [{{route: [{{destination: {{host: {long}}}, weight: {long}}}]}}]"
        ),
        format!("\"{evil}\": 1\n{long}: 1\n\"{long}\": 2\nhosts: [a]"),
        format!(
            "hosts: [a]\nhttp: [{{timeout: \"{evil}\", retries: {{retryOn: \"{evil}\", attempts: \"{evil}\"}}}}]"
        ),
        format!("hosts: [a]\nhttp: [{{match: [{{headers: {{\"{evil}\": {{regex: \"{evil}(\"}}}}}}]}}]"),
        format!("hosts: !<{long}> a"),
    ] {
        let loaded = read(&object("VirtualService", &spec));
        assert!(!loaded.diagnostics.is_empty());
        for finding in &loaded.diagnostics {
            let line = finding.to_string();
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(line.len() < 1500, "{} {line}", line.len());
        }
    }
}

#[test]
fn duplicate_keys_spoil_the_object_and_name_both_lines() {
    let text =
        object("VirtualService", "hosts: [a]\nhosts: [b]\nhttp: [{route: [{destination: {host: a}}]}]");
    let loaded = read(&text);
    let [finding] = &loaded.diagnostics[..] else { panic!("{:#?}", loaded.diagnostics) };
    assert_eq!(finding.code, Code::UNREADABLE);
    assert!(
        finding.message.contains("`hosts`") && finding.message.contains("lines 6 and 7"),
        "{}",
        finding.message
    );
    assert_eq!(place(finding), (7, 3));
    assert_eq!((loaded.broken.len(), loaded.resources.len()), (1, 0));
}

#[test]
fn foreign_kinds_are_named_once_each_and_never_spoil_a_file() {
    let deployment =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {x: [{}]}}\n---\n";
    let text = format!(
        "{}{}apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: a}}\n---\n\
         apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: a}}\n---\n\
         apiVersion: kyverno.io/v1\nkind: Policy\nmetadata: {{name: a}}\n---\n{}",
        deployment.repeat(3),
        "apiVersion: example.com/v1\nkind: Whatever\n---\n",
        object("DestinationRule", "host: a"),
    );
    let loaded = read(&text);
    assert_eq!((loaded.resources.len(), loaded.complete), (1, true));
    let said: BTreeMap<_, _> = loaded
        .diagnostics
        .iter()
        .map(|finding| {
            assert_eq!((finding.code, finding.level), (Code::FOREIGN_KIND, Level::Warning));
            (finding.message.split(' ').nth(1).unwrap(), finding.message.as_str())
        })
        .collect();
    assert_eq!(
        said.keys().copied().collect::<Vec<_>>(),
        ["Deployment", "NetworkPolicy", "Policy", "Service", "Whatever"]
    );
    assert!(said["Deployment"].contains("3 objects"));
    assert!(said["NetworkPolicy"].contains("NOT in force"));
}

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn an_envelope_that_is_not_in_order_is_an_error_that_says_what_to_write() {
    for (text, complete, broken, path, part) in [
        ("kind: VirtualServce\napiVersion: networking.istio.io/v1\n", false, 0, "kind", "did you mean `VirtualService`?"),
        ("kind: VirtualService\napiVersion: networking.istio.io/v2\nmetadata: {name: a}\n", true, 1, "apiVersion", "write one of networking.istio.io/v1"),
        ("kind: VirtualService\nmetadata: {name: a}\n", true, 1, "apiVersion", "`apiVersion` is required"),
        ("kind: PeerAuthentication\napiVersion: networking.istio.io/v1\nmetadata: {name: a}\n", true, 1, "apiVersion", "security.istio.io/v1"),
        ("kind: DestinationRule\napiVersion: networking.istio.io/v1\nspec: {host: a}\n", false, 0, "metadata", "`metadata.name` is required"),
        ("kind: DestinationRule\napiVersion: networking.istio.io/v1\nmetadata: {}\n", false, 0, "metadata.name", "`name` is required"),
        ("kind: DestinationRule\napiVersion: networking.istio.io/v1\nmetadata: {name: A_b}\n", false, 0, "metadata.name", "not the name of an object"),
        ("kind: DestinationRule\napiVersion: networking.istio.io/v1\nmetadata: {name: a, namespace: a.b}\n", false, 0, "metadata.namespace", "not a namespace"),
        ("kind: DestinationRule\napiVersion: networking.istio.io/v1\nmetadata: {name: a, lables: {}}\nspec: {host: a}\n", true, 1, "metadata.lables", "did you mean `labels`?"),
        ("kind: DestinationRule\napiVersion: networking.istio.io/v1\nmetadata: {name: a}\nspecs: {host: a}\n", true, 1, "specs", "did you mean `spec`?"),
        ("kind: MeshPolicy\napiVersion: authentication.istio.io/v1alpha1\nmetadata: {name: boo}\nspec: {}\n", true, 1, "metadata.name", "named `default`"),
        ("kind: [a]\n", false, 0, "", "`kind` is required"),
    ] {
        let loaded = read(text);
        let said = loaded
            .diagnostics
            .iter()
            .find(|finding| finding.path == path && finding.to_string().contains(part));
        assert!(
            said.is_some_and(Diagnostic::is_error),
            "{text}\nwanted {path}: {part}\n{:#?}",
            loaded.diagnostics
        );
        assert_eq!((loaded.complete, loaded.broken.len()), (complete, broken), "{text}");
    }
}

/// One row per way to be malformed: kind, `spec`, and what is left to fail closed: labels selected and whether it denies.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn a_security_object_that_does_not_read_fails_closed_where_it_was_meant_to_act() {
    const BAD: &str = "oops: 1\n";
    let app = |labels: &str| Some(BTreeMap::from([("app".to_owned(), labels.to_owned())]));
    let select = "selector: {matchLabels: {app: a}}\n";
    for (kind, spec, left) in [
        ("PeerAuthentication", BAD.to_owned(), Some((None, false))),
        ("PeerAuthentication", format!("{select}mtls: {{mode: NO}}\n"), Some((app("a"), false))),
        ("PeerAuthentication", "selector: {matchLabels: [a]}\n".into(), Some((None, false))),
        ("PeerAuthentication", "selector: {matchlabels: {app: a}}\n".into(), Some((None, false))),
        ("MeshPolicy", BAD.into(), Some((None, false))),
        ("Policy", BAD.into(), Some((None, false))),
        ("Policy", format!("origins: [{{jwt: {{issuer: a}}}}]\n{BAD}"), Some((None, true))),
        ("MeshPolicy", "peers: [{jwt: {}}]\n".into(), Some((None, true))),
        ("MeshPolicy", format!("peers: [{{mtls: {{}}}}]\n{BAD}"), Some((None, false))),
        ("AuthorizationPolicy", format!("action: ALLOW\n{BAD}"), Some((None, false))),
        ("AuthorizationPolicy", format!("action: DENY\n{BAD}"), Some((None, true))),
        ("AuthorizationPolicy", format!("{select}action: DENY\nrules: 1\n"), Some((app("a"), true))),
        ("AuthorizationPolicy", format!("{select}rules: 1\n"), Some((app("a"), false))),
        // What may have been meant as a DENY is one.
        ("AuthorizationPolicy", "action: DENNY\n".into(), Some((None, true))),
        ("AuthorizationPolicy", "action: CUSTOM\n".into(), Some((None, true))),
        ("AuthorizationPolicy", format!("acton: DENY\n{select}"), Some((app("a"), true))),
        ("AuthorizationPolicy", "action: ALLOW\naction: DENY\n".into(), Some((None, true))),
        ("AuthorizationPolicy", "rules: [\n".into(), Some((None, true))),
        // What decides nothing about requests to a workload need not be replaced by a refusal.
        ("AuthorizationPolicy", "action: AUDIT\n".into(), None),
        ("AuthorizationPolicy", "targetRefs: [{kind: Gateway, name: a}]\n".into(), None),
        ("AuthorizationPolicy", format!("action: DENY\ntargetRefs: [{{kind: Service, name: a}}]\n{BAD}"), None),
        ("AuthorizationPolicy", format!("action: DENY\n{select}targetRefs: [{{kind: Service, name: a}}]\n"), Some((app("a"), true))),
        ("AuthorizationPolicy", "action: DENY\ntargetRefs: [{kind: Pod, name: a}]\n".into(), Some((None, true))),
        ("AuthorizationPolicy", "action: DENY\n".into(), Some((None, true))),
        ("PeerAuthentication", "targetRefs: [{kind: Service, name: a}]\n".into(), Some((None, false))),
        ("RequestAuthentication", BAD.into(), Some((None, true))),
        ("RequestAuthentication", "jwtRules: [\n".into(), Some((None, true))),
        ("RequestAuthentication", format!("{select}{BAD}"), Some((app("a"), true))),
        ("RequestAuthentication", format!("targetRefs: [{{kind: Service, name: a}}]\n{BAD}"), None),
        ("VirtualService", BAD.into(), None),
    ] {
        let loaded = read(&object(kind, &spec));
        assert_eq!(loaded.broken.len(), 1, "{kind} {spec}");
        let found = loaded.resources.first().map(|resource| match &resource.spec {
            Spec::Malformed { selector, deny } => (selector.clone(), *deny),
            other => panic!("{other:?}"),
        });
        assert_eq!(found, left, "{kind} {spec}");
        // Whoever gets the object served, instead of the file, must come to the same.
        for resource in &loaded.resources {
            let served = load("served", &resource.document.to_json().to_string(), &Options::default());
            assert_eq!(served.resources[0].spec, resource.spec, "{kind} {spec}");
            assert_eq!(served.resources[0].key, resource.key, "{kind} {spec}");
            let mut lenient = Options::default();
            lenient.lenient = true;
            let served = load("served", &resource.document.to_json().to_string(), &lenient);
            assert_eq!(served.resources[0].spec, resource.spec, "lenient {kind} {spec}");
        }
    }
}

#[test]
fn a_policy_on_trial_is_read_whole_and_a_malformed_one_denies_nothing() {
    let annotated = |value: &str, spec: &str| {
        let annotation = format!("metadata:\n  annotations: {{istio.io/dry-run: '{value}'}}\n");
        object("AuthorizationPolicy", spec).replace("metadata:\n", &annotation)
    };
    for (value, part) in
        [("true", Some("on trial")), ("false", None), ("maybe", Some("the policy is in force"))]
    {
        let loaded = read(&annotated(value, "action: DENY\nrules: [{}]\n"));
        let said = loaded.diagnostics.first();
        assert_eq!(said.map(|finding| finding.code), part.map(|_| Code::SECURITY_NOTE), "{value}");
        assert!(said.is_none_or(|finding| finding.message.contains(part.unwrap())), "{said:?}");
        let Spec::AuthorizationPolicy(policy) = &loaded.resources[0].spec else { panic!() };
        assert_eq!((policy.action, policy.rules.len()), (AuthorizationAction::Deny, 1));
    }
    assert_eq!(read(&annotated("true", "rules: 1\n")).resources, []);
}

#[test]
fn a_request_authentication_is_read_whole() {
    let loaded = read(&object(
        "RequestAuthentication",
        "selector: {matchLabels: {app: a}}\n\
         jwtRules:\n\
         - {issuer: a, jwksUri: 'https://a.example/keys'}\n\
         - issuer: b\n  \
           audiences: [x]\n  \
           jwks: '{\"keys\": [{\"kty\": \"oct\", \"k\": \"SECRET\"}]}'\n  \
           fromHeaders: [{name: X-Token, prefix: 'Token '}]\n  \
           fromParams: [token]\n  \
           fromCookies: [session]\n  \
           forwardOriginalToken: true\n  \
           outputPayloadToHeader: X-Payload\n  \
           outputClaimToHeaders: [{header: X-Group, claim: nested.group}]\n  \
           timeout: 2s\n  \
           spaceDelimitedClaims: [roles]\n",
    ));
    assert_eq!(loaded.diagnostics.len(), 1, "{:?}", loaded.diagnostics);
    let Spec::RequestAuthentication(spec) = &loaded.resources[0].spec else { panic!() };
    assert_eq!(spec.selector.as_ref().unwrap().labels["app"], "a");
    let [first, second] = &spec.rules[..] else { panic!() };
    assert!(matches!(&first.keys, Some(KeySource::Uri(uri)) if uri == "https://a.example/keys"));
    assert_eq!((first.timeout, first.forward_original_token), (Duration::from_secs(5), false));
    assert!(matches!(&second.keys, Some(KeySource::Inline(keys)) if keys.keys().len() == 1));
    assert!(!format!("{spec:?}").contains("SECRET"));
    assert_eq!((second.issuer.as_str(), &second.audiences[0][..]), ("b", "x"));
    assert_eq!(
        (second.from_headers[0].name.as_str(), &*second.from_headers[0].prefix),
        ("x-token", "Token ")
    );
    assert_eq!((&second.from_params[0][..], &second.from_cookies[0][..]), ("token", "session"));
    assert_eq!((second.timeout, second.forward_original_token), (Duration::from_secs(2), true));
    assert_eq!(second.output_payload_to_header.as_ref().unwrap(), "x-payload");
    assert_eq!(
        (&*second.output_claims[0].claim, second.output_claims[0].header.as_str()),
        ("nested.group", "x-group")
    );
    assert_eq!(second.space_delimited_claims, ["roles"]);
}

#[test]
fn the_tokens_of_a_policy_of_istio_1_3_are_read() {
    let jwt = "{issuer: a, audiences: [x], jwksUri: 'https://a/k', jwtHeaders: [X-T], jwtParams: [t]}";
    let origin = format!("origins: [{{jwt: {jwt}}}]");
    for (spec, mode, optional) in [
        (format!("peers: [{{mtls: {{}}}}]\n{origin}\n"), MtlsMode::Strict, false),
        (format!("peers: [{{mtls: null}}]\n{origin}\noriginIsOptional: true\n"), MtlsMode::Strict, true),
        (format!("peers: [{{jwt: {jwt}}}]\n"), MtlsMode::Disable, false),
        (format!("peers: [{{jwt: {jwt}}}]\npeerIsOptional: true\n"), MtlsMode::Disable, true),
        (format!("peers: [{{jwt: {jwt}}}]\npeerIsOptional: true\n{origin}\n"), MtlsMode::Disable, false),
        (format!("peers: [{{mtls: {{}}}}]\njwts: [{jwt}]\n"), MtlsMode::Strict, false),
        (format!("peers: [{{mtls: {{}}}}]\njwts: [{jwt}]\noriginIsOptional: true\n"), MtlsMode::Strict, true),
    ] {
        let loaded = read(&object("MeshPolicy", &spec));
        assert!(loaded.diagnostics.is_empty(), "{spec}: {:#?}", loaded.diagnostics);
        let Spec::LegacyPolicy(policy) = &loaded.resources[0].spec else { panic!() };
        let tokens = policy.tokens.as_ref().unwrap();
        assert_eq!((policy.mode, tokens.optional), (mode, optional), "{spec}");
        let rule = tokens.rules.last().unwrap();
        assert_eq!(
            (&*rule.issuer, &*rule.audiences[0], rule.from_headers[0].name.as_str()),
            ("a", "x", "x-t")
        );
        assert!(rule.forward_original_token);
    }
}

#[test]
fn kinds_that_are_left_out_are_checked_for_what_istio_requires_of_them() {
    for (kind, spec, path) in [
        ("EnvoyFilter", "filters: [{filterType: HTTP}, {}]", Some("spec.filters[1].filterType")),
        ("EnvoyFilter", "configPatches: [{}]", None),
        ("ProxyConfig", "selector: {matchLabels: {a: b}}\nimage: {imageType: distroless}", None),
        ("ProxyConfig", "imag: {}", Some("spec.imag")),
        ("WorkloadGroup", "template: {}", None),
    ] {
        let mut options = Options::default();
        options.extensions = Level::Warning;
        let loaded = load("mesh.yaml", &object(kind, spec), &options);
        let errors: Vec<_> = loaded.diagnostics.iter().filter(|finding| finding.is_error()).collect();
        assert_eq!(errors.first().map(|error| &error.path[..]), path, "{kind} {spec}");
        assert!(
            errors
                .iter()
                .all(|error| error.resource.as_ref().unwrap().to_string() == format!("{kind} default/x"))
        );
        assert!(loaded.complete && loaded.broken.is_empty() && loaded.resources.is_empty());
        let left_out = loaded.diagnostics.iter().any(|finding| finding.code == Code::FOREIGN_KIND);
        assert_eq!(left_out, kind == "EnvoyFilter", "{kind} {spec}");
    }
}

#[test]
fn what_extends_envoy_is_a_warning_unless_the_reader_is_told_that_it_is_an_error() {
    for (kind, group) in [
        ("EnvoyFilter", "networking.istio.io/v1alpha3"),
        ("WasmPlugin", "extensions.istio.io/v1alpha1"),
        ("TrafficExtension", "extensions.istio.io/v1alpha1"),
    ] {
        let text = format!("apiVersion: {group}\nkind: {kind}\nmetadata: {{name: x}}\n");
        for level in [Level::Error, Level::Warning] {
            let mut options = Options::default();
            assert_eq!(options.extensions, Level::Warning);
            options.extensions = level;
            let loaded = load("mesh.yaml", &text, &options);
            let [finding] = &loaded.diagnostics[..] else { panic!("{:#?}", loaded.diagnostics) };
            assert_eq!((finding.code, finding.level), (Code::FOREIGN_KIND, level), "{kind}");
            assert!(finding.message.contains("NOT in force"), "{finding}");
            assert!(loaded.complete && loaded.broken.is_empty());
        }
    }
    let loaded = read(&object("ProxyConfig", "concurrency: 2"));
    assert_eq!((loaded.diagnostics.len(), loaded.diagnostics[0].code), (1, Code::NO_EFFECT));
}

#[test]
fn a_security_object_without_a_name_fails_closed_too() {
    let loaded = read(
        "kind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nmetadata: {namespace: shop}\nspec: {action: DENY, rules: [{}]}\n",
    );
    let [denial] = &loaded.resources[..] else { panic!() };
    assert_eq!(denial.spec, Spec::Malformed { selector: None, deny: true });
    assert_eq!(&*denial.key.namespace, "shop");
    assert!(!loaded.complete);
}

#[test]
fn what_is_loaded_says_the_same_when_it_is_served_as_json_and_loaded_again() {
    for text in [include_str!("fixtures/canary.yaml"), include_str!("fixtures/every-field.yaml")] {
        for resource in read(text).resources {
            let json = resource.document.to_json();
            assert!(json["metadata"]["namespace"].is_string());
            let again = read(&json.to_string());
            let [again] = &again.resources[..] else { panic!("{:#?}", again.diagnostics) };
            assert!(again.document.says_the_same(&resource.document), "{json}");
            assert_eq!((&again.key, &again.meta), (&resource.key, &resource.meta));
            assert_eq!(again.document.to_json(), json);
        }
    }
}

#[test]
fn scalars_keep_their_text_over_json() {
    let text = "1.10: 1.10\nbig: 12345678901234567890123\nhex: 0x1F\ntrue: True\nquoted: 'true'\nnull: 'null'\nempty: ''\nexp: 1e3\nneg: -0\n\
                oct: 0o17\nplus: +1\nf: 1.5\ni: 42\nb: false\nn: ~\nnan: .nan\nday: 2024-05-01\n";
    let labels = text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let document = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  labels:\n{labels}spec: {{ports: [{{port: 1}}]}}\n"
    );
    let loaded = read(&document);
    assert_eq!(loaded.diagnostics, []);
    let first = &loaded.resources[0];
    for (name, value) in
        [("1.10", "1.10"), ("hex", "0x1F"), ("true", "True"), ("neg", "-0"), ("n", ""), ("f", "1.5")]
    {
        assert_eq!(first.meta.labels[name], value);
    }
    let again = read(&first.document.to_json().to_string());
    assert_eq!(again.resources[0].meta, first.meta);
}

fn read(text: &str) -> Loaded {
    load("mesh.yaml", text, &Options::default())
}

/// An object whose `spec` begins on line 6 and is indented by two.
fn object(kind: &str, spec: &str) -> String {
    let version = match kind {
        "Service" => "v1",
        "MeshPolicy" | "Policy" => "authentication.istio.io/v1alpha1",
        "PeerAuthentication" | "AuthorizationPolicy" | "RequestAuthentication" => "security.istio.io/v1",
        _ => "networking.istio.io/v1",
    };
    let name = if kind == "MeshPolicy" { "default" } else { "x" };
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n{spec}")
}

fn place(finding: &Diagnostic) -> (u32, u32) {
    let location = finding.location.as_ref().unwrap();
    (location.line, location.column)
}

fn virtual_service(resource: &Resource) -> &VirtualService {
    match &resource.spec {
        Spec::VirtualService(spec) => spec,
        other => panic!("{other:?}"),
    }
}

/// The documents of `text`, each as JSON on one line.
fn as_json(text: &str) -> Vec<String> {
    let resources = load("x", text, &Options::default()).resources;
    resources.iter().map(|resource| resource.document.to_json().to_string()).collect()
}
