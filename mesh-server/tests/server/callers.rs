//! Who calls, as it is recorded before mutual TLS is demanded.

use crate::support::*;
use http::Request;
use mesh_core::config::istio::MtlsMode;
use mesh_runtime::{
    Settings, Workload,
    control::wire::{CallerRecord, CallsBy},
    identity::Alpn,
};
use std::net::SocketAddr;

#[tokio::test]
async fn callers_are_recorded_by_how_they_come_and_what_they_ask_for() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    let mut clients = [
        http1(server.tcp().await).await,
        http2(server.tcp().await).await,
        http1(server.tls_anonymous(None).await.unwrap()).await,
        http1(server.mtls(Alpn::Http1).await).await,
        http2(server.mtls(Alpn::Http2).await).await,
    ];
    for client in &mut clients {
        client.get("/a?secret=1").await.unwrap();
        client.get("/x/../a").await.unwrap();
        client.send(Request::put("/b").body(empty()).unwrap()).await.unwrap();
    }
    let report = server.workload.callers().report();
    let shown: Vec<_> = report.callers.iter().map(line).collect();
    assert_eq!(
        shown,
        [
            "Plaintext 127.0.0.1: 2 connections, 6 requests, 4 GET payment/a, 2 PUT payment/b",
            "Anonymous 127.0.0.1: 1 connections, 3 requests, 2 GET payment/a, 1 PUT payment/b",
            "MutualTls spiffe://cluster.local/ns/default/sa/checkout: 2 connections, 6 requests, 4 GET payment/a, 2 PUT \
             payment/b",
        ]
    );
    assert!(report.callers.iter().all(|caller| caller.port == server.address.port()));
}

fn line(caller: &CallerRecord) -> String {
    let who = caller.identity.as_ref().or(caller.address.as_ref()).unwrap();
    let mut line =
        format!("{:?} {who}: {} connections, {} requests", caller.by, caller.connections, caller.requests);
    for asked in &caller.asked {
        line += &format!(", {} {} {}{}", asked.count, asked.method, asked.host, asked.path);
    }
    line
}

#[tokio::test]
async fn whom_strict_closes_out_is_recorded_and_what_policy_denies_is_not() {
    let server = Running::start(MtlsMode::Strict, mirror(), |server| server).await;
    exchange(server.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let refused = || async {
        let callers = server.workload.callers().report().callers;
        callers
            .iter()
            .any(|it| (it.by, it.connections, it.refused, it.requests) == (CallsBy::Plaintext, 0, 1, 0))
    };
    soon(async {
        while !refused().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    set_config(&server.workload, &policy("DENY", "", "/a*"));
    assert_eq!(http1(server.tcp().await).await.get("/a").await.unwrap().0, 403);
    let callers = server.workload.callers().report().callers;
    assert_eq!(callers.iter().map(|caller| caller.requests).sum::<u64>(), 0);
}

#[tokio::test]
async fn what_a_policy_on_trial_would_deny_is_recorded_until_the_policies_change() {
    let mut settings = Settings::for_service("payment");
    settings.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let workload = Workload::start(settings).await.unwrap();
    let server = Running::start_with(workload, MtlsMode::Permissive, mirror(), |server| server).await;
    set_config(&server.workload, &policy("DENY", ", annotations: {istio.io/dry-run: 'true'}", "/admin*"));
    let mut client = http1(server.mtls(Alpn::Http1).await).await;
    for path in ["/admin", "/pay", "/admin"] {
        assert_eq!(client.get(path).await.unwrap().0, 200, "{path}");
    }
    let ask = b"GET /callers HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let page = exchange(server.workload.admin().unwrap(), ask).await;
    let page: serde_json::Value = serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap();
    let denied = &page["deniedOnTrial"];
    assert_eq!(denied.as_array().unwrap().len(), 1, "{page}");
    assert_eq!(denied[0]["policy"], "ns[default]-policy[p]-rule[0]");
    assert_eq!(denied[0]["caller"], "spiffe://cluster.local/ns/default/sa/checkout");
    assert_eq!((&denied[0]["path"], &denied[0]["count"]), (&"/admin".into(), &2.into()));

    set_config(&server.workload, &policy("DENY", ", annotations: {istio.io/dry-run: 'true'}", "/other*"));
    assert_eq!(client.get("/admin").await.unwrap().0, 200);
    assert_eq!(server.workload.callers().report().denied_on_trial, []);
}

fn policy(action: &str, annotations: &str, path: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: p, namespace: default{annotations}}}\n\
         spec: {{action: {action}, rules: [{{to: [{{operation: {{paths: ['{path}']}}}}]}}]}}"
    )
}
