//! One request from outside, passed on into the mesh, and its answer on the way back.

use axum::body::Body;
use http::{HeaderMap, HeaderName, Request, Response};
use mesh::{MeshClient, server::RequestBody};
use std::convert::Infallible;

/// Sends `request` where the Gateway's rules say, or answers as they say.
pub(crate) async fn forward(
    client: MeshClient,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Infallible> {
    let mut response = match client.send(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => error.into_response().map(Body::from),
    };
    keep_inside(response.headers_mut());
    Ok(response)
}

/// Takes off what is for the mesh only, and what belongs to the connection that the answer came on.
fn keep_inside(headers: &mut HeaderMap) {
    let is_inside =
        |name: &&HeaderName| name.as_str().starts_with("x-mesh-") || OF_ONE_HOP.contains(&name.as_str());
    let inside: Vec<HeaderName> = headers.keys().filter(is_inside).cloned().collect();
    for name in inside {
        headers.remove(name);
    }
}

// spec: rfc9110 7.6.1
const OF_ONE_HOP: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
