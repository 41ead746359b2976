//! A service that is told to end loses no request.

use crate::harness::{Caller, Town, eventually, get};

const PAYMENT: &str = "http://payment-service/?delay=20ms";

#[test]
fn a_service_that_is_terminated_drains_and_no_call_fails() {
    let (town, [v1, mut v2, checkout]) = Town::with_the_article(&[]);
    // Both versions behind one name, so that the one can take over from the other.
    town.edit(&crate::harness::ARTICLE.replace(", subset: v2}", ", subset: v1}"));
    let twin = town.echo("payment-service", "v1").ready();
    eventually("the calls reach the twin", || {
        checkout.call(PAYMENT, 20);
        twin.seen()["total"].as_u64().filter(|total| *total > 0)
    });
    let caller = Caller::of(&checkout, PAYMENT);
    let mut v1 = v1;
    v1.process.terminate();
    assert!(v1.process.end().success(), "a drained service ends well");
    let calls = checkout.call(PAYMENT, 40);
    assert!(calls.iter().all(|call| call.is_fine()), "{calls:?}");
    let calls = caller.end();
    assert_eq!(calls.failed, [] as [String; 0], "of {} calls", calls.made);
    v2.process.terminate();
    assert!(v2.process.end().success());
}

#[test]
fn the_control_endpoint_ends_when_it_is_told_to() {
    let mut town = Town::start();
    town.control.process.terminate();
    assert!(town.control.process.end().success());
}

#[test]
fn a_service_that_drains_still_calls_others_for_the_requests_it_holds() {
    let (_town, [v1, _v2, mut checkout]) = Town::with_the_article(&[]);
    v1.forget();
    let plain = checkout.plain;
    let held = std::thread::spawn(move || {
        // Forty calls, one after another: most of them are begun when the drain has long been under way.
        get(plain, "/mesh/call?url=http://payment-service/%3Fdelay%3D20ms&count=40")
    });
    eventually("the request is under way", || v1.seen()["total"].as_u64().filter(|total| *total > 0));
    checkout.process.terminate();
    let reply = held.join().unwrap();
    let calls = reply.json();
    let calls = calls.as_array().unwrap();
    assert_eq!(calls.len(), 40);
    let failed: Vec<_> = calls.iter().filter(|call| call["status"] != 200).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(checkout.process.end().success());
}
