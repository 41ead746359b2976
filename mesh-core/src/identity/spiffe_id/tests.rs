use super::*;
use proptest::prelude::*;

#[test]
fn every_good_id_is_read_into_its_parts() {
    for (text, domain, path, account) in [
        (
            "spiffe://cluster.local/ns/shop/sa/reviews",
            "cluster.local",
            "/ns/shop/sa/reviews",
            Some(("shop", "reviews")),
        ),
        ("spiffe://a/b", "a", "/b", None),
        ("spiffe://example_1.org/A.b-c_d/...", "example_1.org", "/A.b-c_d/...", None),
        ("spiffe://1.2.3.4/workload", "1.2.3.4", "/workload", None),
        ("spiffe://a/ns/x/sa/y/z", "a", "/ns/x/sa/y/z", None),
        ("spiffe://a/ns/x/y/sa/z", "a", "/ns/x/y/sa/z", None),
        ("spiffe://a/ns/sa/sa/sa", "a", "/ns/sa/sa/sa", Some(("sa", "sa"))),
    ] {
        let id: SpiffeId = text.parse().unwrap();
        assert_eq!((id.as_str(), id.trust_domain(), id.path()), (text, domain, path));
        assert_eq!(id.account(), account, "{text}");
        assert_eq!(format!("spiffe://{}", id.principal()), text);
    }
}

#[test]
fn every_bad_id_is_refused_by_the_rule_it_breaks() {
    type Rule = fn(&SpiffeIdError) -> bool;
    macro_rules! rule {
        ($pattern:pat) => {
            (|error| matches!(error, $pattern)) as Rule
        };
    }
    use SpiffeIdError as E;
    let table: &[(&str, Rule)] = &[
        ("", rule!(E::Scheme(_))),
        ("cluster.local/ns/a/sa/b", rule!(E::Scheme(_))),
        ("https://a/b", rule!(E::Scheme(_))),
        ("SPIFFE://a/b", rule!(E::Scheme(_))),
        ("Spiffe://a/b", rule!(E::Scheme(_))),
        ("spiffe:a/b", rule!(E::Scheme(_))),
        ("spiffe:/a/b", rule!(E::Scheme(_))),
        (" spiffe://a/b", rule!(E::Scheme(_))),
        ("spiffe://", rule!(E::TrustDomainEmpty)),
        ("spiffe:///b", rule!(E::TrustDomainEmpty)),
        ("spiffe://A/b", rule!(E::TrustDomainCharacter { character: 'A', .. })),
        ("spiffe://a b/c", rule!(E::TrustDomainCharacter { character: ' ', .. })),
        ("spiffe://a!/c", rule!(E::TrustDomainCharacter { character: '!', .. })),
        ("spiffe://[--1]/c", rule!(E::TrustDomainCharacter { character: '[', .. })),
        ("spiffe://a\0/b", rule!(E::TrustDomainCharacter { character: '\0', .. })),
        ("spiffe://me@a/b", rule!(E::UserInfo(_))),
        ("spiffe://me:secret@a/b", rule!(E::UserInfo(_))),
        ("spiffe://a:443/b", rule!(E::Port(_))),
        ("spiffe://a:/b", rule!(E::Port(_))),
        ("spiffe://a", rule!(E::PathMissing(_))),
        ("spiffe://a/", rule!(E::PathMissing(_))),
        ("spiffe://a/b/", rule!(E::TrailingSlash(_))),
        ("spiffe://a//", rule!(E::TrailingSlash(_))),
        ("spiffe://a//b", rule!(E::EmptySegment(_))),
        ("spiffe://a/b//c", rule!(E::EmptySegment(_))),
        ("spiffe://a/./b", rule!(E::DotSegment(_))),
        ("spiffe://a/..", rule!(E::DotSegment(_))),
        ("spiffe://a/b/../c", rule!(E::DotSegment(_))),
        ("spiffe://a/%62", rule!(E::PercentEncoding(_))),
        ("spiffe://%61/b", rule!(E::PercentEncoding(_))),
        ("spiffe://a/b?c=d", rule!(E::Query(_))),
        ("spiffe://a?b", rule!(E::Query(_))),
        ("spiffe://a/b#c", rule!(E::Fragment(_))),
        ("spiffe://a/b\u{e9}", rule!(E::NotAscii(_))),
        ("spiffe://\u{430}/b", rule!(E::NotAscii(_))),
        ("spiffe://a/b\n", rule!(E::PathCharacter { character: '\n', .. })),
        ("spiffe://a/b\0", rule!(E::PathCharacter { character: '\0', .. })),
        ("spiffe://a/b*", rule!(E::PathCharacter { character: '*', .. })),
        ("spiffe://a/b:c", rule!(E::PathCharacter { character: ':', .. })),
        ("spiffe://a/b\\c", rule!(E::PathCharacter { character: '\\', .. })),
        ("spiffe://a/~b", rule!(E::PathCharacter { character: '~', .. })),
    ];
    for (text, rule) in table {
        let error = text.parse::<SpiffeId>().expect_err(text);
        assert!(rule(&error), "{text:?} was refused as {error:?}");
    }
}

#[test]
fn an_id_of_2048_bytes_is_read_and_one_of_2049_is_not() {
    let id = |len: usize| format!("spiffe://a/{}", "b".repeat(len - "spiffe://a/".len()));
    assert_eq!(id(2048).parse::<SpiffeId>().unwrap().as_str(), id(2048));
    assert!(matches!(id(2049).parse::<SpiffeId>(), Err(SpiffeIdError::TooLong { len: 2049, .. })));
}

#[test]
fn a_trust_domain_of_255_bytes_is_read_and_one_of_256_is_not() {
    assert!("a".repeat(255).parse::<TrustDomain>().is_ok());
    assert!(format!("spiffe://{}/b", "a".repeat(255)).parse::<SpiffeId>().is_ok());
    for result in [
        "a".repeat(256).parse::<TrustDomain>().err(),
        format!("spiffe://{}/b", "a".repeat(256)).parse::<SpiffeId>().err(),
    ] {
        assert!(matches!(result, Some(SpiffeIdError::TrustDomainTooLong { len: 256, .. })), "{result:?}");
    }
}

#[test]
fn a_trust_domain_is_a_bare_name() {
    assert_eq!("cluster.local".parse::<TrustDomain>().unwrap().as_str(), "cluster.local");
    for text in ["", "Cluster.local", "spiffe://cluster.local", "a/b", "a:1", "a\u{e9}", "*"] {
        assert!(text.parse::<TrustDomain>().is_err(), "{text:?}");
    }
}

#[test]
fn a_namespace_cannot_smuggle_a_path_into_the_id_of_an_account() {
    let domain: TrustDomain = "cluster.local".parse().unwrap();
    let id = SpiffeId::of_account(&domain, "shop", "reviews").unwrap();
    assert_eq!(id.as_str(), "spiffe://cluster.local/ns/shop/sa/reviews");
    for (namespace, account) in
        [("shop/sa/admin", "x"), ("shop", "x/y"), ("", "x"), ("shop", ""), ("..", "x"), ("shop", "a b")]
    {
        assert!(SpiffeId::of_account(&domain, namespace, account).is_err(), "{namespace:?} {account:?}");
    }
}

#[test]
fn an_error_shows_a_bounded_and_escaped_part_of_what_a_peer_sent() {
    let error = format!("spiffe://a/{}\n", "b".repeat(1500)).parse::<SpiffeId>().unwrap_err().to_string();
    assert!(error.len() < 300, "{} bytes", error.len());
    let error = "http://a/\u{1b}[31m\n".parse::<SpiffeId>().unwrap_err().to_string();
    assert!(!error.contains(['\u{1b}', '\n']), "{error}");
}

proptest! {
    #[test]
    fn whatever_is_read_consists_of_its_parts(text in "spiffe://[a-c.]{0,3}(/[a-c.%:]{0,3}){0,4}") {
        if let Ok(id) = text.parse::<SpiffeId>() {
            prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = text.parse::<SpiffeId>().map_err(|error| error.to_string());
        let _ = format!("spiffe://{text}").parse::<SpiffeId>().map_err(|error| error.to_string());
    }
}
