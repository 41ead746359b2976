//! What SPIFFE's leaf rules ask of a certificate, read from its DER.

use std::time::SystemTime;

/// The facts about a leaf certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The serial number in hex.
    pub serial: String,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// Every URI SAN, as written.
    pub uris: Vec<String>,
}
