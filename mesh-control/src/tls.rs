//! The endpoint's side of TLS: its own certificate, renewed when half of its life is over, and the SVIDs of callers.

use crate::{
    ControlError, locked,
    rotation::{Authorities, Standing},
};
use mesh_core::identity::SpiffeId;
use mesh_runtime::{
    control::wire::CONTROL_ID_PATH,
    crypto,
    identity::{Bundles, Leaf, Side, verify_svid},
};
use rcgen::SanType;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex},
    time::SystemTime,
};

/// The TLS configuration in force.
#[derive(Debug)]
pub(crate) struct Tls {
    authorities: Arc<Authorities>,
    id: SpiffeId,
    names: Vec<SanType>,
    current: Mutex<Option<Generation>>,
}

/// One certificate's life.
#[derive(Clone, Debug)]
struct Generation {
    config: Arc<ServerConfig>,
    /// Those whose certificates it shows and takes.
    standing: Arc<Standing>,
    made: SystemTime,
    half_life: SystemTime,
}

/// What a handshake proved of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerSvid {
    pub(crate) id: SpiffeId,
    pub(crate) not_after: SystemTime,
}

impl Tls {
    /// Returns the TLS side of an endpoint that listens on `address`.
    pub(crate) fn new(authorities: Arc<Authorities>, address: IpAddr) -> Result<Self, ControlError> {
        let invalid = |error: String| ControlError::Invalid(error);
        let domain = authorities.trust_domain();
        let id = format!("spiffe://{domain}{CONTROL_ID_PATH}");
        let id = id.parse().map_err(|error| invalid(format!("{id}: {error}")))?;
        let tls = Self { id, names: names(address)?, authorities, current: Mutex::new(None) };
        tls.config(SystemTime::now())?;
        Ok(tls)
    }

    /// Returns the configuration for a handshake at `now`, with a new certificate if half of the last one's life is
    /// over, if the clock was set back to before it, or if the root was rotated.
    pub(crate) fn config(&self, now: SystemTime) -> Result<Arc<ServerConfig>, ControlError> {
        let mut current = locked(&self.current);
        let standing = self.authorities.standing();
        let fresh = current.as_ref().filter(|generation| {
            (generation.made..generation.half_life).contains(&now)
                && Arc::ptr_eq(&generation.standing, &standing)
        });
        if let Some(generation) = fresh {
            return Ok(Arc::clone(&generation.config));
        }
        let generation = self.generation(standing, now)?;
        let config = Arc::clone(&generation.config);
        *current = Some(generation);
        Ok(config)
    }

    fn generation(&self, standing: Arc<Standing>, now: SystemTime) -> Result<Generation, ControlError> {
        let failed = |error: String| ControlError::Data(format!("the endpoint's own certificate: {error}"));
        let key = rcgen::KeyPair::generate().map_err(|error| failed(error.to_string()))?;
        let issued = standing.current.issue(&key, &self.id, &self.names, now)?;
        let chain = vec![issued.leaf, standing.current.root().clone()];
        let bundles = standing.bundles();
        let bundles = Bundles::from_pem(bundles.iter().map(|(domain, pem)| (domain.as_str(), pem.as_str())))
            .map_err(|error| failed(error.to_string()))?;
        let provider = crypto::provider();
        let callers = Arc::new(CallerVerifier { bundles, provider: Arc::clone(&provider) });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .with_client_cert_verifier(callers)
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .map_err(|error| failed(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Without resumption every connection proves its caller anew; connections are few and long-lived.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let half = issued.not_after.duration_since(now).unwrap_or_default() / 2;
        Ok(Generation { config: Arc::new(config), standing, made: now, half_life: now + half })
    }

    /// Returns who the verified `chain` of a finished handshake is.
    pub(crate) fn peer(chain: &[CertificateDer<'_>]) -> Option<PeerSvid> {
        let leaf = Leaf::parse(chain.first()?).ok()?;
        let id = leaf.uris.first()?.parse().ok()?;
        Some(PeerSvid { id, not_after: leaf.not_after })
    }
}

/// Returns the names by which `curl` may know the endpoint.
fn names(address: IpAddr) -> Result<Vec<SanType>, ControlError> {
    let localhost =
        "localhost".try_into().map_err(|error: rcgen::Error| ControlError::Invalid(error.to_string()))?;
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    if !address.is_unspecified() && !addresses.contains(&address) {
        addresses.push(address);
    }
    let addresses = addresses.into_iter().map(SanType::IpAddress);
    Ok(std::iter::once(SanType::DnsName(localhost)).chain(addresses).collect())
}

/// Takes SVIDs of the own trust domain, and callers without a certificate.
#[derive(Debug)]
struct CallerVerifier {
    bundles: Bundles,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for CallerVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        verify_svid(end_entity, intermediates, &self.bundles, Side::Client, now)
            .map(|_| ClientCertVerified::assertion())
            .map_err(|error| CertificateError::Other(OtherError(Arc::new(error))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
