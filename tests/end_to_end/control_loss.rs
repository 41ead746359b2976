//! Point 3: the control endpoint dies, and comes back.

use crate::harness::{Caller, Town, eventually, weights};

const PAYMENT: &str = "http://payment-service/";

#[test]
fn calls_go_on_without_the_control_endpoint_and_edits_arrive_when_it_is_back() {
    let (mut town, [_v1, _v2, mut checkout]) = Town::with_the_article(&[]);
    let serial = checkout.admin("/identity").body;
    let caller = Caller::of(&checkout, PAYMENT);
    town.kill_control();
    let calls = checkout.call(PAYMENT, 300);
    assert!(calls.iter().all(|call| call.is_fine()), "{calls:?}");
    assert_eq!(checkout.admin("/identity").body, serial, "the certificate stays in use");

    town.edit(&weights(0, 100));
    town.restart_control();
    eventually("checkout has found the control endpoint and takes the edit", || {
        checkout.call(PAYMENT, 30).iter().all(|call| call.version() == "v2").then_some(())
    });
    eventually("all three have attached again", || {
        let status = town.control.status(&town.data());
        (status["workloads"].as_array().is_some_and(|workloads| workloads.len() == 3)).then_some(())
    });
    let calls = caller.end();
    assert_eq!(calls.failed, [] as [String; 0], "of {} calls", calls.made);
}

#[test]
fn a_workload_with_a_cache_starts_without_the_control_endpoint() {
    let (mut town, [_v1, _v2, _checkout]) = Town::with_the_article(&[]);
    let (token, cache) = (town.token("late", &[]), town.path("cache"));
    let flags = ["--cache", cache.to_str().unwrap()];
    let mut first = town.echo_holding(&token, "late", "v1", &flags).ready();
    assert!(first.call(PAYMENT, 1)[0].is_fine());
    first.process.terminate();
    assert!(first.process.end().success());

    town.kill_control();
    let second = town.echo_holding(&token, "late", "v1", &flags).ready();
    let calls = second.call(PAYMENT, 50);
    assert!(calls.iter().all(|call| call.is_fine()), "{calls:?}");
    let id = "spiffe://cluster.local/ns/default/sa/late";
    assert!(calls.iter().all(|call| call.body["peer"] == id), "{calls:?}");
}

#[test]
fn a_workload_without_a_cache_is_not_ready_and_says_why_at_once() {
    let (mut town, [_v1, _v2, _checkout]) = Town::with_the_article(&[]);
    let token = town.token("late", &[]);
    town.kill_control();
    let mut late = town.echo_holding(&token, "late", "v1", &[]);
    let call = late.call(PAYMENT, 1).remove(0);
    let error = call.error.as_ref().unwrap_or_else(|| panic!("{call:?}"));
    assert_eq!(error["kind"], "not-ready", "{call:?}");
    assert!(error["message"].as_str().unwrap().len() > 20, "the reason is missing: {call:?}");
    assert_eq!((call.status, call.attempts, &call.endpoint), (503, 0, &None), "{call:?}");
    assert_eq!(late.admin("/readyz").status, 503);
    assert_eq!(late.admin("/healthz").status, 200, "not ready is not dead");
    assert_eq!(late.process.said("ready"), None);

    town.restart_control();
    let late = late.ready();
    eventually("it calls as soon as it has what it needs", || {
        late.call(PAYMENT, 1)[0].is_fine().then_some(())
    });
}
