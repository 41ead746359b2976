//! Those who come from outside: browsers, the issuer of their tokens, and certificates.

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

/// A certificate that vouches for itself.
pub(super) struct Certificate {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Certificate {
    pub(super) fn of(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // Those who vouch are told apart by their names.
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, format!("{name} {}", fastrand::u64(..)));
        let certificate = parameters.self_signed(&key).unwrap();
        Self { certificate, key }
    }

    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(super) fn write(&self, certificate: &Path, key: &Path) {
        std::fs::write(certificate, self.pem()).unwrap();
        std::fs::write(key, self.key.serialize_pem()).unwrap();
    }

    fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }
}

/// What came back; status 0 is that nothing did.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// In lower case.
    pub(super) head: String,
    body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Asks in plain.
pub(super) fn plain(address: SocketAddr, host: &str, path: &str) -> Answer {
    ask(connect(address), &request(host, path, ""))
}

/// A client of TLS, who trusts one certificate.
pub(super) struct World {
    roots: RootCertStore,
    shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
}

impl World {
    pub(super) fn trusting(certificate: &Certificate) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der()).unwrap();
        Self { roots, shown: None }
    }

    pub(super) fn showing(self, own: &Certificate) -> Self {
        let key = PrivatePkcs8KeyDer::from(own.key.serialize_der()).into();
        Self { shown: Some((own.der(), key)), ..self }
    }

    /// Asks the server `name` for `path` of `host`.
    pub(super) fn get(
        self,
        address: SocketAddr,
        name: &str,
        host: &str,
        path: &str,
        headers: &str,
    ) -> Answer {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots);
        let config = match self.shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        ask(StreamOwned::new(connection, connect(address)), &request(host, path, headers))
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn ask(mut stream: impl Read + Write, request: &str) -> Answer {
    // Being hung up on is one of the right answers.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Answer::read(&String::from_utf8_lossy(&answer))
}

fn request(host: &str, path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n")
}

/// An issuer of tokens.
pub(super) struct Login(KeyPair);

impl Login {
    pub(super) fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    pub(super) fn keys(&self) -> String {
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": base64(self.0.der_bytes())}]}).to_string()
    }

    pub(super) fn token(&self) -> String {
        let part = |value: Value| base64(value.to_string().as_bytes());
        let claims = json!({"iss": "https://login.example", "sub": "ann", "group": "beta"});
        let signed = format!("{}.{}", part(json!({"alg": "EdDSA"})), part(claims));
        format!("{signed}.{}", base64(&self.0.sign(signed.as_bytes()).unwrap()))
    }
}

/// Returns base64 for URLs, without padding.
// spec: rfc4648 5
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let triple = |chunk: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        let letters: Vec<u8> =
            (0..4).map(|at| ALPHABET[(bits >> (18 - 6 * at)) as usize & 63]).take(chunk.len() + 1).collect();
        String::from_utf8(letters).unwrap()
    };
    bytes.chunks(3).map(triple).collect()
}
