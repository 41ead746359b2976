//! Makes one connection: name to address, TCP, TLS, and the protocol agreed on.
//!
//! There is no way back from TLS to plaintext: what policy asks for is what is done, or it fails.

use super::{ConnectError, Key, New, One, Protocol, Two};
use crate::{body::RequestBody, error::Cause};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_core::{
    balance::{Mutual, Security},
    registry::Address,
    time::Time,
};
use mesh_runtime::{
    Clock,
    identity::{Alpn, IdentityStore, Side},
};
use rustls::pki_types::ServerName;
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// What every connection of a client is made with.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) identity: Arc<IdentityStore>,
    pub(crate) clock: Clock,
    pub(crate) protocol: Protocol,
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
    /// When the certificate it was made with expires; no request is sent on it afterwards.
    pub(crate) expires: Time,
}

impl Connector {
    /// Makes a connection within `limit`, name lookup and TLS handshake included.
    pub(crate) async fn connect(&self, key: &Key, limit: Duration) -> Result<Connected, ConnectError> {
        match timeout(limit, self.dial(key)).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::new(
                Cause::ConnectTimeout,
                format!("no connection to {} within {limit:?} (UF)", key.address),
                None,
            )),
        }
    }

    async fn dial(&self, key: &Key) -> Result<Connected, ConnectError> {
        let refused = |error: io::Error| {
            let message = format!("cannot connect to {} (UF): {error}", key.address);
            let transport = format!("delayed connect error: {}", reason(&error));
            ConnectError::new(Cause::Connect { tls: false }, message, Some(transport)).with_source(error)
        };
        match &key.security {
            Security::Plaintext => {
                let (tcp, address) = open(&key.address).await.map_err(refused)?;
                let meta = Meta { label: address.to_string().into(), expires: Time::MAX };
                handshake(tcp, self.protocol == Protocol::Http2, meta, self.clock.now()).await
            }
            Security::Mutual(mutual) => {
                // Before dialling: without an identity there is no point in it.
                let (config, expires) = self.tls(key, mutual)?;
                let (tcp, address) = open(&key.address).await.map_err(refused)?;
                let name = server_name(key, mutual)?;
                let tls = TlsConnector::from(config)
                    .connect(name, tcp)
                    .await
                    .map_err(|error| untrusted(key, mutual, error))?;
                // A resumed handshake skips the verifiers; this does not.
                self.identity
                    .verified_peer(tls.get_ref().1, Side::Server)
                    .map_err(|error| untrusted(key, mutual, io::Error::other(error)))?;
                let h2 = match tls.get_ref().1.alpn_protocol() {
                    Some(protocol) => protocol == b"h2",
                    None => self.protocol == Protocol::Http2,
                };
                let meta = Meta { label: address.to_string().into(), expires };
                handshake(tls, h2, meta, self.clock.now()).await
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

    /// Returns the TLS settings and until when connections made with them may be used.
    fn tls(&self, key: &Key, mutual: &Mutual) -> Result<(Arc<rustls::ClientConfig>, Time), ConnectError> {
        let not_after = self.identity.current().map(|identity| identity.svid.not_after());
        let config = self.identity.client_config(&mutual.peers, self.alpn()).map_err(|error| {
            let message = format!("cannot speak mutual TLS to {}: {error}", key.address);
            ConnectError::new(Cause::NotReady, message, None).with_source(error)
        })?;
        // The wall clock is read once per connection; from then on the monotonic one counts.
        let left = not_after.and_then(|end| end.duration_since(SystemTime::now()).ok());
        let expires = left.map_or(Time::MAX, |left| self.clock.now() + left);
        Ok((config, expires))
    }

    fn alpn(&self) -> Alpn {
        match self.protocol {
            Protocol::Any => Alpn::Any,
            Protocol::Http1 => Alpn::Http1,
            Protocol::Http2 => Alpn::Http2,
        }
    }
}

async fn open(address: &Address) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = match address {
        Address::Ip(address) => TcpStream::connect(address).await?,
        // Tries every address the name has, in the order of the resolver.
        Address::Name(name, port) => TcpStream::connect((&**name, *port)).await?,
    };
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    Ok((stream, peer))
}

fn server_name(key: &Key, mutual: &Mutual) -> Result<ServerName<'static>, ConnectError> {
    ServerName::try_from(mutual.sni.to_string()).map_err(|error| {
        let message = format!("{:?} is no server name for {} (UF): {error}", mutual.sni, key.address);
        ConnectError::new(Cause::Connect { tls: true }, message, Some(format!("TLS error: {error}")))
    })
}

fn untrusted(key: &Key, mutual: &Mutual, error: io::Error) -> ConnectError {
    let message =
        format!("TLS with {} failed (UF): {error}; expected peer: {}", key.address, expected(mutual));
    let transport = Some(format!("TLS error: {}", reason(&error)));
    ConnectError::new(Cause::Connect { tls: true }, message, transport).with_source(error)
}

fn expected(mutual: &Mutual) -> String {
    use mesh_core::identity::PeerRule;
    match &mutual.peers {
        PeerRule::AnyOf(ids) => ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(" or "),
        PeerRule::TrustDomain(domain) => format!("anybody of trust domain {domain}"),
        PeerRule::Verified => "anybody with a valid SVID".to_owned(),
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

async fn handshake<I>(io: I, h2: bool, meta: Meta, now: Time) -> Result<Connected, ConnectError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(io);
    if h2 {
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // A peer that vanished without a word would otherwise be waited for until TCP gives up, some 15 minutes.
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
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

/// Only while requests wait for an answer: an idle connection is pinged by nobody.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
