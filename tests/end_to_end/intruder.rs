//! Clients that are not of the mesh, and do all they can to get an answer.

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

/// What an intruder shows when asked who it is.
pub(crate) enum Card {
    None,
    Certificate(CertificateDer<'static>, PrivateKeyDer<'static>),
}

/// Returns a certificate for `id` which the mesh's authority has never seen.
pub(crate) fn foreign_card(id: &str) -> Card {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.subject_alt_names = vec![rcgen::SanType::URI(id.try_into().unwrap())];
    let certificate = parameters.self_signed(&key).unwrap();
    Card::Certificate(certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

/// Sends `bytes` as they are and returns what comes back until the end.
pub(crate) fn plaintext(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    // Being hung up on while writing is one of the right answers.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    read(&mut stream)
}

/// Asks over TLS, trusting whatever the server shows.
pub(crate) fn tls(address: SocketAddr, card: Card) -> String {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible(default_provider())));
    let config = match card {
        Card::None => builder.with_no_client_auth(),
        Card::Certificate(certificate, key) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
    };
    let name = ServerName::try_from("payment-service").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, connect(address));
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: payment-service\r\nconnection: close\r\n\r\n");
    read(&mut stream)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn read(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    // An alert or a reset ends the reading; what came before it counts.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Believes every server, so that only the server's own judgement is tested.
#[derive(Debug)]
struct Gullible(CryptoProvider);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
