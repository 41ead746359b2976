//! Join tokens as the workload sees them: a bearer with readable claims, of which the pin matters before anything is
//! trusted.
//!
//! Form: `mesh1.<base64url of the JSON claims>.<base64url of the tag>`; the tag is the control endpoint's business.

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
        let _ = text;
        todo!()
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
