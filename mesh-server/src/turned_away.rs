//! Why a connection is closed without an answer, counted by reason and logged sparingly.

use mesh_core::identity::{Evidence, Refusal};
use mesh_runtime::{
    Clock, Sparing,
    identity::{IdentityError, SvidError},
};
use std::{io, net::SocketAddr};
use tokio_rustls::rustls::Error as TlsError;

/// Why a connection was not served, or is served no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnedAway {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("TLS, and policy disables it on this port")]
    TlsDisabled,
    #[error("plain HTTP on a port of the edge that takes TLS")]
    PlainAtTls,
    #[error("no server of the Gateway ends TLS for {0:?}")]
    NoServer(String),
    #[error("the server of the Gateway for {0:?} has no certificate that reads")]
    NoCertificate(String),
    #[error("no TLS handshake is possible: {0}")]
    NoIdentity(#[from] IdentityError),
    #[error("its certificate: {0}")]
    Untrusted(#[from] SvidError),
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    #[error("the TLS handshake took too long")]
    HandshakeTimeout,
    #[error("it sent nothing")]
    Silent,
    #[error("too many connections wait already")]
    Crowded,
    #[error("as many connections stand as Limits::connections_max allows")]
    Full,
    #[error("as many connections of this peer stand as Limits::connections_per_peer_max allows")]
    PeerFull,
    #[error("it broke before it sent anything: {0}")]
    Broken(#[from] io::Error),
}

impl TurnedAway {
    /// Tells what our own verifier refused from what TLS did.
    pub(crate) fn of_handshake(error: io::Error) -> Self {
        match SvidError::find(&error) {
            Some(why) => Self::Untrusted(why.clone()),
            None if is_without_certificate(&error) => Self::Refused(Refusal::Anonymous),
            None => Self::Handshake(error),
        }
    }

    /// Returns the metric label: one of a closed list.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Refused(Refusal::Plaintext) => "plaintext",
            Self::Refused(Refusal::Anonymous) => "anonymous",
            Self::TlsDisabled => "tls_disabled",
            Self::PlainAtTls => "plain_at_tls",
            Self::NoServer(_) => "no_server",
            Self::NoCertificate(_) => "no_certificate",
            Self::NoIdentity(_) => "no_identity",
            Self::Untrusted(why) => why.reason(),
            Self::Handshake(_) => "handshake",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Silent => "silent",
            Self::Crowded => "crowded",
            Self::Full => "full",
            Self::PeerFull => "peer_full",
            Self::Broken(_) => "broken",
        }
    }

    /// Returns what it showed, if that is what policy forbids.
    pub(crate) const fn evidence(&self) -> Option<Evidence> {
        match self {
            Self::Refused(Refusal::Plaintext) => Some(Evidence::Plaintext),
            Self::Refused(Refusal::Anonymous) => Some(Evidence::Anonymous),
            _ => None,
        }
    }

    /// Returns whether an operator should hear of it: policy, identity and pressure, but not every port scan and
    /// health check that connects and leaves.
    const fn is_notable(&self) -> bool {
        !matches!(self, Self::Broken(_) | Self::Silent | Self::PlainAtTls | Self::NoServer(_))
    }
}

/// Returns whether the peer showed no certificate where one is asked for.
fn is_without_certificate(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    matches!(tls, Some(TlsError::NoCertificatesPresented))
}

/// Logs sparingly: what a stranger does must not fill a disk.
#[derive(Debug)]
pub(crate) struct Log(Sparing);

impl Log {
    pub(crate) fn new(clock: Clock) -> Self {
        Self(Sparing::new(clock))
    }

    /// A connection was turned away.
    pub(crate) fn on(&self, why: &TurnedAway, peer: SocketAddr) {
        let reason = why.reason();
        if !why.is_notable() {
            tracing::debug!(%peer, reason, "connection closed: {why}");
        } else if let Some(unlogged) = self.0.line() {
            tracing::warn!(%peer, reason, unlogged, "connection turned away: {why}");
        }
    }

    /// No connection could be accepted: there is no file descriptor or memory left for it.
    pub(crate) fn on_exhausted(&self, error: &io::Error, open: usize) {
        if let Some(unlogged) = self.0.line() {
            tracing::warn!(%error, open, unlogged, "cannot accept connections, trying again: raise the limit of open files");
        }
    }
}
