//! The identity in force, and the TLS configurations that follow from it: one per generation and rule, built on first
//! use, each with its own session cache, never one per connection.
//!
//! A session is resumed only under the very configuration it was opened with: a new SVID, new bundles or another peer
//! rule means a full handshake. What a resumed handshake leaves unchecked, [`IdentityStore::verified_peer`] checks.

use super::{
    Bundles, Identity, IdentityError, Side, SvidError, VerifiedPeer, WallClock,
    handshake::{ClientVerifier, ServerVerifier},
};
use crate::crypto;
use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::{config::istio::TlsVersion, identity::PeerRule};
use rustls::{
    ClientConfig, CommonState, DEFAULT_VERSIONS, ServerConfig, SupportedProtocolVersion, client::Resumption,
    server::ServerSessionMemoryCache, sign::SingleCertAndKey, version::TLS13,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// The identity in force.
pub struct IdentityStore {
    current: ArcSwapOption<Generation>,
    changed: watch::Sender<u64>,
    /// Why there is none, while there is none.
    missing: ArcSwap<String>,
    clock: WallClock,
}

/// The protocols offered to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `h2`, then `http/1.1`.
    #[default]
    Any,
    /// `http/1.1` only.
    Http1,
    /// `h2` only.
    Http2,
}

impl Alpn {
    /// Returns the protocols as TLS names them, the preferred one first.
    pub fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Any => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
        }
    }

    /// Returns the protocols as a peer of the mesh is asked for them.
    ///
    /// A sidecar of Istio's that takes plaintext, too, tells TLS of the mesh from TLS of its application by the names
    /// that begin with `istio`, and passes on to the application what has none of them. It picks one of the others.
    // spec: istio pilot/pkg/networking/core/listener.go allIstioMtlsALPNs; pilot/pkg/xds/filters/filters.go mtlsHTTP2ALPN
    fn within_mesh(self) -> Vec<Vec<u8>> {
        let own: &[&[u8]] = match self {
            Self::Any => &[b"istio-h2", b"istio-http/1.1", IN_MESH],
            Self::Http1 => &[b"istio-http/1.1", IN_MESH],
            Self::Http2 => &[b"istio-h2", IN_MESH],
        };
        own.iter().map(|name| name.to_vec()).chain(self.protocols()).collect()
    }
}

/// What every client of Istio's mesh offers. It names no protocol: a server picks it where it knows none of the others,
/// as when the caller's sidecar takes HTTP for mere TCP.
const IN_MESH: &[u8] = b"istio";

impl IdentityStore {
    /// Returns a store without an identity.
    pub fn empty() -> Self {
        Self::with_clock(WallClock::default())
    }

    /// Returns a store without an identity, that judges validity by `clock`.
    pub fn with_clock(clock: WallClock) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            changed: watch::channel(0).0,
            missing: ArcSwap::from_pointee("none has arrived yet".to_owned()),
            clock,
        }
    }

    /// Returns the identity in force. It may have expired; the configurations are not given out then.
    pub fn current(&self) -> Option<Arc<Identity>> {
        self.current.load().as_ref().map(|generation| Arc::clone(&generation.identity))
    }

    /// Puts `identity` in force for new handshakes; connections that stand are left alone.
    pub fn publish(&self, identity: Identity) {
        self.current.store(Some(Arc::new(Generation::new(identity))));
        self.changed.send_modify(|n| *n += 1);
    }

    /// Takes back the identity in force: nobody is shown it any more, and nobody is trusted, until another is published.
    pub fn withdraw(&self, why: impl Into<String>) {
        self.explain_missing(why);
        self.current.store(None);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Says why there is no identity yet, for the error of whoever asks for one.
    pub fn explain_missing(&self, why: impl Into<String>) {
        self.missing.store(Arc::new(why.into()));
    }

    /// Returns a receiver that sees every publication.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Returns why there is no identity.
    pub(crate) fn missing(&self) -> IdentityError {
        IdentityError::Missing(self.missing.load().to_string())
    }

    /// Waits until there is an identity, and returns it.
    pub(crate) async fn arrived(&self) -> Arc<Identity> {
        let mut changed = self.subscribe();
        loop {
            if let Some(identity) = self.current() {
                return identity;
            }
            // The sender lives in `self`, so there is no end but the one waited for.
            let _ = changed.changed().await;
        }
    }

    /// Returns the clock by which validity is judged.
    pub fn clock(&self) -> &WallClock {
        &self.clock
    }

    /// Returns the configuration for connecting to a peer that satisfies `peers`. The server name given to the
    /// connection plays no part in whom it accepts.
    ///
    /// # Errors
    ///
    /// Returns why there is no usable identity: missing or expired.
    pub fn client_config(&self, peers: &PeerRule, alpn: Alpn) -> Result<Arc<ClientConfig>, IdentityError> {
        self.usable()?.client_config(peers, alpn, &self.clock)
    }

    /// Returns the configuration for accepting peers; a peer without a certificate passes the handshake only if
    /// `anonymous` says so (PERMISSIVE), and is then [`mesh_core::identity::Evidence::Anonymous`].
    ///
    /// # Errors
    ///
    /// Returns why there is no usable identity: missing or expired.
    pub fn server_config(&self, anonymous: bool) -> Result<Arc<ServerConfig>, IdentityError> {
        self.server_config_from(TlsVersion::Auto, anonymous)
    }

    /// Returns the same for peers that speak `version_min` at the least: TLS 1.3 means nothing below it, anything else
    /// 1.2 and 1.3.
    ///
    /// # Errors
    ///
    /// As [`Self::server_config`].
    pub fn server_config_from(
        &self,
        version_min: TlsVersion,
        anonymous: bool,
    ) -> Result<Arc<ServerConfig>, IdentityError> {
        self.usable()?
            .server_config(Terms { tls13_only: version_min >= TlsVersion::V1_3, anonymous }, &self.clock)
    }

    /// Returns the peer of a connection made with a configuration of this store; `None` if it showed no certificate. To
    /// be called after *every* handshake, and the connection closed on an error: a resumed handshake skips the
    /// verifiers, one that was under way during a publication went by the old bundles, and only here is it noticed.
    ///
    /// # Errors
    ///
    /// Returns why the peer is no longer to be believed.
    pub fn verified_peer(&self, tls: &CommonState, side: Side) -> Result<Option<VerifiedPeer>, SvidError> {
        let generation = self.current.load();
        let is_settled = generation.as_ref().is_some_and(|generation| generation.is_settled());
        VerifiedPeer::of(tls, &self.bundles(), is_settled, side, self.clock.unix())
    }

    /// Verifies again a peer whose connection stands, against the bundles in force: to be called for every connection
    /// after a publication, so that a bundle that was taken away ends what it let in.
    ///
    /// # Errors
    ///
    /// Returns why the peer is no longer to be believed.
    pub fn recheck(&self, peer: &VerifiedPeer) -> Result<(), SvidError> {
        peer.verify_again(&self.bundles(), self.clock.unix())
    }

    fn usable(&self) -> Result<Arc<Generation>, IdentityError> {
        let generation = self.current.load_full();
        let generation = generation.ok_or_else(|| self.missing())?;
        generation.identity.svid.check_expiry(self.clock.now())?;
        Ok(generation)
    }

    fn bundles(&self) -> Bundles {
        self.current.load().as_ref().map(|generation| generation.identity.bundles.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for IdentityStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityStore").field("current", &self.current()).finish_non_exhaustive()
    }
}

/// One identity and the configurations built from it so far.
struct Generation {
    identity: Arc<Identity>,
    since: Instant,
    resolver: Arc<SingleCertAndKey>,
    /// By the number of their [`Terms`].
    servers: [OnceLock<Arc<ServerConfig>>; 4],
    clients: RwLock<HashMap<PeerRule, HashMap<Alpn, Arc<ClientConfig>>>>,
}

/// Whom a server lets through the handshake.
#[derive(Clone, Copy)]
struct Terms {
    /// Only peers that speak TLS 1.3.
    tls13_only: bool,
    /// Peers without a certificate too.
    anonymous: bool,
}

impl Terms {
    fn number(self) -> usize {
        2 * usize::from(self.tls13_only) + usize::from(self.anonymous)
    }

    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        if self.tls13_only { NOT_BELOW_13 } else { DEFAULT_VERSIONS }
    }
}

impl Generation {
    fn new(identity: Identity) -> Self {
        Self {
            resolver: Arc::new(SingleCertAndKey::from(identity.svid.certified())),
            identity: Arc::new(identity),
            since: Instant::now(),
            servers: Default::default(),
            clients: RwLock::default(),
        }
    }

    /// Returns whether every handshake that ends now was begun in this generation.
    fn is_settled(&self) -> bool {
        self.since.elapsed() > HANDSHAKE_MAX
    }

    fn server_config(&self, terms: Terms, clock: &WallClock) -> Result<Arc<ServerConfig>, IdentityError> {
        let slot = &self.servers[terms.number()];
        if let Some(config) = slot.get() {
            return Ok(Arc::clone(config));
        }
        let built = Arc::new(self.build_server_config(terms, clock)?);
        Ok(Arc::clone(slot.get_or_init(|| built)))
    }

    fn build_server_config(&self, terms: Terms, clock: &WallClock) -> Result<ServerConfig, IdentityError> {
        let bundles = self.identity.bundles.clone();
        let verifier = ClientVerifier { bundles, anonymous: terms.anonymous };
        let mut config = ServerConfig::builder_with_details(crypto::provider(), Arc::new(clock.clone()))
            .with_protocol_versions(terms.versions())
            .map_err(|error| IdentityError::Tls(error.to_string()))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::clone(&self.resolver) as _);
        // Last: rather no word on the protocol than no connection.
        config.alpn_protocols = Alpn::Any.protocols().into_iter().chain([IN_MESH.to_vec()]).collect();
        config.session_storage = ServerSessionMemoryCache::new(SERVER_SESSIONS_MAX);
        Ok(config)
    }

    fn client_config(
        &self,
        peers: &PeerRule,
        alpn: Alpn,
        clock: &WallClock,
    ) -> Result<Arc<ClientConfig>, IdentityError> {
        let found = |clients: &HashMap<PeerRule, HashMap<Alpn, Arc<ClientConfig>>>| {
            clients.get(peers).and_then(|by_alpn| by_alpn.get(&alpn)).cloned()
        };
        // What a panic could leave behind is a map without the entry, so a poisoned lock is as good as any.
        if let Some(config) = found(&self.clients.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(config);
        }
        let built = Arc::new(self.build_client_config(peers, alpn, clock)?);
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = found(&clients) {
            return Ok(config);
        }
        if clients.len() >= CLIENT_RULES_MAX {
            clients.clear();
        }
        clients.entry(peers.clone()).or_default().insert(alpn, Arc::clone(&built));
        Ok(built)
    }

    fn build_client_config(
        &self,
        peers: &PeerRule,
        alpn: Alpn,
        clock: &WallClock,
    ) -> Result<ClientConfig, IdentityError> {
        let verifier = ServerVerifier { bundles: self.identity.bundles.clone(), expected: peers.clone() };
        let mut config = ClientConfig::builder_with_details(crypto::provider(), Arc::new(clock.clone()))
            .with_safe_default_protocol_versions()
            .map_err(|error| IdentityError::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::clone(&self.resolver) as _);
        config.alpn_protocols = alpn.within_mesh();
        config.resumption = Resumption::in_memory_sessions(CLIENT_SESSIONS_MAX);
        Ok(config)
    }
}

static NOT_BELOW_13: &[&SupportedProtocolVersion] = &[&TLS13];

// Longer than any handshake is given. Until then each handshake costs one more verification of the peer's chain.
const HANDSHAKE_MAX: Duration = Duration::from_secs(60);

// About 2 KiB each, with the peer's chain: 2 MiB at most, and enough for the callers of one workload.
const SERVER_SESSIONS_MAX: usize = 1024;

// rustls' own default: 32 endpoints of one rule with 8 tickets each.
const CLIENT_SESSIONS_MAX: usize = 256;

// One rule per service that is called. Whoever calls more pays with full handshakes when the table starts anew.
const CLIENT_RULES_MAX: usize = 1024;
