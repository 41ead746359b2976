//! Peers that mean harm: they show certificates that nobody should have, and write HTTP/2 frame by frame.

pub(crate) mod frames;

use crate::Failed;
use mesh::runtime::crypto;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject as _,
    },
};
use std::{io, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An authority that signs whatever it is asked to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Returns the mesh's own, as who has stolen `data` from the control endpoint has it.
    ///
    /// # Errors
    ///
    /// Returns that there is none.
    pub(crate) fn stolen(data: &Path, trust_domain: &str) -> Result<Self, Failed> {
        let root = CertificateDer::from_pem_slice(&std::fs::read(data.join("ca.crt"))?)?;
        let key = KeyPair::from_pem(&std::fs::read_to_string(data.join("ca.key"))?)?;
        let named =
            root.windows(NAME.len()).position(|bytes| bytes == NAME).ok_or("the root has another name")?;
        let name = root.get(named..named + NAME.len() + PIN).ok_or("the root's name is cut off")?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        params.distinguished_name.push(DnType::CommonName, std::str::from_utf8(name)?);
        Ok(Self { issuer: Issuer::new(params, key) })
    }

    /// Returns one that nobody knows.
    ///
    /// # Errors
    ///
    /// Returns why there is no key.
    pub(crate) fn foreign() -> Result<Self, Failed> {
        Ok(Self { issuer: Issuer::new(CertificateParams::default(), KeyPair::generate()?) })
    }

    /// Returns a certificate for the URIs `ids` with nothing else wrong but what `change` makes so.
    ///
    /// # Errors
    ///
    /// Returns why it is not signed.
    pub(crate) fn issue(
        &self,
        ids: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Card, Failed> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names =
            ids.iter().map(|id| Ok(SanType::URI((*id).try_into()?))).collect::<Result<_, rcgen::Error>>()?;
        change(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Card::of(Some((certificate, PrivatePkcs8KeyDer::from(key.serialize_der()).into())))
    }
}

/// How the root of a control endpoint is called, before so many digits of its pin.
const NAME: &[u8] = b"mesh CA ";
const PIN: usize = 16;

/// What an intruder shows when asked who it is; it believes every server.
pub(crate) struct Card(ClientConfig);

impl Card {
    /// Returns one that shows nothing.
    ///
    /// # Errors
    ///
    /// Returns that there is no TLS.
    pub(crate) fn none() -> Result<Self, Failed> {
        Self::of(None)
    }

    fn of(shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> Result<Self, Failed> {
        let builder = ClientConfig::builder_with_provider(crypto::provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible));
        let mut config = match shown {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key)?,
            None => builder.with_no_client_auth(),
        };
        // Each handshake is to cost the server what the first one does.
        config.resumption = Resumption::disabled();
        Ok(Self(config))
    }

    /// Connects; `protocol` is what it says it will speak.
    ///
    /// # Errors
    ///
    /// Returns why there is no connection.
    pub(crate) async fn connect(&self, address: &str, protocol: &str) -> io::Result<TlsStream<TcpStream>> {
        let mut config = self.0.clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("replica").map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
    }

    /// Returns whether a request over HTTP/1.1 is answered with 200.
    pub(crate) async fn is_served(&self, address: &str) -> bool {
        let served = async {
            let mut stream = self.connect(address, "http/1.1").await?;
            stream.write_all(REQUEST).await?;
            let mut answer = [0; OK.len()];
            stream.read_exact(&mut answer).await?;
            io::Result::Ok(answer == OK)
        };
        matches!(timeout(PATIENCE, served).await, Ok(Ok(true)))
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: replica\r\nconnection: close\r\n\r\n";
const OK: [u8; 12] = *b"HTTP/1.1 200";
const PATIENCE: Duration = Duration::from_secs(30);

/// Believes every server, so that only the server's judgement is asked.
#[derive(Debug)]
struct Gullible;

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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto::provider().signature_verification_algorithms.supported_schemes()
    }
}
