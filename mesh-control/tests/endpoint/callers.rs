//! Who calls whom, from the reports of workloads to `meshctl check`.

use crate::{bed::Bed, meshctl};
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn check_says_whom_strict_would_cut_off_and_what_policies_would_deny() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "payment", &[]);
    report(
        &bed,
        &token,
        json!([plaintext("10.0.0.7"), mutual("checkout", "/admin"), mutual("search", "/pay")]),
    )
    .await;
    let (code, text) = check(&bed, &["--strict"]).await;
    assert_eq!(code, 1, "{text}");
    let line = "default/payment:8080: 10.0.0.7 in plaintext, 2 requests, last seen 3 s ago";
    assert!(text.contains(line) && !text.contains("policies would deny"), "{text}");
    assert!(text.contains("note: default/payment a has recorded for 60 s only"), "{text}");

    let policy = bed.dir.path().join("policy.yaml");
    std::fs::write(&policy, NO_ADMIN).unwrap();
    let (code, json) = check(&bed, &["--strict", "--config", policy.to_str().unwrap(), "-o", "json"]).await;
    let outlook: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, outlook["cutOff"].as_array().unwrap().len()), (1, 1), "{json}");
    let denied = &outlook["denied"];
    assert_eq!(denied.as_array().unwrap().len(), 1, "{json}");
    assert_eq!(denied[0]["caller"], "spiffe://cluster.local/ns/default/sa/checkout");
    assert_eq!(denied[0]["policy"], "ns[default]-policy[no-admin]-rule[0]");

    report(&bed, &token, json!([mutual("search", "/pay")])).await;
    let (code, text) = check(&bed, &["--strict", "--config", policy.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("nothing that was recorded would break\n"), "{text}");
}

#[tokio::test]
async fn check_has_a_line_per_fact_and_is_1_if_one_is_wrong() {
    let bed = Bed::plain().await;
    let (code, text) = check(&bed, &[]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("0 workloads, all on the version served"), "{text}");
    assert!(text.contains("every object is in force as written"), "{text}");

    let token = bed.token("default", "payment", &[]);
    report(&bed, &token, json!([plaintext("10.0.0.7")])).await;
    let (code, json) = check(&bed, &["-o", "json"]).await;
    let facts: Value = serde_json::from_str(&json).unwrap();
    let wrong: Vec<_> = facts.as_array().unwrap().iter().filter(|fact| fact["ok"] == false).collect();
    assert_eq!((code, wrong.len()), (1, 1), "the version reported is not the one served: {json}");
    assert!(wrong[0]["fact"].as_str().unwrap().starts_with("default/payment a is on version v1"), "{json}");
    assert!(json.contains("called without a proven identity: default/payment a"), "{json}");
}

#[tokio::test]
async fn check_that_cannot_ask_is_2() {
    let bed = Bed::plain().await;
    let data = bed.data().display().to_string();
    let (code, _, stderr) =
        meshctl::run(&["check", "--control", "http://127.0.0.1:1", "--data", &data]).await;
    assert_eq!(code, 2, "{stderr}");
    let (code, _, stderr) = meshctl::run(&["check", "--control", &bed.url(), "--data", "/nowhere"]).await;
    assert!(code == 2 && stderr.contains("no ca.key"), "{stderr}");
    let (code, _) = check(&bed, &["--strict", "--config", "/nowhere.yaml"]).await;
    assert_eq!(code, 2);
}

/// What a namespace's workloads are asked for is nobody else's business.
#[tokio::test]
async fn who_calls_whom_is_shown_to_the_namespace_that_is_called_and_to_the_operator() {
    let bed = Bed::plain().await;
    report(&bed, &bed.token("shop", "payment", &[]), json!([plaintext("10.0.0.7")])).await;
    let shown = async |token: String| {
        let status = bed.get("/v1/status", &token).await.json();
        assert_eq!(status["workloads"].as_array().unwrap().len(), 1);
        status["workloads"][0]["callers"].is_object()
    };
    assert!(shown(bed.token("shop", "anybody", &[])).await);
    assert!(!shown(bed.token("default", "payment", &[])).await);
    assert!(shown(mesh_control::operator_token(&bed.data()).unwrap()).await);
    // A workload that bears the operator's name is not the operator.
    let named = bed.token("mesh-system", "meshctl", &[]);
    let csr = crate::bed::csr("spiffe://cluster.local/ns/mesh-system/sa/meshctl");
    let answer = bed.ask(Method::POST, "/v1/certificates", Some(&named), json!({"csr": csr})).await.json();
    assert!(!shown(answer["renewal"].as_str().unwrap().to_owned()).await);
}

async fn report(bed: &Bed, token: &str, callers: Value) {
    let report = json!({
        "service": "payment", "instance": "a", "version": "v1", "certificateSeconds": 100,
        "labels": {"app": "payment"},
        "callers": {
            "recordedSeconds": 60, "callers": callers, "deniedOnTrial": [], "deniedOnTrialMore": 0,
        },
    });
    let reply = bed.ask(Method::POST, "/v1/reports", Some(token), report).await;
    assert_eq!(reply.status, 204, "{reply:?}");
}

fn plaintext(address: &str) -> Value {
    json!({
        "by": "plaintext", "address": address, "port": 8080, "connections": 1, "requests": 2, "lastSeenSeconds": 3,
        "asked": [{"method": "GET", "host": "payment", "path": "/", "count": 2}],
    })
}

fn mutual(account: &str, path: &str) -> Value {
    json!({
        "by": "mutualTls", "identity": format!("spiffe://cluster.local/ns/default/sa/{account}"), "port": 8080,
        "connections": 1, "requests": 1, "lastSeenSeconds": 3,
        "asked": [{"method": "GET", "host": "payment", "path": path, "count": 1}],
    })
}

async fn check(bed: &Bed, more: &[&str]) -> (i32, String) {
    let (url, data) = (bed.url(), bed.data().display().to_string());
    let args = [&["check", "--control", &url, "--data", &data], more].concat();
    let (code, stdout, stderr) = meshctl::run(&args).await;
    assert!(code == 2 || stderr.is_empty(), "{stderr}");
    (code, stdout)
}

const NO_ADMIN: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: default}
spec:
  selector: {matchLabels: {app: payment}}
  action: DENY
  rules: [{to: [{operation: {paths: ['/admin*']}}]}]
";
