//! What policy and handler see of a request: one path, one host, no borrowed plumes.

use crate::support::*;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use mesh_core::config::istio::MtlsMode;
use mesh_runtime::identity::Alpn;
use mesh_server::{RequestBody, TrustedHops};
use std::convert::Infallible;

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: default}
spec:
  action: DENY
  rules:
  - to:
    - operation: {paths: [/admin, /admin/*]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: one-host, namespace: default}
spec:
  action: DENY
  rules:
  - to:
    - operation: {hosts: [secret]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: checkout-writes, namespace: default}
spec:
  action: DENY
  rules:
  - from:
    - source: {notPrincipals: [cluster.local/ns/default/sa/checkout]}
    to:
    - operation: {methods: [POST]}
";

fn request_line(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: payment\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn no_spelling_of_a_denied_path_gets_through() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, POLICY);
    let table = [
        ("/admin", 403),
        ("/admin?x", 403),
        ("/admin/users", 403),
        ("/x/../admin", 403),
        ("/./admin", 403),
        ("/x/%2e%2e/admin", 403),
        ("/%61dmin", 403),
        ("/admi%6e/", 403),
        ("/x\\..\\admin", 403),
        ("/admin#fragment", 403),
        ("http://payment/x/../admin", 403),
        ("/admin%2fusers", 400),
        ("/x%5c..%5cadmin", 400),
        ("/admin%00", 400),
        ("/administrator", 200),
        ("/ADMIN", 200),
        ("/", 200),
    ];
    for (target, status) in table {
        let answer = exchange(server.address, request_line(target).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
    }
}

#[tokio::test]
async fn the_handler_sees_the_path_that_policy_judged() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    for (target, seen) in [
        ("/a/./b/../c?q=/../x", "uri /a/c?q=/../x\n"),
        ("/a#fragment", "uri /a\n"),
        ("/%7Euser", "uri /~user\n"),
        ("http://PAYMENT/a/../b", "uri http://payment/b\n"),
    ] {
        let answer = exchange(server.address, request_line(target).as_bytes()).await;
        assert!(answer.contains(seen), "{target}: {answer}");
    }
}

/// One row per condition that a request to a server on loopback meets or not: `key`, its lists, and whether it is met.
#[tokio::test]
async fn policy_knows_headers_addresses_and_the_server_name() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let port = server.address.port();
    let mut plain = http1(server.tcp().await).await;
    let mut mutual = http1(server.mtls(Alpn::Http1).await).await;
    for (key, lists, met_plain, met_mutual) in [
        ("request.headers[x-user]", "values: [ann]".to_owned(), true, true),
        ("request.headers[x-user]", "values: [bob]".to_owned(), false, false),
        ("request.headers[x-nothing]", "values: ['*']".to_owned(), false, false),
        ("source.ip", "values: [127.0.0.0/8]".to_owned(), true, true),
        ("remote.ip", "values: [127.0.0.1]".to_owned(), true, true),
        ("destination.ip", "values: [127.0.0.1]".to_owned(), true, true),
        ("destination.ip", "notValues: [127.0.0.1]".to_owned(), false, false),
        ("destination.port", format!("values: ['{port}']"), true, true),
        ("connection.sni", "values: ['*']".to_owned(), false, true),
        ("source.namespace", "values: [default]".to_owned(), false, true),
    ] {
        set_config(
            &server.workload,
            &format!(
                "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: deny, namespace: default}}
spec: {{action: DENY, rules: [{{when: [{{key: '{key}', {lists}}}]}}]}}
"
            ),
        );
        for (client, met) in [(&mut plain, met_plain), (&mut mutual, met_mutual)] {
            let request = Request::get("/").header("host", "payment").header("x-user", "ann");
            let status = client.send(request.body(empty()).unwrap()).await.unwrap().status();
            assert_eq!(status == StatusCode::FORBIDDEN, met, "{key} {lists}: {status}");
        }
    }
}

#[tokio::test]
async fn a_denial_is_worded_as_envoy_words_it() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, POLICY);
    let mut client = http2(server.mtls(Alpn::Http2).await).await;
    let denied = client.send(get("/admin")).await.unwrap();
    assert_eq!(denied.headers()["content-type"], "text/plain");
    assert_eq!(text(denied).await.unwrap(), (StatusCode::FORBIDDEN, "RBAC: access denied".to_owned()));

    let mut request = get("/admin");
    request.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    let denied = client.send(request).await.unwrap();
    assert_eq!(denied.status(), StatusCode::OK);
    assert_eq!(denied.headers()["content-type"], "application/grpc");
    assert_eq!(denied.headers()["grpc-status"], "7");
    assert_eq!(denied.headers()["grpc-message"], "RBAC: access denied");
}

#[tokio::test]
async fn slashes_are_merged_for_policy_and_handler_where_the_mesh_says_so() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let mut client = http1(server.tcp().await).await;
    let config = |normalization: &str| {
        format!(
            "{POLICY}---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, \
             data: {{mesh: '{{pathNormalization: {{normalization: {normalization}}}}}'}}}}\n"
        )
    };
    for (normalization, status, path) in [
        ("BASE", StatusCode::OK, Some("//admin")),
        ("MERGE_SLASHES", StatusCode::FORBIDDEN, None),
        ("DEFAULT", StatusCode::OK, Some("//admin")),
    ] {
        set_config(&server.workload, &config(normalization));
        let answer = text(client.send(get("//admin")).await.unwrap()).await.unwrap();
        assert_eq!(answer.0, status, "{normalization}: {}", answer.1);
        assert!(path.is_none_or(|path| answer.1.contains(path)), "{normalization}: {}", answer.1);
    }
}

#[tokio::test]
async fn policy_knows_the_peer_and_the_host() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, POLICY);
    let post = || Request::post("/").body(empty()).unwrap();
    let mut peer = http1(server.mtls(Alpn::Http1).await).await;
    let mut other =
        http1(server.tls_as(server.authority.identity("other"), Alpn::Http1).await.unwrap()).await;
    let mut nobody = http1(server.tcp().await).await;
    for (client, status) in [(&mut peer, 200), (&mut other, 403), (&mut nobody, 403)] {
        assert_eq!(client.send(post()).await.unwrap().status(), status);
    }
    for (host, status) in [("secret", 403), ("SECRET.:80", 403), ("secret.shop", 200)] {
        let request = Request::get("/").header("host", host).body(empty()).unwrap();
        assert_eq!(text(peer.send(request).await.unwrap()).await.unwrap().0, status, "{host}");
    }
    let mut http2 = http2(server.mtls(Alpn::Http2).await).await;
    let request = Request::get("http://Secret:8080/").body(empty()).unwrap();
    assert_eq!(http2.send(request).await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_request_has_exactly_one_host() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let table = [
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\nhost: A.\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
    ];
    for (request, status) in table {
        let request = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.split(' ').nth(1) == Some(&status.to_string()), "{request}: {answer}");
    }
    let mut client = http2(server.tcp().await).await;
    let request = Request::get("http://a/").header("host", "b").body(empty()).unwrap();
    assert_eq!(client.send(request).await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_no_http_never_reaches_the_handler() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    for request in [
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na",
        "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nfolded: 1\r\n 2\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nnul: a\0b\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/3.0\r\nhost: a\r\n\r\n",
        "no http at all\r\n\r\n",
    ] {
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{request}: {answer}");
    }
}

/// With both, the length is no framing and reaches nobody, and nothing after this request is read.
#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    let service = tower::service_fn(|request: Request<RequestBody>| async move {
        let (head, body) = request.into_parts();
        let length = head.headers.get("content-length").cloned();
        let body = body.collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(format!("{} {length:?} {body:?}\n", head.uri)))
    });
    let server = Running::start(MtlsMode::Permissive, service, |server| server).await;
    let request = "GET /one HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\ntransfer-encoding: chunked\r\n\r\n\
                   1\r\nx\r\n0\r\n\r\nGET /two HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = exchange(server.address, request.as_bytes()).await;
    let bodies: Vec<_> = answer.lines().filter(|line| line.starts_with('/')).collect();
    assert_eq!(bodies, ["/one None b\"x\""]);
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn headers_of_the_mesh_come_from_the_mesh_only() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let request = || {
        Request::get("/")
            .header("x-forwarded-client-cert", "By=spiffe://a;URI=spiffe://cluster.local/ns/default/sa/admin")
            .header("x-envoy-retry-on", "5xx")
            .header("x-envoy-attempt-count", "2")
            .header("x-envoy-expected-rq-timeout-ms", "60000")
            .header("x-mesh-anything", "1")
            .header("x-request-id", "7")
            .body(empty())
            .unwrap()
    };
    let mut nobody = http1(server.tcp().await).await;
    let seen = text(nobody.send(request()).await.unwrap()).await.unwrap().1;
    assert!(seen.starts_with("peer none\n") && seen.contains("x-request-id: 7"), "{seen}");
    for name in ["x-forwarded-client-cert", "x-envoy-", "x-mesh-"] {
        assert!(!seen.contains(name), "{seen}");
    }
    let mut peer = http2(server.mtls(Alpn::Http2).await).await;
    let seen = text(peer.send(request()).await.unwrap()).await.unwrap().1;
    assert!(seen.starts_with(CHECKOUT), "{seen}");
    assert!(
        seen.contains("x-envoy-attempt-count: 2") && seen.contains("x-envoy-expected-rq-timeout-ms: 60000")
    );
    assert!(!seen.contains("sa/admin") && !seen.contains("x-envoy-retry-on"), "{seen}");
}

/// What the header says of the certificate is Envoy's to the letter.
// spec: envoy config_http_conn_man_headers_x-forwarded-client-cert
#[tokio::test]
async fn the_handler_is_told_who_called_by_the_certificate_and_by_nothing_else() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let identity = server.authority.identity("checkout");
    let hash: String = mesh_runtime::crypto::sha256(&identity.svid.chain()[0])
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let told = format!(
        "x-forwarded-client-cert: By=spiffe://cluster.local/ns/default/sa/payment;Hash={hash};Subject=\"\";\
         URI=spiffe://cluster.local/ns/default/sa/checkout\n"
    );
    let mut client = http1(server.tls_as(identity, Alpn::Http1).await.unwrap()).await;
    let forged =
        || Request::get("/").header("x-forwarded-client-cert", "URI=spiffe://a").body(empty()).unwrap();
    for request in [get("/"), forged(), get("/"), forged()] {
        let seen = text(client.send(request).await.unwrap()).await.unwrap().1;
        assert!(seen.contains(&told) && !seen.contains("spiffe://a"), "{seen} for {told}");
    }
}

const FROM_OUTSIDE: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: outside, namespace: default}
spec:
  action: DENY
  rules:
  - from:
    - source: {remoteIpBlocks: [203.0.113.0/24]}
";

#[tokio::test]
async fn a_trusted_hop_is_believed_about_who_called_it_and_nobody_else_is() {
    let gateway = "spiffe://cluster.local/ns/default/sa/gateway".parse().unwrap();
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| {
        server.trusted_hops(TrustedHops::peers([gateway]))
    })
    .await;
    set_config(&server.workload, FROM_OUTSIDE);
    let request = |caller: &str| {
        Request::get("/")
            .header("x-forwarded-for", "198.51.100.7")
            .header("x-forwarded-for", caller)
            .header("x-forwarded-client-cert", "URI=spiffe://outside")
            .header("x-envoy-external-address", caller)
            .body(empty())
            .unwrap()
    };
    let gateway = server.tls_as(server.authority.identity("gateway"), Alpn::Http2).await.unwrap();
    let (mut gateway, mut peer, mut nobody) =
        (http2(gateway).await, http2(server.mtls(Alpn::Http2).await).await, http1(server.tcp().await).await);
    assert_eq!(gateway.send(request("203.0.113.9")).await.unwrap().status(), StatusCode::FORBIDDEN);
    let seen = text(gateway.send(request("192.0.2.1")).await.unwrap()).await.unwrap().1;
    assert!(seen.contains("x-forwarded-client-cert: URI=spiffe://outside,By="), "{seen}");
    assert!(seen.contains("x-envoy-external-address: 192.0.2.1"), "{seen}");
    for client in [&mut peer, &mut nobody] {
        let seen = text(client.send(request("203.0.113.9")).await.unwrap()).await.unwrap();
        assert_eq!(seen.0, StatusCode::OK);
        assert!(!seen.1.contains("spiffe://outside") && !seen.1.contains("external-address"), "{}", seen.1);
    }
}

#[tokio::test]
async fn a_head_too_large_is_answered_431() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nlarge: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: 1\r\n".repeat(200));
    for request in [large, many] {
        let answer = exchange(server.address, request.as_bytes()).await;
        // A server that closes with bytes unread resets, and the answer may be lost on the way.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let mut client = http2(server.tcp().await).await;
    let mut request = get("/");
    for _ in 0..200 {
        request.headers_mut().append("x", "1".parse().unwrap());
    }
    assert_eq!(client.send(request).await.unwrap().status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let mut request = get("/");
    request.headers_mut().append("x", "1".repeat(70_000).parse().unwrap());
    // HTTP/2 refuses it below the handler, by an answer or a reset.
    let refused = client.send(request).await;
    assert!(refused.as_ref().is_err() || refused.is_ok_and(|response| response.status() == 431));
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn peer_is_an_axum_extractor() {
    use axum::{Router, routing::get};
    use mesh_server::Peer;
    let app = Router::new()
        .route("/must", get(|peer: Peer| async move { peer.id().to_string() }))
        .route("/may", get(|peer: Option<Peer>| async move { format!("{}", peer.is_some()) }));
    let server = Running::start(MtlsMode::Permissive, app, |server| server).await;
    let mut peer = http1(server.mtls(Alpn::Http1).await).await;
    let mut nobody = http1(server.tcp().await).await;
    let id = "spiffe://cluster.local/ns/default/sa/checkout";
    assert_eq!(peer.get("/must").await.unwrap(), (StatusCode::OK, id.to_owned()));
    assert_eq!(peer.get("/may").await.unwrap(), (StatusCode::OK, "true".to_owned()));
    assert_eq!(nobody.get("/must").await.unwrap().0, StatusCode::UNAUTHORIZED);
    assert_eq!(nobody.get("/may").await.unwrap(), (StatusCode::OK, "false".to_owned()));
}
