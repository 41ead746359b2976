//! Whom our server lets in and whom our client talks to: the matrix of SVIDs over real handshakes, in both directions, TLS
//! 1.2 and 1.3.

use crate::{
    authority::{Authority, DAY, ID, bundles, identity, order},
    handshake::{Shake, careless_client, careless_server, shake, shake_over_sockets},
    matrix::{Case, root_name, table},
};
use mesh_core::identity::{PeerRule, SpiffeId};
use mesh_runtime::identity::{Alpn, Bundles, IdentityStore, Side, SvidError, verify_svid};
use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose};
use rustls::{CertificateError, CommonState, Error, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::SystemTime;

#[test]
fn every_bad_svid_is_refused_as_a_client_by_our_server() {
    show_to_our_server(|case| case.client.is_some(), shake);
}

#[test]
fn every_bad_svid_is_refused_as_a_server_by_our_client() {
    show_to_our_client(|case| case.server.is_some(), shake);
}

#[test]
fn every_good_svid_is_accepted_on_both_sides_and_its_id_is_byte_equal() {
    show_to_our_server(|case| case.client.is_none(), shake);
    show_to_our_client(|case| case.server.is_none(), shake);
}

#[test]
fn over_sockets_every_svid_is_judged_as_in_memory() {
    show_to_our_server(|_| true, shake_over_sockets);
    show_to_our_client(|_| true, shake_over_sockets);
}

fn show_to_our_server(chosen: impl Fn(&Case) -> bool, shake: Shake) {
    let (a, b) = authorities();
    let store = store(&a, &b);
    for Case { what, issued, client: expected, .. } in table(&a, &b).into_iter().filter(chosen) {
        for (tls12, anonymous) in [(false, false), (false, true), (true, false), (true, true)] {
            let client = careless_client(Some(issued.certified()), tls12);
            let outcome = shake(&client, &store.server_config(anonymous).unwrap());
            let case = format!("{what}, TLS 1.2: {tls12}, anonymous: {anonymous}");
            let tls = outcome.server.as_ref().map(|tls| -> &CommonState { tls });
            judge(&store, tls, Side::Client, expected, &issued.names, &case);
        }
    }
}

fn show_to_our_client(chosen: impl Fn(&Case) -> bool, shake: Shake) {
    let (a, b) = authorities();
    let store = store(&a, &b);
    let client = store.client_config(&PeerRule::Verified, Alpn::Any).unwrap();
    for Case { what, issued, server: expected, .. } in table(&a, &b).into_iter().filter(chosen) {
        for tls12 in [false, true] {
            let outcome = shake(&client, &careless_server(issued.certified(), tls12));
            let case = format!("{what}, TLS 1.2: {tls12}");
            let tls = outcome.client.as_ref().map(|tls| -> &CommonState { tls });
            judge(&store, tls, Side::Server, expected, &issued.names, &case);
        }
    }
}

/// Checks one outcome: refused for the reason expected, or accepted with the ID that stands in the certificate, byte for
/// byte.
fn judge(
    store: &IdentityStore,
    outcome: Result<&CommonState, &Error>,
    side: Side,
    expected: Option<&str>,
    names: &[crate::authority::Name],
    case: &str,
) {
    assert_eq!(outcome.err().map(reason), expected, "{case}: {:?}", outcome.err());
    if let Ok(tls) = outcome {
        let peer = store.verified_peer(tls, side).unwrap().unwrap();
        let (_, id) = names.iter().find(|(tag, _)| *tag == 0x86).unwrap();
        assert_eq!(peer.id().as_str().as_bytes(), id, "{case}");
    }
}

#[test]
fn bundles_of_several_trust_domains_are_never_merged() {
    let (a, b) = authorities();
    let own = a.issue(order().id("spiffe://a/self"));
    let of = |by: &Authority, id: &str| by.issue(order().id(id));
    let refusal = |trusted: &[(&str, &Authority)], shown: &crate::authority::Issued| {
        let store = IdentityStore::empty();
        store.publish(identity(own.svid(), trusted));
        let client = careless_client(Some(shown.certified()), false);
        let as_client = shake(&client, &store.server_config(false).unwrap()).server.err();
        let ours = store.client_config(&PeerRule::Verified, Alpn::Any).unwrap();
        let as_server = shake(&ours, &careless_server(shown.certified(), false)).client.err();
        let reasons = [as_client, as_server].map(|error| error.as_ref().map(reason));
        assert_eq!(reasons[0], reasons[1]);
        reasons[0]
    };
    // Each root vouches for its own.
    assert_eq!(refusal(&[("a", &a), ("b", &b)], &of(&b, "spiffe://b/x")), None);
    assert_eq!(refusal(&[("a", &a), ("b", &b)], &of(&b, "spiffe://a/x")), Some("untrusted"));
    // One root in two bundles vouches for both, because both say so; not for a third.
    assert_eq!(refusal(&[("a", &a), ("c", &a)], &of(&a, "spiffe://c/x")), None);
    assert_eq!(refusal(&[("a", &a), ("c", &a)], &of(&a, "spiffe://a/x")), None);
    assert_eq!(refusal(&[("a", &a), ("b", &b), ("c", &a)], &of(&a, "spiffe://b/x")), Some("untrusted"));
    // A bundle that is taken away leaves the others alone.
    assert_eq!(refusal(&[("a", &a)], &of(&b, "spiffe://b/x")), Some("unknown_trust_domain"));
    assert_eq!(refusal(&[("a", &a)], &of(&a, "spiffe://a/x")), None);
}

#[test]
fn a_stolen_certificate_is_worth_nothing_without_its_key() {
    let (a, b) = authorities();
    let store = store(&a, &b);
    let (victim, thief) = (a.issue(order()), a.issue(order()));
    let stolen = || CertifiedKey::new(victim.chain.clone(), thief.certified().key);
    let client = store.client_config(&PeerRule::Verified, Alpn::Any).unwrap();
    for tls12 in [false, true] {
        let bad_signature = Some(Error::InvalidCertificate(CertificateError::BadSignature));
        let outcome = shake(&client, &careless_server(stolen(), tls12));
        assert_eq!(outcome.client.err(), bad_signature, "our client, TLS 1.2: {tls12}");
        let outcome = shake(&careless_client(Some(stolen()), tls12), &store.server_config(false).unwrap());
        assert_eq!(outcome.server.err(), bad_signature, "our server, TLS 1.2: {tls12}");
    }
}

#[test]
fn the_root_limits_its_chain_like_any_other_authority() {
    let now = SystemTime::now();
    let expired = Authority::root("expired", |p| p.not_after = (now - DAY).into());
    let future = Authority::root("future", |p| p.not_before = (now + DAY).into());
    let short = Authority::root("short", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below_short = short.intermediate("below", |_| {});
    for (what, root, issued, accepted) in [
        ("an expired root", &expired, expired.issue(order()), false),
        ("a root of the future", &future, future.issue(order()), false),
        ("a root with path length 0", &short, short.issue(order()), true),
        ("a chain under it", &short, below_short.issue(order()).via(&[&below_short]), false),
    ] {
        let (leaf, rest) = issued.chain.split_first().unwrap();
        let result = verify_svid(leaf, rest, &bundles(&[("a", root)]), Side::Client, UnixTime::now());
        assert_eq!(result.is_ok(), accepted, "{what}: {result:?}");
    }
}

#[test]
fn a_self_signed_leaf_is_refused_even_if_somebody_takes_it_for_a_root() {
    let forged = Authority::root("forged", |p| {
        p.is_ca = IsCa::NoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.subject_alt_names = vec![rcgen::SanType::URI(ID.try_into().unwrap())];
    });
    let result = verify_svid(
        &forged.certificate,
        &[],
        &bundles(&[("a", &Authority::new("a"))]),
        Side::Client,
        UnixTime::now(),
    );
    assert_eq!(result.unwrap_err().reason(), "untrusted");
    let taken = Bundles::from_pem([("a", forged.pem().as_str())]);
    assert!(taken.unwrap_err().to_string().contains("no authority"));
}

#[test]
fn a_refusal_says_who_came_and_who_was_expected() {
    let (a, b) = authorities();
    let store = store(&a, &b);
    let expected: SpiffeId = "spiffe://a/ns/x/sa/z".parse().unwrap();
    let rule = PeerRule::AnyOf([expected].into());
    let server = careless_server(a.issue(order()).certified(), false);
    let error = shake(&store.client_config(&rule, Alpn::Any).unwrap(), &server).client.unwrap_err();
    let sentence = "peer is spiffe://a/ns/x/sa/y, expected one of [spiffe://a/ns/x/sa/z]";
    assert_eq!(SvidError::find(&error).unwrap().to_string(), sentence);
    assert!(error.to_string().contains(sentence), "rustls itself says: {error}");
    let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    assert_eq!(SvidError::find(&wrapped).unwrap().reason(), "unexpected");
}

#[test]
fn the_peer_rule_is_enforced_within_the_handshake() {
    let (a, b) = authorities();
    let store = store(&a, &b);
    let id = |text: &str| text.parse::<SpiffeId>().unwrap();
    let any_of = |ids: &[&str]| PeerRule::AnyOf(ids.iter().copied().map(id).collect());
    for (rule, svid, accepted) in [
        (any_of(&[ID]), a.issue(order()), true),
        (any_of(&["spiffe://a/other", ID]), a.issue(order()), true),
        (any_of(&["spiffe://a/other"]), a.issue(order()), false),
        (any_of(&["spiffe://b/ns/x/sa/y"]), a.issue(order()), false),
        (any_of(&[]), a.issue(order()), false),
        (PeerRule::TrustDomain("a".parse().unwrap()), a.issue(order()), true),
        (PeerRule::TrustDomain("a".parse().unwrap()), b.issue(order().id("spiffe://b/x")), false),
        (PeerRule::Verified, b.issue(order().id("spiffe://b/x")), true),
    ] {
        let client = store.client_config(&rule, Alpn::Any).unwrap();
        let outcome = shake(&client, &careless_server(svid.certified(), false));
        let expected = if accepted { None } else { Some("unexpected") };
        assert_eq!(refusal(outcome.client), expected, "{rule}");
    }
}

#[test]
fn truncated_and_prolonged_certificates_are_refused_without_a_panic() {
    let (a, b) = authorities();
    let bundles = bundles(&[("a", &a), ("b", &b)]);
    let leaf = a.issue(order()).chain.remove(0);
    let verify = |bytes: &[u8]| {
        verify_svid(&CertificateDer::from(bytes), &[], &bundles, Side::Client, UnixTime::now())
    };
    assert!(verify(&leaf).is_ok());
    for end in 0..leaf.len() {
        assert!(verify(&leaf[..end]).is_err(), "cut at {end}");
    }
    let prolonged = [&leaf[..], &[0]].concat();
    assert_eq!(verify(&prolonged).unwrap_err().reason(), "malformed");
    for at in 0..leaf.len() {
        let mut flipped = leaf.to_vec();
        flipped[at] ^= 0x40;
        assert!(verify(&flipped).is_err(), "byte {at} flipped");
    }
}

fn authorities() -> (Authority, Authority) {
    (Authority::root("a", root_name), Authority::new("b"))
}

fn store(a: &Authority, b: &Authority) -> IdentityStore {
    let store = IdentityStore::empty();
    let own = a.issue(order().id("spiffe://a/ns/x/sa/self"));
    store.publish(identity(own.svid(), &[("a", a), ("b", b)]));
    store
}

fn refusal<C>(result: Result<C, Error>) -> Option<&'static str> {
    result.err().as_ref().map(reason)
}

/// What is counted: our own verifier's reason, or that TLS itself refused.
fn reason(error: &Error) -> &'static str {
    SvidError::find(error).map_or("handshake", SvidError::reason)
}
