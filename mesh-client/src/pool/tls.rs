//! Mutual TLS on a new connection: our identity for theirs.

use super::{ConnectError, Key, connect::Connector};
use crate::error::Cause;
use mesh_core::{
    balance::{Mutual, TlsOrigination},
    time::Time,
};
use mesh_runtime::identity::{Side, SvidError, VerifiedPeer};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What a handshake will be made with.
pub(super) struct Handshake<'a> {
    key: &'a Key,
    mutual: &'a Mutual,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// When our certificate expires.
    pub(super) expires: Time,
}

/// A connection whose peer is who was expected.
pub(super) struct Secured {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) peer: Option<VerifiedPeer>,
}

impl<'a> Handshake<'a> {
    /// # Errors
    ///
    /// Returns that there is no identity to show, or that the server name is none.
    pub(super) fn prepare(
        connector: &Connector,
        key: &'a Key,
        mutual: &'a Mutual,
    ) -> Result<Self, ConnectError> {
        let identity = &connector.identity;
        let not_after = identity.current().map(|current| current.svid.not_after());
        let config = identity.client_config(&mutual.peers, key.protocol.alpn()).map_err(|error| {
            let message = format!("cannot speak mutual TLS to {}: {error}", key.address);
            ConnectError::new(Cause::NotReady, message, None).with_source(error)
        })?;
        // The wall clock is read once per connection; from then on the monotonic one counts.
        let left = not_after.and_then(|end| end.duration_since(identity.clock().now()).ok());
        let expires = connector.clock.now() + left.unwrap_or_default();
        let name = ServerName::try_from(mutual.sni.to_string()).map_err(|error| {
            let message = format!("{:?} is no server name for {} (UF): {error}", mutual.sni, key.address);
            ConnectError::new(Cause::Connect { tls: true }, message, Some(format!("TLS error: {error}")))
        })?;
        Ok(Self { key, mutual, config, name, expires })
    }

    /// # Errors
    ///
    /// Returns why the handshake failed, or why the peer is not believed.
    pub(super) async fn run(self, connector: &Connector, tcp: TcpStream) -> Result<Secured, ConnectError> {
        let Self { key, mutual, config, name, .. } = self;
        let failed = |error: io::Error| {
            let reason = SvidError::find(&error).map_or(HANDSHAKE, SvidError::reason);
            let failure = failure(key, mutual, error);
            connector.on_refused(reason, &failure.message);
            failure
        };
        let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(failed)?;
        // A resumed handshake skips the verifiers; this does not.
        let peer = connector.identity.verified_peer(stream.get_ref().1, Side::Server);
        let peer = peer.map_err(|error| failed(io::Error::other(error)))?;
        Ok(Secured { stream, peer })
    }
}

/// What a handshake with a server outside of the mesh will be made with.
pub(super) struct Outward<'a> {
    key: &'a Key,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl<'a> Outward<'a> {
    /// # Errors
    ///
    /// Returns which file of the settings does not read, or that the server name is none.
    pub(super) async fn prepare(
        connector: &Connector,
        key: &'a Key,
        settings: &TlsOrigination,
    ) -> Result<Self, ConnectError> {
        let refused = |what: &dyn std::fmt::Display| {
            let message = format!("cannot speak TLS to {} (UF): {what}", key.address);
            ConnectError::new(Cause::Connect { tls: true }, message, Some(format!("TLS error: {what}")))
        };
        let (originations, alpn) = (Arc::clone(&connector.originations), key.protocol.alpn());
        let wanted = settings.clone();
        // It reads files, so not on a thread that drives connections.
        let built = tokio::task::spawn_blocking(move || originations.config(&wanted, alpn)).await;
        let config = built.map_err(|error| refused(&error))?.map_err(|error| refused(&error))?;
        let name = ServerName::try_from(settings.sni.to_string())
            .map_err(|error| refused(&format!("{:?} is no server name: {error}", settings.sni)))?;
        Ok(Self { key, config, name })
    }

    /// # Errors
    ///
    /// Returns why the handshake failed.
    pub(super) async fn run(self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, ConnectError> {
        let Self { key, config, name } = self;
        TlsConnector::from(config).connect(name, tcp).await.map_err(|error| {
            let reason = error.get_ref().map_or_else(|| error.to_string(), ToString::to_string);
            let message = format!("TLS with {} failed (UF): {reason}", key.address);
            let transport = Some(format!("TLS error: {reason}"));
            ConnectError::new(Cause::Connect { tls: true }, message, transport).with_source(error)
        })
    }
}

/// What is counted where TLS itself failed, and not the rules for SVIDs: the word that servers use, too.
const HANDSHAKE: &str = "handshake";

impl Secured {
    /// Returns whether the peer agreed on HTTP/2; `None` if it did not say.
    pub(super) fn is_h2(&self) -> Option<bool> {
        self.stream.get_ref().1.alpn_protocol().map(|protocol| protocol == b"h2")
    }
}

fn failure(key: &Key, mutual: &Mutual, error: io::Error) -> ConnectError {
    let reason = error.get_ref().map_or_else(|| error.to_string(), ToString::to_string);
    let message = format!("TLS with {} failed (UF): {reason}; expected {}", key.address, mutual.peers);
    let transport = Some(format!("TLS error: {reason}"));
    ConnectError::new(Cause::Connect { tls: true }, message, transport).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;
    use mesh_core::{balance::Security, identity::PeerRule, registry::Address};

    #[test]
    fn a_failed_handshake_says_who_was_expected_within_a_bound() {
        let ids = (0..1_000).map(|i| format!("spiffe://cluster.local/ns/shop/sa/{i}").parse().unwrap());
        let mutual = Mutual { sni: "reviews".into(), peers: PeerRule::AnyOf(ids.collect()) };
        let key = Key {
            cluster: "outbound|80||reviews".into(),
            address: Address::Ip(([10, 0, 0, 1], 80).into()),
            security: Security::Plaintext,
            protocol: Protocol::Any,
        };
        let message = failure(&key, &mutual, io::Error::other("wrong peer")).message;
        assert!(
            message.starts_with("TLS with 10.0.0.1:80 failed (UF): wrong peer; expected one of ["),
            "{message}"
        );
        assert!(message.contains("sa/0") && message.ends_with(" more"), "{message}");
        assert!(message.len() < 1_000, "{message}");
    }
}
