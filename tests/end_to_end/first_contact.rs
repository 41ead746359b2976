//! Point 1: the article's configuration, three processes, and the split that it asks for.

use crate::harness::Town;
use serde_json::json;

/// 5 standard deviations of a share of 10 % among 1000: one honest run in two million is called wrong.
const TOLERANCE: f64 = 0.048;

#[test]
fn calls_split_as_the_weights_say_and_every_answer_names_the_caller() {
    let (_town, [v1, v2, checkout]) = Town::with_the_article(&[]);
    v1.forget();
    v2.forget();
    let calls = checkout.call("http://payment-service/", 1000);
    assert_eq!(calls.len(), 1000);
    for call in &calls {
        assert!(call.is_fine(), "{call:?}");
        assert_eq!(call.body["peer"], "spiffe://cluster.local/ns/default/sa/checkout", "{call:?}");
    }
    let share = calls.iter().filter(|call| call.version() == "v1").count() as f64 / 1000.0;
    assert!((share - 0.9).abs() <= TOLERANCE, "v1 got {share}");
    let handled = [&v1, &v2].map(|echo| echo.seen()["total"].as_u64().unwrap());
    assert_eq!(handled[0] as f64 / 1000.0, share, "v1 handled what it answered");
    assert_eq!(handled[0] + handled[1], 1000, "nothing was handled twice");
}

#[test]
fn an_answer_tells_what_its_handler_saw() {
    let (_town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    let more = "&method=POST&header=x-one:1&header=x-two:2&body=hello&timeout=5s";
    let calls = checkout.call_with("http://payment-service/a/b?c=d&e=f", more);
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert!(call.is_fine(), "{call:?}");
    let body = &call.body;
    for (field, expected) in [
        ("service", json!("payment-service")),
        ("namespace", json!("default")),
        ("method", json!("POST")),
        ("path", json!("/a/b")),
        ("query", json!("c=d&e=f")),
        ("protocol", json!("HTTP/2.0")),
    ] {
        assert_eq!(body[field], expected, "{field} of {body}");
    }
    assert_eq!(body["headers"]["x-one"], json!(["1"]), "{body}");
    assert_eq!(body["headers"]["x-two"], json!(["2"]), "{body}");
    assert!(body["host"].as_str().unwrap().starts_with("payment-service"), "{body}");
    assert!(!body["instance"].as_str().unwrap().is_empty(), "{body}");
    let left = body["deadlineMs"].as_u64().unwrap_or_else(|| panic!("the deadline did not travel: {body}"));
    assert!(left <= 5000, "the deadline grew on the way: {body}");
    assert_eq!(call.attempts, 1, "{call:?}");
    assert_eq!(call.flags, "", "{call:?}");
    assert!(call.endpoint.as_deref().unwrap().starts_with("127.0.0.1:"), "{call:?}");
    assert!(call.headers.contains_key("content-type"), "{call:?}");
    assert!(call.duration_ms > 0.0, "{call:?}");
}

#[test]
fn a_chain_of_calls_is_made_in_the_name_of_each_link() {
    let (town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    let front = town.echo("front", "v1").ready();
    let url = "http://checkout/?call=http://payment-service/inner";
    let call = crate::harness::eventually("front reaches checkout", || {
        front.call(url, 1).into_iter().find(|call| call.is_fine())
    });
    drop(checkout);
    assert_eq!(call.body["peer"], "spiffe://cluster.local/ns/default/sa/front", "{call:?}");
    let inner = &call.body["call"]["body"];
    assert_eq!(inner["path"], "/inner", "{call:?}");
    assert_eq!(inner["peer"], "spiffe://cluster.local/ns/default/sa/checkout", "{call:?}");
}

#[test]
fn a_service_misbehaves_as_the_request_asks() {
    let (_town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    let one = |query: &str| checkout.call(&format!("http://payment-service/?{query}"), 1).remove(0);
    assert_eq!(one("status=418").status, 418);
    assert_eq!(one("size=10000").body.as_str().map(str::len), Some(10000));
    assert!(one("delay=120ms").duration_ms >= 120.0);
    let aborted = one("abort=1");
    assert!(aborted.error.is_some() && aborted.status == 503, "{aborted:?}");
    let calls = checkout.call("http://payment-service/?status=429&status-percent=50", 400);
    let hit = calls.iter().filter(|call| call.status == 429).count();
    // Five standard deviations of 400 throws of a coin.
    assert!((150..=250).contains(&hit), "{hit} of 400");
    assert_eq!(calls.iter().filter(|call| call.status == 200).count(), 400 - hit);
}
