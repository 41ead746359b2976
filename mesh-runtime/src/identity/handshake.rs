//! The verifiers that rustls calls during a handshake, and what is left to check after one. There is no decision here:
//! those are `verify`'s and the peer rule's.

use super::{Bundles, Side, SvidError, verify, verify_svid};
use crate::crypto;
use mesh_core::identity::{PeerRule, SpiffeId};
use rustls::{
    CertificateError, CommonState, DigitallySignedStruct, DistinguishedName, HandshakeKind, OtherError,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{error::Error as StdError, fmt, io, sync::Arc, time::SystemTime};

/// A peer that has proven who it is, and the proof, which can be looked at again: after a resumed handshake, and when
/// the bundles change.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    id: SpiffeId,
    chain: Arc<[CertificateDer<'static>]>,
    not_after: SystemTime,
    side: Side,
}

impl VerifiedPeer {
    /// Returns the peer of an established connection whose configuration came from an
    /// [`IdentityStore`](super::IdentityStore); `None` if the peer showed no certificate.
    ///
    /// The verifiers' word is taken if it can be: the handshake was a full one (on resumption rustls does not call them,
    /// and the session may have outlived the peer's certificate), and `is_settled`, it was surely these `bundles` that
    /// they went by. Else the chain is verified here.
    pub(super) fn of(
        tls: &CommonState,
        bundles: &Bundles,
        is_settled: bool,
        side: Side,
        now: UnixTime,
    ) -> Result<Option<Self>, SvidError> {
        let Some([leaf, intermediates @ ..]) = tls.peer_certificates() else { return Ok(None) };
        let facts = super::Leaf::parse(leaf)?;
        let id = match tls.handshake_kind() {
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) if is_settled => {
                verify::spiffe_id(&facts)?
            }
            _ => verify_svid(leaf, intermediates, bundles, side, now)?,
        };
        let chain = std::iter::once(leaf).chain(intermediates).cloned().collect();
        Ok(Some(Self { id, chain, not_after: facts.not_after, side }))
    }

    /// Verifies the same chain again, against the bundles and at the time given.
    pub(super) fn verify_again(&self, bundles: &Bundles, now: UnixTime) -> Result<(), SvidError> {
        let [leaf, intermediates @ ..] = &*self.chain else { return Err(SvidError::NoCertificate) };
        verify_svid(leaf, intermediates, bundles, self.side, now).map(drop)
    }

    /// Returns its SPIFFE ID.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Returns when its certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Returns its certificate.
    pub fn certificate(&self) -> &[u8] {
        self.chain.first().map_or(&[], |leaf| leaf)
    }
}

impl fmt::Debug for VerifiedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedPeer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Verifies the servers that a client connects to. The server name plays no part: who the peer is says its SVID.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) bundles: Bundles,
    pub(super) expected: PeerRule,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_svid(leaf, intermediates, &self.bundles, Side::Server, now)
            .and_then(|id| verify::check_expected(id, &self.expected))
            .map_err(Verdict::into_rustls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Verifies the clients that call a server.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) bundles: Bundles,
    /// Whether a client without a certificate passes the handshake.
    pub(super) anonymous: bool,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.anonymous
    }

    /// No hints: a workload has one SVID, and the names of our authorities are nobody's business.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        verify_svid(leaf, intermediates, &self.bundles, Side::Client, now).map_err(Verdict::into_rustls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    crypto::provider().signature_verification_algorithms
}

/// Carries an [`SvidError`] through rustls. rustls prints such an error by its `Debug`, so that is its sentence.
#[derive(Clone)]
struct Verdict(SvidError);

impl Verdict {
    fn into_rustls(error: SvidError) -> rustls::Error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Self(error)))))
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for Verdict {}

impl SvidError {
    /// Returns why our own verifier refused a peer, if that is what `error` says: an [`io::Error`] of a TLS stream, a
    /// [`rustls::Error`], or what a check after the handshake returned.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        if let Some(error) = error.downcast_ref::<Self>() {
            return Some(error);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Self::find(error.get_ref()?);
        }
        match error.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error))) => {
                error.downcast_ref::<Verdict>().map(|verdict| &verdict.0)
            }
            _ => None,
        }
    }
}
