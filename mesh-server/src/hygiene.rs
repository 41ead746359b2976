//! Takes out the headers that only the mesh itself, or a trusted hop, may set, and says who called.
// spec: istio sidecar inbound, forward_client_cert_details; envoy header_sanitizing; CVE-2021-32777 (every value goes)

use crate::{
    client_cert::{ClientCert, X_FORWARDED_CLIENT_CERT},
    peer::Peer,
    reply::Reply,
    step::Step,
    trusted_hops::TrustedHops,
};
use http::{HeaderName, request::Parts};

/// The step that strips `x-forwarded-client-cert`, `x-envoy-*` and the mesh's own `x-mesh-*`; of a caller that has not
/// proven who it is also `x-forwarded-for` and `x-forwarded-proto`.
///
/// From a verified peer (a [`Peer`] in the extensions) `x-envoy-attempt-count` and `x-envoy-expected-rq-timeout-ms`
/// stay: they are what one mesh client tells another server. So does `x-forwarded-for`, which workloads hand on; policy
/// does not go by it. From one of the [`TrustedHops`] everything stays but `x-mesh-*`.
#[derive(Clone, Debug, Default)]
pub struct StripSpoofable {
    trusted: TrustedHops,
    caller: Option<ClientCert>,
}

impl StripSpoofable {
    /// Returns the step that believes `trusted`.
    pub fn new(trusted: TrustedHops) -> Self {
        Self { trusted, caller: None }
    }

    /// Says in `x-forwarded-client-cert` who called, behind what a trusted hop says there.
    pub(crate) fn naming(self, caller: Option<ClientCert>) -> Self {
        Self { caller, ..self }
    }
}

/// Whose headers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Nobody,
    Peer,
    Trusted,
}

impl Step for StripSpoofable {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        let peer = head.extensions.get::<Peer>();
        let sender = match peer {
            _ if self.trusted.includes(peer) => Sender::Trusted,
            Some(_) => Sender::Peer,
            None => Sender::Nobody,
        };
        let spoofable: Vec<HeaderName> =
            head.headers.keys().filter(|name| is_spoofable(name.as_str(), sender)).cloned().collect();
        for name in spoofable {
            head.headers.remove(name);
        }
        if sender == Sender::Trusted
            && let Some(first_caller) = self.trusted.first_caller(&head.headers)
        {
            head.extensions.insert(first_caller);
        }
        match &self.caller {
            Some(caller) if head.headers.contains_key(X_FORWARDED_CLIENT_CERT) => {
                caller.append(&mut head.headers)
            }
            Some(caller) => caller.replace(&mut head.headers),
            None => {}
        }
        Ok(())
    }
}

fn is_spoofable(name: &str, sender: Sender) -> bool {
    match name {
        "x-envoy-attempt-count"
        | "x-envoy-expected-rq-timeout-ms"
        | "x-forwarded-for"
        | "x-forwarded-proto" => sender == Sender::Nobody,
        "x-forwarded-client-cert" => sender != Sender::Trusted,
        name if name.starts_with("x-envoy-") => sender != Sender::Trusted,
        name => name.starts_with("x-mesh-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    /// Passes a request with two values of `name` through the step; returns how many are left.
    fn left(step: &StripSpoofable, name: &str, peer: Option<Peer>) -> usize {
        let request = Request::get("/").header(name, "1").header(name, "2").body(()).unwrap();
        let mut head = request.into_parts().0;
        if let Some(peer) = peer {
            head.extensions.insert(peer);
        }
        step.on_request(&mut head).unwrap();
        head.headers.get_all(name).iter().count()
    }

    #[test]
    fn only_the_mesh_says_what_the_mesh_says_and_a_trusted_hop_what_it_knows() {
        let table = [
            ("x-forwarded-client-cert", 0, 0, 2),
            ("x-envoy-attempt-count", 0, 2, 2),
            ("x-envoy-original-path", 0, 0, 2),
            ("x-mesh-anything", 0, 0, 0),
            ("x-forwarded-host", 2, 2, 2),
            ("x-envoyage", 2, 2, 2),
            ("traceparent", 2, 2, 2),
        ];
        let trusting = StripSpoofable::new(TrustedHops::peers([Peer::for_test().id().clone()]));
        for (name, nobody, peer, trusted) in table {
            assert_eq!(left(&StripSpoofable::default(), name, None), nobody, "{name} of nobody");
            assert_eq!(left(&trusting, name, None), nobody, "{name} of nobody, where somebody is trusted");
            assert_eq!(
                left(&StripSpoofable::default(), name, Some(Peer::for_test())),
                peer,
                "{name} of a peer"
            );
            assert_eq!(left(&trusting, name, Some(Peer::for_test())), trusted, "{name} of a trusted hop");
        }
    }

    /// Of Envoy's list only the ID of a request stays: it is a name, not a claim, and logs want it.
    // spec: envoy configuration/http/http_conn_man/header_sanitizing
    #[test]
    fn what_envoy_takes_from_external_callers_is_taken_from_whoever_proved_nothing() {
        for name in [
            "x-envoy-decorator-operation",
            "x-envoy-downstream-service-cluster",
            "x-envoy-downstream-service-node",
            "x-envoy-expected-rq-timeout-ms",
            "x-envoy-external-address",
            "x-envoy-force-trace",
            "x-envoy-internal",
            "x-envoy-ip-tags",
            "x-envoy-max-retries",
            "x-envoy-retry-grpc-on",
            "x-envoy-retry-on",
            "x-envoy-upstream-alt-stat-name",
            "x-envoy-upstream-rq-per-try-timeout-ms",
            "x-envoy-upstream-rq-timeout-alt-response",
            "x-envoy-upstream-rq-timeout-ms",
            "x-forwarded-client-cert",
            "x-forwarded-for",
            "x-forwarded-proto",
        ] {
            assert_eq!(left(&StripSpoofable::default(), name, None), 0, "{name}");
        }
        assert_eq!(left(&StripSpoofable::default(), "x-request-id", None), 2);
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
            StripSpoofable::default().on_request(&mut head).unwrap();
            proptest::prop_assert!(head.headers.keys().all(|name| !is_spoofable(name.as_str(), Sender::Nobody)));
            proptest::prop_assert!(head.headers.contains_key("x-request-id"));
        }
    }
}
