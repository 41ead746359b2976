//! Several services in a row, the last of which fails: what the retries of all of them add up to.

use crate::harness::{ARTICLE, Town, eventually};

#[test]
fn three_tiers_with_three_attempts_each_add_a_quarter_of_the_load_at_most() {
    let (town, [v1, v2, checkout]) = Town::with_the_article(&[]);
    let ledger = town.echo("ledger", "v1").ready();
    let retried = |name: &str| {
        format!(
            "\n---\n{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}-retries}},
            spec: {{hosts: [{name}], http: [{{retries: {{attempts: 2, retryOn: 5xx}},
            route: [{{destination: {{host: {name}}}}}]}}]}}}}"
        )
    };
    let rules = ARTICLE.replace("payment-route", "payment-service-retries");
    let (rules, mesh) = rules.split_once("kind: VirtualService").unwrap();
    let policy = mesh.split_once("---").unwrap().1;
    let rules = rules.trim_end().strip_suffix("apiVersion: networking.istio.io/v1alpha3").unwrap();
    town.edit(&format!("{rules}{policy}{}{}", retried("payment-service"), retried("ledger")));
    // One caller after the other: asking again costs a caller that retries already a part of its budget.
    for (caller, host) in [(&v1, "ledger"), (&v2, "ledger"), (&checkout, "payment-service")] {
        eventually("every caller retries what it calls", || {
            let call = caller.call(&format!("http://{host}/?status=503"), 1).remove(0);
            (call.status == 503 && call.attempts == 3).then_some(())
        });
    }
    // Payment fails because its own call does.
    let url = "http://payment-service/?status=503&call=http%3A%2F%2Fledger%2F%3Fstatus%3D503";
    for echo in [&v1, &v2, &ledger] {
        echo.forget();
    }
    let offered = 400;
    let calls = checkout.call(url, offered);
    assert!(calls.iter().all(|call| call.status == 503 && call.attempts == 1), "{:?}", calls[0]);
    let handled = [&v1, &v2].map(|payment| payment.seen()["total"].as_u64().unwrap()).iter().sum::<u64>();
    assert_eq!(handled, offered as u64, "checkout tries again what payment has tried again already");
    let lowest = ledger.seen()["total"].as_u64().unwrap();
    assert!(lowest as f64 <= offered as f64 * 1.25, "the ledger saw {lowest} requests for {offered} offered");
    assert!(
        calls.iter().all(|call| !call.headers.contains_key("x-mesh-provenance")),
        "{:?}",
        calls[0].headers
    );
}

#[test]
fn an_error_of_a_service_itself_is_retried_as_before() {
    let (town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    let retries = "  http:\n  - retries: {attempts: 2, retryOn: 5xx}\n    route:";
    town.edit(&ARTICLE.replace("  http:\n  - route:", retries));
    eventually("the retries are in force", || {
        let call = checkout.call("http://payment-service/?status=503", 1).remove(0);
        (call.attempts == 3).then_some(())
    });
}
