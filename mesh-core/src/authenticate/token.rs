//! A token, taken apart: three parts, of which nothing is believed yet. It has no `Debug`: its text is a secret.
// spec: RFC 7515 7.1, RFC 7519; envoy source/common/jwt/jwt.cc

use super::{Algorithm, TokenFault};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

/// A token that reads as one.
pub(super) struct Token<'t> {
    /// `alg`.
    pub(super) algorithm: Algorithm,
    /// `kid`; empty is none.
    pub(super) key_id: String,
    /// What it claims.
    pub(super) payload: Map<String, Value>,
    /// The same as it was sent.
    pub(super) payload_text: &'t str,
    /// What is signed: header and payload.
    pub(super) signed: &'t str,
    pub(super) signature: Vec<u8>,
    not_before: Option<u64>,
    expiry: Option<u64>,
}

impl<'t> Token<'t> {
    /// Takes `text` apart.
    pub(super) fn parse(text: &'t str) -> Result<Self, TokenFault> {
        let parts: Vec<&str> = text.splitn(4, '.').collect();
        let [header, payload_text, signature] = parts[..] else { return Err(TokenFault::Form) };
        let (algorithm, key_id) = read_header(header)?;
        let payload = URL_SAFE_NO_PAD.decode(payload_text).map_err(|_| TokenFault::PayloadEncoding)?;
        let payload = serde_json::from_slice(&payload).map_err(|_| TokenFault::PayloadJson)?;
        let (not_before, expiry) = check_types(&payload)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenFault::SignatureEncoding)?;
        let signed = &text[..header.len() + 1 + payload_text.len()];
        Ok(Self { algorithm, key_id, payload, payload_text, signed, signature, not_before, expiry })
    }

    /// Returns `iss`; empty if it names none.
    pub(super) fn issuer(&self) -> &str {
        self.payload.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the texts of `aud`.
    pub(super) fn audiences(&self) -> impl Iterator<Item = &str> {
        let audiences = match self.payload.get("aud") {
            Some(Value::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        audiences.iter().filter_map(Value::as_str)
    }

    /// Checks that the token is valid at `now_seconds`. One that names no end has none, as with Envoy.
    pub(super) fn check_time(&self, now_seconds: u64) -> Result<(), TokenFault> {
        if self.not_before.is_some_and(|begin| now_seconds.saturating_add(SKEW_SECONDS) < begin) {
            return Err(TokenFault::NotYetValid);
        }
        match self.expiry {
            Some(end) if now_seconds > end.saturating_add(SKEW_SECONDS) => Err(TokenFault::Expired),
            _ => Ok(()),
        }
    }
}

fn read_header(text: &str) -> Result<(Algorithm, String), TokenFault> {
    let header = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenFault::HeaderEncoding)?;
    let header: Map<String, Value> = serde_json::from_slice(&header).map_err(|_| TokenFault::HeaderJson)?;
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(TokenFault::NoAlgorithm)?;
    let algorithm = Algorithm::named(algorithm).ok_or(TokenFault::UnknownAlgorithm)?;
    // What must be understood is not: the signature may be about something else then.
    // spec: RFC 7515 4.1.11
    if header.contains_key("crit") {
        return Err(TokenFault::UnknownAlgorithm);
    }
    match header.get("kid") {
        None => Ok((algorithm, String::new())),
        Some(Value::String(id)) => Ok((algorithm, id.clone())),
        Some(_) => Err(TokenFault::KeyId),
    }
}

/// Checks that the registered claims are of their types, and returns `nbf` and `exp`.
fn check_types(payload: &Map<String, Value>) -> Result<(Option<u64>, Option<u64>), TokenFault> {
    let is_text = |name| payload.get(name).is_none_or(Value::is_string);
    let require = |is_good, fault| if is_good { Ok(()) } else { Err(fault) };
    require(is_text("iss"), TokenFault::Issuer)?;
    require(is_text("sub"), TokenFault::Subject)?;
    seconds(payload, "iat", TokenFault::IssuedAt)?;
    let not_before = seconds(payload, "nbf", TokenFault::NotBefore)?;
    let expiry = seconds(payload, "exp", TokenFault::Expiry)?;
    require(is_text("jti"), TokenFault::Id)?;
    let is_audience = |audience: &Value| match audience {
        Value::Array(items) => items.iter().all(Value::is_string),
        one => one.is_string(),
    };
    require(payload.get("aud").is_none_or(is_audience), TokenFault::Audience)?;
    Ok((not_before, expiry))
}

/// Reads a time in seconds since 1970. A part of a second is left out.
// spec: RFC 7519 2, NumericDate
fn seconds(payload: &Map<String, Value>, name: &str, fault: TokenFault) -> Result<Option<u64>, TokenFault> {
    let Some(claim) = payload.get(name) else { return Ok(None) };
    let whole = || claim.as_f64().filter(|seconds| (0.0..SECONDS_END).contains(seconds)).map(|s| s as u64);
    claim.as_u64().or_else(whole).map(Some).ok_or(fault)
}

/// How far the clocks of issuer and workload may be apart.
// spec: envoy config.filter.http.jwt_authn JwtProvider.clock_skew_seconds
const SKEW_SECONDS: u64 = 60;

/// The first number of seconds that does not fit the type.
const SECONDS_END: f64 = 18_446_744_073_709_551_616.0;
