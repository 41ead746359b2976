//! Certificate requests and the key behind them.

use crate::authority::{Authority, ID, identity, order};
use mesh_core::identity::{PeerRule, SpiffeId};
use mesh_runtime::identity::{Alpn, IdentityError, IdentityStore, KeyPair, Svid};
use rcgen::{CertificateSigningRequestParams, KeyUsagePurpose, SanType};

#[test]
fn a_request_asks_for_the_one_id_and_nothing_else_and_its_certificate_becomes_an_svid() {
    let id: SpiffeId = ID.parse().unwrap();
    let key = KeyPair::generate().unwrap();
    // Checks the signature, too.
    let mut request = CertificateSigningRequestParams::from_pem(&key.request(&id).unwrap().pem).unwrap();
    assert_eq!(request.params.subject_alt_names, [SanType::URI(ID.try_into().unwrap())]);
    assert_eq!(request.params.distinguished_name.iter().count(), 0);
    assert!(request.params.key_usages.is_empty() && request.params.extended_key_usages.is_empty());

    request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let svid = key.certified(&Authority::new("a").certify(&request)).unwrap();
    assert_eq!(svid.id(), &id);
}

#[test]
fn the_longest_id_fits_in_a_request() {
    let id: SpiffeId = format!("spiffe://a/{}", "b".repeat(2048 - "spiffe://a/".len())).parse().unwrap();
    let request = KeyPair::generate().unwrap().request(&id).unwrap();
    let request = CertificateSigningRequestParams::from_pem(&request.pem).unwrap();
    assert_eq!(request.params.subject_alt_names, [SanType::URI(id.as_str().try_into().unwrap())]);
}

#[test]
fn two_key_pairs_are_never_the_same() {
    assert_ne!(KeyPair::generate().unwrap().to_pem(), KeyPair::generate().unwrap().to_pem());
}

#[test]
fn a_key_pair_survives_the_cache() {
    let key = KeyPair::generate().unwrap();
    let id: SpiffeId = ID.parse().unwrap();
    let again = KeyPair::from_pem(&key.to_pem()).unwrap();
    assert_eq!(again.to_pem(), key.to_pem());
    let mut request = CertificateSigningRequestParams::from_pem(&again.request(&id).unwrap().pem).unwrap();
    request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let chain = Authority::new("a").certify(&request);
    assert_eq!(Svid::from_pem(&chain, &key.to_pem()).unwrap().to_pem(), chain);
}

#[test]
fn the_certificate_of_another_key_is_refused() {
    let issued = Authority::new("a").issue(order());
    let other = KeyPair::generate().unwrap();
    let error = other.certified(&issued.chain_pem()).unwrap_err();
    assert_eq!(error, IdentityError::KeyMismatch { id: ID.to_owned() });
    let error = Svid::from_pem(&issued.chain_pem(), &other.to_pem()).unwrap_err();
    assert_eq!(error, IdentityError::KeyMismatch { id: ID.to_owned() });
}

#[test]
fn what_nobody_would_accept_is_refused_as_an_own_svid() {
    let a = Authority::new("a");
    for (order, sentence) in [
        (order().id("spiffe://a/"), "certificate: the certificate is no SVID"),
        (order().names([]), "no URI SAN"),
        (order().with(|p| p.key_usages.clear()), "digitalSignature"),
        (order().with(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)), "keyCertSign is set"),
    ] {
        let issued = a.issue(order);
        let error = Svid::from_pem(&issued.chain_pem(), &issued.key_pem()).unwrap_err();
        assert!(error.to_string().contains(sentence), "{error}");
    }
}

#[test]
fn wrong_pem_is_named_and_never_shown() {
    let issued = Authority::new("a").issue(order());
    let (chain, key) = (issued.chain_pem(), issued.key_pem());
    let secret = key.lines().nth(1).unwrap();
    let broken_key = key.replace("\n-----END", "!\n-----END");
    let endless_key = key.replace("-----END PRIVATE KEY-----", "");
    for (chain, key, sentence) in [
        ("", &*key, "certificate: there is no `-----BEGIN CERTIFICATE-----` in it"),
        (&key, &key, "certificate: there is no `-----BEGIN CERTIFICATE-----` in it"),
        (&chain, "", "private key: there is no `-----BEGIN PRIVATE KEY-----` in it"),
        (&chain, &chain, "private key: there is no `-----BEGIN PRIVATE KEY-----` in it"),
        (&chain, &broken_key, "private key: a PEM block is not base64"),
        (&chain, &endless_key, "private key: a PEM block has no end"),
        (
            &chain,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "private key: it is no key that the TLS provider can use",
        ),
    ] {
        let error = Svid::from_pem(chain, key).unwrap_err().to_string();
        assert_eq!(error, sentence);
        assert!(!error.contains(secret));
    }
}

/// The bytes in any of the forms in which a `Debug` shows bytes.
fn shows(shown: &str, secret: &[u8]) -> bool {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let part = &secret[secret.len() / 2..][..8];
    let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{part:?}");
    let list = list.trim_matches(['[', ']']);
    let base64 = STANDARD.encode(&secret[secret.len() / 2 / 3 * 3..][..9]);
    [hex.as_str(), list, &base64].iter().any(|form| shown.contains(form))
}

#[test]
fn no_debug_form_of_a_generation_shows_a_byte_of_its_key() {
    use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
    let a = Authority::new("a");
    let issued = a.issue(order());
    let store = IdentityStore::empty();
    store.publish(identity(issued.svid(), &[("a", &a)]));
    let key = KeyPair::from_pem(&issued.key_pem()).unwrap();
    let (client, server) =
        (store.client_config(&PeerRule::Verified, Alpn::Any).unwrap(), store.server_config(true).unwrap());
    let shown = format!(
        "{key:?} {:#?} {:#?} {store:#?} {client:#?} {server:#?}",
        issued.svid(),
        store.current().unwrap()
    );
    let der = PrivateKeyDer::from_pem_slice(issued.key_pem().as_bytes()).unwrap();
    assert!(shows(&format!("{:?}", der.secret_der()), der.secret_der()), "the test sees what is shown");
    assert!(!shows(&shown, der.secret_der()), "{shown}");
}

#[test]
fn no_debug_form_shows_anything_of_a_key() {
    let a = Authority::new("a");
    let key = KeyPair::generate().unwrap();
    let issued = a.issue(order());
    let store = IdentityStore::empty();
    store.publish(identity(issued.svid(), &[("a", &a)]));
    let shown = format!("{key:?} {:?} {:?} {store:?}", issued.svid(), store.current());
    for pem in [key.to_pem(), issued.key_pem()] {
        assert!(pem.lines().all(|line| !shown.contains(line)), "{shown}");
    }
    assert!(shown.contains(ID) && shown.len() < 600, "{shown}");
}
