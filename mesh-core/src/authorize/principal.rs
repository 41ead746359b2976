//! The principal of a token, `issuer/subject`. An issuer is mostly a URL, so the last slash separates the two.
// spec: istio pilot/pkg/security/authz/model requestPrincipalGenerator

use super::{Claims, Pattern};

/// A compiled comparison with the principal of a token.
#[derive(Clone, Debug)]
pub(super) struct TokenPrincipal {
    issuer: Pattern,
    subject: Pattern,
}

impl TokenPrincipal {
    /// Returns the comparison that `text` stands for; a `*` at one end is for the half at that end.
    pub(super) fn new(text: &str) -> Self {
        let (issuer, subject) = match text.rsplit_once('/') {
            Some((issuer, subject)) if text.starts_with('*') => (Pattern::text(issuer), exact(subject)),
            Some((issuer, subject)) if text.ends_with('*') => (exact(issuer), Pattern::text(subject)),
            Some((issuer, subject)) => (exact(issuer), exact(subject)),
            None if text.starts_with('*') => (Pattern::Present, Pattern::text(text)),
            None if text.ends_with('*') => (Pattern::text(text), Pattern::Present),
            None => (exact(text), exact("")),
        };
        Self { issuer, subject }
    }

    pub(super) fn matches(&self, claims: &Claims) -> bool {
        claims.issuer().is_some_and(|issuer| self.issuer.matches(issuer))
            && claims.subject().is_some_and(|subject| self.subject.matches(subject))
    }
}

fn exact(text: &str) -> Pattern {
    Pattern::Exact(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_principal_matches_as_istio_writes_it() {
        for (pattern, issuer, subject, matches) in [
            ("https://a.example/ann", "https://a.example", "ann", true),
            ("https://a.example/ann", "https://a.example", "anna", false),
            ("https://a.example/*", "https://a.example", "ann", true),
            ("https://a.example/an*", "https://a.example", "ann", true),
            ("https://a.example/*", "https://b.example", "ann", false),
            ("https://a*", "https://a.example", "ann", false),
            ("a*", "a.example", "ann", true),
            ("*/ann", "https://a.example", "ann", true),
            ("*.example/ann", "https://a.example", "ann", true),
            ("*.example/ann", "https://a.example", "bob", false),
            ("*ann", "https://a.example", "joann", true),
            ("*", "https://a.example", "ann", true),
            ("*", "https://a.example", "", false),
            ("a", "a", "", true),
            ("a", "a", "b", false),
        ] {
            let payload = serde_json::json!({"iss": issuer, "sub": subject});
            let claims = Claims::new(payload.as_object().unwrap().clone(), &[]);
            assert_eq!(TokenPrincipal::new(pattern).matches(&claims), matches, "`{pattern}` on {payload}");
        }
        assert!(!TokenPrincipal::new("*").matches(&Claims::default()));
    }
}
