//! The public keys of an issuer. A key of another kind, for another use or with an algorithm that is not its own is none:
//! what algorithm a token is checked by is said by the key, never by the token alone.
// spec: RFC 7517, RFC 7518, RFC 8037; envoy source/common/jwt/jwks.cc

use super::{Signatures, TokenFault, token::Token};
use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;
use std::fmt;

/// How a token is signed. HMAC and `none` are not among them: whoever can check such a token can make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names of RFC 7518 3.1 and RFC 8037 3.1")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// A public key, as its algorithm takes it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicKey {
    /// Both numbers big-endian, without leading zeros.
    Rsa {
        /// `n`.
        modulus: Box<[u8]>,
        /// `e`.
        exponent: Box<[u8]>,
    },
    /// A point on P-256, not compressed: 4, x, y.
    P256([u8; 65]),
    /// A point on P-384, likewise.
    P384([u8; 97]),
    /// A point on Ed25519.
    Ed25519([u8; 32]),
}

/// The keys of an issuer that can be used. Its `Debug` says how many there are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeySet(Box<[Key]>);

#[derive(Clone, PartialEq, Eq)]
struct Key {
    /// `kid`; empty is none.
    id: String,
    /// `alg`, if the key has one: the only one then.
    algorithm: Option<Algorithm>,
    public: PublicKey,
}

/// Why a text holds no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// It is no JSON object with a list `keys`.
    #[error("it is no JSON object with a list `keys`")]
    NoSet,
    /// No key in it can be used.
    #[error("none of its keys is a public one for RS, PS, ES256, ES384 or EdDSA signatures")]
    NoneUsable,
    /// It has more keys than are tried for a token.
    #[error("it has more than {} keys", KeySet::KEYS_MAX)]
    TooMany,
}

impl Algorithm {
    /// Returns the algorithm called `name`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

impl KeySet {
    /// A token that names no key is tried with each, so there must not be many.
    pub const KEYS_MAX: usize = 100;

    /// Reads a JSON Web Key Set.
    ///
    /// # Errors
    ///
    /// Returns why there is no key in it to be used.
    pub fn parse(text: &[u8]) -> Result<Self, KeysError> {
        let set: Value = serde_json::from_slice(text).map_err(|_| KeysError::NoSet)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(KeysError::NoSet)?;
        Self::of(keys)
    }

    /// Returns those of `keys` that can be used.
    ///
    /// # Errors
    ///
    /// Returns that there are none, or too many.
    pub fn of(keys: &[Value]) -> Result<Self, KeysError> {
        let usable: Box<[Key]> = keys.iter().take(Self::KEYS_MAX + 1).filter_map(Key::read).collect();
        match usable.len() {
            _ if keys.len() > Self::KEYS_MAX => Err(KeysError::TooMany),
            0 => Err(KeysError::NoneUsable),
            _ => Ok(Self(usable)),
        }
    }

    /// Returns how many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the signature of `token`.
    pub(super) fn check(&self, token: &Token<'_>, signatures: &impl Signatures) -> Result<(), TokenFault> {
        if self.is_empty() {
            return Err(TokenFault::NoKeys);
        }
        let mut fitting = self.0.iter().filter(|key| key.fits(token)).peekable();
        if fitting.peek().is_none() {
            return Err(TokenFault::NoFittingKey);
        }
        let (message, signature) = (token.signed.as_bytes(), &token.signature);
        match fitting.any(|key| signatures.is_good(token.algorithm, &key.public, message, signature)) {
            true => Ok(()),
            false => Err(TokenFault::Signature),
        }
    }
}

impl Key {
    /// Reads one key; `None` if it is not one that can be used.
    fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).map(|value| value.as_str().ok_or(()));
        let (id, usage) = (text("kid").transpose().ok()?, text("use").transpose().ok()?);
        let algorithm = match text("alg").transpose().ok()? {
            Some(name) => Some(Algorithm::named(name)?),
            None => None,
        };
        let public = PublicKey::read(key)?;
        let is_usable =
            usage.is_none_or(|usage| usage == "sig") && algorithm.is_none_or(|it| public.takes(it));
        is_usable.then(|| Self { id: id.unwrap_or_default().to_owned(), algorithm, public })
    }

    fn fits(&self, token: &Token<'_>) -> bool {
        let is_named = self.id.is_empty() || token.key_id.is_empty() || self.id == token.key_id;
        is_named
            && self.algorithm.is_none_or(|it| it == token.algorithm)
            && self.public.takes(token.algorithm)
    }
}

impl PublicKey {
    fn read(key: &Value) -> Option<Self> {
        let bytes = |name| BASE64URL.decode(key.get(name)?.as_str()?).ok();
        let number = |name| bytes(name).map(without_zeros).filter(|number| !number.is_empty());
        let curve = || key.get("crv")?.as_str();
        match key.get("kty")?.as_str()? {
            "RSA" => Some(Self::Rsa { modulus: number("n")?, exponent: number("e")? }),
            "EC" if curve()? == "P-256" => point(&bytes("x")?, &bytes("y")?).map(Self::P256),
            "EC" if curve()? == "P-384" => point(&bytes("x")?, &bytes("y")?).map(Self::P384),
            "OKP" if curve()? == "Ed25519" => bytes("x")?.try_into().ok().map(Self::Ed25519),
            _ => None,
        }
    }

    /// Returns whether keys of this kind sign by `algorithm`.
    fn takes(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Self::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Self::P256(_) => algorithm == Es256,
            Self::P384(_) => algorithm == Es384,
            Self::Ed25519(_) => algorithm == EdDsa,
        }
    }
}

/// Returns the point with these coordinates, each of full length as RFC 7518 asks.
// spec: RFC 7518 6.2.1.2; SEC 1 2.3.3
fn point<const N: usize>(x: &[u8], y: &[u8]) -> Option<[u8; N]> {
    let is_whole = 2 * x.len() + 1 == N && x.len() == y.len();
    is_whole.then(|| [&[4], x, y].concat().try_into().ok())?
}

fn without_zeros(number: Vec<u8>) -> Box<[u8]> {
    number.into_iter().skip_while(|&byte| byte == 0).collect()
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.len())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa { .. } => "Rsa",
            Self::P256(_) => "P256",
            Self::P384(_) => "P384",
            Self::Ed25519(_) => "Ed25519",
        })
    }
}

/// Issuers pad the numbers of their keys now and then, which RFC 7515 does not know.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_that_is_not_a_public_one_for_signatures_is_none() {
        let rsa = |more: Value| merged(json!({"kty": "RSA", "n": "AMBA", "e": "AQAB"}), more);
        let (x, y) = (BASE64URL.encode([1; 32]), BASE64URL.encode([2; 32]));
        let p256 = |more: Value| merged(json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}), more);
        let ed = |more: Value| merged(json!({"kty": "OKP", "crv": "Ed25519", "x": x}), more);
        for (key, is_usable) in [
            (rsa(json!({})), true),
            (rsa(json!({"alg": "RS256", "use": "sig", "kid": "k"})), true),
            (rsa(json!({"e": "AQ==", "alg": "PS512"})), true),
            (rsa(json!({"alg": "ES256"})), false),
            (rsa(json!({"alg": "HS256"})), false),
            (rsa(json!({"alg": "none"})), false),
            (rsa(json!({"alg": 7})), false),
            (rsa(json!({"kid": 7})), false),
            (rsa(json!({"use": "enc"})), false),
            (rsa(json!({"n": "AAAA"})), false),
            (rsa(json!({"n": "a b"})), false),
            (rsa(json!({"e": null})), false),
            (p256(json!({})), true),
            (p256(json!({"alg": "ES256"})), true),
            (p256(json!({"alg": "ES384"})), false),
            (p256(json!({"crv": "P-384"})), false),
            (p256(json!({"crv": "P-521"})), false),
            (p256(json!({"x": "AQ"})), false),
            (ed(json!({"alg": "EdDSA"})), true),
            (ed(json!({"crv": "X25519"})), false),
            (ed(json!({"x": "AQ"})), false),
            (json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}), false),
            (json!({"kty": "oct", "k": "c2VjcmV0", "alg": "RS256"}), false),
            (json!({"n": "AMBA", "e": "AQAB"}), false),
            (json!("RSA"), false),
            (json!(null), false),
        ] {
            let read = KeySet::of(std::slice::from_ref(&key));
            assert_eq!(read.map(|keys| keys.len()).ok(), is_usable.then_some(1), "{key}");
        }
    }

    #[test]
    fn a_text_without_keys_says_why_it_has_none() {
        let many = json!({"keys": vec![json!({"kty": "RSA", "n": "AMBA", "e": "AQAB"}); 101]}).to_string();
        for (text, why) in [
            ("", KeysError::NoSet),
            ("[]", KeysError::NoSet),
            ("{\"keys\": {}}", KeysError::NoSet),
            ("{\"keys\": []}", KeysError::NoneUsable),
            ("{\"keys\": [7]}", KeysError::NoneUsable),
            (&many, KeysError::TooMany),
        ] {
            assert_eq!(KeySet::parse(text.as_bytes()), Err(why), "{text:.40}");
        }
    }

    #[test]
    fn no_key_is_shown() {
        let keys = KeySet::of(&[json!({"kty": "RSA", "n": "AMBA", "e": "AQAB"})]).unwrap();
        assert_eq!(format!("{keys:?} {:?}", keys.0[0].public), "KeySet(1 keys) Rsa");
    }

    fn merged(mut key: Value, more: Value) -> Value {
        let (Some(key_fields), Some(more)) = (key.as_object_mut(), more.as_object()) else { return key };
        key_fields.extend(more.clone());
        key
    }
}
