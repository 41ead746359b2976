//! Tokens of end users at the door: who is let in, who is told what, and what the handler sees.

use crate::support::*;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Request, Response, StatusCode};
use mesh_core::{authorize::Claims, config::istio::MtlsMode};
use mesh_runtime::{Settings, Workload, control::wire::CallerRecord, identity::Alpn};
use mesh_server::{RequestBody, Server};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use std::{convert::Infallible, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

#[tokio::test]
async fn a_token_that_is_not_good_gets_envoys_answer_and_the_handler_never_hears_of_it() {
    let login = Login::new();
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, &login.rules("audiences: [shop]"));
    let claims = |more: Value| {
        let mut claims = json!({"iss": ISSUER, "sub": "ann", "aud": "shop"});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let forged = Login::new().token(&claims(json!({})));
    for (token, status, body) in [
        (login.token(&claims(json!({}))), 200, ""),
        (login.token(&claims(json!({"iss": "https://other.example"}))), 401, "Jwt issuer is not configured"),
        (login.token(&claims(json!({"aud": "bank"}))), 403, "Audiences in Jwt are not allowed"),
        (login.token(&claims(json!({"exp": 1}))), 401, "Jwt is expired"),
        (login.token(&claims(json!({"nbf": 99_999_999_999_u64}))), 401, "Jwt not yet valid"),
        (forged, 401, "Jwt verification fails"),
        (
            "x.y".to_owned(),
            401,
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
    ] {
        for is_http2 in [false, true] {
            let mut client = match is_http2 {
                false => http1(server.tcp().await).await,
                true => http2(server.mtls(Alpn::Http2).await).await,
            };
            let answer = soon(client.send(with_token("/a?x=1", &token))).await.unwrap();
            let challenge = answer.headers().get("www-authenticate").cloned();
            let (answered, text) = text(answer).await.unwrap();
            assert_eq!(answered.as_u16(), status, "{token}: {text}");
            if status != 200 {
                assert_eq!(text, body);
                let expected = "Bearer realm=\"http://payment/a\", error=\"invalid_token\"";
                assert_eq!(challenge.unwrap(), expected);
            }
        }
    }
    let mut client = http1(server.tcp().await).await;
    assert_eq!(client.get("/").await.unwrap().0, StatusCode::OK, "a request without a token is let through");

    let mut request = with_token("/", "x.y");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let mut client = http2(server.tcp().await).await;
    let answer = soon(client.send(request)).await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((answer.status(), header("grpc-status")), (StatusCode::OK, "16".to_owned()));
    assert!(header("grpc-message").starts_with("Jwt is not in the form"));
}

#[tokio::test]
async fn the_handler_sees_what_a_token_says_and_not_the_token() {
    let login = Login::new();
    let handler = tower::service_fn(|request: Request<RequestBody>| async move {
        let claims = request.extensions().get::<Claims>().cloned().unwrap_or_default();
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let seen =
            json!([claims.subject(), header("x-user"), header("authorization"), request.uri().to_string()]);
        Ok::<_, Infallible>(Response::new(seen.to_string()))
    });
    let server = Running::start(MtlsMode::Permissive, handler, |server| server).await;
    set_config(&server.workload, &login.rules("outputClaimToHeaders: [{header: x-user, claim: sub}]"));
    let token = login.token(&json!({"iss": ISSUER, "sub": "ann"}));
    let mut client = http1(server.tcp().await).await;
    for (request, seen) in [
        (with_token("/a", &token), json!(["ann", "ann", null, "/a"])),
        (get(&format!("/a?x=1&access_token={token}")), json!(["ann", "ann", null, "/a?x=1"])),
        (get("/a"), json!([null, null, null, "/a"])),
    ] {
        let mut request = request;
        request.headers_mut().append("x-user", "root".parse().unwrap());
        let (status, text) = text(soon(client.send(request)).await.unwrap()).await.unwrap();
        assert_eq!((status, text), (StatusCode::OK, seen.to_string()));
    }
}

/// CVE-2020-8595 (a `?` or `#` in the path skipped the check), CVE-2021-31920 and CVE-2021-39156: no spelling of a path
/// gets a request to where a token is due without one.
#[tokio::test]
async fn no_spelling_of_a_path_gets_in_without_the_token_that_is_due_there() {
    let login = Login::new();
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let due = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: members-only, namespace: default}
spec:
  action: DENY
  rules:
  - from: [{source: {notRequestPrincipals: ['*']}}]
    to: [{operation: {paths: [/members, /members/*]}}]
";
    set_config(&server.workload, &(login.rules("") + due));
    let token = login.token(&json!({"iss": ISSUER, "sub": "ann"}));
    for path in [
        "/members",
        "/members/",
        "/members?",
        "/members?x",
        "/members?#",
        "/members#",
        "/members#/open",
        "/members?/../open",
        "/./members",
        "/open/../members",
        "/%6dembers",
        "/open/%2e%2e/members",
        "\\members",
        "/members/..%2fmembers",
        "/members\\x",
        "/members?access_token",
        "/members?access_token=",
        "http://payment/members",
    ] {
        let line =
            |more: &str| format!("GET {path} HTTP/1.1\r\nhost: payment\r\n{more}connection: close\r\n\r\n");
        let answer = exchange(server.address, line("").as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        for bad in ["authorization: Bearer x\r\n", "authorization: bearer x\r\n", "authorization: Bearer\r\n"]
        {
            let answer = exchange(server.address, line(bad).as_bytes()).await;
            assert!(!answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
    }
    let mut client = http1(server.tcp().await).await;
    for (request, status) in
        [(with_token("/members", &token), 200), (get("/open"), 200), (get("/members"), 403)]
    {
        assert_eq!(soon(client.send(request)).await.unwrap().status().as_u16(), status);
    }
}

#[tokio::test]
async fn a_request_whose_keys_are_being_fetched_for_the_first_time_waits_for_them() {
    let login = Login::new();
    let issuer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rules = |name: &str| {
        let uri = format!("http://{}/keys", issuer.local_addr().unwrap());
        RULES
            .replace("NAME", name)
            .replace("RULE", &format!("{{issuer: '{ISSUER}', jwksUri: '{uri}', timeout: 20s}}"))
    };
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, &rules("r"));
    let (mut asked, _) = soon(issuer.accept()).await.unwrap();
    let token = login.token(&json!({"iss": ISSUER, "sub": "ann"}));
    let mut waiting = http1(server.tcp().await).await;
    let mut nobody = http1(server.tcp().await).await;
    let waits = tokio::spawn({
        let request = with_token("/", &token);
        async move { text(waiting.send(request).await.unwrap()).await.unwrap() }
    });
    assert_eq!(nobody.get("/").await.unwrap().0, StatusCode::OK, "who has no token waits for no keys");
    // A reload in between changes nothing about what is waited for.
    set_config(&server.workload, &rules("renamed"));
    assert!(!waits.is_finished());

    let keys = login.keys();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{keys}", keys.len());
    let mut head = [0; 4];
    asked.read_exact(&mut head).await.unwrap();
    asked.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(soon(waits).await.unwrap().0, StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_waits_for_keys_is_not_served_once_policy_forbids_its_connection() {
    let login = Login::new();
    let issuer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/keys", issuer.local_addr().unwrap());
    let rules = RULES
        .replace("NAME", "r")
        .replace("RULE", &format!("{{issuer: '{ISSUER}', jwksUri: '{uri}', timeout: 20s}}"));
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, &rules);
    let (mut asked, _) = soon(issuer.accept()).await.unwrap();
    let mut waiting = http1(server.tcp().await).await;
    let request = with_token("/", &login.token(&json!({"iss": ISSUER, "sub": "ann"})));
    let waits = tokio::spawn(async move { waiting.send(request).await.map(|answer| answer.status()) });
    let is_recorded =
        |has: fn(&CallerRecord) -> bool| server.workload.callers().report().callers.iter().any(has);
    soon(async {
        while !is_recorded(|caller| caller.connections > 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: s, namespace: default}\nspec: {mtls: {mode: STRICT}}\n";
    set_config(&server.workload, &(rules + strict));
    soon(async {
        while !is_recorded(|caller| caller.refused > 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let keys = login.keys();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{keys}", keys.len());
    asked.write_all(answer.as_bytes()).await.unwrap();
    let answered = soon(waits).await.unwrap();
    assert!(answered.is_err(), "{answered:?}");
}

/// CVE-2026-31837: there is no key to fall back to.
#[tokio::test]
async fn while_keys_cannot_be_fetched_every_token_of_their_issuer_is_refused() {
    let login = Login::new();
    // Nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let rule = format!("{{issuer: '{ISSUER}', jwksUri: 'http://{address}/keys'}}");
    set_config(&server.workload, &RULES.replace("NAME", "r").replace("RULE", &rule));
    let mut client = http1(server.tcp().await).await;
    let refused = (StatusCode::UNAUTHORIZED, "Jwks remote fetch is failed".to_owned());
    for _ in 0..3 {
        let request = with_token("/", &login.token(&json!({"iss": ISSUER})));
        assert_eq!(text(soon(client.send(request)).await.unwrap()).await.unwrap(), refused);
    }
    assert_eq!(client.get("/").await.unwrap().0, StatusCode::OK);
}

#[tokio::test]
async fn what_policy_decides_is_counted_under_its_name_and_no_peers_word_becomes_a_label() {
    let login = Login::new();
    let mut settings = Settings::for_service("payment");
    settings.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let workload = Workload::start(settings).await.unwrap();
    let policies = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: default}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: heard, namespace: default}
spec: {action: AUDIT, rules: [{to: [{operation: {paths: [/heard]}}]}]}
";
    set_config(&workload, &(login.rules("") + policies));
    let server = Server::bind(&workload, "127.0.0.1:0").await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.serve(mirror(), std::future::pending()));
    let mut client = http1(tokio::net::TcpStream::connect(address).await.unwrap()).await;
    for path in ["/", "/heard", "/admin-kilroy", "/admin-was-here", "/?access_token=kilroy"] {
        client.get(path).await.unwrap();
    }
    let metrics = b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let text = exchange(workload.admin().unwrap(), metrics).await;
    for line in [
        "mesh_authorization_total{decision=\"allowed\",policy=\"-\"} 2",
        "mesh_authorization_total{decision=\"denied\",policy=\"ns[default]-policy[no-admin]\"} 2",
        "mesh_authorization_total{decision=\"audited\",policy=\"ns[default]-policy[heard]\"} 1",
        "mesh_tokens_refused_total{reason=\"Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections\"} 1",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} in\n{text}");
    }
    assert!(!text.contains("kilroy"));
}

const ISSUER: &str = "https://login.example";

const RULES: &str = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
                     metadata: {name: NAME, namespace: default}\nspec: {jwtRules: [RULE]}\n";

/// An issuer of tokens.
struct Login(KeyPair);

impl Login {
    fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    fn keys(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.der_bytes());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}).to_string()
    }

    /// Returns a RequestAuthentication that knows this issuer's keys, with `more` in its rule.
    fn rules(&self, more: &str) -> String {
        let rule = format!("{{issuer: '{ISSUER}', jwks: '{}', {more}}}", self.keys());
        RULES.replace("NAME", "login").replace("RULE", &rule)
    }

    fn token(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "EdDSA"})), part(claims));
        let signature = self.0.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn with_token(path: &str, token: &str) -> Request<Body> {
    let mut request = get(path);
    let headers: &mut HeaderMap = request.headers_mut();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}
