//! Handshakes in memory and over sockets, between a side of ours and one that shows whatever it is told to and believes everything.

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, ServerConfig,
    ServerConnection, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    io,
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// How a handshake ended: the error of the side that refused, or both connections.
pub(crate) struct Outcome {
    pub(crate) client: Result<ClientConnection, Error>,
    pub(crate) server: Result<ServerConnection, Error>,
}

/// A way to bring two sides together.
pub(crate) type Shake = fn(&Arc<ClientConfig>, &Arc<ServerConfig>) -> Outcome;

pub(crate) fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Outcome {
    let name = ServerName::try_from("server.invalid").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    // A handshake takes three flights, tickets one more.
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        read_all(&wire, |bytes| server.read_tls(bytes));
        server_error = server_error.or(server.process_new_packets().err());
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        read_all(&wire, |bytes| client.read_tls(bytes));
        client_error = client_error.or(client.process_new_packets().err());
        if client_error.is_some() || server_error.is_some() {
            break;
        }
    }
    Outcome { client: client_error.map_or(Ok(client), Err), server: server_error.map_or(Ok(server), Err) }
}

/// As [`shake`], over TCP on loopback: each side in a thread of its own, as two processes would.
pub(crate) fn shake_over_sockets(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Outcome {
    let name = ServerName::try_from("server.invalid").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let served = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let done = server.complete_io(&mut stream).map(|_| ());
            done.map_or_else(|error| Err(tls_error(error)), |()| Ok(server))
        });
        let mut stream = TcpStream::connect(address).unwrap();
        let done = client.complete_io(&mut stream).map(|_| ());
        let client = done.map_or_else(|error| Err(tls_error(error)), |()| Ok(client));
        drop(stream);
        Outcome { client, server: served.join().unwrap() }
    })
}

/// The other side may have hung up before it could be told why: then there is nothing but that.
fn tls_error(error: io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
    tls.unwrap_or_else(|| Error::General(error.to_string()))
}

fn read_all(mut wire: &[u8], mut read: impl FnMut(&mut dyn std::io::Read) -> std::io::Result<usize>) {
    while !wire.is_empty() {
        read(&mut wire).unwrap();
    }
}

impl Outcome {
    pub(crate) fn is_full(&self) -> bool {
        let kind = self.server.as_ref().unwrap().handshake_kind();
        matches!(kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest))
    }
}

/// A server that shows `certified` and asks for nothing.
pub(crate) fn careless_server(certified: CertifiedKey, tls12: bool) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(mesh_runtime::crypto::provider())
        .with_protocol_versions(versions(tls12))
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    Arc::new(config)
}

/// A client that shows `certified`, if anything, and believes every server.
pub(crate) fn careless_client(certified: Option<CertifiedKey>, tls12: bool) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(mesh_runtime::crypto::provider())
        .with_protocol_versions(versions(tls12))
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer));
    Arc::new(match certified {
        Some(certified) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))),
        None => builder.with_no_client_auth(),
    })
}

fn versions(tls12: bool) -> &'static [&'static SupportedProtocolVersion] {
    static TLS12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
    static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    if tls12 { &TLS12 } else { &TLS13 }
}

#[derive(Debug)]
struct Believer;

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        mesh_runtime::crypto::provider().signature_verification_algorithms.supported_schemes()
    }
}
