//! Tokens signed by another implementation (OpenSSL, by way of Python's `cryptography` 48), with keys that were thrown away.

use super::*;
use mesh_core::{
    authenticate::{Authenticator, TokenFault},
    config::{Options, Spec, load},
    health::States,
};

const KEYS: &str = include_str!("keys.json");
const TOKENS: &str = include_str!("tokens.txt");

#[test]
fn a_token_is_good_by_every_algorithm_and_no_byte_of_it_may_differ() {
    let rules = authenticator();
    let tokens: Vec<_> = TOKENS.lines().collect();
    let (weak, good) = tokens.split_last().unwrap();
    assert_eq!(good.len(), 9, "RS, PS, ES256, ES384 and EdDSA");
    for token in good {
        assert_eq!(judge(&rules, token), Ok("ann".to_owned()), "{token}");
        for at in (0..token.len()).step_by(7) {
            let mut bytes = token.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(bytes).unwrap();
            assert!(judge(&rules, &other).is_err(), "{other}");
        }
    }
    assert_eq!(judge(&rules, weak), Err(TokenFault::Signature), "1,024 bits");
}

#[test]
fn a_signature_is_good_by_the_algorithm_and_the_key_it_was_made_with_alone() {
    let rules = authenticator();
    let parts: Vec<Vec<&str>> = TOKENS.lines().map(|token| token.split('.').collect()).collect();
    for (i, token) in parts.iter().enumerate() {
        for (k, other) in parts.iter().enumerate().filter(|(k, _)| *k != i) {
            let mixed = [token[0], token[1], other[2]].join(".");
            assert!(judge(&rules, &mixed).is_err(), "header {i}, signature {k}");
        }
    }
}

fn judge(rules: &Authenticator, token: &str) -> Result<String, TokenFault> {
    let request = http::Request::get("/").header("authorization", format!("Bearer {token}"));
    let mut head = request.body(()).unwrap().into_parts().0;
    let claims = rules.judge(&mut head, 80, &TokenSignatures, 1_700_000_000)?;
    Ok(claims.subject().unwrap_or_default().to_owned())
}

fn authenticator() -> Authenticator {
    let spec = serde_json::json!({"jwtRules": [{"issuer": "https://login.example", "jwks": KEYS}]});
    let object = serde_json::json!({"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
                                    "metadata": {"name": "r"}, "spec": spec});
    let loaded = load("rules.json", &object.to_string(), &Options::default());
    let Spec::RequestAuthentication(spec) = &loaded.resources[0].spec else { panic!("{loaded:?}") };
    let mut rules = Authenticator::default();
    rules.add(&spec.rules, &mesh_core::config::istio::Lists::default(), &States::default());
    rules
}
