//! The cryptography provider, and the few primitives taken from it. Always handed over explicitly: nothing here installs
//! a provider for the process, or relies on one that somebody else installed.

#[cfg(feature = "aws-lc-rs")]
pub(crate) use aws_lc_rs as backend;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub(crate) use ring as backend;
#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
compile_error!("mesh needs a TLS provider: enable the feature `ring` (the default) or `aws-lc-rs`");

mod signatures;

pub use signatures::TokenSignatures;

use rustls::{RootCertStore, crypto::CryptoProvider};
use std::sync::{Arc, LazyLock};

/// The random number generator of the operating system failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomFailed;

/// Returns the provider: `aws-lc-rs` where that feature is on, else `ring`.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs as tls;
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    use rustls::crypto::ring as tls;
    Arc::new(tls::default_provider())
});

/// Returns the SHA-256 of `data`.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(backend::digest::digest(&backend::digest::SHA256, data).as_ref());
    hash
}

/// Returns the authorities that the system trusts. Reads files: not for the path of a request.
///
/// # Errors
///
/// Returns, in words, that there are none.
pub fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system's store may hold certificates that nobody can use; the others count.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    match (usable, found.errors.first()) {
        (0, Some(error)) => Err(format!("the system's authorities cannot be read: {error}")),
        (0, None) => Err("the system has no authorities".to_owned()),
        _ => Ok(roots),
    }
}

/// Returns `N` random bytes that nobody can guess.
///
/// # Errors
///
/// Returns that the operating system gave none; there is no weaker source to fall back to.
pub fn random<const N: usize>() -> Result<[u8; N], RandomFailed> {
    let mut bytes = [0; N];
    provider().secure_random.fill(&mut bytes).map_err(|_| RandomFailed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_sha256() {
        let hex: String = sha256(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn two_random_draws_differ() {
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
    }
}
