//! The way in: first byte, TLS handshake, admission. What does not come through gets not a byte of HTTP.
//!
//! Whether a connection may come in is decided by `mesh_core::identity::admit` alone; this gathers the evidence.

use crate::{
    client_cert::ClientCert,
    connection::Shared,
    edge::{Door, Edge},
    sniff::{self, First, Opened},
    stream::Transport,
    turned_away::TurnedAway,
};
use mesh_core::{
    config::istio::MtlsMode,
    identity::{Admitted, Evidence, admit},
    time::Time,
};
use mesh_runtime::{
    callers::Caller,
    identity::{Side, VerifiedPeer},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A connection that may be served, and the proof.
pub(crate) struct Entered {
    pub(crate) transport: Transport,
    pub(crate) http2: bool,
    pub(crate) standing: Standing,
    pub(crate) admitted: Admitted,
    /// The server name that the peer asked for.
    pub(crate) sni: Option<Arc<str>>,
    /// What requests say of the peer's certificate.
    pub(crate) certificate: Option<ClientCert>,
    /// How it came in, at an edge.
    pub(crate) door: Option<Door>,
}

/// On what grounds a connection was admitted; they can cease to hold.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    Plaintext,
    Anonymous,
    Verified(VerifiedPeer),
}

impl Standing {
    /// Judges by the policy in force.
    pub(crate) fn judge(&self, shared: &Shared) -> Result<Admitted, TurnedAway> {
        Ok(admit(shared.mode(), self.evidence())?)
    }

    /// Counts the connection, and returns the caller whose it is.
    pub(crate) fn caller(&self, shared: &Shared, address: SocketAddr) -> Arc<Caller> {
        shared.workload.callers().on_connection(&self.evidence(), address.ip(), shared.port)
    }

    fn evidence(&self) -> Evidence {
        match self {
            Self::Plaintext => Evidence::Plaintext,
            Self::Anonymous => Evidence::Anonymous,
            Self::Verified(peer) => Evidence::Svid(peer.id().clone()),
        }
    }

    fn describe(&self, shared: &Shared) -> Option<ClientCert> {
        let Self::Verified(peer) = self else { return None };
        let own = shared.workload.identity().current();
        ClientCert::of(peer, own.as_ref().map(|own| own.svid.id()))
    }

    /// Verifies the peer again, by the bundles in force.
    pub(crate) fn verify_again(&self, shared: &Shared) -> Result<(), TurnedAway> {
        match self {
            Self::Verified(peer) => Ok(shared.workload.identity().recheck(peer)?),
            Self::Plaintext | Self::Anonymous => Ok(()),
        }
    }

    /// Returns when the peer's certificate has ended for sure. The wall clock is read once; from then on the monotonic one
    /// counts.
    pub(crate) fn expires(&self, shared: &Shared) -> Option<Time> {
        let Self::Verified(peer) = self else { return None };
        let left = peer.not_after().duration_since(shared.workload.identity().clock().now());
        Some(shared.workload.clock().now() + left.unwrap_or_default() + EXPIRY_GRACE)
    }
}

/// A caller sends nothing on a connection whose certificate has ended, by its own clock: that may be some seconds behind,
/// and what it has just sent may be under way.
const EXPIRY_GRACE: Duration = Duration::from_secs(5);

/// Lets a connection in, or says why not.
pub(crate) async fn enter(shared: &Shared, stream: TcpStream) -> Result<Entered, TurnedAway> {
    let seat = shared.silent.enter().ok_or(TurnedAway::Crowded)?;
    let opening = timeout(shared.limits.first_byte, open(shared, stream));
    match seat.hold(opening).await.ok_or(TurnedAway::Crowded)?.map_err(|_| TurnedAway::Silent)?? {
        Opening::Plaintext { http2, opened, admitted } => {
            let transport = Transport::Plain(opened);
            Ok(Entered {
                transport,
                http2,
                standing: Standing::Plaintext,
                admitted,
                sni: None,
                certificate: None,
                door: shared.manners.edge.as_ref().map(Edge::plain_door),
            })
        }
        Opening::Tls(stream) => match &shared.manners.edge {
            Some(edge) => edge.enter_tls(shared, stream).await,
            None => enter_tls(shared, stream).await,
        },
    }
}

/// How a connection begins.
enum Opening {
    Tls(TcpStream),
    Plaintext { http2: bool, opened: Opened, admitted: Admitted },
}

async fn open(shared: &Shared, stream: TcpStream) -> Result<Opening, TurnedAway> {
    match sniff::first(&stream).await? {
        First::Tls if shared.mode() == MtlsMode::Disable => Err(TurnedAway::TlsDisabled),
        First::Tls => Ok(Opening::Tls(stream)),
        First::Plaintext => {
            // Before anything else is read: what STRICT refuses is not even looked at.
            let admitted = Standing::Plaintext.judge(shared)?;
            if shared.manners.edge.as_ref().is_some_and(|edge| edge.takes_tls(shared)) {
                return Err(TurnedAway::PlainAtTls);
            }
            let (http2, opened) = sniff::is_http2(stream).await?;
            Ok(Opening::Plaintext { http2, opened, admitted })
        }
    }
}

async fn enter_tls(shared: &Shared, stream: TcpStream) -> Result<Entered, TurnedAway> {
    let stream = handshake(shared, stream).await?;
    let tls = stream.get_ref().1;
    let http2 = tls.alpn_protocol() == Some(b"h2");
    let sni = tls.server_name().map(Arc::from);
    let standing = match shared.workload.identity().verified_peer(tls, Side::Client)? {
        Some(peer) => Standing::Verified(peer),
        None => Standing::Anonymous,
    };
    // By the policy of now: it may have changed during the handshake.
    let admitted = standing.judge(shared)?;
    let certificate = standing.describe(shared);
    let transport = Transport::Tls(Box::new(stream));
    Ok(Entered { transport, http2, standing, admitted, sni, certificate, door: None })
}

async fn handshake(shared: &Shared, stream: TcpStream) -> Result<TlsStream<TcpStream>, TurnedAway> {
    // Who may come without a certificate is asked of the same function that judges the outcome.
    let anonymous = admit(shared.mode(), Evidence::Anonymous).is_ok();
    let version_min = shared.workload.config().current().inbound().tls_version_min;
    let config = shared.workload.identity().server_config_from(version_min, anonymous)?;
    let seat = shared.handshakes.enter().ok_or(TurnedAway::Crowded)?;
    let handshake = timeout(shared.limits.handshake, TlsAcceptor::from(config).accept(stream));
    let handshaken = seat.hold(handshake).await.ok_or(TurnedAway::Crowded)?;
    handshaken.map_err(|_| TurnedAway::HandshakeTimeout)?.map_err(TurnedAway::of_handshake)
}
