//! What was reported of Envoy and Istio, at our door: one test per advisory about paths, hosts and headers. Those about
//! tokens stand in `tokens.rs`, those about the text of policies in mesh-core/tests/advisories.rs.

use crate::support::*;
use http::{Request, StatusCode};
use mesh_core::config::istio::MtlsMode;
use mesh_runtime::identity::Alpn;

const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: default}
spec: {action: DENY, rules: [{to: [{operation: OPERATION}]}]}
";

/// Statuses of `GET target` (with `more` header lines) under a policy that denies `operation`.
async fn statuses(operation: &str, more: &str, targets: &[&str]) -> Vec<u16> {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, &DENY.replace("OPERATION", operation));
    let mut statuses = Vec::new();
    for target in targets {
        let request = format!("GET {target} HTTP/1.1\r\n{more}connection: close\r\n\r\n");
        let answer = exchange(server.address, request.as_bytes()).await;
        statuses.push(answer.split(' ').nth(1).unwrap().parse().unwrap());
    }
    statuses
}

const HOST: &str = "host: payment\r\n";

#[tokio::test]
async fn cve_2021_31920_an_escaped_or_doubled_slash_gets_past_no_policy_by_path() {
    let merging = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'pathNormalization: {normalization: MERGE_SLASHES}'}
---";
    let targets = ["/admin%2fx", "/admin%5cx", "/x%2f..%2fadmin", "/admin\\x", "/%61dmin/x"];
    let operation = "{paths: [/admin, /admin/*]}";
    assert_eq!(statuses(operation, HOST, &targets).await, [400, 400, 400, 403, 403]);
    // `//admin` is another path than `/admin`, to policy and handler alike, unless the mesh reads them as one.
    assert_eq!(statuses(operation, HOST, &["//admin"]).await, [200]);
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, &format!("{merging}{}", DENY.replace("OPERATION", operation)));
    for target in ["//admin", "///admin//x", "/x/..//admin"] {
        let request = format!("GET {target} HTTP/1.1\r\n{HOST}connection: close\r\n\r\n");
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{target}: {answer}");
    }
}

#[tokio::test]
async fn cve_2021_39156_a_fragment_is_no_part_of_a_path() {
    let targets = ["/admin#", "/admin#x", "/admin/#/../open", "/admin?#x"];
    assert_eq!(statuses("{paths: [/admin, /admin/*]}", HOST, &targets).await, [403; 4]);
}

#[tokio::test]
async fn cve_2021_39155_the_case_of_a_host_is_no_way_past_a_policy_by_host() {
    for host in ["secret", "SECRET", "sEcReT", "secret.", "Secret.:80"] {
        let line = format!("host: {host}\r\n");
        assert_eq!(statuses("{hosts: [secret]}", &line, &["/"]).await, [403], "{host}");
    }
}

/// ISTIO-SECURITY-2021-008.
#[tokio::test]
async fn a_port_in_the_host_is_no_way_past_a_policy_by_host() {
    for (host, policy) in [("secret:80", "secret"), ("secret", "secret:80"), ("secret:8080", "secret:*")] {
        let line = format!("host: {host}\r\n");
        assert_eq!(
            statuses(&format!("{{hosts: ['{policy}']}}"), &line, &["/"]).await,
            [403],
            "{host} {policy}"
        );
    }
}

#[tokio::test]
async fn cve_2023_35944_the_case_of_a_scheme_changes_no_decision() {
    let targets = ["http://payment/admin", "HTTP://payment/admin", "hTTps://payment/x/../admin"];
    let statuses = statuses("{paths: [/admin]}", HOST, &targets).await;
    assert!(statuses.iter().all(|status| matches!(status, 400 | 403)), "{statuses:?}");
}

/// Envoy 1.40.0 makes `/admin` of `/..;/admin`, Istio a path of its own: what two readers take for two things is refused.
#[tokio::test]
async fn a_parameter_on_a_dot_segment_is_refused() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, &DENY.replace("OPERATION", "{paths: [/admin, /admin/*]}"));
    for target in ["/..;/admin", "/x/..;a=b/admin", "/.;/admin"] {
        let mut client = http1(server.tcp().await).await;
        assert_eq!(client.get(target).await.unwrap().0, StatusCode::BAD_REQUEST, "{target}");
    }
}

#[tokio::test]
async fn cve_2021_32777_of_a_header_with_several_values_every_one_is_taken_out() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    for is_http2 in [false, true] {
        let mut client =
            if is_http2 { http2(server.tcp().await).await } else { http1(server.tcp().await).await };
        let mut request = get("/");
        for name in ["x-forwarded-client-cert", "x-envoy-original-path", "x-mesh-provenance"] {
            for value in ["a", "b", "c"] {
                request.headers_mut().append(name, value.parse().unwrap());
            }
        }
        let (_, seen) = text(soon(client.send(request)).await.unwrap()).await.unwrap();
        assert!(
            !seen.contains("x-forwarded-client-cert")
                && !seen.contains("x-envoy")
                && !seen.contains("x-mesh"),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn cve_2026_26308_a_deny_sees_every_value_of_a_header_and_an_allow_wants_all() {
    let policy = |action: &str, values: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: default}}\n\
             spec: {{action: {action}, rules: [{{when: [{{key: 'request.headers[x-role]', {values}}}]}}]}}"
        )
    };
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    for (action, values, roles, status) in [
        ("DENY", "values: [guest]", &["user", "guest"][..], 403),
        ("DENY", "values: [guest]", &["guest", "user"], 403),
        ("DENY", "values: [guest]", &["user", "user"], 200),
        ("ALLOW", "values: [admin]", &["admin", "guest"], 403),
        ("ALLOW", "values: [admin]", &["guest", "admin"], 403),
        ("ALLOW", "values: [admin]", &["admin"], 200),
        ("ALLOW", "notValues: [guest]", &["user", "guest"], 403),
    ] {
        set_config(&server.workload, &policy(action, values));
        for alpn in [Alpn::Http1, Alpn::Http2] {
            let stream = server.mtls(alpn).await;
            let mut client = if alpn == Alpn::Http1 { http1(stream).await } else { http2(stream).await };
            let mut request = get("/");
            for role in roles {
                request.headers_mut().append("x-role", role.parse().unwrap());
            }
            let answer = soon(client.send(request)).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{action} {values} {roles:?}");
        }
    }
}

/// ISTIO-SECURITY-2024-006: a caller is not believed for where it calls from, and loopback is as near as it gets.
#[tokio::test]
async fn a_caller_from_a_private_address_speaks_for_the_mesh_no_more_than_any_other() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let mut client = http1(server.tcp().await).await;
    let forged = [
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-envoy-expected-rq-timeout-ms", "1"),
        ("x-envoy-attempt-count", "7"),
        ("x-envoy-decorator-operation", "a"),
    ];
    let mut request = get("/");
    for (name, value) in forged {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (_, seen) = text(soon(client.send(request)).await.unwrap()).await.unwrap();
    assert!(!seen.contains("x-envoy"), "{seen}");
}

/// What follows a request to upgrade, before anybody has agreed, is a request of its own and is judged.
#[tokio::test]
async fn cve_2025_64763_what_is_sent_before_an_upgrade_is_agreed_reaches_no_handler_unjudged() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, &DENY.replace("OPERATION", "{paths: [/admin]}"));
    let hidden = "GET /admin HTTP/1.1\r\nhost: payment\r\nconnection: close\r\n\r\n";
    for (first, answers) in [
        ("GET /admin HTTP/1.1\r\nhost: payment\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 2),
        ("GET /open HTTP/1.1\r\nhost: payment\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 1),
        ("CONNECT payment:80 HTTP/1.1\r\nhost: payment:80\r\n\r\n", 1),
    ] {
        let answer = exchange(server.address, format!("{first}{hidden}").as_bytes()).await;
        let seen = answer.matches("HTTP/1.1 403 ").count();
        assert!(!answer.contains("uri /admin"), "{answer}");
        assert!(seen <= answers, "{answer}");
    }
}

#[tokio::test]
async fn cve_2021_31920_holds_over_http2_as_well() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, &DENY.replace("OPERATION", "{paths: [/admin, /admin/*]}"));
    let mut client = http2(server.mtls(Alpn::Http2).await).await;
    for (path, status) in
        [("/admin%2fx", 400), ("/x/../admin", 403), ("/%61dmin", 403), ("/admin?x", 403), ("/x", 200)]
    {
        let request = Request::get(format!("http://payment{path}")).body(empty()).unwrap();
        assert_eq!(soon(client.send(request)).await.unwrap().status().as_u16(), status, "{path}");
    }
}
