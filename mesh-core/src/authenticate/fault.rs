//! What is wrong with a token, in Envoy's words: they are the body of the answer.
// spec: envoy source/common/jwt/status.cc

use std::fmt;

/// Why a token is not good. Displays as Envoy says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenFault {
    /// It has not the three parts of a token.
    Form,
    /// Its header is not base64url.
    HeaderEncoding,
    /// Its header is not a JSON object.
    HeaderJson,
    /// Its header names no algorithm.
    NoAlgorithm,
    /// It is signed in a way that proves nothing, or that nobody here knows: `none`, HMAC, or with an extension.
    UnknownAlgorithm,
    /// The key it names is no text.
    KeyId,
    /// Its payload is not base64url.
    PayloadEncoding,
    /// Its payload is not a JSON object.
    PayloadJson,
    /// `iss` is no text.
    Issuer,
    /// `sub` is no text.
    Subject,
    /// `iat` is no number of seconds.
    IssuedAt,
    /// `nbf` is no number of seconds.
    NotBefore,
    /// `exp` is no number of seconds.
    Expiry,
    /// `jti` is no text.
    Id,
    /// `aud` is neither a text nor a list of texts.
    Audience,
    /// Its signature is not base64url.
    SignatureEncoding,
    /// No rule is for its issuer.
    UnknownIssuer,
    /// It is not valid yet.
    NotYetValid,
    /// It has expired.
    Expired,
    /// It is for somebody else.
    OtherAudience,
    /// The keys of its issuer could not be fetched, and there are none from before.
    KeysNotFetched,
    /// Among the keys of its issuer is none that can be used.
    NoKeys,
    /// Among the keys of its issuer is none with its ID and algorithm.
    NoFittingKey,
    /// Its signature is not that of its issuer.
    Signature,
}

impl TokenFault {
    /// Returns what Envoy says of it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Form => "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            Self::HeaderEncoding => "Jwt header is an invalid Base64url encoded",
            Self::HeaderJson => "Jwt header is an invalid JSON",
            Self::NoAlgorithm => "Jwt header [alg] field is required and must be a string",
            Self::UnknownAlgorithm => "Jwt header [alg] is not supported",
            Self::KeyId => "Jwt header [kid] field is not a string",
            Self::PayloadEncoding => "Jwt payload is an invalid Base64url encoded",
            Self::PayloadJson => "Jwt payload is an invalid JSON",
            Self::Issuer => "Jwt payload [iss] field is not a string",
            Self::Subject => "Jwt payload [sub] field is not a string",
            Self::IssuedAt => "Jwt payload [iat] field is not an integer",
            Self::NotBefore => "Jwt payload [nbf] field is not an integer",
            Self::Expiry => "Jwt payload [exp] field is not an integer",
            Self::Id => "Jwt payload [jti] field is not a string",
            Self::Audience => "Jwt payload [aud] field is not a string or string list",
            Self::SignatureEncoding => "Jwt signature is an invalid Base64url encoded",
            Self::UnknownIssuer => "Jwt issuer is not configured",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::OtherAudience => "Audiences in Jwt are not allowed",
            Self::KeysNotFetched => "Jwks remote fetch is failed",
            Self::NoKeys => "Jwks doesn't have any valid public key",
            Self::NoFittingKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::Signature => "Jwt verification fails",
        }
    }

    /// Returns this or what another rule says of the same request. That a token is another issuer's says least, as every
    /// rule but one says it; of the others the first counts.
    pub(super) fn or(self, known: Self) -> Self {
        if known == Self::UnknownIssuer { self } else { known }
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for TokenFault {}
