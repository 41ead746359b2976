//! The sidecar of a caller is an Envoy, the workload is ours.

use crate::{
    certificates::{Authority, DOMAIN, id},
    envoy::Envoy,
    harness::{Echo, Reply, command},
    sidecar::{CallerTls, Route, SNI, Version, outbound},
    wire::{Wire, connect, get},
};
use std::path::PathBuf;
use tempfile::TempDir;

/// What a caller gets who is let in.
const SERVED: &str = "served";
/// What a caller gets whom policy forbids.
const DENIED: &str = "denied";
/// What a caller gets whose connection is closed, or who closes it himself.
const NOTHING: &str = "nothing";

#[test]
#[ignore = "needs an Envoy: interop/envoy/run"]
fn a_caller_behind_an_envoy_is_let_in_or_not_as_by_a_sidecar() {
    let bed = Bed::new();
    for (mode, [h1, h2, tcp, stranger, foreign, nobody, plain, fussy]) in [
        ("STRICT", [SERVED, SERVED, SERVED, DENIED, NOTHING, NOTHING, NOTHING, NOTHING]),
        ("PERMISSIVE", [SERVED, SERVED, SERVED, DENIED, NOTHING, DENIED, DENIED, NOTHING]),
    ] {
        let echo = bed.echo(mode, &bed.policy(mode));
        let envoy = bed.envoy(mode, echo.mesh.port());
        for (listener, expected) in [
            ("h1", h1),
            ("h2", h2),
            ("tcp", tcp),
            ("stranger", stranger),
            ("foreign", foreign),
            ("nobody", nobody),
            ("plain", plain),
            ("fussy", fussy),
        ] {
            let reply = get(envoy.address(listener), "/");
            assert_eq!(got(&reply), expected, "{listener} under {mode}: {reply:?}");
        }
    }
}

#[test]
#[ignore = "needs an Envoy: interop/envoy/run"]
fn permissive_serves_a_caller_without_an_identity_where_no_policy_forbids_it() {
    let bed = Bed::new();
    let echo = bed.echo("PERMISSIVE", &peer_authentication("PERMISSIVE"));
    let envoy = bed.envoy("PERMISSIVE", echo.mesh.port());
    for (listener, peer) in [("plain", None), ("nobody", None), ("h2", Some(id("caller")))] {
        let reply = get(envoy.address(listener), "/");
        assert_eq!(got(&reply), SERVED, "{listener}: {reply:?}");
        assert_eq!(reply.json()["peer"].as_str(), peer.as_deref(), "{listener}: {reply:?}");
    }
}

#[test]
#[ignore = "needs an Envoy: interop/envoy/run"]
fn the_protocol_is_the_one_that_the_envoy_wants() {
    let bed = Bed::new();
    let echo = bed.echo("STRICT", &bed.policy("STRICT"));
    let envoy = bed.envoy("STRICT", echo.mesh.port());
    for (listener, protocol) in [("h1", "HTTP/1.1"), ("h2", "HTTP/2.0"), ("tcp", "HTTP/1.1")] {
        let reply = get(envoy.address(listener), "/");
        assert_eq!(reply.json()["protocol"], protocol, "{listener}: {reply:?}");
    }
}

fn got(reply: &Reply) -> &'static str {
    match (reply.status, reply.body.as_str()) {
        (200, _) => SERVED,
        (403, "RBAC: access denied") => DENIED,
        (503, body) if body.starts_with("upstream connect error") => NOTHING,
        _ => "something else",
    }
}

/// The sidecars here pass on what their application says; a real one does not.
#[test]
#[ignore = "needs an Envoy: interop/envoy/run"]
fn what_an_application_says_of_certificates_is_replaced_by_what_the_handshake_proved() {
    let bed = Bed::new();
    let echo = bed.echo("STRICT", &bed.policy("STRICT"));
    let envoy = bed.envoy("STRICT", echo.mesh.port());
    for listener in ["h1", "h2"] {
        let request = "GET / HTTP/1.1\r\nhost: echo\r\nx-forwarded-client-cert: URI=spiffe://forged\r\n\r\n";
        let stream = connect(envoy.address(listener)).unwrap();
        let reply = Wire::new(stream).ask(request.as_bytes()).unwrap().reply;
        let said = reply.json()["headers"]["x-forwarded-client-cert"].to_string();
        assert!(said.contains(&format!("By={};Hash=", id("echo"))), "{listener}: {reply:?}");
        assert!(said.contains(&format!(";URI={}", id("caller"))), "{listener}: {reply:?}");
        assert!(!said.contains("forged"), "{listener}: {reply:?}");
    }
}

/// Files of two authorities: that of the mesh, and one that signs for the same trust domain and is not trusted.
struct Bed {
    directory: TempDir,
    authority: Authority,
    foreign: Authority,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [authority, foreign] =
            ["authority", "foreign"].map(|name| Authority::new(directory.path(), name));
        Self { directory, authority, foreign }
    }

    /// Only `caller` is let in, and only if it asks for the name that istiod gives.
    fn policy(&self, mode: &str) -> String {
        format!(
            "{}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: caller, namespace: default}}
spec:
  rules:
  - from: [{{source: {{principals: [{DOMAIN}/ns/default/sa/caller]}}}}]
    when: [{{key: connection.sni, values: [{SNI}]}}]
",
            peer_authentication(mode)
        )
    }

    /// Starts an echo in `mode` with the objects of `config`.
    fn echo(&self, mode: &str, config: &str) -> Echo {
        let path = self.path(&format!("{mode}.yaml"));
        std::fs::write(&path, config).unwrap();
        let own = self.authority.issue("echo");
        let mut command = command("echo");
        command.args(["--service", "echo", "--version", "v1", "--config"]).arg(path);
        command.arg("--cert").arg(own.certificate).arg("--key").arg(own.key);
        command.arg("--bundle").arg(format!("{DOMAIN}={}", self.authority.roots().display()));
        Echo::start(&format!("echo {mode}"), &mut command).ready()
    }

    /// Starts the sidecars of all callers.
    fn envoy(&self, mode: &str, port: u16) -> Envoy {
        let [caller, stranger] = ["caller", "stranger"].map(|account| self.authority.issue(account));
        let foreign = self.foreign.issue("caller");
        let (roots, echo, other) = (self.authority.roots(), id("echo"), id("other"));
        let tls = |own, version: Version| CallerTls {
            own,
            roots: &roots,
            expected: &echo,
            offered: version.offered(),
        };
        use Version::{Http1, Http2};
        // What a sidecar offers that takes HTTP for mere TCP.
        let tcp = CallerTls { offered: &["istio-peer-exchange", "istio"], ..tls(Some(&caller), Http1) };
        let routes = [
            ("h1", Http1, Some(tls(Some(&caller), Http1))),
            ("h2", Http2, Some(tls(Some(&caller), Http2))),
            ("tcp", Http1, Some(tcp)),
            ("stranger", Http2, Some(tls(Some(&stranger), Http2))),
            ("foreign", Http2, Some(tls(Some(&foreign), Http2))),
            ("nobody", Http2, Some(tls(None, Http2))),
            ("plain", Http1, None),
            ("fussy", Http2, Some(CallerTls { expected: &other, ..tls(Some(&caller), Http2) })),
        ];
        let both = routes.map(|(name, version, tls)| outbound(&Route { name, port, version, tls }));
        let (listeners, clusters): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        Envoy::start(self.directory.path(), &format!("callers of {mode}"), &listeners, &clusters)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn peer_authentication(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: {mode}}}}}
"
    )
}
