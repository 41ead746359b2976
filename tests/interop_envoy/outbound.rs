//! The caller is ours, the sidecar of the workload is an Envoy.

use crate::{
    certificates::{Authority, DOMAIN, id},
    envoy::Envoy,
    harness::{Echo, Outcome, command},
    sidecar::{Inbound, Mode, inbound},
    upstream,
};
use serde_json::json;
use std::{fmt::Write as _, net::SocketAddr, path::Path};

#[test]
#[ignore = "needs an Envoy: interop/envoy/run"]
fn a_workload_behind_an_envoy_is_called_as_by_a_sidecar() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let foreign = Authority::new(directory.path(), "foreign");
    let envoy = sidecars(directory.path(), &authority, &foreign);
    let config = directory.path().join("mesh.yaml");
    std::fs::write(&config, mesh(&envoy)).unwrap();
    let caller = echo("caller", &authority, &config);
    let stranger = echo("stranger", &authority, &config);

    for (service, protocol) in [
        ("strict-h1", "HTTP/1.1"),
        ("strict-h2", "HTTP/2"),
        ("permissive-h1", "HTTP/1.1"),
        ("permissive-h2", "HTTP/2"),
    ] {
        let call = call(&caller, service);
        let seen = call.body.as_str().unwrap_or_default();
        assert!(call.is_fine(), "{service} by {protocol}: {call:?}");
        let sni = format!("x-seen-sni: outbound_.80_._.{service}.default.svc.cluster.local");
        assert!(seen.contains(&sni), "{service}: {seen}");
        assert!(seen.contains(&format!("URI={}", id("caller"))), "{service}: {seen}");
    }
    assert!(call(&caller, "permissive-plain").is_fine(), "{:?}", call(&caller, "permissive-plain"));

    for (echo, service, why) in [
        (&caller, "strict-plain", "a sidecar that is STRICT takes no plaintext"),
        (&stranger, "strict-h1", "the sidecar does not let this account in"),
        (&stranger, "strict-h2", "the sidecar does not let this account in"),
        (&caller, "impostor", "the sidecar has the certificate of another account"),
        (&caller, "foreign", "the certificate is signed by somebody else"),
    ] {
        let call = call(echo, service);
        assert!(call.status == 503 && call.error.is_some(), "{why}, and yet: {call:?}");
        assert!(!call.body.to_string().contains("x-seen-sni"), "{why}: {call:?}");
    }
}

#[track_caller]
fn call(echo: &Echo, service: &str) -> Outcome {
    echo.call(&format!("http://{service}/"), 1).remove(0)
}

/// Starts the sidecars of all workloads.
fn sidecars(directory: &Path, authority: &Authority, foreign: &Authority) -> Envoy {
    let application = upstream::serve().port();
    let (payment, other, untrusted) =
        (authority.issue("payment"), authority.issue("other"), foreign.issue("payment"));
    let callers = json!({"exact": id("caller")});
    let roots = authority.roots();
    let both = [
        ("strict", Mode::Strict, &payment),
        ("permissive", Mode::Permissive, &payment),
        ("impostor", Mode::Strict, &other),
        ("foreign", Mode::Strict, &untrusted),
    ]
    .map(|(name, mode, own)| {
        inbound(&Inbound {
            name,
            listen: 0,
            mode,
            own,
            roots: &roots,
            callers: &callers,
            application: Some(application),
            filters: &[],
        })
    });
    let (listeners, clusters): (Vec<_>, Vec<_>) = both.into_iter().unzip();
    Envoy::start(directory, "sidecars", &listeners, &clusters)
}

/// Returns services of the account `payment` behind those sidecars, and how each is called.
fn mesh(envoy: &Envoy) -> String {
    let mut yaml = String::new();
    for (service, listener, policy) in [
        ("strict-h1", "strict", "connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}"),
        ("strict-h2", "strict", "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}"),
        ("strict-plain", "strict", "tls: {mode: DISABLE}"),
        ("permissive-h1", "permissive", "connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}"),
        ("permissive-h2", "permissive", "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}"),
        ("permissive-plain", "permissive", "tls: {mode: DISABLE}"),
        ("impostor", "impostor", "tls: {mode: ISTIO_MUTUAL}"),
        ("foreign", "foreign", "tls: {mode: ISTIO_MUTUAL}"),
    ] {
        let _ = write!(yaml, "{}", service_of(service, envoy.address(listener), policy));
    }
    yaml
}

fn service_of(service: &str, address: SocketAddr, policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {service}}}
spec:
  hosts: [{service}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints:
  - address: {}
    ports: {{http: {}}}
    labels: {{security.istio.io/tlsMode: istio}}
    serviceAccount: payment
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {service}}}
spec: {{host: {service}, trafficPolicy: {{{policy}}}}}
---
",
        address.ip(),
        address.port()
    )
}

fn echo(account: &str, authority: &Authority, config: &Path) -> Echo {
    let own = authority.issue(account);
    let mut command = command("echo");
    command.args(["--service", account, "--version", "v1", "--config"]).arg(config);
    command.arg("--cert").arg(own.certificate).arg("--key").arg(own.key);
    command.arg("--bundle").arg(format!("{DOMAIN}={}", authority.roots().display()));
    Echo::start(account, &mut command).ready()
}
