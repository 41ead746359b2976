//! PEM: certificates in, everything out. Errors say which block is wrong, and never show a byte of it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _};
use zeroize::Zeroizing;

/// Returns every certificate in `text`; other blocks are passed over. There is at least one.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let number = certificates.len() + 1;
        certificates
            .push(certificate.map_err(|error| format!("certificate {number}: {}", complaint(&error)))?);
    }
    match certificates.is_empty() {
        true => Err("there is no `-----BEGIN CERTIFICATE-----` in it".to_owned()),
        false => Ok(certificates),
    }
}

/// Returns the first private key in `text`.
pub(crate) fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => "there is no `-----BEGIN PRIVATE KEY-----` in it".to_owned(),
        error => complaint(&error).to_owned(),
    })
}

/// Returns a PEM block with lines of 64 characters.
// spec: RFC 7468 section 2
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    // It may be a key, so no copy is left behind: not the base64, and none by growing.
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 2 * label.len() + MARKS_LEN);
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    for at in (0..text.len()).step_by(64) {
        pem.push_str(&text[at..text.len().min(at + 64)]);
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// The dashes, words and line ends of a block, and the end of its last line.
const MARKS_LEN: usize = "-----BEGIN -----\n-----END -----\n\n".len();

/// Says what is wrong without the offending line: it may be one of a key.
fn complaint(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM block has no end",
        pem::Error::IllegalSectionStart { .. } => "a PEM block does not begin properly",
        pem::Error::Base64Decode(_) => "a PEM block is not base64",
        _ => "it is no PEM",
    }
}
