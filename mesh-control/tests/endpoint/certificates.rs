//! Certificates, and callers who show them.

use crate::bed::{Bed, csr, lease, trusting};
use http::Method;
use mesh_core::identity::SpiffeId;
use mesh_runtime::{
    control::{JoinToken, status},
    identity::{Bundles, KeyPair, Leaf, Side, Svid, verify_svid},
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const CART: &str = "spiffe://cluster.local/ns/default/sa/cart";

#[tokio::test]
async fn a_certificate_is_an_svid_of_the_caller_for_a_day() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let key = KeyPair::generate().unwrap();
    let pem = key.request(&CART.parse().unwrap()).unwrap().pem;
    let answer = bed.ask(Method::POST, "/v1/certificates", Some(&token), json!({"csr": pem})).await.json();

    let chain = answer["chain"].as_str().unwrap();
    let svid = Svid::from_pem(chain, &key.to_pem()).unwrap();
    assert_eq!(svid.id().as_str(), CART);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
    assert_eq!(chain.len(), 2, "leaf and root, so that a workload finds its pin");
    let bundle = answer["bundles"]["cluster.local"].as_str().unwrap();
    let bundles = Bundles::from_pem([("cluster.local", bundle)]).unwrap();
    for side in [Side::Client, Side::Server] {
        let id = verify_svid(&chain[0], &[], &bundles, side, UnixTime::now()).unwrap();
        assert_eq!(id.as_str(), CART);
    }
    let leaf = Leaf::parse(&chain[0]).unwrap();
    let left = leaf.not_after.duration_since(SystemTime::now()).unwrap();
    assert!(left <= Duration::from_secs(86_400) && left > Duration::from_secs(86_300), "{left:?}");
    let ago = SystemTime::now().duration_since(leaf.not_before).unwrap();
    assert!(ago >= Duration::from_secs(60) && ago < Duration::from_secs(120), "{ago:?}");
    assert_eq!(leaf.serial.len(), 32, "128 bits");

    crate::bed::until("the record", async || {
        let issued = std::fs::read_to_string(bed.data().join("issued")).unwrap_or_default();
        issued.lines().any(|line| line.starts_with(&leaf.serial) && line.ends_with(CART))
    })
    .await;
}

#[tokio::test]
async fn a_request_for_another_identity_is_refused_and_one_for_none_is_the_callers() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let post = async |csr: String| {
        bed.ask(Method::POST, "/v1/certificates", Some(&token), json!({"csr": csr})).await
    };
    for other in [
        "spiffe://cluster.local/ns/default/sa/payment",
        "spiffe://cluster.local/ns/shop/sa/cart",
        "spiffe://other.domain/ns/default/sa/cart",
        "spiffe://cluster.local/mesh-control",
    ] {
        let reply = post(csr(other)).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (403, &json!("forbidden")), "{other}");
        assert!(reply.message().contains(other) && reply.message().contains(CART), "{}", reply.message());
    }
    let mut params = rcgen::CertificateParams::default();
    let key = rcgen::KeyPair::generate().unwrap();
    let nothing = params.serialize_request(&key).unwrap().pem().unwrap();
    let reply = post(nothing).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(uris(&reply.json()), [CART]);

    // What else it asks for is not given.
    params.subject_alt_names = vec![rcgen::SanType::DnsName("payment.default".try_into().unwrap())];
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let greedy = params.serialize_request(&key).unwrap().pem().unwrap();
    let answer = post(greedy).await.json();
    let chain = answer["chain"].as_str().unwrap();
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    let read = webpki::EndEntityCert::try_from(&leaf).unwrap();
    assert_eq!(read.valid_dns_names().count(), 0);
    assert!(!Leaf::parse(&leaf).unwrap().is_ca);
}

#[tokio::test]
async fn a_request_that_does_not_read_is_refused_with_what_is_wrong() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let good = csr(CART);
    let cut = format!("{}\n-----END CERTIFICATE REQUEST-----\n", &good[..good.len() / 2]);
    let table = [
        (json!({}), "missing field `csr`"),
        (json!({"csr": 7}), "csr: invalid type"),
        (json!({"csr": good, "id": "x"}), "id: unknown field"),
        (json!({"csr": ""}), "csr: no PEM block"),
        (json!({"csr": "x".repeat(500_000)}), "csr: no PEM block"),
        (json!({"csr": cut}), "csr: "),
        (
            json!({"csr": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"}),
            "csr: ",
        ),
    ];
    for (row, (body, expected)) in table.into_iter().enumerate() {
        let reply = bed.ask(Method::POST, "/v1/certificates", Some(&token), body).await;
        assert_eq!(reply.status, 400, "row {row}: {reply:?}");
        assert!(reply.message().contains(expected), "row {row}: {}", reply.message());
    }
}

#[tokio::test]
async fn an_svid_replaces_the_token_over_tls() {
    let bed = Bed::tls().await;
    let token = bed.token("default", "cart", &["checkout"]);
    let anonymous = trusting(&bed.data(), None);
    let key = KeyPair::generate().unwrap();
    let ask = json!({"csr": key.request(&CART.parse().unwrap()).unwrap().pem});
    let first = bed.call(Method::POST, "/v1/certificates").bearer(Some(&token)).json(&ask);
    let answer = first.send_tls(anonymous.clone()).await.unwrap().json();
    assert_eq!(answer["renewal"], Value::Null, "over TLS the certificate itself is the proof");

    let chain = answer["chain"].as_str().unwrap().to_owned();
    let with_svid = trusting(&bed.data(), Some((chain, key.to_pem())));
    let renewed = bed.call(Method::POST, "/v1/certificates").json(&ask);
    assert_eq!(renewed.send_tls(with_svid.clone()).await.unwrap().status, 200);
    for (service, expected) in [("cart", 201), ("checkout", 201), ("payment", 403)] {
        let call = bed.call(Method::PUT, &format!("/v1/workloads/default/{service}/a")).json(&lease(8080));
        assert_eq!(call.send_tls(with_svid.clone()).await.unwrap().status, expected, "{service}");
    }
    assert_eq!(bed.call(Method::GET, "/v1/status").send_tls(anonymous).await.unwrap().status, 401);

    let other = bed.token("default", "payment", &[]);
    let both = bed.call(Method::GET, "/v1/status").bearer(Some(&other));
    let reply = both.send_tls(with_svid).await.unwrap();
    assert_eq!(reply.status, 403, "{reply:?}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_ends_the_handshake() {
    let (bed, other) = (Bed::tls().await, Bed::tls().await);
    let key = KeyPair::generate().unwrap();
    let ask = json!({"csr": key.request(&CART.parse().unwrap()).unwrap().pem});
    let token = other.token("default", "cart", &[]);
    let call = other.call(Method::POST, "/v1/certificates").bearer(Some(&token)).json(&ask);
    let answer = call.send_tls(trusting(&other.data(), None)).await.unwrap().json();
    let chain = answer["chain"].as_str().unwrap().to_owned();

    let foreign = trusting(&bed.data(), Some((chain, key.to_pem())));
    let token = bed.token("default", "cart", &[]);
    let call = bed.call(Method::GET, "/v1/status").bearer(Some(&token));
    assert!(call.send_tls(foreign).await.is_err());
}

#[tokio::test]
async fn an_svid_that_expires_on_a_standing_connection_proves_nothing_more() {
    let bed = Bed::start(|settings| settings.certificate_ttl = Duration::from_secs(1)).await;
    let token = bed.token("default", "cart", &[]);
    let key = KeyPair::generate().unwrap();
    let ask = json!({"csr": key.request(&CART.parse().unwrap()).unwrap().pem});
    let call = bed.call(Method::POST, "/v1/certificates").bearer(Some(&token)).json(&ask);
    let answer = call.send_tls(trusting(&bed.data(), None)).await.unwrap().json();
    let chain = answer["chain"].as_str().unwrap().to_owned();
    let with_svid = trusting(&bed.data(), Some((chain, key.to_pem())));

    use http_body_util::{BodyExt, Empty};
    let stream = tokio::net::TcpStream::connect(bed.authority()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(with_svid).connect(name, stream).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut statuses = Vec::new();
    while statuses.last() != Some(&401) && statuses.len() < 500 {
        let request = http::Request::get("/v1/status").header("host", "x").body(Empty::<bytes::Bytes>::new());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        statuses.push(response.status().as_u16());
        response.into_body().collect().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(statuses.last(), Some(&401));
}

#[tokio::test]
async fn a_pinned_token_knows_its_endpoint_and_no_other() {
    let (bed, other) = (Bed::tls().await, Bed::tls().await);
    let token = JoinToken::parse(&bed.token("default", "cart", &[])).unwrap();
    assert_eq!(status(&bed.url(), &token).await.unwrap().rejected, []);
    let error = status(&other.url(), &token).await.unwrap_err().to_string();
    assert!(error.contains("join token"), "{error}");
}

#[tokio::test]
async fn the_endpoints_own_certificate_is_renewed_before_it_ends() {
    let bed = Bed::start(|settings| settings.certificate_ttl = Duration::from_secs(2)).await;
    let token = JoinToken::parse(&bed.token("default", "cart", &[])).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < end {
        status(&bed.url(), &token).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn uris(answer: &Value) -> Vec<String> {
    let leaf = CertificateDer::from_pem_slice(answer["chain"].as_str().unwrap().as_bytes()).unwrap();
    let uris = Leaf::parse(&leaf).unwrap().uris;
    assert!(uris.iter().all(|uri| uri.parse::<SpiffeId>().is_ok()));
    uris
}
