//! The table of SVIDs: what a peer may show, as a client and as a server, and which rule refuses it.

use crate::{
    authority::{Authority, DAY, ID, Issued, SUBJECT_ALT_NAME, bundles, dns, identity, order, san, uri},
    handshake::{careless_client, careless_server, shake},
};
use mesh_core::identity::{PeerRule, SpiffeId};
use mesh_runtime::identity::{Alpn, IdentityStore, Side, SvidError, verify_svid};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use rustls::{CertificateError, Error, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::SystemTime;

/// Every SVID that must be refused, with the reason on either side; a side of `None` may accept it.
fn bad(a: &Authority, b: &Authority) -> Vec<(&'static str, Issued, [Option<&'static str>; 2])> {
    let both = |reason| [Some(reason), Some(reason)];
    let now = SystemTime::now();
    let mut table = vec![
        ("no SAN at all", a.issue(order().names([])), both("no_uri")),
        ("the ID in a DNS SAN", a.issue(order().names([dns(ID)])), both("no_uri")),
        ("the ID in an e-mail SAN", a.issue(order().names([(0x81, ID.into())])), both("no_uri")),
        (
            "the ID in the subject only",
            a.issue(order().names([]).with(|p| p.distinguished_name.push(rcgen::DnType::CommonName, ID))),
            both("no_uri"),
        ),
        (
            "two URI SANs, a wrong one first",
            a.issue(order().names([uri("spiffe://a/other"), uri(ID)])),
            both("several_uris"),
        ),
        (
            "two URI SANs, one no SPIFFE ID",
            a.issue(order().names([uri(ID), uri("https://a/")])),
            both("several_uris"),
        ),
        ("the same URI SAN twice", a.issue(order().names([uri(ID), uri(ID)])), both("several_uris")),
        (
            "two SAN extensions",
            a.issue(order().extension(SUBJECT_ALT_NAME, &san(&[uri("spiffe://a/other")]))),
            both("malformed"),
        ),
        ("a URI SAN with a NUL in it", a.issue(order().id("spiffe://a/x\0y")), both("not_spiffe")),
        (
            "a URI SAN that is not ASCII",
            a.issue(order().names([(0x86, "spiffe://a/é".into())])),
            both("malformed"),
        ),
        (
            "a URI SAN that is no UTF-8",
            a.issue(order().names([(0x86, b"spiffe://a/\xff".to_vec())])),
            both("malformed"),
        ),
        (
            "a constructed URI SAN",
            a.issue(order().names([(0xa6, crate::authority::der(0x86, ID.as_bytes()))])),
            both("malformed"),
        ),
        (
            "an ID of 2049 bytes",
            a.issue(order().id(&format!("spiffe://a/{}", "b".repeat(2049 - "spiffe://a/".len())))),
            both("not_spiffe"),
        ),
        (
            "the flag of an authority",
            a.issue(order().with(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))),
            both("authority"),
        ),
        (
            "keyCertSign",
            a.issue(order().with(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign))),
            both("key_usage"),
        ),
        (
            "cRLSign",
            a.issue(order().with(|p| p.key_usages.push(KeyUsagePurpose::CrlSign))),
            both("key_usage"),
        ),
        (
            "key usage without digitalSignature",
            a.issue(order().with(|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment])),
            both("key_usage"),
        ),
        ("no key usage", a.issue(order().with(|p| p.key_usages.clear())), both("key_usage")),
        (
            "serverAuth only",
            a.issue(order().with(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
            [Some("extended_key_usage"), None],
        ),
        (
            "clientAuth only",
            a.issue(order().with(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])),
            [None, Some("extended_key_usage")],
        ),
        (
            "codeSigning only",
            a.issue(order().with(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning])),
            both("extended_key_usage"),
        ),
        (
            "expired",
            a.issue(order().with(|p| {
                p.not_before = (now - 2 * DAY).into();
                p.not_after = (now - DAY).into();
            })),
            both("expired"),
        ),
        (
            "not yet valid",
            a.issue(order().with(|p| {
                p.not_before = (now + DAY).into();
                p.not_after = (now + 2 * DAY).into();
            })),
            both("not_yet_valid"),
        ),
        (
            "valid until before it is valid",
            a.issue(order().with(|p| {
                p.not_before = (now + DAY).into();
                p.not_after = (now - DAY).into();
            })),
            both("malformed"),
        ),
        ("an ID of a, signed by the authority of b", b.issue(order()), both("untrusted")),
        ("an ID of b, signed by the authority of a", a.issue(order().id("spiffe://b/x")), both("untrusted")),
        (
            "a trust domain without a bundle",
            a.issue(order().id("spiffe://c/x")),
            both("unknown_trust_domain"),
        ),
        (
            "a trust domain that begins like ours",
            a.issue(order().id("spiffe://a.evil/x")),
            both("unknown_trust_domain"),
        ),
        ("an authority nobody knows", Authority::new("stranger").issue(order()), both("untrusted")),
        (
            "an unknown critical extension",
            a.issue(order().with(|p| {
                let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                extension.set_criticality(true);
                p.custom_extensions.push(extension);
            })),
            both("untrusted"),
        ),
    ];
    for (what, id) in BAD_IDS {
        table.push((what, a.issue(order().id(id)), both("not_spiffe")));
    }
    table.extend(bad_chains(a, b, both("untrusted")));
    let many: Vec<_> = (0..7).map(|i| a.intermediate(&i.to_string(), |_| {})).collect();
    let many: Vec<_> = many.iter().collect();
    table.push(("seven intermediates", many[0].issue(order()).via(&many), both("chain_too_long")));
    table
}

const BAD_IDS: [(&str, &str); 20] = [
    ("https instead of spiffe", "https://a/ns/x/sa/y"),
    ("an upper-case scheme", "SPIFFE://a/ns/x/sa/y"),
    ("no scheme", "a/ns/x/sa/y"),
    ("an empty URI", ""),
    ("no path", "spiffe://a"),
    ("the path of the root", "spiffe://a/"),
    ("a trailing slash", "spiffe://a/ns/x/sa/y/"),
    ("an empty segment", "spiffe://a/ns//sa/y"),
    ("a leading empty segment", "spiffe://a//ns/x/sa/y"),
    ("a segment ..", "spiffe://a/ns/x/../y"),
    ("a segment .", "spiffe://a/ns/./sa/y"),
    ("percent-encoding", "spiffe://a/ns/x/sa/%79"),
    ("a query", "spiffe://a/ns/x/sa/y?z"),
    ("a fragment", "spiffe://a/ns/x/sa/y#z"),
    ("a port", "spiffe://a:443/ns/x/sa/y"),
    ("user info", "spiffe://me@a/ns/x/sa/y"),
    ("an upper-case trust domain", "spiffe://A/ns/x/sa/y"),
    ("no trust domain", "spiffe:///ns/x/sa/y"),
    ("a blank", "spiffe://a/ns/x/sa/y z"),
    ("a wildcard", "spiffe://a/ns/*/sa/y"),
];

/// Chains that lead nowhere, or break a rule on the way.
fn bad_chains<R: Copy>(a: &Authority, b: &Authority, reason: R) -> Vec<(&'static str, Issued, R)> {
    let now = SystemTime::now();
    let intermediate = a.intermediate("intermediate", |_| {});
    let of_b = b.intermediate("intermediate of b", |_| {});
    let no_authority = a.intermediate("leaf", |p| p.is_ca = IsCa::NoCa);
    let no_signer = a.intermediate("no signer", |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let expired = a.intermediate("expired", |p| p.not_after = (now - DAY).into());
    let last = a.intermediate("last", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below_last = last.intermediate("below the last", |_| {});
    let constrained = a.intermediate("constrained", |p| {
        p.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![],
            excluded_subtrees: vec![rcgen::GeneralSubtree::DnsName("evil".to_owned())],
        });
    });
    let impostor = Authority::root("impostor", |p| {
        // The name of the real root, and another key.
        p.distinguished_name = rcgen::DistinguishedName::new();
        p.distinguished_name.push(rcgen::DnType::CommonName, ROOT_NAME);
    });
    vec![
        ("a missing intermediate", intermediate.issue(order()), reason),
        ("an intermediate of b", of_b.issue(order()).via(&[&of_b]), reason),
        ("an intermediate that is no authority", no_authority.issue(order()).via(&[&no_authority]), reason),
        ("an intermediate that may not sign", no_signer.issue(order()).via(&[&no_signer]), reason),
        ("an expired intermediate", expired.issue(order()).via(&[&expired]), reason),
        ("a path longer than allowed", below_last.issue(order()).via(&[&below_last, &last]), reason),
        (
            "an intermediate excluding the DNS name beside the ID",
            { constrained.issue(order().names([uri(ID), dns("evil")])).via(&[&constrained]) },
            reason,
        ),
        ("its own root in the chain", impostor.issue(order()).via(&[&impostor]), reason),
    ]
}

const ROOT_NAME: &str = "the root of a";

/// Every SVID that must be accepted.
fn good(a: &Authority) -> Vec<(&'static str, Issued, String)> {
    let intermediate = a.intermediate("intermediate", |_| {});
    let below = intermediate.intermediate("below", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let longest = format!("spiffe://a/{}", "b".repeat(2048 - "spiffe://a/".len()));
    let id = ID.to_owned();
    let mut rsa = order();
    rsa.algorithm = &rcgen::PKCS_RSA_SHA256;
    let mut p384 = order();
    p384.algorithm = &rcgen::PKCS_ECDSA_P384_SHA384;
    let mut ed25519 = order();
    ed25519.algorithm = &rcgen::PKCS_ED25519;
    vec![
        ("a plain one", a.issue(order()), id.clone()),
        ("an ID of 2048 bytes", a.issue(order().id(&longest)), longest),
        ("an intermediate", intermediate.issue(order()).via(&[&intermediate]), id.clone()),
        (
            "two intermediates, in the wrong order",
            below.issue(order()).via(&[&intermediate, &below]),
            id.clone(),
        ),
        ("the root in the chain", a.issue(order()).via(&[a]), id.clone()),
        ("a DNS SAN beside the ID", a.issue(order().names([dns("y.x.svc"), uri(ID)])), id.clone()),
        ("an IP SAN beside the ID", a.issue(order().names([(0x87, vec![10, 0, 0, 1]), uri(ID)])), id.clone()),
        ("no extended key usage", a.issue(order().with(|p| p.extended_key_usages.clear())), id.clone()),
        (
            "more key usages than needed",
            a.issue(order().with(|p| {
                p.key_usages.push(KeyUsagePurpose::KeyEncipherment);
                p.key_usages.push(KeyUsagePurpose::KeyAgreement);
            })),
            id.clone(),
        ),
        ("an explicit cA=false", a.issue(order().with(|p| p.is_ca = IsCa::ExplicitNoCa)), id.clone()),
        (
            "a subject",
            a.issue(order().with(|p| p.distinguished_name.push(rcgen::DnType::CommonName, "y"))),
            id.clone(),
        ),
        (
            "a path that is not Istio's",
            a.issue(order().id("spiffe://a/Some_thing/Else-1.0")),
            "spiffe://a/Some_thing/Else-1.0".to_owned(),
        ),
        ("an RSA key", a.issue(rsa), id.clone()),
        ("a P-384 key", a.issue(p384), id.clone()),
        ("an Ed25519 key", a.issue(ed25519), id),
    ]
}

#[test]
fn every_bad_svid_is_refused_as_a_client_by_our_server() {
    let (a, b) = authorities();
    let store = store(&a, &b);
    for (what, issued, [reason, _]) in bad(&a, &b) {
        for (tls12, anonymous) in [(false, false), (false, true), (true, false)] {
            let client = careless_client(Some(issued.certified()), tls12);
            let outcome = shake(&client, &store.server_config(anonymous).unwrap());
            assert_eq!(refusal(outcome.server), reason, "{what}, TLS 1.2: {tls12}, anonymous: {anonymous}");
        }
    }
}

#[test]
fn every_bad_svid_is_refused_as_a_server_by_our_client() {
    let (a, b) = authorities();
    let store = store(&a, &b);
    let client = store.client_config(&PeerRule::Verified, Alpn::Any).unwrap();
    for (what, issued, [_, reason]) in bad(&a, &b) {
        for tls12 in [false, true] {
            let outcome = shake(&client, &careless_server(issued.certified(), tls12));
            assert_eq!(refusal(outcome.client), reason, "{what}, TLS 1.2: {tls12}");
        }
    }
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
fn every_good_svid_is_accepted_on_both_sides_and_its_id_is_byte_equal() {
    let (a, b) = authorities();
    let store = store(&a, &b);
    for (what, issued, id) in good(&a) {
        for tls12 in [false, true] {
            let client = careless_client(Some(issued.certified()), tls12);
            let outcome = shake(&client, &store.server_config(false).unwrap());
            let server = outcome.server.unwrap_or_else(|error| panic!("{what}: {error}"));
            let peer = store.verified_peer(&server, Side::Client).unwrap().unwrap();
            assert_eq!(peer.id().as_str(), id, "{what}, TLS 1.2: {tls12}");
        }
        for tls12 in [false, true] {
            let client = store.client_config(&PeerRule::Verified, Alpn::Any).unwrap();
            let outcome = shake(&client, &careless_server(issued.certified(), tls12));
            let client = outcome.client.unwrap_or_else(|error| panic!("{what}: {error}"));
            let peer = store.verified_peer(&client, Side::Server).unwrap().unwrap();
            assert_eq!(peer.id().as_str(), id, "{what}, TLS 1.2: {tls12}");
        }
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
    let taken = mesh_runtime::identity::Bundles::from_pem([("a", forged.pem().as_str())]);
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
    let a = Authority::root(ROOT_NAME, |p| {
        p.distinguished_name = rcgen::DistinguishedName::new();
        p.distinguished_name.push(rcgen::DnType::CommonName, ROOT_NAME);
    });
    (a, Authority::new("b"))
}

fn store(a: &Authority, b: &Authority) -> IdentityStore {
    let store = IdentityStore::empty();
    let own = a.issue(order().id("spiffe://a/ns/x/sa/self"));
    store.publish(identity(own.svid(), &[("a", a), ("b", b)]));
    store
}

fn refusal<C>(result: Result<C, rustls::Error>) -> Option<&'static str> {
    result.err().map(|error| SvidError::find(&error).map_or("not ours", SvidError::reason))
}
