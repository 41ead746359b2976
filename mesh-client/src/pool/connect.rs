//! Makes one connection: name to address, TCP, TLS, and the protocol agreed on.
//!
//! There is no way back from TLS to plaintext: what policy asks for is what is done, or it fails.

use super::{
    ConnectError, Key, New, One, Originations, Protocol, Terms, Two,
    dial::open,
    tls::{Handshake, Outward},
};
use crate::{body::RequestBody, error::Cause};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_core::{balance::Security, snapshot::ConnectionPolicy, time::Time};
use mesh_runtime::{
    Clock, Sparing,
    identity::{Alpn, IdentityStore, Side, VerifiedPeer},
    telemetry::Telemetry,
};
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// What every connection of a client is made with.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) identity: Arc<IdentityStore>,
    pub(crate) clock: Clock,
    pub(crate) protocol: Protocol,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) originations: Arc<Originations>,
    /// Paces what is logged of servers that are not believed.
    pub(crate) refusals: Sparing,
}

/// A connection on which no request was sent yet, and the future that drives it.
pub(crate) struct Connected {
    pub(crate) new: New,
    pub(crate) driver: Driver,
}

/// The future that drives a connection until it ends. One box per connection, none per request.
pub(crate) type Driver = std::pin::Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// What a pool remembers of a connection.
#[derive(Debug)]
pub(crate) struct Meta {
    /// The address at the other end.
    pub(crate) label: Arc<str>,
    /// When the certificate it was made with expires, or it is as old as it may get; no request is sent on it afterwards.
    pub(crate) expires: Time,
    /// Who is there, where that was proved.
    pub(crate) peer: Option<VerifiedPeer>,
    /// The identity that believed it last; at first none, so that a change during the handshake is not missed.
    pub(crate) generation: AtomicU64,
}

/// The identity in force, as far as it believes peers.
pub(crate) struct Believers<'a> {
    pub(crate) store: &'a IdentityStore,
    /// Which identity that is.
    pub(crate) generation: u64,
}

impl Believers<'_> {
    /// Returns whether the peer at the other end of a connection would be believed again. Asks once per generation.
    pub(crate) fn believe(&self, meta: &Meta) -> bool {
        let Some(peer) = &meta.peer else { return true };
        if meta.generation.swap(self.generation, Relaxed) == self.generation {
            return true;
        }
        self.store.recheck(peer).inspect_err(|error| {
            tracing::warn!(endpoint = %meta.label, %error, "closing a connection whose peer is no longer believed");
        })
        .is_ok()
    }
}

impl Connector {
    /// Makes a connection within the time that the terms give it, name lookup and TLS handshake included.
    pub(crate) async fn connect(&self, key: &Key, terms: &Terms) -> Result<Connected, ConnectError> {
        let limit = terms.connect_timeout;
        // Boxed: dialling is rare and 8 KiB, and in place every call's future would be that much larger.
        match timeout(limit, Box::pin(self.dial(key, &terms.connection))).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::new(
                Cause::ConnectTimeout,
                format!("no connection to {} within {limit:?} (UF)", key.address),
                None,
            )),
        }
    }

    /// A server of the mesh did not prove who it is: counts and logs it. `message` names its address.
    pub(super) fn on_refused(&self, reason: &'static str, message: &str) {
        self.telemetry.on_handshake_refused(Side::Server, reason);
        if let Some(unlogged) = self.refusals.line() {
            tracing::warn!(reason, unlogged, "server not believed: {message}");
        }
    }

    async fn dial(&self, key: &Key, policy: &ConnectionPolicy) -> Result<Connected, ConnectError> {
        let refused = |error: io::Error| {
            let message = format!("cannot connect to {} (UF): {error}", key.address);
            let transport = format!("delayed connect error: {}", reason(&error));
            ConnectError::new(Cause::Connect { tls: false }, message, Some(transport)).with_source(error)
        };
        match &key.security {
            Security::Plaintext => {
                let (tcp, address) = open(&key.address, policy.tcp_keepalive).await.map_err(refused)?;
                let meta = Meta::of(address, Time::MAX, None);
                self.handshake(tcp, key.protocol == Protocol::Http2, meta, policy).await
            }
            Security::Mutual(mutual) => {
                // Before dialling: without an identity there is no point in it.
                let tls = Handshake::prepare(self, key, mutual)?;
                let (tcp, address) = open(&key.address, policy.tcp_keepalive).await.map_err(refused)?;
                let expires = tls.expires;
                let secured = tls.run(self, tcp).await?;
                let h2 = secured.is_h2().unwrap_or(key.protocol == Protocol::Http2);
                let meta = Meta::of(address, expires, secured.peer);
                self.handshake(secured.stream, h2, meta, policy).await
            }
            Security::Origination(settings) => {
                let tls = Outward::prepare(self, key, settings).await?;
                let (tcp, address) = open(&key.address, policy.tcp_keepalive).await.map_err(refused)?;
                let stream = tls.run(tcp).await?;
                let h2 = stream.get_ref().1.alpn_protocol().is_some_and(|protocol| protocol == b"h2");
                let meta = Meta::of(address, Time::MAX, None);
                self.handshake(stream, h2, meta, policy).await
            }
            Security::Refused(why) => Err(ConnectError::new(
                Cause::Connect { tls: true },
                format!("no connection to {} is allowed (UF): {why}", key.address),
                Some(format!("TLS error: {why}")),
            )),
            _ => Err(ConnectError::new(
                Cause::Connect { tls: true },
                format!("{} asks for a security this client does not know (UF)", key.address),
                Some("TLS error: unknown mode".to_owned()),
            )),
        }
    }

    async fn handshake<I>(
        &self,
        io: I,
        h2: bool,
        mut meta: Meta,
        policy: &ConnectionPolicy,
    ) -> Result<Connected, ConnectError>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (io, now) = (TokioIo::new(io), self.clock.now());
        if let Some(age_max) = policy.age_max {
            meta.expires = meta.expires.min(now + age_max);
        }
        if h2 {
            let pings = policy.http2_keep_alive;
            let (interval, answer) = pings.map_or((None, None), |pings| (pings.interval, pings.timeout));
            let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(interval.unwrap_or(KEEP_ALIVE_INTERVAL))
                .keep_alive_timeout(answer.unwrap_or(KEEP_ALIVE_TIMEOUT))
                // spec: envoy config/core/v3/protocol.proto KeepaliveSettings: sent also while no stream is open
                .keep_alive_while_idle(pings.is_some())
                .handshake::<_, RequestBody>(io)
                .await
                .map_err(|error| broken(&meta, error))?;
            let streams_max = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
            let two = Two::new(sender, meta, Arc::clone(&streams_max), now);
            Ok(Connected { new: New::Two(Arc::new(two)), driver: Box::pin(drive(connection, streams_max)) })
        } else {
            let (sender, connection) = hyper::client::conn::http1::Builder::new()
                .handshake::<_, RequestBody>(io)
                .await
                .map_err(|error| broken(&meta, error))?;
            Ok(Connected { new: New::One(One::new(sender, meta, now)), driver: Box::pin(connection) })
        }
    }
}

impl Meta {
    fn of(address: SocketAddr, expires: Time, peer: Option<VerifiedPeer>) -> Self {
        Self { label: address.to_string().into(), expires, peer, generation: AtomicU64::default() }
    }
}

impl Protocol {
    /// Returns the protocols to offer.
    pub(super) fn alpn(self) -> Alpn {
        match self {
            Self::Any => Alpn::Any,
            Self::Http1 => Alpn::Http1,
            Self::Http2 => Alpn::Http2,
        }
    }
}

/// Returns what the system said, without our or Rust's wrapping.
fn reason(error: &io::Error) -> String {
    let text = error.get_ref().map_or_else(|| error.to_string(), ToString::to_string);
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Drives a connection and keeps what the peer allows where the pool can see it.
async fn drive<I>(
    connection: hyper::client::conn::http2::Connection<I, RequestBody, TokioExecutor>,
    streams_max: Arc<AtomicUsize>,
) -> Result<(), hyper::Error>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        let end = connection.as_mut().poll(cx);
        streams_max.store(connection.current_max_send_streams(), Relaxed);
        end
    })
    .await
}

fn broken(meta: &Meta, error: hyper::Error) -> ConnectError {
    let message = format!("{} does not speak HTTP (UF): {error}", meta.label);
    let transport = Some(error.to_string());
    ConnectError::new(Cause::Connect { tls: false }, message, transport).with_source(error)
}

/// A peer that vanished without a word would otherwise be waited for until TCP gives up, some 15 minutes; so it is found
/// within 20 s, as a server of the mesh finds its callers (`dial` has the same for HTTP/1.1). Only while requests wait for an answer: an idle connection is
/// pinged only if a DestinationRule asks for it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
