//! TLS to servers outside of the mesh: the modes SIMPLE and MUTUAL of a DestinationRule, and `https`.

use crate::support::*;
use mesh_client::ErrorKind;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use std::{path::Path, sync::Arc};

#[tokio::test]
async fn a_server_of_the_named_authority_and_host_is_called_over_tls() {
    let bed = Bed::new(&["api.example.com"], false).await;
    let mesh = bed.mesh("mode: SIMPLE").await;
    assert_eq!(mesh.text("http://api.example.com/").await, "over TLS");
    assert_eq!(mesh.text("https://api.example.com:80/").await, "over TLS");
}

#[tokio::test]
async fn a_server_of_another_authority_or_host_gets_no_request() {
    for (names, block) in [
        (&["api.example.com"][..], "mode: SIMPLE, caCertificates: OTHER"),
        (&["api.example.com"], "mode: SIMPLE, caCertificates: system"),
        (&["other.example.com"], "mode: SIMPLE"),
        (&["api.example.com"], "mode: SIMPLE, subjectAltNames: [other.example.com]"),
        (&["spiffe://td/ns/a/sa/b"], "mode: SIMPLE, subjectAltNames: ['spiffe://td/ns/a/sa/c']"),
    ] {
        let bed = Bed::new(names, false).await;
        let mesh = bed.mesh(block).await;
        let error = mesh.get("http://api.example.com/").await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_been_sent()), (ErrorKind::Tls, false), "{block}: {error}");
    }
}

#[tokio::test]
async fn one_of_the_listed_names_is_enough_whatever_the_host_is_called() {
    for (names, block) in [
        (&["other.example.com"][..], "mode: SIMPLE, subjectAltNames: [a.example.com, other.example.com]"),
        (&["spiffe://td/ns/a/sa/b"], "mode: SIMPLE, subjectAltNames: ['spiffe://td/ns/a/sa/b']"),
        (&["other.example.com"], "mode: SIMPLE, sni: other.example.com"),
        (&["other.example.com"], "mode: SIMPLE, insecureSkipVerify: true"),
    ] {
        let bed = Bed::new(names, false).await;
        assert_eq!(bed.mesh(block).await.text("http://api.example.com/").await, "over TLS", "{block}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_the_one_of_the_rule() {
    let bed = Bed::new(&["api.example.com"], true).await;
    let bare = bed.mesh("mode: SIMPLE").await;
    assert!(bare.get("http://api.example.com/").await.is_err());
    let mesh = bed.mesh("mode: MUTUAL, clientCertificate: CERT, privateKey: KEY").await;
    assert_eq!(mesh.text("http://api.example.com/").await, "over TLS");
}

#[tokio::test]
async fn a_server_whose_certificate_is_revoked_gets_no_request() {
    let bed = Bed::new(&["api.example.com"], false).await;
    let mesh = bed.mesh("mode: SIMPLE, caCrl: NONE").await;
    assert_eq!(mesh.text("http://api.example.com/").await, "over TLS");
    let mesh = bed.mesh("mode: SIMPLE, caCrl: ALL").await;
    let error = mesh.get("http://api.example.com/").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_been_sent()), (ErrorKind::Tls, false), "{error}");
}

#[tokio::test]
async fn a_file_that_does_not_read_is_named_and_nothing_goes_out_in_plaintext() {
    let bed = Bed::new(&["api.example.com"], false).await;
    let mesh = bed.mesh("mode: SIMPLE, caCertificates: MISSING").await;
    let error = mesh.get("http://api.example.com/").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert!(error.to_string().contains("missing.pem"), "{error}");
    assert_eq!(bed.server.accepted(), 0);
}

#[tokio::test]
async fn an_authority_that_is_replaced_in_its_file_is_the_one_that_counts() {
    let bed = Bed::new(&["api.example.com"], false).await;
    let mesh = bed.mesh("mode: SIMPLE, caCertificates: OTHER").await;
    assert!(mesh.get("http://api.example.com/").await.is_err());
    std::fs::write(bed.path("other.pem"), bed.ca.pem() + "\n").unwrap();
    assert_eq!(mesh.text("http://api.example.com/").await, "over TLS");
}

#[tokio::test]
async fn https_is_never_sent_in_plaintext() {
    let server = Server::start(|_| async { answer("plain") }).await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    let error = mesh.get("https://reviews:80/").await.unwrap_err();
    assert_eq!((error.kind(), server.accepted()), (ErrorKind::Request, 0));
    assert!(error.to_string().contains("mode: SIMPLE"), "{error}");
}

#[tokio::test]
async fn https_to_a_host_that_the_mesh_does_not_know_is_verified_by_the_systems_authorities() {
    let bed = Bed::new(&["localhost"], false).await;
    let mesh = Mesh::new("").await;
    let url = format!("https://localhost:{}/", bed.server.address.port());
    let error = mesh.get(&url).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_been_sent()), (ErrorKind::Tls, false), "{error}");
}

/// A server outside of the mesh, and files beside it.
struct Bed {
    ca: Ca,
    server: Server,
    directory: tempfile::TempDir,
}

impl Bed {
    /// A server whose certificate carries `names`, and which asks for one of the same authority if it is `mutual`.
    async fn new(names: &[&str], mutual: bool) -> Self {
        let ca = Ca::new();
        let (certificate, key) = ca.issue(names);
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = mesh_runtime::crypto::provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match mutual {
            false => builder.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                let pem = ca.pem();
                roots
                    .add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
                    .unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let server = Server::start_outside(config, |_| async { answer("over TLS") }).await;
        let directory = tempfile::tempdir().unwrap();
        let (client, client_key) = ca.issue(&["client.example.com"]);
        let files = [
            ("ca.pem", ca.pem()),
            ("other.pem", Ca::new().pem()),
            ("none.pem", ca.revocations(false)),
            ("all.pem", ca.revocations(true)),
            ("cert.pem", client.pem()),
            ("key.pem", client_key.serialize_pem()),
        ];
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Self { ca, server, directory }
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.directory.path().join(file)
    }

    /// A mesh that calls the server as api.example.com with these settings; capitals stand for files.
    async fn mesh(&self, settings: &str) -> Mesh {
        let shown = |path: &Path| path.display().to_string();
        let mut settings = settings.to_owned();
        if !settings.contains("caCertificates") && !settings.contains("insecureSkipVerify") {
            settings += ", caCertificates: CA";
        }
        for (name, file) in [
            ("OTHER", "other.pem"),
            ("MISSING", "missing.pem"),
            ("NONE", "none.pem"),
            ("ALL", "all.pem"),
            ("CERT", "cert.pem"),
            ("KEY", "key.pem"),
            ("CA", "ca.pem"),
        ] {
            settings = settings.replace(&format!(": {name}"), &format!(": {}", shown(&self.path(file))));
        }
        Mesh::new(&format!(
            "
{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: api}}, spec: {{hosts: [api.example.com],
resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}],
endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]}}}}
---
{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: api}}, spec: {{host: api.example.com,
trafficPolicy: {{tls: {{{settings}}}}}}}}}
",
            self.server.address.port()
        ))
        .await
    }
}
