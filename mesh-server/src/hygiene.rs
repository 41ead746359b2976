//! Takes out the headers that only the mesh itself may set.
// spec: istio sidecar inbound, forward_client_cert_details; envoy header_sanitizing; CVE-2021-32777 (every value goes)

use crate::{peer::Peer, reply::Reply, step::Step};
use http::{HeaderName, request::Parts};

/// The step that strips `x-forwarded-client-cert`, `x-envoy-*` and the mesh's own `x-mesh-*`.
///
/// From a verified peer (a [`Peer`] in the extensions) `x-envoy-attempt-count` and `x-envoy-expected-rq-timeout-ms`
/// stay: they are what one mesh client tells another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StripSpoofable;

impl Step for StripSpoofable {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        let from_peer = head.extensions.get::<Peer>().is_some();
        let spoofable: Vec<HeaderName> =
            head.headers.keys().filter(|name| is_spoofable(name.as_str(), from_peer)).cloned().collect();
        for name in spoofable {
            head.headers.remove(name);
        }
        Ok(())
    }
}

fn is_spoofable(name: &str, from_peer: bool) -> bool {
    match name {
        "x-envoy-attempt-count" | "x-envoy-expected-rq-timeout-ms" => !from_peer,
        "x-forwarded-client-cert" => true,
        name => name.starts_with("x-envoy-") || name.starts_with("x-mesh-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn only_the_mesh_says_what_the_mesh_says() {
        let table = [
            ("x-forwarded-client-cert", false, false),
            ("x-envoy-retry-on", false, false),
            ("x-envoy-attempt-count", false, true),
            ("x-envoy-expected-rq-timeout-ms", false, true),
            ("x-envoy-original-path", false, false),
            ("x-mesh-anything", false, false),
            ("x-forwarded-for", true, true),
            ("x-request-id", true, true),
            ("x-envoyage", true, true),
            ("traceparent", true, true),
        ];
        for (name, from_anybody, from_peer) in table {
            for (stays, peer) in [(from_anybody, None), (from_peer, Some(Peer::for_test()))] {
                let request = Request::get("/").header(name, "1").header(name, "2").body(()).unwrap();
                let mut head = request.into_parts().0;
                head.extensions.extend(
                    peer.map(|peer| {
                        let mut extensions = http::Extensions::new();
                        extensions.insert(peer);
                        extensions
                    })
                    .unwrap_or_default(),
                );
                StripSpoofable.on_request(&mut head).unwrap();
                assert_eq!(head.headers.contains_key(name), stays, "{name}");
            }
        }
    }

    proptest::proptest! {
        /// Also run without bound: fuzz/fuzz_targets/headers.rs.
        #[test]
        fn no_spelling_and_no_number_of_a_header_stays(
            names in proptest::collection::vec("(x-|X-)?(envoy|Envoy|mesh|forwarded)(-[a-zA-Z_]{0,6}){0,3}", 0..12),
        ) {
            let mut request = Request::get("/").header("x-request-id", "1");
            for name in &names {
                request = request.header(name, "1").header(name, "2");
            }
            let Ok(request) = request.body(()) else { return Ok(()) };
            let mut head = request.into_parts().0;
            StripSpoofable.on_request(&mut head).unwrap();
            proptest::prop_assert!(head.headers.keys().all(|name| !is_spoofable(name.as_str(), false)));
            proptest::prop_assert!(head.headers.contains_key("x-request-id"));
        }
    }
}
