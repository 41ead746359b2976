//! What is in force: who gets which configuration, what a new generation ends, and what a resumed handshake may not slip
//! past.

use crate::{
    authority::{Authority, DAY, ID, Issued, identity, order},
    handshake::{Outcome, careless_client, shake},
};
use mesh_core::identity::PeerRule;
use mesh_runtime::identity::{Alpn, IdentityError, IdentityStore, Side, SvidError, WallClock};
use rustls::HandshakeKind;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

#[test]
fn without_an_identity_the_error_says_why_there_is_none() {
    let store = IdentityStore::empty();
    assert!(store.current().is_none());
    assert!(matches!(store.server_config(true), Err(IdentityError::Missing(_))));
    store.explain_missing("the control endpoint at https://127.0.0.1:1 does not answer");
    let error = store.client_config(&PeerRule::Verified, Alpn::Any).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this workload has no identity: the control endpoint at https://127.0.0.1:1 does not answer"
    );
}

#[test]
fn an_expired_identity_is_given_to_nobody() {
    let a = Authority::new("a");
    let (store, clock) = store_with_clock();
    store.publish(identity(a.issue(order()).svid(), &[("a", &a)]));
    assert!(store.server_config(false).is_ok());
    clock.advance(DAY + Duration::from_secs(60));
    for error in [
        store.server_config(false).unwrap_err(),
        store.client_config(&PeerRule::Verified, Alpn::Any).unwrap_err(),
    ] {
        assert!(matches!(&error, IdentityError::Expired { id, ago: 59..=60 } if id == ID), "{error:?}");
    }
    store.publish(identity(
        a.issue(order().with(|p| p.not_after = (SystemTime::now() + 3 * DAY).into())).svid(),
        &[("a", &a)],
    ));
    assert!(store.server_config(false).is_ok());
}

#[test]
fn a_configuration_is_built_once_per_generation_rule_and_protocol() {
    let a = Authority::new("a");
    let store = IdentityStore::empty();
    let publish = || store.publish(identity(a.issue(order()).svid(), &[("a", &a)]));
    let client = |rule: &PeerRule, alpn| store.client_config(rule, alpn).unwrap();
    let of_a = PeerRule::TrustDomain("a".parse().unwrap());
    publish();
    let (first, server, permissive) =
        (client(&of_a, Alpn::Any), store.server_config(false).unwrap(), store.server_config(true).unwrap());
    assert!(Arc::ptr_eq(&first, &client(&of_a, Alpn::Any)));
    assert!(Arc::ptr_eq(&server, &store.server_config(false).unwrap()));
    assert!(Arc::ptr_eq(&permissive, &store.server_config(true).unwrap()));
    assert!(!Arc::ptr_eq(&server, &permissive));
    assert!(!Arc::ptr_eq(&first, &client(&of_a, Alpn::Http1)));
    assert!(!Arc::ptr_eq(&first, &client(&PeerRule::Verified, Alpn::Any)));
    publish();
    assert!(!Arc::ptr_eq(&first, &client(&of_a, Alpn::Any)));
    assert!(!Arc::ptr_eq(&server, &store.server_config(false).unwrap()));
}

#[test]
fn the_table_of_client_configurations_does_not_grow_without_bound() {
    let a = Authority::new("a");
    let store = IdentityStore::empty();
    store.publish(identity(a.issue(order()).svid(), &[("a", &a)]));
    let config = |i: u32| {
        let rule = PeerRule::AnyOf([format!("spiffe://a/{i}").parse().unwrap()].into());
        store.client_config(&rule, Alpn::Any).unwrap()
    };
    let first = Arc::downgrade(&config(0));
    for i in 1..2000 {
        config(i);
    }
    assert!(first.upgrade().is_none(), "2000 rules, and the first configuration is still held");
}

#[test]
fn every_publication_is_seen_by_a_subscriber() {
    let a = Authority::new("a");
    let store = IdentityStore::empty();
    let mut seen = store.subscribe();
    assert!(!seen.has_changed().unwrap());
    store.publish(identity(a.issue(order()).svid(), &[("a", &a)]));
    assert!(seen.has_changed().unwrap());
    seen.mark_unchanged();
    store.publish(identity(a.issue(order()).svid(), &[("a", &a)]));
    assert!(seen.has_changed().unwrap());
}

#[test]
fn the_protocol_is_agreed_by_alpn() {
    let pair = Pair::new();
    for (alpn, agreed) in
        [(Alpn::Any, &b"h2"[..]), (Alpn::Http2, &b"h2"[..]), (Alpn::Http1, &b"http/1.1"[..])]
    {
        let client = pair.client.client_config(&PeerRule::Verified, alpn).unwrap();
        let outcome = shake(&client, &pair.server.server_config(false).unwrap());
        assert_eq!(outcome.server.unwrap().alpn_protocol(), Some(agreed), "{alpn:?}");
    }
}

/// The lists are those that Istio's sidecars send for HTTP/2, HTTP/1.1, HTTP/1.0 and mere TCP.
// spec: istio pilot/pkg/xds/filters/filters.go mtlsHTTP2ALPN, mtlsHTTP11ALPN, mtlsHTTP10ALPN; pilot/pkg/networking/util
// ALPNInMeshH2WithMxc, ALPNInMeshWithMxc
#[test]
fn a_sidecar_of_istio_agrees_on_a_protocol_whatever_it_offers() {
    let pair = Pair::new();
    for (offered, agreed) in [
        (&["istio-h2", "istio", "h2"][..], "h2"),
        (&["istio-peer-exchange", "istio", "h2"], "h2"),
        (&["istio-http/1.1", "istio", "http/1.1"], "http/1.1"),
        (&["istio-http/1.0", "istio", "http/1.0"], "istio"),
        (&["istio-peer-exchange", "istio"], "istio"),
    ] {
        let mut client = (*pair.client.client_config(&PeerRule::Verified, Alpn::Any).unwrap()).clone();
        client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let outcome = shake(&Arc::new(client), &pair.server.server_config(false).unwrap());
        assert_eq!(outcome.server.unwrap().alpn_protocol(), Some(agreed.as_bytes()), "{offered:?}");
    }
}

#[test]
fn a_sidecar_of_istio_that_takes_plaintext_too_knows_a_caller_as_one_of_the_mesh() {
    let pair = Pair::new();
    for (alpn, known_by) in
        [(Alpn::Any, "istio-h2"), (Alpn::Http2, "istio-h2"), (Alpn::Http1, "istio-http/1.1")]
    {
        let offered = &pair.client.client_config(&PeerRule::Verified, alpn).unwrap().alpn_protocols;
        assert!(offered.iter().any(|name| name == known_by.as_bytes()), "{alpn:?}: {offered:?}");
    }
}

#[test]
fn a_client_without_a_certificate_passes_only_where_that_is_allowed() {
    let pair = Pair::new();
    for tls12 in [false, true] {
        let nobody = careless_client(None, tls12);
        assert!(shake(&nobody, &pair.server.server_config(false).unwrap()).server.is_err());
        let server = shake(&nobody, &pair.server.server_config(true).unwrap()).server.unwrap();
        assert_eq!(pair.server.verified_peer(&server, Side::Client), Ok(None));
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_know_each_other_by_their_ids() {
    let pair = Pair::new();
    settle().await;
    let outcome = pair.shake();
    let (client, server) = (outcome.client.unwrap(), outcome.server.unwrap());
    let seen_by_server = pair.server.verified_peer(&server, Side::Client).unwrap().unwrap();
    let seen_by_client = pair.client.verified_peer(&client, Side::Server).unwrap().unwrap();
    assert_eq!(seen_by_server.id().as_str(), "spiffe://a/client");
    assert_eq!(seen_by_client.id().as_str(), "spiffe://a/server");
}

#[tokio::test(start_paused = true)]
async fn a_second_handshake_is_resumed_and_knows_the_peer_all_the_same() {
    let pair = Pair::new();
    settle().await;
    assert!(pair.shake().is_full());
    let outcome = pair.shake();
    assert!(is_resumed(&outcome));
    let peer = pair.server.verified_peer(&outcome.server.unwrap(), Side::Client).unwrap().unwrap();
    assert_eq!(peer.id().as_str(), "spiffe://a/client");
}

#[tokio::test(start_paused = true)]
async fn a_resumed_handshake_does_not_outlive_the_certificate_of_the_client() {
    let pair = Pair::new();
    settle().await;
    assert!(pair.shake().is_full());
    pair.server_clock.advance(SHORT_LIFE + Duration::from_secs(60));
    let outcome = pair.shake();
    assert!(is_resumed(&outcome), "the point is what rustls does not check");
    let error = pair.server.verified_peer(&outcome.server.unwrap(), Side::Client).unwrap_err();
    assert_eq!(error.reason(), "expired");
}

#[tokio::test(start_paused = true)]
async fn a_resumed_handshake_does_not_outlive_the_certificate_of_the_server() {
    let pair = Pair::with_lives(3 * DAY, SHORT_LIFE);
    settle().await;
    assert!(pair.shake().is_full());
    pair.client_clock.advance(SHORT_LIFE + Duration::from_secs(60));
    let outcome = pair.shake();
    assert!(is_resumed(&outcome), "the point is what rustls does not check");
    let error = pair.client.verified_peer(&outcome.client.unwrap(), Side::Server).unwrap_err();
    assert_eq!(error.reason(), "expired");
}

#[test]
fn a_session_does_not_survive_a_new_generation() {
    let pair = Pair::new();
    assert!(pair.shake().is_full());
    assert!(is_resumed(&pair.shake()));
    pair.server.publish(identity(pair.server_svid.svid(), &[("a", &pair.a)]));
    assert!(pair.shake().is_full());
    pair.client.publish(identity(pair.client_svid.svid(), &[("a", &pair.a)]));
    assert!(pair.shake().is_full());
}

#[test]
fn a_bundle_that_is_taken_away_ends_what_it_let_in() {
    let pair = Pair::new();
    let outcome = pair.shake();
    let server = outcome.server.unwrap();
    let standing = pair.server.verified_peer(&server, Side::Client).unwrap().unwrap();
    assert_eq!(pair.server.recheck(&standing), Ok(()));

    let other = Authority::new("other a");
    pair.server.publish(identity(pair.server_svid.svid(), &[("a", &other)]));
    assert_eq!(pair.server.recheck(&standing).unwrap_err().reason(), "untrusted");
    let error = pair.shake().server.unwrap_err();
    assert_eq!(SvidError::find(&error).unwrap().reason(), "untrusted");

    pair.server.publish(identity(pair.server_svid.svid(), &[("b", &other)]));
    assert_eq!(pair.server.recheck(&standing).unwrap_err().reason(), "unknown_trust_domain");
}

#[test]
fn an_identity_that_is_taken_back_is_shown_to_nobody_and_believes_nobody() {
    let a = Authority::new("a");
    let store = IdentityStore::empty();
    store.publish(identity(a.issue(order()).svid(), &[("a", &a)]));
    let client = store.client_config(&PeerRule::Verified, Alpn::Any).unwrap();
    let outcome = shake(&client, &store.server_config(false).unwrap());
    let peer = store.verified_peer(&outcome.client.unwrap(), Side::Server).unwrap().unwrap();
    let seen = store.subscribe();
    store.withdraw("the agent denies it");
    assert!(seen.has_changed().unwrap() && store.current().is_none());
    assert!(matches!(store.recheck(&peer), Err(SvidError::UnknownTrustDomain { .. })));
    let error = store.client_config(&PeerRule::Verified, Alpn::Any).unwrap_err();
    assert_eq!(error.to_string(), "this workload has no identity: the agent denies it");
}

#[test]
fn a_bundle_that_is_taken_away_during_a_handshake_lets_nobody_in() {
    let pair = Pair::new();
    let server = pair.shake().server.unwrap();
    pair.server.publish(identity(pair.server_svid.svid(), &[("a", &Authority::new("other a"))]));
    let error = pair.server.verified_peer(&server, Side::Client).unwrap_err();
    assert_eq!(error.reason(), "untrusted");
}

#[test]
fn a_root_is_rotated_with_overlap_and_nobody_is_refused() {
    let pair = Pair::new();
    let new = Authority::new("new a");
    let both = [pair.a.pem(), new.pem()].concat();
    let both = || mesh_runtime::identity::Bundles::from_pem([("a", both.as_str())]).unwrap();
    let of_new = new.issue(order().id("spiffe://a/client"));
    pair.server.publish(mesh_runtime::identity::Identity { svid: pair.server_svid.svid(), bundles: both() });
    assert!(pair.shake().server.is_ok());
    pair.client.publish(mesh_runtime::identity::Identity { svid: of_new.svid(), bundles: both() });
    assert!(pair.shake().server.is_ok());
}

#[test]
fn a_bundle_holds_authorities_only_and_each_trust_domain_once() {
    use mesh_runtime::identity::Bundles;
    let a = Authority::new("a");
    let leaf = a.issue(order()).chain_pem();
    for (bundles, sentence) in [
        (
            vec![("a", leaf.as_str())],
            "bundle of trust domain `a`: certificate 1: it is no authority (cA is not set)",
        ),
        (vec![("a", "")], "bundle of trust domain `a`: there is no `-----BEGIN CERTIFICATE-----` in it"),
        (vec![("A", leaf.as_str())], "bundle of trust domain `A`: a trust domain consists of"),
        (vec![("a", &a.pem()), ("a", &a.pem())], "bundle of trust domain `a`: it is given twice"),
    ] {
        let error = Bundles::from_pem(bundles).unwrap_err().to_string();
        assert!(error.starts_with(sentence), "{error}");
    }
    let (a_pem, b_pem) = (a.pem(), Authority::new("b").pem());
    let bundles = Bundles::from_pem([("b", b_pem.as_str()), ("a", a_pem.as_str())]).unwrap();
    assert_eq!(bundles.trust_domains().map(|domain| domain.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let written = bundles.to_pem();
    let read = Bundles::from_pem(written.iter().map(|(domain, pem)| (domain.as_str(), pem.as_str())));
    assert_eq!(read.unwrap(), bundles);
}

/// A client and a server of the trust domain `a`, each with its own clock.
struct Pair {
    a: Authority,
    client: IdentityStore,
    server: IdentityStore,
    client_svid: Issued,
    server_svid: Issued,
    client_clock: TurnedClock,
    server_clock: TurnedClock,
}

/// Shorter than a session lasts, which is a day.
const SHORT_LIFE: Duration = Duration::from_secs(3600);

impl Pair {
    fn new() -> Self {
        Self::with_lives(SHORT_LIFE, 3 * DAY)
    }

    fn with_lives(client: Duration, server: Duration) -> Self {
        let a = Authority::new("a");
        let now = SystemTime::now();
        let issue =
            |id: &str, life: Duration| a.issue(order().id(id).with(|p| p.not_after = (now + life).into()));
        let (client_svid, server_svid) =
            (issue("spiffe://a/client", client), issue("spiffe://a/server", server));
        let (client, client_clock) = store_with_clock();
        let (server, server_clock) = store_with_clock();
        client.publish(identity(client_svid.svid(), &[("a", &a)]));
        server.publish(identity(server_svid.svid(), &[("a", &a)]));
        Self { a, client, server, client_svid, server_svid, client_clock, server_clock }
    }

    fn shake(&self) -> Outcome {
        let rule = PeerRule::TrustDomain("a".parse().unwrap());
        let client = self.client.client_config(&rule, Alpn::Any).unwrap();
        shake(&client, &self.server.server_config(false).unwrap())
    }
}

/// Lets the time go by in which a handshake might have been begun before the publication.
async fn settle() {
    tokio::time::advance(Duration::from_secs(600)).await;
}

fn is_resumed(outcome: &Outcome) -> bool {
    let kinds = (
        outcome.client.as_ref().unwrap().handshake_kind(),
        outcome.server.as_ref().unwrap().handshake_kind(),
    );
    kinds == (Some(HandshakeKind::Resumed), Some(HandshakeKind::Resumed))
}

/// The system's clock, put forward.
#[derive(Clone, Default)]
struct TurnedClock(Arc<AtomicU64>);

impl TurnedClock {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::Relaxed);
    }
}

fn store_with_clock() -> (IdentityStore, TurnedClock) {
    let clock = TurnedClock::default();
    let hand = clock.clone();
    let now = move || SystemTime::now() + Duration::from_secs(hand.0.load(Ordering::Relaxed));
    (IdentityStore::with_clock(WallClock::new(now)), clock)
}
