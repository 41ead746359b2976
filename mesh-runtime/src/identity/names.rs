//! Whether a certificate carries a name, for the verifiers that want one of several.

use super::Leaf;
use rustls::{client::verify_server_name, server::ParsedCertificate};
use rustls_pki_types::{CertificateDer, ServerName};

/// Returns whether `leaf` carries one of `names`: a URI as it is written, any other name as a host or address.
pub fn carries_any(leaf: &CertificateDer<'_>, names: &[String]) -> bool {
    names.iter().any(|name| carries(leaf, name))
}

fn carries(leaf: &CertificateDer<'_>, name: &str) -> bool {
    if name.contains("://") {
        return Leaf::parse(leaf).is_ok_and(|leaf| leaf.uris.iter().any(|uri| uri == name));
    }
    let parsed = ParsedCertificate::try_from(leaf);
    parsed.is_ok_and(|leaf| {
        ServerName::try_from(name).is_ok_and(|name| verify_server_name(&leaf, &name).is_ok())
    })
}
