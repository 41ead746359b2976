//! Sidecars: what may be written, and what is said of it. What a workload sees by one is tested beside `Scope`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mesh_core::config::{
    Accepted, Code, Diagnostic, Level, Options, SourceFile, Spec,
    istio::{InboundPool, Sidecar},
    load,
};

#[test]
fn every_field_that_is_obeyed_is_read() {
    let sidecar = sidecar(
        "workloadSelector: {labels: {app: cart}}
egress:
- {hosts: [./*, bank/*.example.com], port: {number: 80, protocol: HTTP, name: a}, bind: 10.0.0.1, captureMode: NONE}
- hosts: ['*/pay.example.com', '~/*']
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
inboundConnectionPool: {http: {http2MaxRequests: 5, http1MaxPendingRequests: 0}}
ingress:
- {port: {number: 8080, protocol: HTTP}, connectionPool: {tcp: {maxConnections: 7}, http: {http1MaxPendingRequests: 8}}}
- port: {number: 8081, protocol: HTTP}
",
    );
    assert_eq!(sidecar.workload_selector.unwrap().labels["app"], "cart");
    let hosts: Vec<_> = sidecar.egress.iter().map(|listener| listener.hosts.len()).collect();
    assert_eq!(hosts, [2, 2]);
    assert_eq!(sidecar.allow_any, Some(false));
    let every = InboundPool { requests_max: Some(5), ..InboundPool::default() };
    assert_eq!(sidecar.inbound_pool, Some(every));
    let own = InboundPool { connections_max: Some(7), pending_max: Some(8), requests_max: None };
    let ports: Vec<_> = sidecar.ingress.iter().map(|listener| (listener.port, listener.pool)).collect();
    assert_eq!(ports, [(8080, Some(own)), (8081, None)]);
}

/// One row per mistake or remark: `spec`, the field, whether it is an error, and a part of what is said.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_istio_would_refuse_is_refused_and_what_has_no_effect_is_said() {
    const PORT: &str = "port: {number: 80, protocol: HTTP}";
    let egress = |listener: &str| format!("egress: [{{{listener}}}]");
    let ingress = |listener: &str| format!("ingress: [{{{listener}}}]");
    for (spec, path, error, part) in [
        (String::new(), "egress", true, "is required"),
        ("egress: []".to_owned(), "egress", true, "is required"),
        ("workloadSelector: {labels: {a: b}}".to_owned(), "egress", true, "is required"),
        ("workloadSelector: {labels: {a: '*'}}\n  egress: [{hosts: ['*/*']}]".to_owned(), "workloadSelector.labels", true, "wildcards"),
        ("workloadSelector: {}\n  egress: [{hosts: ['*/*']}]".to_owned(), "workloadSelector", false, "every workload"),
        (egress(PORT), "egress[0].hosts", true, "`hosts` is required"),
        (egress("hosts: []"), "egress[0].hosts", true, "at least one host"),
        (egress("hosts: ['*']"), "egress[0].hosts[0]", true, "not a host"),
        (egress("hosts: [a/short]"), "egress[0].hosts[0]", true, "not a host"),
        (egress("hosts: ['a/*b.com']"), "egress[0].hosts[0]", true, "not a host"),
        (egress("hosts: ['a b/*']"), "egress[0].hosts[0]", true, "not a host"),
        (egress("hosts: [a/10.0.0.1]"), "egress[0].hosts[0]", true, "not a host"),
        (egress("hosts: [./*, ./a.com]"), "egress[0].hosts", false, "what `a.com` names"),
        (egress("hosts: [./a.com, default/a.com]"), "egress[0].hosts", false, "what `a.com` names"),
        (egress(&format!("hosts: [./*], {PORT}")), "egress[0].port", false, "no effect"),
        (egress("hosts: [./*], port: {number: 0, protocol: HTTP}"), "egress[0].port", true, "Unix socket"),
        (egress("hosts: [./*], port: {number: 0, protocol: HTTP}, bind: unix:///a"), "egress[0].bind", false, "no effect"),
        (egress("hosts: [./*], port: {number: 80, protocol: HTPP}"), "egress[0].port.protocol", true, "not a protocol"),
        (egress("hosts: [./*], port: {number: 80, targetPort: 8}"), "egress[0].port.targetPort", true, "no target port"),
        (egress("hosts: [./*], bind: nowhere"), "egress[0].bind", true, "an IP address"),
        (egress("hosts: [./*], captureMode: ALL"), "egress[0].captureMode", true, "unknown value"),
        (format!("egress: [{{hosts: [./*]}}, {{hosts: [./*], {PORT}}}]"), "egress", true, "only the last listener"),
        (format!("egress: [{{hosts: [./*], {PORT}}}, {{hosts: [./*], {PORT}}}]"), "egress", true, "stands above"),
        (ingress("defaultEndpoint: 127.0.0.1:80"), "ingress[0].port", true, "`port` is required"),
        (ingress(&format!("{PORT}, captureMode: NONE")), "ingress[0].captureMode", false, "no effect"),
        (ingress(&format!("{PORT}, defaultEndpoint: 127.0.0.1:80")), "ingress[0].defaultEndpoint", false, "no effect"),
        (ingress(&format!("{PORT}, connectionPool: {{}}")), "ingress[0].connectionPool", true, "one of tcp and http"),
        (ingress(&format!("{PORT}, connectionPool: {{http: {{maxRetries: 1}}}}")), "ingress[0].connectionPool.http.maxRetries", false, "no effect"),
        (ingress(&format!("{PORT}, defaultEndpoint: 10.0.0.1:80")), "ingress[0].defaultEndpoint", true, "not an endpoint"),
        (ingress(&format!("{PORT}, defaultEndpoint: 127.0.0.1")), "ingress[0].defaultEndpoint", true, "not an endpoint"),
        (ingress(&format!("{PORT}, tls: {{mode: SIMPLE, serverCertificate: a, privateKey: b}}")), "ingress[0].tls", true, "HTTPS or TLS"),
        (ingress("port: {number: 443, protocol: HTTPS}, tls: {mode: ISTIO_MUTUAL}"), "ingress[0].tls", true, "no place"),
        (ingress("port: {number: 443, protocol: HTTPS}, tls: {mode: SIMPLE, serverCertificate: a, privateKey: b, httpsRedirect: true}"), "ingress[0].tls", true, "no place"),
        (format!("ingress: [{{{PORT}}}, {{{PORT}}}]"), "ingress", true, "stands above"),
        ("inboundConnectionPool: {tcp: {idleTimeout: 1s}}".to_owned(), "inboundConnectionPool.tcp.idleTimeout", false, "no connection between"),
        ("inboundConnectionPool: {http: {maxRequestsPerConnection: 1}}".to_owned(), "inboundConnectionPool.http.maxRequestsPerConnection", false, "no connection between"),
        ("inboundConnectionPool: {http: {http2MaxRequests: -1}}".to_owned(), "inboundConnectionPool.http.http2MaxRequests", true, "must not be negative"),
        ("outboundTrafficPolicy: {mode: ALL}".to_owned(), "outboundTrafficPolicy.mode", true, "unknown value"),
        ("outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a, port: {number: 80}}}".to_owned(), "outboundTrafficPolicy.egressProxy", true, "not supported"),
        ("outboundTrafficPolicy: {mod: ALLOW_ANY}".to_owned(), "outboundTrafficPolicy.mod", true, "did you mean `mode`?"),
    ] {
        let loaded = load("f", &object("a", "", &spec), &Options::default());
        let path = format!("spec.{path}");
        let found = loaded.diagnostics.iter().find(|finding| finding.path == path && finding.is_error() == error);
        let finding = found.unwrap_or_else(|| panic!("{spec}\n{path}\n{:#?}", loaded.diagnostics));
        assert!(finding.to_string().contains(part), "{finding}");
        assert_eq!(loaded.resources.len(), usize::from(!error), "{spec}\n{:#?}", loaded.diagnostics);
    }
    for endpoint in ["127.0.0.1:80", "0.0.0.0:80", "'[::1]:80'", "'[::]:80'", "':80'", "unix:///a", "unix://@a"] {
        let loaded = load("f", &object("a", "", &ingress(&format!("{PORT}, defaultEndpoint: {endpoint}"))), &Options::default());
        assert_eq!(loaded.broken.len(), 0, "{endpoint}");
    }
}

/// One row per pair: the selectors of the elder and the younger, and whether something is said of it.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn sidecars_that_select_the_same_workloads_are_named() {
    let selecting = |labels: &str| if labels.is_empty() { String::new() } else { format!("workloadSelector: {{labels: {labels}}}\n  ") };
    for (elder, younger, code, about) in [
        ("", "", Some(Code::SIDECARS_WITHOUT_SELECTOR), "b"),
        ("", "{app: a}", None, ""),
        ("{app: a}", "{app: b}", None, ""),
        ("{app: a}", "{tier: b}", None, ""),
        ("{app: a}", "{app: a}", Some(Code::CONFLICTING_SIDECARS), "b"),
        ("{app: a}", "{app: a, tier: b}", Some(Code::CONFLICTING_SIDECARS), "b"),
        ("{app: a, tier: b}", "{tier: b}", Some(Code::CONFLICTING_SIDECARS), "a"),
        ("{app: a}", "{}", Some(Code::CONFLICTING_SIDECARS), "a"),
    ] {
        let text = |name: &str, labels: &str, more: &str| object(name, more, &format!("{}egress: [{{hosts: [./*]}}]", selecting(labels)));
        let (a, b) = (text("a", elder, "creationTimestamp: '2020-01-01T00:00:00Z'"), text("b", younger, ""));
        let findings = accepted(&[&a, &b]);
        let said: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Error).collect();
        assert_eq!(said.first().map(|finding| finding.code), code, "{elder} {younger}");
        assert_eq!(said.len(), usize::from(code.is_some()));
        for finding in said {
            assert_eq!(&*finding.resource.as_ref().unwrap().name, about);
            assert!(finding.kept.as_ref().unwrap().contains("Sidecar default/a applies"), "{finding}");
        }
        let elsewhere = b.replace("{name: b", "{namespace: other, name: b");
        assert!(!accepted(&[&a, &elsewhere]).iter().any(Diagnostic::is_error));
    }
}

fn sidecar(spec: &str) -> Sidecar {
    let loaded = load("f", &object("a", "", &spec.replace('\n', "\n  ")), &Options::default());
    assert!(loaded.broken.is_empty(), "{:#?}", loaded.diagnostics);
    match &loaded.resources[0].spec {
        Spec::Sidecar(sidecar) => sidecar.clone(),
        other => panic!("{other:?}"),
    }
}

fn object(name: &str, metadata: &str, spec: &str) -> String {
    let metadata = if metadata.is_empty() { String::new() } else { format!(", {metadata}") };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}{metadata}}}\nspec:\n  {spec}\n"
    )
}

fn accepted(texts: &[&str]) -> Vec<Diagnostic> {
    let file =
        |(index, text): (usize, &&str)| SourceFile { name: index.to_string(), text: Ok((*text).to_owned()) };
    let files: Vec<_> = texts.iter().enumerate().map(file).collect();
    Accepted::default().update(&files, &Options::default()).diagnostics
}
