//! Who gets in with what.

use crate::bed::{Bed, ask, lease};
use http::Method;
use mesh_control::{TokenAsk, mint_token};
use serde_json::Value;
use std::time::Duration;

#[tokio::test]
async fn only_a_whole_genuine_and_current_bearer_gets_in() {
    let bed = Bed::plain().await;
    let other = Bed::plain().await;
    let good = bed.token("default", "cart", &[]);
    let expired = TokenAsk { ttl: Duration::from_secs(1), ..ask("default", "cart", &[]) };
    let expired = mint_token(&bed.data(), &expired).unwrap();
    let foreign = other.token("default", "cart", &[]);
    let (head, tag) = good.rsplit_once('.').unwrap();
    let other_claims = bed.token("admin", "root", &[]);
    let forged = format!("{}.{tag}", other_claims.rsplit_once('.').unwrap().0);
    let flipped = format!("{head}.{}{}", if tag.starts_with('A') { 'B' } else { 'A' }, &tag[1..]);

    let bearer = |token: &str| format!("Bearer {token}");
    let refused = [
        (None, "no proof of who calls"),
        (Some(bearer(&foreign)), "made with another data directory"),
        (Some(bearer(&forged)), "not made by this endpoint, or was altered"),
        (Some(bearer(&flipped)), "not made by this endpoint, or was altered"),
        (Some(bearer("hello")), "malformed (no dots)"),
        (Some(bearer("")), "no bearer"),
        (Some(bearer(&format!("mesh1.{}.x", "A".repeat(20_000)))), "malformed (its claims do not read)"),
        (Some("Basic Zm9v".to_owned()), "it is no bearer"),
        (Some(good.clone()), "it is no bearer"),
    ];
    for (row, (authorization, expected)) in refused.iter().enumerate() {
        for (method, path) in [
            (Method::GET, "/v1/resources"),
            (Method::GET, "/v1/status"),
            (Method::POST, "/v1/certificates"),
            (Method::POST, "/v1/reports"),
            (Method::PUT, "/v1/workloads/default/cart/a"),
            (Method::DELETE, "/v1/workloads/default/cart/a"),
        ] {
            let mut call = bed.call(method, path);
            if let Some(authorization) = authorization {
                call = call.header("authorization", authorization);
            }
            let reply = call.send().await;
            assert_eq!(reply.status, 401, "row {row} {path}: {reply:?}");
            assert_eq!(reply.json()["code"], "unauthenticated");
            assert!(reply.message().contains(expected), "row {row} {path}: {}", reply.message());
            assert_eq!(reply.header("www-authenticate"), "Bearer");
        }
    }
    assert_eq!(bed.get("/v1/resources", &good).await.status, 200);

    crate::bed::until("expiry", async || bed.get("/v1/status", &expired).await.status == 401).await;
    let reply = bed.get("/v1/status", &expired).await;
    assert!(reply.message().contains("the token for default/cart expired"), "{}", reply.message());
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let bed = Bed::plain().await;
    let token = format!("Bearer {}", bed.token("default", "cart", &[]));
    let call = bed.call(Method::GET, "/v1/status").header("authorization", &token);
    let reply = call.header("authorization", &token).send().await;
    assert_eq!(reply.status, 401);
    assert!(reply.message().contains("several"), "{}", reply.message());
}

#[tokio::test]
async fn what_says_nothing_of_anybody_needs_no_bearer() {
    let bed = Bed::plain().await;
    for path in ["/v1/bundle", "/healthz", "/readyz", "/metrics"] {
        let reply = bed.ask(Method::GET, path, None, Value::Null).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    let bundle = bed.ask(Method::GET, "/v1/bundle", None, Value::Null).await.json();
    assert_eq!(bundle["trustDomain"], "cluster.local");
    assert!(bundle["bundles"]["cluster.local"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn a_token_of_one_endpoint_made_by_itself_is_honoured_by_it_only() {
    let (bed, other) = (Bed::plain().await, Bed::plain().await);
    let token = bed.endpoint.as_ref().unwrap().join_token(&ask("default", "cart", &[])).unwrap();
    let put = async |bed: &Bed| {
        bed.ask(Method::PUT, "/v1/workloads/default/cart/a", Some(&token), lease(8080)).await.status
    };
    assert_eq!(put(&bed).await, 201);
    assert_eq!(put(&other).await, 401);
}

/// Bearers are judged by their tag alone, so there is nothing to store of them, hashed or not.
#[tokio::test]
async fn no_bearer_is_on_the_disk_and_no_secret_in_a_debug_form() {
    let mut bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let csr = crate::bed::csr("spiffe://cluster.local/ns/default/sa/cart");
    let ask = serde_json::json!({"csr": csr});
    let answer = bed.ask(Method::POST, "/v1/certificates", Some(&token), ask).await.json();
    let renewal = answer["renewal"].as_str().unwrap();
    let shown = format!("{:#?}", bed.endpoint.as_ref().unwrap());
    bed.stop().await;
    let read = |name: &str| std::fs::read(bed.data().join(name)).unwrap();
    let ca_key = String::from_utf8(read("ca.key")).unwrap();
    assert!(ca_key.lines().all(|line| !shown.contains(line)), "{shown}");
    let bytes = format!("{:?}", &read("token.key")[..8]);
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    for entry in std::fs::read_dir(bed.data()).unwrap() {
        let path = entry.unwrap().path();
        let content = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        for bearer in [&*token, renewal] {
            let tag = bearer.rsplit('.').next().unwrap();
            assert!(!content.contains(tag), "{}", path.display());
        }
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}
