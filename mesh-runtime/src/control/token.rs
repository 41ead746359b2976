//! Join tokens as the workload sees them: a bearer with readable claims, of which the pin matters before anything is
//! trusted.
//!
//! Form: `mesh1.<base64url of the JSON claims>.<base64url of the tag>`; the tag is the control endpoint's business.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a join token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The namespace it is good for.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The services the account may register, beside the one of its own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Expiry, in seconds since 1970.
    pub expires: u64,
    /// SHA-256 (hex) of the CA's SubjectPublicKeyInfo.
    pub ca_sha256: String,
    /// A random number, so that no two tokens are equal.
    pub nonce: String,
}

impl Claims {
    /// Returns the SHA-256 of the CA's SubjectPublicKeyInfo, if it is one.
    pub(crate) fn pin(&self) -> Option<[u8; 32]> {
        let hex = self.ca_sha256.as_bytes();
        let mut pin = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (byte, digits) in pin.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Some(pin)
    }
}

/// A join token. Its `Debug` and its errors show the claims, never the tag.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    text: String,
    claims: Claims,
}

/// Why a text is no join token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It has not the form of one.
    #[error("not a join token ({0}); make one with `meshctl token`")]
    Malformed(&'static str),
}

impl JoinToken {
    /// Reads a token.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with its form. Whether it is genuine is the control endpoint's to say.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > LENGTH_MAX {
            return Err(TokenError::Malformed("longer than 8 KiB"));
        }
        let rest =
            text.strip_prefix("mesh1.").ok_or(TokenError::Malformed("it does not start with `mesh1.`"))?;
        let (claims, tag) =
            rest.split_once('.').ok_or(TokenError::Malformed("it has no second dot: cut off?"))?;
        if tag.is_empty() || !tag.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_') {
            return Err(TokenError::Malformed("its tag is no base64url: cut off?"));
        }
        let claims = URL_SAFE_NO_PAD
            .decode(claims)
            .map_err(|_| TokenError::Malformed("its claims are no base64url without padding"))?;
        let claims: Claims = serde_json::from_slice(&claims)
            .map_err(|_| TokenError::Malformed("its claims are not the JSON they should be"))?;
        if claims.pin().is_none() {
            return Err(TokenError::Malformed("its `ca_sha256` is not 64 hexadecimal digits"));
        }
        Ok(Self { text: text.to_owned(), claims })
    }

    /// Returns the claims; unproven.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Returns the text to send as `Authorization: Bearer`.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinToken").field(&self.claims).finish()
    }
}

/// Claims are a few names and a hash; a token of this length is something else.
const LENGTH_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_it_was_made() {
        let token = JoinToken::parse(&format!("  {}\n", text(&claims(PIN)))).unwrap();
        assert_eq!(token.claims().namespace, "default");
        assert_eq!(token.claims().pin(), Some([0xab; 32]));
        assert_eq!(token.expose(), text(&claims(PIN)));
    }

    #[test]
    fn what_is_no_token_is_refused_with_the_reason() {
        let good = text(&claims(PIN));
        let body = good.split('.').nth(1).unwrap();
        for (text, reason) in [
            (String::new(), "start with `mesh1.`"),
            ("eyJhbGciOiJIUzI1NiJ9.e30.x".to_owned(), "start with `mesh1.`"),
            (format!("mesh1.{body}"), "no second dot"),
            (format!("mesh1.{body}."), "its tag"),
            (format!("mesh1.{body}.a b"), "its tag"),
            (format!("mesh1.{body}.a.b"), "its tag"),
            (format!("mesh1.{body}=.tag"), "base64url"),
            ("mesh1.e30.tag".to_owned(), "not the JSON"),
            (text(&claims("abc")), "64 hexadecimal"),
            (text(&claims(&"g".repeat(64))), "64 hexadecimal"),
            (text(&claims(&"é".repeat(32))), "64 hexadecimal"),
            (format!("mesh1.{}.tag", "a".repeat(9000)), "8 KiB"),
        ] {
            let error = JoinToken::parse(&text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:.40}: {error}");
        }
    }

    #[test]
    fn a_token_shows_its_claims_but_never_its_tag() {
        let shown = format!("{:?}", JoinToken::parse(&text(&claims(PIN))).unwrap());
        assert!(shown.contains("checkout") && !shown.contains("dGFn"), "{shown}");
    }

    const PIN: &str = "abababababababababababababababababababababababababababababababab";

    fn claims(pin: &str) -> Claims {
        Claims {
            namespace: "default".to_owned(),
            service_account: "checkout".to_owned(),
            services: Vec::new(),
            expires: 4_000_000_000,
            ca_sha256: pin.to_owned(),
            nonce: "1".to_owned(),
        }
    }

    fn text(claims: &Claims) -> String {
        format!("mesh1.{}.dGFn", URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap()))
    }
}
