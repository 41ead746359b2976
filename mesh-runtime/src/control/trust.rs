//! Whom a conversation believes to be the control endpoint, and what it shows of itself.
//!
//! Before there is an identity, the CA is known by the pin in the join token; afterwards by the bundle of the trust
//! domain. Either way the endpoint must show the one SPIFFE ID that no workload can have.

use super::{http::CallError, token::JoinToken, wire::CONTROL_ID_PATH};
use crate::{
    crypto,
    identity::{Alpn, Bundles, Identity, IdentityStore, Side, verify_svid},
};
use mesh_core::identity::{PeerRule, SpiffeId, TrustDomain};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// What a workload shows of itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Its SVID, in the TLS handshake; the serial number tells one generation from the next.
    Svid(String),
    /// A join token, or over plain HTTP a renewal bearer.
    Bearer(Arc<str>),
}

impl Proof {
    /// Returns whether a connection opened for `self` will do for `other`: bearers come with each request.
    pub(crate) fn is_same_peer(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Svid(ours), Self::Svid(theirs)) => ours == theirs,
            (Self::Bearer(_), Self::Bearer(_)) => true,
            _ => false,
        }
    }
}

/// Shows which kind of proof it is, never a secret.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Svid(serial) => f.debug_tuple("Svid").field(serial).finish(),
            Self::Bearer(_) => f.write_str("Bearer(..)"),
        }
    }
}

/// Everything a workload can show, and everything it believes.
pub(crate) struct Trust {
    identity: Arc<IdentityStore>,
    token: Option<JoinToken>,
    plain: bool,
    renewal: Mutex<Option<Arc<str>>>,
    /// Built once: a TLS configuration per connection would lose the session cache.
    pinned: Option<Result<Arc<rustls::ClientConfig>, String>>,
}

impl Trust {
    pub(crate) fn new(identity: Arc<IdentityStore>, token: Option<JoinToken>, plain: bool) -> Self {
        let pin = token.as_ref().filter(|_| !plain).and_then(|token| token.claims().pin());
        Self { identity, token, plain, renewal: Mutex::default(), pinned: pin.map(pinned_config) }
    }

    /// Takes note of the bearer that an answer over plain HTTP carried.
    pub(crate) fn on_renewal(&self, renewal: Option<&str>) {
        *self.renewal.lock().unwrap_or_else(PoisonError::into_inner) = renewal.map(Into::into);
    }

    pub(crate) fn renewal(&self) -> Option<Arc<str>> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what can be shown, the best first. The token stays useful after the first contact: it joins a workload
    /// anew whose endpoint lost its CA.
    pub(crate) fn proofs(&self) -> Vec<Proof> {
        let usable = self
            .identity
            .current()
            .filter(|identity| self.identity.clock().now() < identity.svid.not_after());
        let lasting = match usable {
            Some(_) if self.plain => self.renewal().map(Proof::Bearer),
            Some(identity) => Some(Proof::Svid(identity.svid.serial().to_owned())),
            None => None,
        };
        let token = self.token.as_ref().map(|token| Proof::Bearer(token.expose().into()));
        lasting.into_iter().chain(token).collect()
    }

    /// Returns the TLS configuration for a connection on which `proof` is shown.
    pub(crate) fn tls(&self, proof: &Proof) -> Result<Arc<rustls::ClientConfig>, CallError> {
        match (proof, &self.pinned) {
            (Proof::Bearer(_), Some(pinned)) => pinned.clone().map_err(CallError::Tls),
            (Proof::Bearer(_), None) => {
                Err(CallError::Tls("there is no join token to know the endpoint's CA by".to_owned()))
            }
            (Proof::Svid(_), _) => {
                let identity = self.identity.current();
                let identity = identity.ok_or_else(|| CallError::Tls("there is no identity".to_owned()))?;
                let peers = PeerRule::AnyOf([control_id(&identity)?].into());
                self.identity.client_config(&peers, Alpn::Http1).map_err(|e| CallError::Tls(e.to_string()))
            }
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("plain", &self.plain)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

fn control_id(identity: &Identity) -> Result<SpiffeId, CallError> {
    let id = format!("spiffe://{}{CONTROL_ID_PATH}", identity.svid.id().trust_domain());
    id.parse().map_err(|e| CallError::Tls(format!("{id}: {e}")))
}

fn pinned_config(pin: [u8; 32]) -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = crypto::provider();
    let verifier = Arc::new(PinnedCa { pin, provider: Arc::clone(&provider) });
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Believes whom the CA with this public key vouches for, if it is the control endpoint.
struct PinnedCa {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl PinnedCa {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, String> {
        let ca = chain.iter().find(|ca| self.is_pinned(ca)).ok_or_else(|| {
            "no certificate it sent has the key that the join token names (wrong endpoint, or its CA is a new one: \
             make a new token)"
                .to_owned()
        })?;
        let bundles = Bundles::from_roots([(trust_domain(leaf)?, vec![ca.clone().into_owned()])]);
        let bundles = bundles.map_err(|e| e.to_string())?;
        let id = verify_svid(leaf, chain, &bundles, Side::Server, now).map_err(|e| e.to_string())?;
        if id.path() == CONTROL_ID_PATH {
            Ok(id)
        } else {
            Err(format!("it is {id}, not the control endpoint"))
        }
    }

    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        webpki::EndEntityCert::try_from(certificate)
            .is_ok_and(|certificate| crypto::sha256(&certificate.subject_public_key_info()) == self.pin)
    }
}

/// Returns the trust domain that `leaf` claims; the verifier proves it.
fn trust_domain(leaf: &CertificateDer<'_>) -> Result<TrustDomain, String> {
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|e| e.to_string())?;
    let mut uris = leaf.valid_uri_names();
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err("its certificate has not exactly one URI name".to_owned());
    };
    let id: SpiffeId = uri.parse().map_err(|e| format!("`{}`: {e}", uri.escape_debug()))?;
    id.trust_domain().parse().map_err(|e| format!("{id}: {e}"))
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(leaf, chain, now).map(|_| ServerCertVerified::assertion()).map_err(rustls::Error::General)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for PinnedCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinnedCa")
    }
}
