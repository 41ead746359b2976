//! Tells a verified caller that a failed answer is owed to a failed call, which was retried here already.
//!
//! The header is the mesh's: what a handler sets, or passes on from elsewhere, goes to nobody.

use http::Response;
use mesh_core::retry::{Provenance, grpc_status};

/// Writes into `response` what failed calls of its handler said of their retries, if it has failed itself and the caller
/// is a verified peer.
pub(crate) fn tell<B>(response: &mut Response<B>, provenance: Provenance, verified: bool) {
    let failed =
        response.status().is_server_error() || grpc_status(response.headers()).is_some_and(|code| code != 0);
    let headers = response.headers_mut();
    headers.remove(Provenance::HEADER);
    if let (true, true, Some(value)) = (failed, verified, provenance.header_value()) {
        headers.insert(Provenance::HEADER, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verified_caller_is_told_and_only_of_a_failure() {
        let table = [
            (503, None, true, true),
            (200, Some("14"), true, true),
            (200, None, true, false),
            (200, Some("0"), true, false),
            (404, None, true, false),
            (503, None, false, false),
        ];
        for (status, grpc, verified, told) in table {
            let mut response = Response::builder().status(status).header(Provenance::HEADER, "forged");
            if let Some(code) = grpc {
                response = response.header("grpc-status", code);
            }
            let mut response = response.body(()).unwrap();
            tell(&mut response, Provenance::RETRIED, verified);
            let value = response.headers().get(Provenance::HEADER);
            assert_eq!(
                value.map(http::HeaderValue::as_bytes),
                told.then_some(&b"retried"[..]),
                "{status} {grpc:?}"
            );
        }
    }
}
