//! The first contact, the renewals, and whom a workload believes.

use crate::{
    eventually,
    fake::{CHECKOUT, Fake, RENEWAL, Reply, TAG},
    reason, started,
};
use mesh_core::identity::{PeerRule, SpiffeId};
use mesh_runtime::{Workload, identity::Alpn};
use std::time::Duration;

#[tokio::test]
async fn over_plain_http_the_token_makes_the_first_contact_and_the_renewal_bearer_the_others() {
    let fake = Fake::plain().await;
    let workload = started(fake.settings()).await;
    assert_eq!(workload.identity().current().unwrap().svid.id().as_str(), CHECKOUT);
    let token = fake.token().expose().to_owned();
    assert_eq!(fake.seen("/v1/certificates")[0].bearer, Some(token));
    assert!(fake.seen("/v1/resources").iter().all(|seen| seen.bearer.as_deref() == Some(RENEWAL)));
}

#[tokio::test]
async fn no_debug_form_of_a_workload_shows_its_token_or_its_renewal() {
    let fake = Fake::plain().await;
    let workload = started(fake.settings()).await;
    let shown = format!("{workload:#?} {:#?}", fake.settings());
    assert!(!shown.contains(RENEWAL) && !shown.contains(TAG), "{shown}");
}

#[tokio::test]
async fn over_tls_the_token_pins_the_ca_and_the_svid_proves_the_rest() {
    let fake = Fake::tls().await;
    let _workload = started(fake.settings()).await;
    eventually("a report", || !fake.seen("/v1/reports").is_empty()).await;
    let first = &fake.seen("/v1/certificates")[0];
    assert!(first.bearer.is_some() && !first.certified);
    for seen in fake.seen("/v1/resources").iter().chain(&fake.seen("/v1/reports")) {
        assert!(seen.certified && seen.bearer.is_none(), "{seen:?}");
    }
}

#[tokio::test]
async fn an_endpoint_whose_ca_is_not_the_pinned_one_never_sees_the_token() {
    let fake = Fake::tls().await;
    let mut settings = fake.settings();
    settings.join_token = Some(fake.token_with_pin(&"ab".repeat(32)));
    let workload = Workload::start(settings).await.unwrap();
    eventually("the reason", || reason(&workload).contains("has the key that the join token names")).await;
    assert!(fake.seen("/").is_empty());
}

#[tokio::test]
async fn a_workload_of_the_same_ca_cannot_pass_for_the_endpoint() {
    let fake = Fake::tls_as("/ns/default/sa/mallory").await;
    let workload = Workload::start(fake.settings()).await.unwrap();
    eventually("the reason", || reason(&workload).contains("sa/mallory, not the control endpoint")).await;
    assert!(fake.seen("/").is_empty());
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_refused() {
    let fake = Fake::plain().await;
    fake.state.subject.lock().unwrap().0 = "spiffe://cluster.local/ns/default/sa/other".to_owned();
    let workload = Workload::start(fake.settings()).await.unwrap();
    eventually("the reason", || {
        reason(&workload).contains("sa/other; spiffe://cluster.local/ns/default/sa/checkout")
    })
    .await;
    assert!(workload.identity().current().is_none());
}

#[tokio::test]
async fn a_refusal_is_told_in_the_words_of_the_endpoint() {
    let fake = Fake::plain().await;
    let body = r#"{"code": "unauthenticated", "message": "the token expired 5 minutes ago"}"#;
    fake.script("/v1/certificates", Some(Reply::new(401, body)));
    let workload = Workload::start(fake.settings()).await.unwrap();
    let expected = "refused with 401 unauthenticated: the token expired 5 minutes ago";
    eventually("the reason", || reason(&workload).contains(expected)).await;
    assert!(!reason(&workload).contains(TAG));
    // What it does meanwhile is fail closed, with the same reason.
    let error = workload.identity().client_config(&PeerRule::Verified, Alpn::Any).unwrap_err();
    assert!(error.to_string().contains("expired 5 minutes ago"), "{error}");
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends_with_a_new_key_and_by_the_svid() {
    let fake = Fake::tls().await;
    fake.state.subject.lock().unwrap().1 = Duration::from_secs(3);
    let workload = started(fake.settings()).await;
    let first = workload.identity().current().unwrap();
    eventually("a new certificate", || {
        workload.identity().current().unwrap().svid.serial() != first.svid.serial()
    })
    .await;
    let asks = fake.seen("/v1/certificates");
    assert!(asks[1].certified && asks[1].bearer.is_none(), "{:?}", asks[1]);
    assert_ne!(asks[0].body["csr"], asks[1].body["csr"]);
}

#[tokio::test]
async fn without_its_ca_a_workload_uses_its_certificate_to_the_end_and_then_says_so() {
    let fake = Fake::tls().await;
    fake.state.subject.lock().unwrap().1 = Duration::from_secs(2);
    let workload = started(fake.settings()).await;
    fake.down();
    let peers = PeerRule::AnyOf([CHECKOUT.parse::<SpiffeId>().unwrap()].into());
    assert!(workload.identity().client_config(&peers, Alpn::Any).is_ok());
    eventually("its end", || reason(&workload).contains("expired")).await;
    assert!(
        reason(&workload).contains("could not be renewed: control endpoint https://"),
        "{}",
        reason(&workload)
    );
    assert!(workload.identity().client_config(&peers, Alpn::Any).is_err());
    fake.state.subject.lock().unwrap().1 = Duration::from_secs(3600);
    fake.up();
    eventually("a new certificate", || reason(&workload) == "ready").await;
}

#[tokio::test]
async fn a_workload_whose_cached_identity_is_of_another_ca_joins_with_its_token() {
    let cache = tempfile::tempdir().unwrap();
    let (old, new) = (Fake::tls().await, Fake::tls().await);
    let settings = |fake: &Fake| {
        let mut settings = fake.settings();
        settings.cache_dir = Some(cache.path().to_owned());
        settings
    };
    let first = started(settings(&old)).await;
    let serial = first.identity().current().unwrap().svid.serial().to_owned();
    drop(first);
    let second = started(settings(&new)).await;
    eventually("a new identity", || second.identity().current().unwrap().svid.serial() != serial).await;
    eventually("the new endpoint's word", || {
        second.trouble().is_none() && !new.seen("/v1/resources").is_empty()
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_forgot_a_workload_is_joined_anew_with_the_token() {
    let fake = Fake::plain().await;
    fake.state.subject.lock().unwrap().1 = Duration::from_secs(3);
    let workload = started(fake.settings()).await;
    fake.script("/v1/certificates", Some(Reply::new(401, "")));
    let token = Some(fake.token().expose().to_owned());
    eventually("a try with the token", || {
        let asks = fake.seen("/v1/certificates");
        asks.len() > 2 && asks[1..].iter().any(|ask| ask.bearer == token)
    })
    .await;
    assert!(fake.seen("/v1/certificates")[1].bearer.as_deref() == Some(RENEWAL));
    drop(workload);
}
