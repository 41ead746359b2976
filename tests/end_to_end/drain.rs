//! A service that is told to end loses no request.

use crate::harness::{Caller, Town, eventually};

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
