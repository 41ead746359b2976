use super::*;
use crate::config::{Options, Spec, load};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Request;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::cell::Cell;

const NOW: u64 = 1_700_000_000;

#[test]
fn a_token_is_good_by_the_rule_of_its_issuer() {
    let rules =
        authenticator("- {issuer: a, jwks: KEYS}\n- {issuer: b, jwks: KEYS, audiences: [shop, bank]}");
    let claims = |claims: Value| Brings { payload: claims, ..GOOD };
    for (brings, outcome) in [
        (claims(json!({"iss": "a", "sub": "ann"})), Ok("ann")),
        (claims(json!({"iss": "b", "sub": "ann", "aud": "shop"})), Ok("ann")),
        (claims(json!({"iss": "b", "sub": "ann", "aud": ["x", "https://bank/"]})), Ok("ann")),
        (claims(json!({"iss": "b", "aud": "x"})), Err(TokenFault::OtherAudience)),
        (claims(json!({"iss": "b"})), Err(TokenFault::OtherAudience)),
        (claims(json!({"iss": "c"})), Err(TokenFault::UnknownIssuer)),
        (claims(json!({})), Err(TokenFault::UnknownIssuer)),
        (Brings { signature: "forged", payload: json!({"iss": "a"}), ..GOOD }, Err(TokenFault::Signature)),
        (
            Brings { header: json!({"alg": "ES256"}), payload: json!({"iss": "a"}), ..GOOD },
            Err(TokenFault::NoFittingKey),
        ),
        (
            Brings { header: json!({"alg": "RS256", "kid": "x"}), payload: json!({"iss": "a"}), ..GOOD },
            Err(TokenFault::NoFittingKey),
        ),
        (
            Brings {
                header: json!({"alg": "RS256", "kid": "k"}),
                payload: json!({"iss": "a", "sub": "ann"}),
                ..GOOD
            },
            Ok("ann"),
        ),
    ] {
        let text = brings.token();
        let judged = judge(&rules, &mut bearer(&text));
        let subject =
            judged.as_ref().map(|claims| claims.subject().unwrap_or_default()).map_err(|fault| *fault);
        assert_eq!(subject, outcome, "{} {}", brings.header, brings.payload);
    }
    assert_eq!(
        judge(&rules, &mut head("/", &[])),
        Ok(Claims::default()),
        "a request without a token is let through"
    );
}

/// Neither proves anything: `none` is no signature, and whoever can check an HMAC can make one. The signature would be
/// good each time.
#[test]
fn no_token_is_taken_by_an_algorithm_that_is_not_its_keys_own() {
    let keys = r#"'{"keys": [{"kty": "RSA", "n": "AMBA", "e": "AQAB"}, {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}'"#;
    let rules = authenticator(&format!("- {{issuer: a, jwks: {keys}}}"));
    for (header, fault) in [
        (json!({"alg": "none"}), TokenFault::UnknownAlgorithm),
        (json!({"alg": "None"}), TokenFault::UnknownAlgorithm),
        (json!({"alg": "nOnE"}), TokenFault::UnknownAlgorithm),
        (json!({"alg": ""}), TokenFault::UnknownAlgorithm),
        (json!({"alg": "HS256"}), TokenFault::UnknownAlgorithm),
        (json!({"alg": "HS512"}), TokenFault::UnknownAlgorithm),
        (json!({"alg": "rs256"}), TokenFault::UnknownAlgorithm),
        (json!({"alg": "ES256"}), TokenFault::NoFittingKey),
        (json!({"alg": "EdDSA"}), TokenFault::NoFittingKey),
        (json!({"alg": "RS256", "crit": ["b64"], "b64": false}), TokenFault::UnknownAlgorithm),
        (json!({"alg": ["RS256"]}), TokenFault::NoAlgorithm),
        (json!({}), TokenFault::NoAlgorithm),
    ] {
        let text = Brings { header: header.clone(), ..GOOD }.token();
        assert_eq!(judge(&rules, &mut bearer(&text)), Err(fault), "{header}");
    }
}

#[test]
fn a_token_holds_from_a_minute_before_its_beginning_to_a_minute_after_its_end() {
    let rules = authenticator("- {issuer: a, jwks: KEYS}");
    for (times, outcome) in [
        (json!({}), None),
        (json!({"exp": NOW - 60}), None),
        (json!({"exp": NOW - 61}), Some(TokenFault::Expired)),
        (json!({"exp": 0}), Some(TokenFault::Expired)),
        (json!({"exp": u64::MAX}), None),
        (json!({"exp": NOW as f64 + 0.5}), None),
        (json!({"nbf": NOW + 60}), None),
        (json!({"nbf": NOW + 61}), Some(TokenFault::NotYetValid)),
        (json!({"nbf": u64::MAX}), Some(TokenFault::NotYetValid)),
        (json!({"nbf": NOW + 61, "exp": 0}), Some(TokenFault::NotYetValid)),
        (json!({"iat": NOW + 9000}), None),
        (json!({"exp": -1}), Some(TokenFault::Expiry)),
        (json!({"exp": 1e300}), Some(TokenFault::Expiry)),
        (json!({"exp": "tomorrow"}), Some(TokenFault::Expiry)),
        (json!({"exp": null}), Some(TokenFault::Expiry)),
        (json!({"nbf": []}), Some(TokenFault::NotBefore)),
        (json!({"iat": {}}), Some(TokenFault::IssuedAt)),
    ] {
        let mut payload = json!({"iss": "a"});
        payload.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        let text = Brings { payload, ..GOOD }.token();
        assert_eq!(judge(&rules, &mut bearer(&text)).err(), outcome, "{times}");
    }
}

#[test]
fn what_is_no_token_says_what_is_wrong_with_it() {
    let rules = authenticator("- {issuer: a, jwks: KEYS}");
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let (header, payload) = (part(r#"{"alg": "RS256"}"#), part(r#"{"iss": "a"}"#));
    for (text, fault) in [
        ("x".to_owned(), TokenFault::Form),
        ("..".to_owned(), TokenFault::HeaderJson),
        (format!("{header}.{payload}"), TokenFault::Form),
        (format!("{header}.{payload}.AA.AA"), TokenFault::Form),
        (format!("a!.{payload}.AA"), TokenFault::HeaderEncoding),
        (format!("{header}=.{payload}.AA"), TokenFault::HeaderEncoding),
        (format!("{}.{payload}.AA", part("[]")), TokenFault::HeaderJson),
        (format!("{}.{payload}.AA", part(r#"{"alg": "RS256", "kid": 1}"#)), TokenFault::KeyId),
        (format!("{header}.+.AA"), TokenFault::PayloadEncoding),
        (format!("{header}.{}.AA", part("7")), TokenFault::PayloadJson),
        (format!("{header}.{}.AA", part(&"[".repeat(9000))), TokenFault::PayloadJson),
        (format!("{header}.{}.AA", part(r#"{"iss": 1}"#)), TokenFault::Issuer),
        (format!("{header}.{}.AA", part(r#"{"sub": 1}"#)), TokenFault::Subject),
        (format!("{header}.{}.AA", part(r#"{"jti": 1}"#)), TokenFault::Id),
        (format!("{header}.{}.AA", part(r#"{"aud": 1}"#)), TokenFault::Audience),
        (format!("{header}.{}.AA", part(r#"{"aud": ["a", 1]}"#)), TokenFault::Audience),
        (format!("{header}.{payload}.A"), TokenFault::SignatureEncoding),
        (format!("{header}.{payload}."), TokenFault::Signature),
    ] {
        assert_eq!(judge(&rules, &mut bearer(&text)), Err(fault), "{text:.60}");
    }
}

/// Two rules with places of their own, and one good token: the bad one beside it does not count, as under Istio. A bad
/// one in a place of the *same* rule does.
// spec: istio pilot/pkg/security/authn policy_applier.go; envoy authenticator.cc doneWithStatus
#[test]
fn of_several_rules_one_is_enough_and_of_several_tokens_of_one_rule_all_must_be_good() {
    let own_places = "- {issuer: a, jwks: KEYS, fromHeaders: [{name: x-a}]}\n- {issuer: b, jwks: KEYS, fromHeaders: [{name: x-b}]}";
    let (own_places, shared) =
        (authenticator(own_places), authenticator("- {issuer: b, jwks: KEYS}\n- {issuer: a, jwks: KEYS}"));
    let token = |issuer: &str| Brings { payload: json!({"iss": issuer, "sub": issuer}), ..GOOD }.token();
    let (a, b, c) = (token("a"), token("b"), token("c"));
    let expired = Brings { payload: json!({"iss": "b", "exp": 1}), ..GOOD }.token();
    let bearer_of = |token: &str| format!("Bearer {token}");
    for (rules, headers, outcome) in [
        (&own_places, vec![("x-a", a.clone())], Ok("a")),
        (&own_places, vec![("x-b", b.clone())], Ok("b")),
        (&own_places, vec![("x-b", b.clone()), ("x-a", a.clone())], Ok("a")),
        (&own_places, vec![("x-a", a.clone()), ("x-b", expired.clone())], Ok("a")),
        (&own_places, vec![("x-a", a.clone()), ("x-a", c.clone())], Err(TokenFault::UnknownIssuer)),
        (&own_places, vec![("x-a", b.clone())], Err(TokenFault::UnknownIssuer)),
        (&own_places, vec![("x-b", expired.clone())], Err(TokenFault::Expired)),
        (&shared, vec![("authorization", bearer_of(&b))], Ok("b")),
        (&shared, vec![("authorization", bearer_of(&c))], Err(TokenFault::UnknownIssuer)),
        (&shared, vec![("authorization", bearer_of(&expired))], Err(TokenFault::Expired)),
        (
            &shared,
            vec![("authorization", bearer_of(&a)), ("authorization", bearer_of(&b))],
            Err(TokenFault::UnknownIssuer),
        ),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let judged = judge(rules, &mut head("/", &headers));
        let issuer = judged.as_ref().map(|claims| claims.issuer().unwrap()).map_err(|fault| *fault);
        assert_eq!(issuer, outcome, "{:?}", headers.iter().map(|(name, _)| name).collect::<Vec<_>>());
    }
}

#[test]
fn a_signature_is_judged_once_and_only_of_a_token_that_is_good_otherwise() {
    let rules = authenticator(
        "- {issuer: a, jwks: KEYS}\n- {issuer: b, jwks: KEYS}\n- {issuer: b, jwks: KEYS, audiences: [x]}",
    );
    for (payload, times) in
        [(json!({"iss": "b"}), 1), (json!({"iss": "c"}), 0), (json!({"iss": "b", "exp": 1}), 0)]
    {
        let signatures = Fake { judged: Cell::new(0) };
        let text = Brings { payload, ..GOOD }.token();
        let _ = rules.judge(&mut bearer(&text), 8080, &signatures, NOW);
        assert_eq!(signatures.judged.get(), times);
    }
}

#[test]
fn the_handler_sees_the_token_only_if_it_is_forwarded_and_what_the_rule_passes_on() {
    let rules = authenticator(
        "- issuer: a
  jwks: KEYS
  outputPayloadToHeader: x-payload
  outputClaimToHeaders:
  - {header: x-user, claim: sub}
  - {header: x-group, claim: realm.group}
  - {header: x-level, claim: level}
  - {header: x-staff, claim: staff}
  - {header: x-roles, claim: roles}
  - {header: x-odd, claim: odd}
- {issuer: b, jwks: KEYS, forwardOriginalToken: true}",
    );
    let payload = json!({"iss": "a", "sub": "ann", "realm": {"group": "g"}, "level": 7, "staff": true,
                         "roles": ["r"], "odd": "a\nb"});
    let text = Brings { payload, ..GOOD }.token();
    let authorization = format!("Bearer {text}");
    let mut head = head("/a?x=1&access_token=", &[("authorization", &authorization), ("x-user", "root")]);
    assert_eq!(judge(&rules, &mut head), Err(TokenFault::Form), "the empty parameter is no token");

    let mut head = super::tests::head("/a?x=1", &[("authorization", &authorization), ("x-user", "root")]);
    judge(&rules, &mut head).unwrap();
    let value = |name: &str| {
        head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(",")
    };
    let names = ["authorization", "x-user", "x-group", "x-level", "x-staff", "x-roles", "x-odd", "x-payload"];
    let payload = text.split('.').nth(1).unwrap();
    assert_eq!(names.map(value), ["", "ann", "g", "7", "true", "", "", payload]);

    let text = Brings { payload: json!({"iss": "b"}), ..GOOD }.token();
    let mut head = bearer(&text);
    judge(&rules, &mut head).unwrap();
    assert_eq!(head.headers["authorization"], format!("Bearer {text}"));
}

#[test]
fn a_header_that_a_rule_passes_on_comes_from_nobody_else() {
    let rules = authenticator(
        "- {issuer: a, jwks: KEYS, outputPayloadToHeader: x-p, outputClaimToHeaders: [{header: x-user, claim: sub}]}",
    );
    let forged = [("x-user", "root"), ("x-p", "e30"), ("x-user", "admin"), ("x-other", "stays")];
    let preflight =
        [&forged[..], &[("origin", "https://a"), ("access-control-request-method", "PUT")]].concat();
    let mut options = head("/", &preflight);
    options.method = Method::OPTIONS;
    for mut head in [head("/", &forged), options, head("/?access_token=bad", &forged)] {
        let _ = judge(&rules, &mut head);
        let left: Vec<_> = head.headers.keys().filter(|name| name.as_str().starts_with("x-")).collect();
        assert_eq!(left, ["x-other"]);
    }
}

#[test]
fn a_browser_that_asks_whether_it_may_ask_is_asked_for_nothing() {
    let rules = authenticator("- {issuer: a, jwks: KEYS}");
    let asking =
        [("origin", "https://a"), ("access-control-request-method", "PUT"), ("authorization", "Bearer x")];
    for (method, headers, is_let_through) in [
        (Method::OPTIONS, &asking[..], true),
        (Method::OPTIONS, &asking[1..], false),
        (Method::GET, &asking[..], false),
    ] {
        let mut head = head("/", headers);
        head.method = method;
        assert_eq!(judge(&rules, &mut head).is_ok(), is_let_through);
        assert!(!is_let_through || !head.headers.contains_key("authorization"), "nobody has verified it");
    }
}

/// Whoever reads a token behind this takes it for verified.
#[test]
fn no_token_that_nobody_verified_is_passed_on() {
    let rules = authenticator(
        "- {issuer: a, jwks: KEYS, fromHeaders: [{name: x-a}], forwardOriginalToken: true}\n\
         - {issuer: b, jwks: KEYS, fromHeaders: [{name: x-a}, {name: x-b}], fromParams: [b], fromCookies: [b]}\n\
         - {issuer: c, jwks: KEYS, fromHeaders: [{name: x-c}], forwardOriginalToken: true}",
    );
    let token =
        |issuer: &str, signature| Brings { payload: json!({"iss": issuer}), signature, ..GOOD }.token();
    let (a, c, forged) = (token("a", "signed"), token("c", "signed"), token("c", "forged"));
    let cookie = format!("b={forged}; d=e");
    let uri = format!("/?b={forged}&d=e");
    for (of_c, left) in [(&c, &["cookie", "x-a", "x-c"][..]), (&forged, &["cookie", "x-a"])] {
        let mut head = head(&uri, &[("x-a", &a), ("x-b", &forged), ("cookie", &cookie), ("x-c", of_c)]);
        assert!(judge(&rules, &mut head).is_ok());
        let mut names: Vec<_> = head.headers.keys().collect();
        names.sort_by_key(|name| name.as_str());
        assert_eq!(names, left);
        assert_eq!((head.headers["cookie"].to_str().unwrap(), head.uri.query()), ("d=e", Some("d=e")));
    }
}

/// CVE-2026-31837: there is no key that anybody knows beforehand.
#[test]
fn while_keys_cannot_be_fetched_no_token_of_their_issuer_is_good_and_the_last_good_ones_stay() {
    let states = States::default();
    let rules = with_states("- {issuer: a, jwksUri: 'https://a.example/keys'}\n- {issuer: b}", &states);
    let locations: Vec<_> =
        rules.fetched_keys().map(|(location, timeout, _)| (location.uri(), timeout)).collect();
    let second = Duration::from_secs(5);
    let expected = ["https://a.example/keys", "b/.well-known/openid-configuration"];
    assert_eq!(locations, expected.map(|uri| (uri.to_owned(), second)));

    let text = Brings { payload: json!({"iss": "a"}), ..GOOD }.token();
    let keys = states.keys(&KeyLocation::Uri("https://a.example/keys".into()));
    assert!(rules.awaits_keys(&bearer(&text), 8080) && !rules.awaits_keys(&head("/", &[]), 8080));
    assert_eq!(judge(&rules, &mut bearer(&text)), Err(TokenFault::KeysNotFetched));
    keys.on_failure();
    states.keys(&KeyLocation::Issuer("b".into())).on_failure();
    assert!(!rules.awaits_keys(&bearer(&text), 8080));
    assert_eq!(judge(&rules, &mut bearer(&text)), Err(TokenFault::KeysNotFetched));
    keys.on_keys(KeySet::parse(KEYS.as_bytes()).unwrap());
    keys.on_failure();
    assert!(judge(&rules, &mut bearer(&text)).is_ok());
    let reloaded = with_states("- {issuer: a, jwksUri: 'https://a.example/keys', audiences: []}", &states);
    assert!(judge(&reloaded, &mut bearer(&text)).is_ok(), "a reload finds the keys again");
}

#[test]
fn keys_that_cannot_be_used_make_no_token_good() {
    let rules = authenticator(r#"- {issuer: a, jwks: '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'}"#);
    let text = Brings { payload: json!({"iss": "a"}), ..GOOD }.token();
    assert_eq!(judge(&rules, &mut bearer(&text)), Err(TokenFault::NoKeys));
}

#[test]
fn a_rule_for_some_ports_is_none_on_the_others() {
    let mut rules = Authenticator::default();
    let ports = Lists { values: vec![8080], not_values: Vec::new() };
    rules.add(&jwt_rules("- {issuer: a, jwks: KEYS}"), &ports, &States::default());
    let signatures = Fake::default();
    for (port, outcome) in [(8080, Err(TokenFault::Form)), (9090, Ok(Claims::default()))] {
        assert_eq!(rules.judge(&mut bearer("x"), port, &signatures, NOW), outcome);
    }
}

proptest! {
    #[test]
    fn no_text_is_a_token_that_panics_or_is_good(text in "\\PC{0,60}|[A-Za-z0-9_.=-]{0,90}") {
        let rules = authenticator("- {issuer: a, jwks: KEYS}");
        let uri = format!("/?access_token={}", text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>());
        prop_assert!(judge(&rules, &mut head(&uri, &[])).is_err());
    }

    /// Whatever JSON stands in header and payload, a token without the right signature is not good.
    #[test]
    fn no_json_in_a_token_panics_or_makes_it_good(header in value(), payload in value()) {
        let rules = authenticator("- {issuer: a, jwks: KEYS}\n- {jwks: KEYS, fromParams: [t]}");
        let text = Brings { header, payload, signature: "forged" }.token();
        prop_assert!(judge(&rules, &mut bearer(&text)).is_err());
    }
}

/// JSON around the names that are looked at.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<f64>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        "[a-z]{0,3}|RS256|ES384|none".prop_map(|value| json!(value)),
    ];
    let name = prop::sample::select(vec![
        "alg", "kid", "crit", "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope",
    ]);
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

const KEYS: &str = r#"{"keys": [{"kty": "RSA", "kid": "k", "n": "AMBA", "e": "AQAB"}]}"#;

/// A token to be made.
struct Brings {
    header: Value,
    payload: Value,
    signature: &'static str,
}

const GOOD: Brings = Brings { header: Value::Null, payload: Value::Null, signature: "signed" };

impl Brings {
    fn token(&self) -> String {
        let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
        let header = or(&self.header, json!({"alg": "RS256"})).to_string();
        let payload = or(&self.payload, json!({"iss": "a"})).to_string();
        [&header, &payload, self.signature].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    }
}

/// Takes one signature for good, whoever made it of what.
#[derive(Default)]
struct Fake {
    judged: Cell<usize>,
}

impl Signatures for Fake {
    fn is_good(&self, _: Algorithm, _: &PublicKey, _: &[u8], signature: &[u8]) -> bool {
        self.judged.set(self.judged.get() + 1);
        signature == b"signed"
    }
}

fn judge(rules: &Authenticator, head: &mut Parts) -> Result<Claims, TokenFault> {
    rules.judge(head, 8080, &Fake::default(), NOW)
}

fn authenticator(rules: &str) -> Authenticator {
    with_states(rules, &States::default())
}

fn with_states(rules: &str, states: &States) -> Authenticator {
    let mut authenticator = Authenticator::default();
    authenticator.add(&jwt_rules(rules), &Lists::default(), states);
    authenticator
}

/// Reads `jwtRules`, in which `KEYS` stands for a good key.
fn jwt_rules(rules: &str) -> Vec<JwtRule> {
    let rules = rules.replace("KEYS", &format!("'{KEYS}'")).replace('\n', "\n  ");
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: r}}\nspec:\n  jwtRules:\n  {rules}\n"
    );
    let loaded = load("rules.yaml", &text, &Options::default());
    assert!(loaded.broken.is_empty(), "{:?}", loaded.diagnostics);
    match &loaded.resources[0].spec {
        Spec::RequestAuthentication(spec) => spec.rules.clone(),
        other => panic!("{other:?}"),
    }
}

fn bearer(token: &str) -> Parts {
    head("/", &[("authorization", &format!("Bearer {token}"))])
}

fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}
