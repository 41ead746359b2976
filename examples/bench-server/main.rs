//! The called service of the performance lab: a mesh server that is STRICT and lets in one identity.
//!
//! `GET /charge` answers 1024 bytes of JSON that name the version. All of it is set by the environment: `LAB_LISTEN`,
//! `LAB_VERSION`, `LAB_CERT`, `LAB_KEY`, `LAB_CA`, `LAB_ID`, `LAB_PEER_ID`, `LAB_WORKERS`; HTTP/1.1 or HTTP/2 is the
//! caller's choice, by ALPN. Ends on SIGTERM.

#[path = "../bench-client/lab.rs"]
mod lab;

use axum::{
    Router,
    http::header::{CONTENT_TYPE, HeaderName},
    routing::get,
};
use bytes::Bytes;
use lab::{BoxError, variable};
use mesh::core::identity::SpiffeId;

fn main() -> Result<(), BoxError> {
    lab::log_to_stderr();
    lab::runtime()?.block_on(run())
}

async fn run() -> Result<(), BoxError> {
    let version = variable("LAB_VERSION")?;
    let (own, peer) = (lab::identity("LAB_ID")?, lab::identity("LAB_PEER_ID")?);
    let policy = policy(lab::account("LAB_ID", &own)?.0, &peer);
    let (mesh, _config) = lab::start("payment-service", Some(&version), &policy).await?;
    let body = body(&version)?;
    let app = Router::new().route("/charge", get(move || std::future::ready(answer(&body))));
    Ok(mesh.serve(&variable("LAB_LISTEN")?, app).await?)
}

fn answer(body: &Bytes) -> ([(HeaderName, &'static str); 1], Bytes) {
    ([(CONTENT_TYPE, "application/json")], body.clone())
}

/// Returns exactly 1 KiB of JSON that names the version that served it.
fn body(version: &str) -> Result<Bytes, BoxError> {
    let head = format!(r#"{{"service":"payment-service","version":"{version}","filler":""#);
    let tail = r#""}"#;
    let filler = 1024_usize.checked_sub(head.len() + tail.len()).ok_or("LAB_VERSION is too long")?;
    Ok(Bytes::from(head + &"x".repeat(filler) + tail))
}

/// Writes the policy of the server's own namespace: mutual TLS only, and of those only `peer`.
fn policy(namespace: &str, peer: &SpiffeId) -> String {
    // Istio writes a principal without the scheme.
    let principal = format!("{}{}", peer.trust_domain(), peer.path());
    format!(
        "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: \"{namespace}\"}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: payment-service, namespace: \"{namespace}\"}}
spec:
  rules:
  - from:
    - source: {{principals: [\"{principal}\"]}}
"
    )
}
