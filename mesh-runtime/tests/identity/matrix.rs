//! What a peer may show, as a client and as a server: every SVID that must be refused, with the rule that refuses it, and
//! every one that must be accepted.
// spec: spiffe standards/SPIFFE-ID.md section 2; standards/X509-SVID.md sections 2 to 5; standards/SPIFFE_Federation.md

use crate::authority::{Authority, DAY, ID, Issued, Key, Order, SUBJECT_ALT_NAME, der, dns, order, san, uri};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose};
use std::time::SystemTime;

/// One row: what is shown, and what becomes of who shows it.
pub(crate) struct Case {
    pub(crate) what: &'static str,
    pub(crate) issued: Issued,
    /// As a client: the reason of the refusal, or `None` if it is accepted.
    pub(crate) client: Option<&'static str>,
    /// As a server.
    pub(crate) server: Option<&'static str>,
}

impl Case {
    fn refused(what: &'static str, issued: Issued, reason: &'static str) -> Self {
        Self { what, issued, client: Some(reason), server: Some(reason) }
    }

    fn accepted(what: &'static str, issued: Issued) -> Self {
        Self { what, issued, client: None, server: None }
    }
}

/// The whole table, for a mesh whose bundles are `a` for the trust domain `a` and `b` for `b`.
pub(crate) fn table(a: &Authority, b: &Authority) -> Vec<Case> {
    [names(a), ids(a), usages(a), validity(a), domains(a, b), chains(a, b), constraints(a), keys(a)]
        .into_iter()
        .flatten()
        .collect()
}

/// The names of a certificate: exactly one URI, whatever stands beside it.
fn names(a: &Authority) -> Vec<Case> {
    let refused = |what, order: Order, reason| Case::refused(what, a.issue(order), reason);
    let accepted = |what, order: Order| Case::accepted(what, a.issue(order));
    let common_name = |p: &mut rcgen::CertificateParams| {
        p.distinguished_name.push(rcgen::DnType::CommonName, ID);
    };
    vec![
        accepted("a plain one", order()),
        accepted("a DNS SAN beside the ID", order().names([dns("y.x.svc"), uri(ID)])),
        accepted("an IP SAN beside the ID", order().names([(0x87, vec![10, 0, 0, 1]), uri(ID)])),
        accepted("a DNS SAN that looks like another ID", order().names([dns("spiffe://a/root"), uri(ID)])),
        accepted("a subject", order().with(common_name)),
        refused("no SAN at all", order().names([]), "no_uri"),
        refused("the ID in a DNS SAN", order().names([dns(ID)]), "no_uri"),
        refused("the ID in an e-mail SAN", order().names([(0x81, ID.into())]), "no_uri"),
        refused("the ID in the subject only", order().names([]).with(common_name), "no_uri"),
        refused(
            "two URI SANs, a wrong one first",
            order().names([uri("spiffe://a/other"), uri(ID)]),
            "several_uris",
        ),
        refused(
            "two URI SANs, a wrong one last",
            order().names([uri(ID), uri("spiffe://a/other")]),
            "several_uris",
        ),
        refused(
            "two URI SANs, one of another domain",
            order().names([uri(ID), uri("spiffe://b/x")]),
            "several_uris",
        ),
        refused(
            "two URI SANs, one no SPIFFE ID",
            order().names([uri(ID), uri("https://a/")]),
            "several_uris",
        ),
        refused("the same URI SAN twice", order().names([uri(ID), uri(ID)]), "several_uris"),
        refused(
            "two SAN extensions",
            order().extension(SUBJECT_ALT_NAME, &san(&[uri("spiffe://a/other")])),
            "malformed",
        ),
        refused("a URI SAN that is not ASCII", order().names([(0x86, "spiffe://a/é".into())]), "malformed"),
        refused(
            "a URI SAN that is no UTF-8",
            order().names([(0x86, b"spiffe://a/\xff".to_vec())]),
            "malformed",
        ),
        refused("a constructed URI SAN", order().names([(0xa6, der(0x86, ID.as_bytes()))]), "malformed"),
        refused("an empty list of SANs", order().names([]).extension(SUBJECT_ALT_NAME, &san(&[])), "no_uri"),
    ]
}

/// The spelling of an ID.
fn ids(a: &Authority) -> Vec<Case> {
    let of_length = |length: usize| format!("spiffe://a/{}", "b".repeat(length - "spiffe://a/".len()));
    let issued = |id: &str| a.issue(order().id(id));
    let mut cases = vec![
        Case::accepted("an ID of 2048 bytes", issued(&of_length(2048))),
        Case::refused("an ID of 2049 bytes", issued(&of_length(2049)), "not_spiffe"),
        Case::refused(
            "a trust domain of 256 bytes",
            issued(&format!("spiffe://{}/x", "a".repeat(256))),
            "not_spiffe",
        ),
    ];
    cases.extend(GOOD_IDS.map(|(what, id)| Case::accepted(what, issued(id))));
    cases.extend(BAD_IDS.map(|(what, id)| Case::refused(what, issued(id), "not_spiffe")));
    cases
}

const GOOD_IDS: [(&str, &str); 4] = [
    ("a path that is not Istio's", "spiffe://a/Some_thing/Else-1.0"),
    ("a path of one segment", "spiffe://a/x"),
    ("a segment of three dots", "spiffe://a/.../x"),
    ("a segment that begins with a dot", "spiffe://a/.x/y"),
];

const BAD_IDS: [(&str, &str); 36] = [
    ("https instead of spiffe", "https://a/ns/x/sa/y"),
    ("an upper-case scheme", "SPIFFE://a/ns/x/sa/y"),
    ("a mixed-case scheme", "Spiffe://a/ns/x/sa/y"),
    ("no scheme", "a/ns/x/sa/y"),
    ("no authority", "spiffe:/a/ns/x/sa/y"),
    ("three slashes", "spiffe:///a/ns/x/sa/y"),
    ("an empty URI", ""),
    ("no path", "spiffe://a"),
    ("the path of the root", "spiffe://a/"),
    ("a trailing slash", "spiffe://a/ns/x/sa/y/"),
    ("an empty segment", "spiffe://a/ns//sa/y"),
    ("a leading empty segment", "spiffe://a//ns/x/sa/y"),
    ("a segment ..", "spiffe://a/ns/x/../y"),
    ("a last segment ..", "spiffe://a/ns/x/.."),
    ("a segment .", "spiffe://a/ns/./sa/y"),
    ("percent-encoding", "spiffe://a/ns/x/sa/%79"),
    ("a percent-encoded slash", "spiffe://a/ns/x/sa%2fy"),
    ("a percent-encoded dot segment", "spiffe://a/ns/%2e%2e/y"),
    ("percent-encoding in the trust domain", "spiffe://%61/ns/x/sa/y"),
    ("a query", "spiffe://a/ns/x/sa/y?z"),
    ("an empty query", "spiffe://a/ns/x/sa/y?"),
    ("a fragment", "spiffe://a/ns/x/sa/y#z"),
    ("an empty fragment", "spiffe://a/ns/x/sa/y#"),
    ("a port", "spiffe://a:443/ns/x/sa/y"),
    ("an empty port", "spiffe://a:/ns/x/sa/y"),
    ("user info", "spiffe://me@a/ns/x/sa/y"),
    ("user info and a password", "spiffe://me:b@a/ns/x/sa/y"),
    ("an upper-case trust domain", "spiffe://A/ns/x/sa/y"),
    ("no trust domain", "spiffe:///ns/x/sa/y"),
    ("a blank", "spiffe://a/ns/x/sa/y z"),
    ("a blank at the end", "spiffe://a/ns/x/sa/y "),
    ("a line feed at the end", "spiffe://a/ns/x/sa/y\n"),
    ("a NUL", "spiffe://a/ns/x/sa/y\0"),
    ("a NUL in the trust domain", "spiffe://a\0.b/ns/x/sa/y"),
    ("a backslash", "spiffe://a/ns\\x/sa/y"),
    ("a wildcard", "spiffe://a/ns/*/sa/y"),
];

/// What a certificate may be used for.
fn usages(a: &Authority) -> Vec<Case> {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign, KeyEncipherment};
    let issued =
        |change: &dyn Fn(&mut rcgen::CertificateParams)| a.issue(order().with(|params| change(params)));
    let usage = |usages: &[KeyUsagePurpose]| issued(&|p| p.key_usages = usages.to_vec());
    let purpose =
        |purposes: &[ExtendedKeyUsagePurpose]| issued(&|p| p.extended_key_usages = purposes.to_vec());
    vec![
        Case::accepted("an explicit cA=false", issued(&|p| p.is_ca = IsCa::ExplicitNoCa)),
        Case::refused(
            "an authority",
            issued(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "authority",
        ),
        Case::refused(
            "an authority with path length 0",
            issued(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
            "authority",
        ),
        Case::accepted(
            "more key usages than needed",
            usage(&[DigitalSignature, KeyEncipherment, KeyAgreement]),
        ),
        Case::refused("keyCertSign", usage(&[DigitalSignature, KeyCertSign]), "key_usage"),
        Case::refused("cRLSign", usage(&[DigitalSignature, CrlSign]), "key_usage"),
        Case::refused(
            "keyCertSign and cRLSign",
            usage(&[DigitalSignature, KeyCertSign, CrlSign]),
            "key_usage",
        ),
        Case::refused("key usage without digitalSignature", usage(&[KeyEncipherment]), "key_usage"),
        Case::refused("no key usage", usage(&[]), "key_usage"),
        Case::accepted("no extended key usage", purpose(&[])),
        Case::accepted("both sides and another purpose", purpose(&[ServerAuth, ClientAuth, CodeSigning])),
        Case {
            client: Some("extended_key_usage"),
            ..Case::accepted("serverAuth only", purpose(&[ServerAuth]))
        },
        Case {
            server: Some("extended_key_usage"),
            ..Case::accepted("clientAuth only", purpose(&[ClientAuth]))
        },
        Case::refused("codeSigning only", purpose(&[CodeSigning]), "extended_key_usage"),
        Case::refused("anyExtendedKeyUsage only", purpose(&[Any]), "extended_key_usage"),
        Case::refused("an unknown critical extension", a.issue(order().with(unknown_critical)), "untrusted"),
    ]
}

fn unknown_critical(params: &mut rcgen::CertificateParams) {
    let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
}

fn validity(a: &Authority) -> Vec<Case> {
    let now = SystemTime::now();
    let issued = |from: SystemTime, to: SystemTime| {
        a.issue(order().with(|p| (p.not_before, p.not_after) = (from.into(), to.into())))
    };
    vec![
        Case::refused("expired", issued(now - 2 * DAY, now - DAY), "expired"),
        Case::refused("not yet valid", issued(now + DAY, now + 2 * DAY), "not_yet_valid"),
        Case::refused("valid until before it is valid", issued(now + DAY, now - DAY), "malformed"),
        Case::accepted("valid for longer than its root", issued(now - 20 * DAY, now + 20 * DAY)),
    ]
}

/// Whose authority vouches for whom: the bundle is that of the ID's trust domain, and no other.
fn domains(a: &Authority, b: &Authority) -> Vec<Case> {
    let self_signed = Authority::root("itself", |p| {
        p.is_ca = IsCa::NoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.subject_alt_names = vec![rcgen::SanType::URI(ID.try_into().unwrap())];
    });
    vec![
        Case::accepted("an ID of b, signed by the authority of b", b.issue(order().id("spiffe://b/x"))),
        Case::refused("an ID of a, signed by the authority of b", b.issue(order()), "untrusted"),
        Case::refused(
            "an ID of b, signed by the authority of a",
            a.issue(order().id("spiffe://b/x")),
            "untrusted",
        ),
        Case::refused(
            "a trust domain without a bundle",
            a.issue(order().id("spiffe://c/x")),
            "unknown_trust_domain",
        ),
        Case::refused(
            "a trust domain that begins like ours",
            a.issue(order().id("spiffe://a.evil/x")),
            "unknown_trust_domain",
        ),
        Case::refused(
            "a trust domain below ours",
            a.issue(order().id("spiffe://x.a/y")),
            "unknown_trust_domain",
        ),
        Case::refused("an authority nobody knows", Authority::new("stranger").issue(order()), "untrusted"),
        Case::refused("self-signed", self_signed.shown(), "untrusted"),
    ]
}

/// Chains that lead to the root, and those that lead nowhere or break a rule on the way.
fn chains(a: &Authority, b: &Authority) -> Vec<Case> {
    let now = SystemTime::now();
    let intermediate = a.intermediate("intermediate", |_| {});
    let last = a.intermediate("last", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = intermediate.intermediate("below", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below_last = last.intermediate("below the last", |_| {});
    let of_b = b.intermediate("intermediate of b", |_| {});
    let no_authority = a.intermediate("leaf", |p| p.is_ca = IsCa::NoCa);
    let no_signer = a.intermediate("no signer", |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let expired = a.intermediate("expired", |p| p.not_after = (now - DAY).into());
    let future = a.intermediate("future", |p| p.not_before = (now + DAY).into());
    let strange = a.intermediate("strange", unknown_critical);
    // The name of the real root, and another key.
    let impostor = Authority::root("impostor", root_name);
    let many: Vec<_> = (0..7).map(|i| a.intermediate(&i.to_string(), |_| {})).collect();
    let many: Vec<_> = many.iter().collect();
    let refused = |what, signer: &Authority, via: &[&Authority]| {
        Case::refused(what, signer.issue(order()).via(via), "untrusted")
    };
    vec![
        Case::accepted("an intermediate", intermediate.issue(order()).via(&[&intermediate])),
        Case::accepted("an intermediate with path length 0", last.issue(order()).via(&[&last])),
        Case::accepted(
            "two intermediates, in the wrong order",
            below.issue(order()).via(&[&intermediate, &below]),
        ),
        Case::accepted("an intermediate that is not needed", a.issue(order()).via(&[&of_b])),
        Case::accepted("the root in the chain", a.issue(order()).via(&[a])),
        refused("a missing intermediate", &intermediate, &[]),
        refused("one of two intermediates", &below, &[&below]),
        refused("an intermediate of b", &of_b, &[&of_b]),
        refused("an intermediate of b and the root of a", &of_b, &[&of_b, a]),
        refused("an intermediate that is no authority", &no_authority, &[&no_authority]),
        refused("an intermediate that may not sign", &no_signer, &[&no_signer]),
        refused("an expired intermediate", &expired, &[&expired]),
        refused("an intermediate of the future", &future, &[&future]),
        refused("an intermediate with an unknown critical extension", &strange, &[&strange]),
        refused("a path longer than allowed", &below_last, &[&below_last, &last]),
        refused("its own root in the chain", &impostor, &[&impostor]),
        Case::refused("seven intermediates", many[0].issue(order()).via(&many), "chain_too_long"),
    ]
}

/// Gives an authority the name of the root of `a`.
pub(crate) fn root_name(params: &mut rcgen::CertificateParams) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "the root of a");
}

/// Authorities that may vouch for some names only. webpki knows constraints on DNS names, and takes every constraint on
/// URIs for one that is broken.
// spec: RFC 5280 section 4.2.1.10; spiffe standards/X509-SVID.md section 4.2
fn constraints(a: &Authority) -> Vec<Case> {
    let dns_name = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let only = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
        a.intermediate("constrained", |p| {
            p.name_constraints =
                Some(rcgen::NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
        })
    };
    let excluding = only(vec![], vec![dns_name("evil")]);
    let permitting = only(vec![dns_name("good")], vec![]);
    let uri_only = a.intermediate("URI constraint", |p| {
        // NameConstraints { permittedSubtrees [0] { { uniformResourceIdentifier "b" } } }
        let content = der(0x30, &der(0xa0, &der(0x30, &der(0x86, b"b"))));
        let mut extension = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
        extension.set_criticality(true);
        p.custom_extensions.push(extension);
    });
    let case = |by: &Authority, also: &str| by.issue(order().names([uri(ID), dns(also)])).via(&[by]);
    vec![
        Case::accepted("an authority that excludes another DNS name", case(&excluding, "good")),
        Case::accepted("an authority for this DNS name", case(&permitting, "x.good")),
        Case::accepted(
            "an authority for DNS names, and none there",
            permitting.issue(order()).via(&[&permitting]),
        ),
        Case::refused("an authority that excludes the DNS name", case(&excluding, "evil"), "untrusted"),
        Case::refused("an authority for other DNS names", case(&permitting, "evil"), "untrusted"),
        Case::refused("an authority for URIs of b", uri_only.issue(order()).via(&[&uri_only]), "untrusted"),
    ]
}

/// Keys of every kind and size.
fn keys(a: &Authority) -> Vec<Case> {
    let issued = |key| a.issue(order().key(key));
    vec![
        Case::accepted("a P-384 key", issued(Key::New(&rcgen::PKCS_ECDSA_P384_SHA384))),
        Case::accepted("an Ed25519 key", issued(Key::New(&rcgen::PKCS_ED25519))),
        Case::accepted("an RSA key of 2048 bits", issued(Key::Given(include_str!("keys/rsa-2048.pem")))),
        Case::accepted("an RSA key of 3072 bits", issued(Key::Given(include_str!("keys/rsa-3072.pem")))),
        Case::accepted("an RSA key of 4096 bits", issued(Key::Given(include_str!("keys/rsa-4096.pem")))),
        Case::refused(
            "an RSA key of 1024 bits",
            issued(Key::Foreign(include_str!("keys/rsa-1024.pub.pem"))),
            "weak_key",
        ),
        Case::refused(
            "an RSA key of 2040 bits",
            issued(Key::Foreign(include_str!("keys/rsa-2040.pub.pem"))),
            "weak_key",
        ),
        // A certificate for a curve that nobody here can sign with, and a signature by another key: TLS itself refuses.
        Case::refused("a P-521 key", issued(Key::Foreign(include_str!("keys/p521.pub.pem"))), "handshake"),
    ]
}
