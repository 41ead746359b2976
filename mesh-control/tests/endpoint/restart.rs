//! What survives the endpoint's own end.

use crate::bed::{Bed, CANARY, csr, lease, trusting, until};
use http::Method;
use mesh_control::ControlEndpoint;
use serde_json::{Value, json};
use std::fs;

#[tokio::test]
async fn the_authority_the_leases_and_the_version_survive_on_the_same_port() {
    let mut bed = Bed::plain().await;
    bed.settings.listen = bed.authority().parse().unwrap();
    let token = bed.register("cart", "a", 8080).await;
    let ask = json!({"csr": csr("spiffe://cluster.local/ns/default/sa/cart")});
    let first = bed.ask(Method::POST, "/v1/certificates", Some(&token), ask.clone()).await.json();
    bed.register("cart", "a", 8080).await;
    let (items, version) = (bed.items().await, bed.status().await["version"].clone());

    bed.stop().await;
    bed.start_again().await;
    assert_eq!(bed.items().await, items);
    assert_eq!(bed.status().await["version"], version);
    let renewal = first["renewal"].as_str().unwrap();
    let second = bed.ask(Method::POST, "/v1/certificates", Some(renewal), ask).await.json();
    assert_eq!(first["bundles"], second["bundles"]);
    let reply = bed.get("/v1/resources", &token).await.json();
    assert_eq!(reply.get("warming"), None, "its leases are all there");
}

#[tokio::test]
async fn an_endpoint_that_lost_its_leases_says_so() {
    let mut bed = Bed::plain().await;
    let token = bed.register("cart", "a", 8080).await;
    let ask = json!({"csr": csr("spiffe://cluster.local/ns/default/sa/cart")});
    bed.ask(Method::POST, "/v1/certificates", Some(&token), ask).await;
    for damage in ["", "{", "[{}]"] {
        bed.stop().await;
        fs::write(bed.data().join("leases.json"), damage).unwrap();
        bed.start_again().await;
        let reply = bed.get("/v1/resources", &token).await.json();
        assert_eq!(reply["warming"], true, "{damage}: {reply}");
    }
}

#[tokio::test]
async fn a_new_endpoint_is_not_warming() {
    let bed = Bed::plain().await;
    let reply = bed.get("/v1/resources", &bed.token("default", "cart", &[])).await.json();
    assert_eq!(reply.get("warming"), None);
}

#[tokio::test]
async fn the_last_good_configuration_survives_a_start_with_a_broken_file() {
    let mut bed = Bed::plain().await;
    let before = bed.items().await;
    for broken in [CANARY.replace("weight: 90", "weight: -1"), "{{{{".to_owned(), String::from("\u{0}")] {
        bed.stop().await;
        bed.edit(&broken);
        bed.start_again().await;
        assert_eq!(bed.items().await, before, "{broken}");
        assert_ne!(bed.status().await["rejected"], json!([]), "{broken}");
    }
    bed.edit(CANARY);
    until("the repair", async || bed.status().await["rejected"] == json!([])).await;
    assert_eq!(bed.items().await, before);
}

#[tokio::test]
async fn what_a_good_file_no_longer_holds_is_gone_after_a_start() {
    let mut bed = Bed::plain().await;
    bed.stop().await;
    bed.edit(CANARY.split("---").next().unwrap());
    bed.start_again().await;
    assert_eq!(bed.items().await.len(), 1);
}

#[tokio::test]
async fn stopping_answers_who_waits() {
    let mut bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let etag = bed.get("/v1/resources", &token).await.header("etag").to_owned();
    let call = bed.call(Method::GET, "/v1/resources").bearer(Some(&token));
    let waiting = tokio::spawn(call.header("if-none-match", &etag).header("prefer", "wait=60").send());
    let counted = async || {
        let text = bed.ask(Method::GET, "/metrics", None, Value::Null).await.body;
        String::from_utf8_lossy(&text).contains("mesh_control_connections 2")
    };
    until("the wait", counted).await;
    bed.stop().await;
    assert_eq!(waiting.await.unwrap().status, 304);
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_stops_the_start_and_says_what_to_do() {
    type Spoil = fn(&std::path::Path);
    let table: [(Spoil, &str); 6] = [
        (|data| fs::write(data.join("ca.key"), "x").unwrap(), "ca.key"),
        (|data| fs::write(data.join("ca.crt"), "x").unwrap(), "delete it: it is made again from ca.key"),
        (|data| fs::write(data.join("token.key"), "x").unwrap(), "token.key: 1 bytes instead of 32"),
        (|data| fs::remove_file(data.join("ca.key")).unwrap(), "does not belong to"),
        (widen, "chmod 600"),
        (
            |data| drop(fs::rename(data, data.with_extension("away")).and_then(|()| fs::write(data, ""))),
            "data",
        ),
    ];
    for (row, (spoil, expected)) in table.into_iter().enumerate() {
        let mut bed = Bed::plain().await;
        bed.stop().await;
        spoil(&bed.data());
        let error = ControlEndpoint::start(bed.settings.clone()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "row {row}: {error}");
    }
    let mut bed = Bed::plain().await;
    bed.stop().await;
    bed.settings.trust_domain = "other.domain".to_owned();
    let error = ControlEndpoint::start(bed.settings.clone()).await.unwrap_err().to_string();
    assert!(error.contains("cluster.local") && error.contains("other.domain"), "{error}");
}

#[tokio::test]
async fn a_renewal_bearer_that_went_over_plain_http_is_worth_nothing_over_tls() {
    let mut bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let ask = json!({"csr": csr("spiffe://cluster.local/ns/default/sa/cart")});
    let answer = bed.ask(Method::POST, "/v1/certificates", Some(&token), ask).await.json();
    let renewal = answer["renewal"].as_str().unwrap();
    assert_eq!(bed.get("/v1/status", renewal).await.status, 200);
    bed.stop().await;
    bed.settings.insecure_http = false;
    bed.start_again().await;
    for (bearer, expected) in [(renewal, 401), (&token, 200)] {
        let call = bed.call(Method::GET, "/v1/status").bearer(Some(bearer));
        assert_eq!(call.send_tls(trusting(&bed.data(), None)).await.unwrap().status, expected);
    }
}

#[tokio::test]
async fn restored_leases_are_on_the_status_and_belong_to_who_held_them() {
    let mut bed = Bed::plain().await;
    bed.register("cart", "a", 8080).await;
    bed.stop().await;
    bed.start_again().await;
    let shown = bed.status().await["workloads"].clone();
    assert_eq!(shown[0]["instance"], "a");
    let thief = bed.token("default", "thief", &["cart"]);
    let reply = bed.ask(Method::PUT, "/v1/workloads/default/cart/a", Some(&thief), lease(6666)).await;
    assert_eq!(reply.status, 409);
}

#[tokio::test]
async fn an_endpoint_that_is_dropped_lets_go_of_its_port_and_its_data() {
    let mut bed = Bed::plain().await;
    bed.settings.listen = bed.authority().parse().unwrap();
    drop(bed.endpoint.take());
    until("the port to be free", async || {
        let again = ControlEndpoint::start(bed.settings.clone()).await;
        if let Err(error) = &again {
            assert!(error.to_string().contains("listening on"), "{error}");
        }
        again.is_ok()
    })
    .await;
}

#[tokio::test]
async fn two_endpoints_on_one_data_directory_are_refused() {
    let mut bed = Bed::plain().await;
    let error = ControlEndpoint::start(bed.settings.clone()).await.unwrap_err().to_string();
    assert!(error.contains("another control endpoint runs on this data directory"), "{error}");
    bed.stop().await;
    bed.start_again().await;
}

fn widen(data: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(data.join("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
}
