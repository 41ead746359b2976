//! Any bytes as a token, wherever it stands, and as the keys of its issuer: no panic, and nothing is good whose signature
//! nobody made.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use mesh_core::{
    authenticate::{Algorithm, Authenticator, KeySet, PublicKey, Signatures},
    config::{Options, Spec, istio::Lists, load},
    health::States,
};
use std::sync::LazyLock;

/// Takes no signature for good.
struct NoneGood;

impl Signatures for NoneGood {
    fn is_good(&self, _: Algorithm, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        false
    }
}

static RULES: LazyLock<Authenticator> = LazyLock::new(|| {
    let text = r#"{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: r}, spec: {jwtRules: [
                   {issuer: a, jwks: '{"keys": [{"kty": "RSA", "n": "AMBA", "e": "AQAB"}]}'},
                   {jwks: '{"keys": [{"kty": "RSA", "n": "AMBA", "e": "AQAB"}]}', fromCookies: [t]}]}}"#;
    let mut rules = Authenticator::default();
    for resource in load("rules.yaml", text, &Options::default()).resources {
        if let Spec::RequestAuthentication(spec) = &resource.spec {
            rules.add(&spec.rules, &Lists::default(), &States::default());
        }
    }
    rules
});

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let _ = KeySet::parse(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return Corpus::Reject };
    for (name, value) in [("authorization", format!("Bearer {text}")), ("cookie", format!("a=b; t={text}"))] {
        let request = http::Request::get(format!("/?x&access_token={text}")).header(name, value);
        let Ok(request) = request.body(()) else { return Corpus::Reject };
        let judged = RULES.judge(&mut request.into_parts().0, 80, &NoneGood, 1_700_000_000);
        assert!(judged.is_err());
    }
    Corpus::Keep
});
