//! What is served, when it changes, and what is kept when it breaks.

use crate::bed::{Bed, CANARY, until};
use http::Method;
use serde_json::{Value, json};
use std::{io::Read, time::Duration};

#[tokio::test]
async fn objects_are_served_as_they_were_written_with_their_namespace() {
    let bed = Bed::plain().await;
    let items = bed.items().await;
    assert_eq!(items.len(), 2);
    let route = items.iter().find(|item| item["kind"] == "VirtualService").unwrap();
    assert_eq!(
        *route,
        json!({
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "VirtualService",
            "metadata": {"name": "payment-route", "namespace": "default"},
            "spec": {
                "hosts": ["payment-service"],
                "http": [{"route": [
                    {"destination": {"host": "payment-service", "subset": "v1"}, "weight": 90},
                    {"destination": {"host": "payment-service", "subset": "v2"}, "weight": 10},
                ]}],
            },
        })
    );
}

#[tokio::test]
async fn a_version_that_is_known_is_not_sent_again() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let first = bed.get("/v1/resources", &token).await;
    let etag = first.header("etag").to_owned();
    assert_eq!(etag, format!("\"{}\"", first.json()["version"].as_str().unwrap()));
    let ask = async |etag: &str| {
        let call = bed.call(Method::GET, "/v1/resources").bearer(Some(&token));
        call.header("if-none-match", etag).send().await
    };
    let again = ask(&etag).await;
    assert_eq!((again.status.as_u16(), again.body.len(), again.header("etag")), (304, 0, etag.as_str()));
    assert_eq!(ask("\"other\"").await.status, 200);
    let wrong = ask("no-quotes").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.message().contains("if-none-match"), "{}", wrong.message());
}

#[tokio::test]
async fn who_waits_learns_of_an_edit_at_once_and_of_nothing_after_the_wait() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let etag = bed.get("/v1/resources", &token).await.header("etag").to_owned();
    let wait = |seconds: u32| {
        bed.call(Method::GET, "/v1/resources")
            .bearer(Some(&token))
            .header("if-none-match", &etag)
            .header("prefer", &format!("wait={seconds}"))
            .send()
    };
    assert_eq!(wait(1).await.status, 304);
    let mut waiting = std::pin::pin!(wait(30));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "an answer without news: {early:?}");
    bed.edit(&CANARY.replace("weight: 90", "weight: 50").replace("weight: 10", "weight: 50"));
    let news = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    assert_eq!(news.status, 200);
    assert!(news.json()["items"].to_string().contains("\"weight\":50"));
    assert_eq!(news.header("etag"), bed.get("/v1/resources", &token).await.header("etag"));
}

#[tokio::test]
async fn the_answer_is_packed_for_who_takes_it() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let plain = bed.get("/v1/resources", &token).await;
    let call = bed.call(Method::GET, "/v1/resources").bearer(Some(&token));
    let packed = call.header("accept-encoding", "gzip").send().await;
    assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), ("", "gzip"));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
}

#[tokio::test]
async fn a_broken_edit_changes_nothing_that_worked_and_is_shown_with_its_line() {
    let bed = Bed::plain().await;
    let before = bed.items().await;
    let table = [
        (CANARY.replace("weight: 90", "weight: -1"), 22, "VirtualService default/payment-route"),
        (CANARY.replace("subset: v2}", "subset: v3}"), 23, "VirtualService default/payment-route"),
        (CANARY.replace("hosts: [payment-service]", "hosts: [payment-service"), 0, ""),
        (CANARY.replace("  hosts:", "  wieght: 1\n  hosts:"), 18, "VirtualService default/payment-route"),
    ];
    for (row, (text, line, resource)) in table.iter().enumerate() {
        bed.edit(text);
        let rejected = async || bed.status().await["rejected"].as_array().unwrap().clone();
        until("a rejection", async || !rejected().await.is_empty()).await;
        let first = &rejected().await[0];
        assert_eq!(bed.items().await, before, "row {row}: {first}");
        assert!(first["file"].as_str().unwrap().ends_with("mesh.yaml"), "row {row}: {first}");
        assert!(
            !first["message"].as_str().unwrap().is_empty() && !first["kept"].as_str().unwrap().is_empty()
        );
        assert!(first["code"].as_str().unwrap().len() > 4, "row {row}: {first}");
        if *line > 0 {
            assert_eq!(
                (&first["line"], &first["resource"]),
                (&json!(line), &json!(resource)),
                "row {row}: {first}"
            );
        }
        bed.edit(CANARY);
        until("the repair", async || rejected().await.is_empty()).await;
        assert_eq!(bed.items().await, before, "row {row}");
    }
}

#[tokio::test]
async fn a_good_edit_beside_a_broken_one_is_in_force() {
    let bed = Bed::plain().await;
    bed.edit(&CANARY.replace("weight: 90", "weight: -1").replace("name: v2\n", "name: v2\n  - name: v3\n"));
    until("the edit", async || {
        let items = bed.items().await;
        items[0].to_string().contains("\"v3\"") && items[1].to_string().contains("90")
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_blank_or_gone_for_a_moment_deletes_nothing_and_for_good_it_does() {
    let bed = Bed::plain().await;
    let file = bed.dir.path().join("mesh.yaml");
    for text in [Some(""), Some("\n \n"), None] {
        let emptied = std::time::Instant::now();
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        until("the deletion", async || bed.items().await.is_empty()).await;
        assert!(emptied.elapsed() >= Duration::from_secs(1), "{text:?} was taken at its word at once");
        bed.edit(CANARY);
        until("the return", async || bed.items().await.len() == 2).await;
    }
}

#[tokio::test]
async fn objects_for_other_namespaces_are_not_sent() {
    let bed = Bed::plain().await;
    bed.edit(
        "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: secret, namespace: bank}
spec:
  exportTo: ['.']
  hosts: [vault.bank.svc.cluster.local]
  http: [{route: [{destination: {host: vault.bank.svc.cluster.local}}]}]
",
    );
    let seen = async |namespace: &str| {
        let reply = bed.get("/v1/resources", &bed.token(namespace, "x", &[])).await.json();
        reply["items"].as_array().unwrap().len()
    };
    until("the edit", async || seen("bank").await == 1).await;
    assert_eq!(seen("default").await, 0);
}

#[tokio::test]
async fn the_status_shows_who_is_on_which_version_and_what_they_refused() {
    let bed = Bed::plain().await;
    let token = bed.register("cart", "cart-1", 8080).await;
    let version = bed.status().await["version"].clone();
    let finding = json!({
        "resource": "VirtualService default/x", "file": "control", "line": 3, "column": 4,
        "code": "IST0101", "message": "no such subset", "kept": "the version before",
    });
    let report = json!({"service": "cart", "instance": "cart-1", "version": version, "rejected": [finding]});
    assert_eq!(bed.ask(Method::POST, "/v1/reports", Some(&token), report).await.status, 204);
    // A caller without a lease is known by its poll.
    let poll = bed.call(Method::GET, "/v1/resources?service=web&instance=web-1").bearer(Some(&token));
    poll.header("if-none-match", "\"old\"").send().await;

    let status = bed.status().await;
    let shown = status["workloads"].as_array().unwrap();
    assert_eq!(shown.len(), 2);
    assert_eq!(
        (&shown[0]["namespace"], &shown[0]["service"], &shown[0]["instance"], &shown[0]["version"]),
        (&json!("default"), &json!("cart"), &json!("cart-1"), &version)
    );
    assert_eq!(shown[0]["spiffeId"], "spiffe://cluster.local/ns/default/sa/cart");
    assert!(shown[0]["ageSeconds"].as_u64().unwrap() < 10);
    assert_eq!((&shown[1]["service"], &shown[1]["version"]), (&json!("web"), &json!("old")));
    assert_eq!(status["rejected"], json!([finding]));

    for (body, expected) in [
        (json!({"service": "cart"}), "missing field `instance`"),
        (json!({"service": "C", "instance": "i", "version": "v"}), "service: \"C\""),
        (
            json!({"service": "c", "instance": "i", "version": "v", "rejected": [1]}),
            "rejected[0]: invalid type",
        ),
    ] {
        let reply = bed.ask(Method::POST, "/v1/reports", Some(&token), body).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.message().contains(expected), "{}", reply.message());
    }
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_is_said_to_be() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let table = [
        (Method::GET, "/", 404, ""),
        (Method::GET, "/v1/nothing", 404, ""),
        (Method::POST, "/v1/resources", 405, "GET, HEAD"),
        (Method::GET, "/v1/workloads/default/cart/a", 405, "PUT, DELETE"),
        (Method::DELETE, "/v1/certificates", 405, "POST"),
        (Method::PUT, "/healthz", 405, "GET, HEAD"),
    ];
    for (method, path, expected, allow) in table {
        let reply = bed.ask(method, path, Some(&token), Value::Null).await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (expected, allow), "{path}");
        assert!(reply.json()["code"].is_string() && !reply.message().is_empty());
    }
}

#[tokio::test]
async fn metrics_count_answers_by_route() {
    let bed = Bed::plain().await;
    bed.register("cart", "a", 8080).await;
    bed.ask(Method::GET, "/v1/status", None, Value::Null).await;
    let text = bed.ask(Method::GET, "/metrics", None, Value::Null).await.body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        "mesh_control_leases 1",
        "mesh_control_requests_total{route=\"workloads\",code=\"201\"} 1",
        "mesh_control_requests_total{route=\"status\",code=\"401\"} 1",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
    }
}
