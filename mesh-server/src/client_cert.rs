//! Who called, in the words of `x-forwarded-client-cert`: `By=…;Hash=…;Subject="";URI=…`.
// spec: envoy config_http_conn_man_headers_x-forwarded-client-cert; istio sidecar inbound, set_current_client_cert_details

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::identity::SpiffeId;
use mesh_runtime::{
    crypto,
    identity::{Leaf, VerifiedPeer},
};
use std::fmt::Write as _;

/// What the header says of the caller of one connection.
#[derive(Clone, Debug)]
pub(crate) struct ClientCert(HeaderValue);

impl ClientCert {
    /// Returns what is to be said of `peer` by the workload `own`. A subject, of which SPIFFE asks for none, is left out.
    pub(crate) fn of(peer: &VerifiedPeer, own: Option<&SpiffeId>) -> Option<Self> {
        let mut said = own.map_or_else(String::new, |own| format!("By={own};"));
        said.push_str("Hash=");
        for byte in crypto::sha256(peer.certificate()) {
            let _ = write!(said, "{byte:02x}");
        }
        if Leaf::parse(peer.certificate()).is_ok_and(|leaf| !leaf.has_subject) {
            said.push_str(";Subject=\"\"");
        }
        let _ = write!(said, ";URI={}", peer.id());
        HeaderValue::try_from(said).ok().map(Self)
    }

    /// Adds it behind what is there already.
    pub(crate) fn append(&self, headers: &mut HeaderMap) {
        let said = headers.get_all(X_FORWARDED_CLIENT_CERT).iter().chain([&self.0]);
        let said = said.map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b","[..]);
        if let Ok(said) = HeaderValue::from_bytes(&said) {
            headers.insert(X_FORWARDED_CLIENT_CERT, said);
        }
    }

    /// Puts it in the place of whatever is there.
    pub(crate) fn replace(&self, headers: &mut HeaderMap) {
        headers.insert(X_FORWARDED_CLIENT_CERT, self.0.clone());
    }
}

pub(crate) const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
