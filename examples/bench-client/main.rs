//! The calling service of the performance lab: plain HTTP/1.1 in, one call through the mesh out.
//!
//! `GET /pay` makes exactly one `GET http://payment-service/charge` and answers with what came back. All of it is set
//! by the environment: `LAB_LISTEN`, `LAB_PROTO` (`h1` or `h2`), `LAB_CERT`, `LAB_KEY`, `LAB_CA`, `LAB_ID`,
//! `LAB_PEER_ID`, `LAB_UPSTREAMS`, `LAB_MESH_CONFIG`, `LAB_WORKERS`. Ends on SIGTERM.

mod lab;

use axum::{Router, body::Body, extract::State, routing::get, serve::ListenerExt};
use http::{
    HeaderName, HeaderValue, Response, Uri,
    header::{CONTENT_TYPE, USER_AGENT},
};
use http_body_util::{BodyExt, Empty};
use lab::{BoxError, variable};
use mesh::{MeshClient, client::Protocol, core::identity::SpiffeId};
use std::{fmt::Write, net::SocketAddr};

fn main() -> Result<(), BoxError> {
    lab::log_to_stderr();
    lab::runtime()?.block_on(run())
}

async fn run() -> Result<(), BoxError> {
    let intent = std::fs::read_to_string(variable("LAB_MESH_CONFIG")?)?;
    let (own, peer) = (lab::identity("LAB_ID")?, lab::identity("LAB_PEER_ID")?);
    let namespace = lab::account("LAB_PEER_ID", &peer)?.0;
    if lab::account("LAB_ID", &own)?.0 != namespace {
        // http://payment-service is the one of the caller's own namespace.
        return Err(format!("LAB_ID {own} and LAB_PEER_ID {peer} must be of one namespace").into());
    }
    let registry = service_entry(namespace, &variable("LAB_UPSTREAMS")?, &peer)?;
    let (mesh, _config) = lab::start("orders", None, &format!("{intent}\n---\n{registry}")).await?;
    let protocol = match variable("LAB_PROTO")?.as_str() {
        "h1" => Protocol::Http1,
        "h2" => Protocol::Http2,
        other => return Err(format!("LAB_PROTO is {other:?}; write h1 or h2").into()),
    };
    let client = MeshClient::builder(mesh.workload()).protocol(protocol).build();
    let app = Router::new().route("/pay", get(pay)).with_state(client);
    let listener = tokio::net::TcpListener::bind(variable("LAB_LISTEN")?).await?.tap_io(|tcp| {
        let _ = tcp.set_nodelay(true);
    });
    tokio::select! {
        served = axum::serve(listener, app) => Ok(served?),
        () = mesh::server::shutdown_signal() => Ok(()),
    }
}

/// Calls payment-service once. What failed here is answered as Envoy would answer it.
async fn pay(State(client): State<MeshClient>) -> Response<Body> {
    match call(&client).await {
        Ok(response) => response,
        Err(error) => error.into_response().map(Body::from),
    }
}

async fn call(client: &MeshClient) -> Result<Response<Body>, mesh::client::Error> {
    // The request of the variants that this one is compared with: these two headers and no more.
    let mut request = http::Request::new(Empty::new());
    *request.uri_mut() = Uri::from_static("http://payment-service/charge");
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("lab"));
    request
        .headers_mut()
        .insert(X_REQUEST_ID, HeaderValue::from_static("6f1c8a52-2d1c-4b7e-9a53-5b0f3f0c6a11"));
    let (head, body) = client.send(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = head.status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Writes the registry: `v1=127.0.0.1:1@90,v2=127.0.0.1:2@10` are the endpoints, mesh members that must be `peer`.
fn service_entry(namespace: &str, upstreams: &str, peer: &SpiffeId) -> Result<String, BoxError> {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: payment-service, namespace: \"{namespace}\"}}
spec:
  hosts: [payment-service.{namespace}.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  subjectAltNames: [\"{peer}\"]
  endpoints:
"
    );
    for upstream in upstreams.split(',') {
        let (version, address) = upstream.split_once('=').ok_or("LAB_UPSTREAMS: no `=`")?;
        // The weights are those of the VirtualService.
        let address = address.split_once('@').map_or(address, |(address, _)| address);
        let address: SocketAddr = address.parse().map_err(|error| {
            format!("LAB_UPSTREAMS: {address:?}: {error}; write 127.0.0.1:PORT or [::1]:PORT")
        })?;
        let (ip, port) = (address.ip(), address.port());
        writeln!(
            text,
            "  - {{address: \"{ip}\", ports: {{http: {port}}}, labels: {{version: \"{version}\", security.istio.io/tlsMode: istio}}}}"
        )?;
    }
    Ok(text)
}
