//! What a token says of its bearer. Whether the token is good is not asked here: whoever makes [`Claims`] has verified
//! it.
// spec: RFC 7519; envoy extensions/filters/http/jwt_authn normalize_payload_in_metadata

use serde_json::{Map, Value};
use std::fmt;

/// The claims of one verified token: a JSON object. The empty one is that of a request without a token. Its `Debug` says
/// what is claimed, and nothing of whom.
///
/// ```
/// use mesh_core::authorize::Claims;
///
/// let payload = serde_json::json!({"iss": "https://login.example", "sub": "ann", "scope": "read write"});
/// let claims = Claims::new(payload.as_object().cloned().unwrap_or_default(), &[]);
/// assert_eq!(claims.issuer(), Some("https://login.example"));
/// assert!(claims.texts(&["scope"]).eq(["read", "write"]));
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Returns the claims that `payload` holds. `scope`, `permission` and those in `space_delimited` are lists, whose
    /// items a text separates by spaces.
    // spec: istio security/v1beta1/request_authentication.proto JWTRule.space_delimited_claims
    pub fn new(mut payload: Map<String, Value>, space_delimited: &[String]) -> Self {
        for name in ["scope", "permission"].into_iter().chain(space_delimited.iter().map(String::as_str)) {
            if let Some(claim) = payload.get_mut(name)
                && let Value::String(text) = claim
            {
                *claim = text.split(' ').filter(|item| !item.is_empty()).collect();
            }
        }
        Self(payload)
    }

    /// Returns whether there are none: no token.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns `iss`, who vouches.
    pub fn issuer(&self) -> Option<&str> {
        self.0.get("iss")?.as_str()
    }

    /// Returns `sub`, of whom the token speaks.
    pub fn subject(&self) -> Option<&str> {
        self.0.get("sub")?.as_str()
    }

    /// Returns the texts of the claim at `path`: itself if it is one, or those in it if it is a list. Numbers and
    /// booleans are no texts.
    pub fn texts<'a, N: AsRef<str>>(&'a self, path: &[N]) -> impl Iterator<Item = &'a str> {
        let items = match self.at(path) {
            Some(Value::Array(items)) => items.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        items.iter().filter_map(Value::as_str)
    }

    fn at<N: AsRef<str>>(&self, path: &[N]) -> Option<&Value> {
        let (first, others) = path.split_first()?;
        others.iter().try_fold(self.0.get(first.as_ref())?, |value, name| value.get(name.as_ref()))
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims")?;
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_found_by_its_path_as_a_text_or_as_the_texts_of_a_list() {
        let payload = json!({
            "sub": "ann",
            "aud": ["a", "b", 7],
            "scope": "read  write",
            "roles": "admin staff",
            "level": 3,
            "realm": {"access": {"roles": ["x"]}, "name": "r"},
        });
        let claims = Claims::new(payload.as_object().unwrap().clone(), &["roles".to_owned()]);
        for (path, texts) in [
            (&["sub"][..], &["ann"][..]),
            (&["aud"], &["a", "b"]),
            (&["scope"], &["read", "write"]),
            (&["roles"], &["admin", "staff"]),
            (&["level"], &[]),
            (&["realm", "access", "roles"], &["x"]),
            (&["realm", "name"], &["r"]),
            (&["realm"], &[]),
            (&["realm", "other"], &[]),
            (&["aud", "0"], &[]),
            (&["nothing"], &[]),
            (&[], &[]),
        ] {
            assert!(claims.texts(path).eq(texts.iter().copied()), "{path:?}");
        }
        assert_eq!((claims.issuer(), claims.subject()), (None, Some("ann")));
    }
}
