//! The signatures of tokens, judged by the provider's own primitives.
// spec: RFC 7518 3.3 to 3.5, RFC 8037 3.1

use super::backend::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use mesh_core::authenticate::{Algorithm, PublicKey, Signatures};

/// Judges the signatures of tokens. RSA keys of less than 2,048 bits prove nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenSignatures;

impl Signatures for TokenSignatures {
    fn is_good(&self, algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        match (key, algorithm) {
            (PublicKey::Rsa { modulus, exponent }, algorithm) => rsa(algorithm).is_some_and(|parameters| {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, message, signature).is_ok()
            }),
            (PublicKey::P256(point), Algorithm::Es256) => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
                key.verify(message, signature).is_ok()
            }
            (PublicKey::P384(point), Algorithm::Es384) => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point);
                key.verify(message, signature).is_ok()
            }
            (PublicKey::Ed25519(point), Algorithm::EdDsa) => {
                let key = UnparsedPublicKey::new(&signature::ED25519, point);
                key.verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
