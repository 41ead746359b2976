use super::{super::der::value, *};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

#[test]
fn the_facts_of_a_certificate_are_read() {
    let der = certificate(|params| {
        params.serial_number = Some(0xab_cdef_u64.into());
        params.not_before = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).into();
        params.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)).into();
        params.subject_alt_names =
            vec![SanType::DnsName("x".try_into().unwrap()), SanType::URI("spiffe://a/b".try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::CodeSigning, ExtendedKeyUsagePurpose::ClientAuth];
    });
    let expected = Leaf {
        serial: "abcdef".to_owned(),
        not_before: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000),
        has_subject: true,
        uris: vec!["spiffe://a/b".to_owned()],
        is_ca: false,
        path_len: None,
        key_usage: Some(KeyUsage { digital_signature: true, cert_sign: false, crl_sign: true }),
        extended_key_usage: Some(ExtendedKeyUsage { server_auth: false, client_auth: true }),
        rsa_bits: None,
    };
    assert_eq!(Leaf::parse(&der), Ok(expected));
}

#[test]
fn the_facts_of_an_authority_are_read() {
    let der = certificate(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(3));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    let leaf = Leaf::parse(&der).unwrap();
    assert_eq!((leaf.is_ca, leaf.path_len), (true, Some(3)));
    assert_eq!(leaf.key_usage, Some(KeyUsage { digital_signature: false, cert_sign: true, crl_sign: false }));
    assert_eq!(leaf.extended_key_usage, None);
}

#[test]
fn an_extension_of_any_kind_occurs_once() {
    let der = certificate(|params| {
        let extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
        params.custom_extensions = vec![extension.clone(), extension];
    });
    assert_eq!(Leaf::parse(&der), Err(LeafError::Extensions));
}

#[test]
fn the_number_of_extensions_is_bounded() {
    let der = certificate(|params| {
        let extension = |i| rcgen::CustomExtension::from_oid_content(&[1, 2, i], vec![5, 0]);
        params.custom_extensions = (0..100).map(extension).collect();
    });
    assert_eq!(Leaf::parse(&der), Err(LeafError::Extensions));
}

#[test]
fn a_time_is_read_exactly_or_not_at_all() {
    for (kind, text, seconds) in [
        (tag::UTC_TIME, "700101000000Z", Some(0)),
        (tag::UTC_TIME, "691231235959Z", Some(-1)),
        (tag::UTC_TIME, "000229120000Z", Some(951_825_600)),
        (tag::UTC_TIME, "491231235959Z", Some(2_524_607_999)),
        (tag::UTC_TIME, "500101000000Z", Some(-631_152_000)),
        (tag::GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
        (tag::GENERALIZED_TIME, "20240229235959Z", Some(1_709_251_199)),
        (tag::GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
        (tag::GENERALIZED_TIME, "19691231235959Z", Some(-1)),
        (tag::UTC_TIME, "20500101000000Z", None),
        (tag::GENERALIZED_TIME, "500101000000Z", None),
        (tag::UTC_TIME, "7001010000Z", None),
        (tag::UTC_TIME, "700101000000", None),
        (tag::UTC_TIME, "700101000000+", None),
        (tag::UTC_TIME, "70010100000aZ", None),
        (tag::UTC_TIME, "701301000000Z", None),
        (tag::UTC_TIME, "700001000000Z", None),
        (tag::UTC_TIME, "700100000000Z", None),
        (tag::UTC_TIME, "700132000000Z", None),
        (tag::UTC_TIME, "700101240000Z", None),
        (tag::UTC_TIME, "700101006000Z", None),
        (tag::UTC_TIME, "700101000060Z", None),
        (tag::GENERALIZED_TIME, "20500101000000.5Z", None),
        (tag::INTEGER, "700101000000Z", None),
        (tag::UTC_TIME, "", None),
    ] {
        let read = time(&mut Reader::new(&value(kind, &[text.as_bytes()])));
        let expected = seconds.map(|seconds: i64| match seconds {
            0.. => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()),
            _ => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
        });
        assert_eq!(read, expected, "{kind:#x} {text}");
    }
}

#[test]
fn key_usage_is_read_bit_by_bit() {
    let usage =
        |digital_signature, cert_sign, crl_sign| Ok(KeyUsage { digital_signature, cert_sign, crl_sign });
    for (bits, expected) in [
        (&[7, 0x80][..], usage(true, false, false)),
        (&[5, 0xa0], usage(true, false, false)),
        (&[2, 0x04], usage(false, true, false)),
        (&[1, 0x06], usage(false, true, true)),
        (&[7, 0x00, 0x80], usage(false, false, false)),
        (&[0], usage(false, false, false)),
        (&[], Err(BadDer)),
        (&[1], Err(BadDer)),
        (&[8, 0x80], Err(BadDer)),
        (&[7, 0x84], Err(BadDer)),
    ] {
        assert_eq!(key_usage(Reader::new(&value(tag::BIT_STRING, &[bits]))), expected, "{bits:02x?}");
    }
}

#[test]
fn names_are_told_apart_by_their_tags() {
    let uri = |text: &str| (tag::context(6), text.as_bytes().to_vec());
    for (names, expected) in [
        (vec![uri("a:b")], Ok(vec!["a:b"])),
        (vec![uri("a:b"), uri("a:c")], Ok(vec!["a:b", "a:c"])),
        (vec![(tag::context(2), b"a:b".to_vec())], Ok(vec![])),
        (vec![(tag::context(2), b"\xff\0".to_vec()), uri("a:b")], Ok(vec!["a:b"])),
        (vec![(tag::context_constructed(4), vec![0x30, 0]), uri("a:b")], Ok(vec!["a:b"])),
        (vec![], Ok(vec![])),
        (vec![uri("a:é")], Err(BadDer)),
        (vec![(tag::context_constructed(6), b"a:b".to_vec())], Err(BadDer)),
        (vec![(tag::context(9), b"a:b".to_vec())], Err(BadDer)),
        (vec![(0x16, b"a:b".to_vec())], Err(BadDer)),
    ] {
        let content: Vec<u8> = names.iter().flat_map(|(tag, name)| value(*tag, &[name])).collect();
        let read = uris(Reader::new(&value(tag::SEQUENCE, &[&content])));
        assert_eq!(read, expected.map(|uris| uris.into_iter().map(str::to_owned).collect()), "{names:02x?}");
    }
}

#[test]
fn what_is_no_certificate_is_refused_for_what_it_is() {
    assert_eq!(Leaf::parse(&[]), Err(LeafError::Structure));
    assert_eq!(Leaf::parse(b"-----BEGIN CERTIFICATE-----"), Err(LeafError::Structure));
    let der = certificate(|_| {});
    assert_eq!(Leaf::parse(&[&der[..], &[0]].concat()), Err(LeafError::Structure));
    // The version is the first 02 01 02 in the file: make it version 2.
    let at = der.windows(3).position(|bytes| bytes == [2, 1, 2]).unwrap();
    let mut version_2 = der.clone();
    version_2[at + 2] = 1;
    assert_eq!(Leaf::parse(&version_2), Err(LeafError::Version));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Leaf::parse(&bytes);
    }

    #[test]
    fn no_change_of_a_certificate_makes_the_reader_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        static DER: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| certificate(|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(3));
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }));
        let mut der = DER.clone();
        for (at, byte) in changes {
            let at = at.index(der.len());
            der[at] = byte;
        }
        let _ = Leaf::parse(&der);
    }
}

fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://a/b".try_into().unwrap())];
    change(&mut params);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}
