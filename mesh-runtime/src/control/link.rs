//! The conversations with the control endpoint: certificates, resources, reports, lease. Each is a task with its own
//! connection and its own back-off, so that none waits for another's trouble.
//!
//! One of them, the long poll, finds out whether the endpoint is there; the others wait for it to come back instead of
//! knocking too. Before there is an identity all wait for the first certificate.

mod certificates;
mod digest;
mod lease;
mod reports;
mod resources;

pub(crate) use lease::Registered;

use super::{
    backoff::Backoff,
    cache::{self, Cache, Cached, CachedIdentity, CachedResources},
    http::{Answer, Ask, CallError, Client, Endpoint},
    trust::{Proof, Trust},
};
use crate::{
    ThreadDice,
    callers::Callers,
    config::intake::Intake,
    identity::{Bundles, Identity, IdentityStore, Svid},
    progress::Progress,
    settings::{Settings, SettingsError},
    task::Task,
};
use mesh_core::{dice::Dice as _, identity::TrustDomain};
use resources::Held;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

/// What the conversations of one workload share.
#[derive(Debug)]
pub(crate) struct Link {
    endpoint: Arc<Endpoint>,
    trust: Arc<Trust>,
    identity: Arc<IdentityStore>,
    progress: Arc<Progress>,
    intake: Arc<Intake>,
    cache: Option<Arc<Cache>>,
    settings: Settings,
    callers: Arc<Callers>,
    trust_domain: Option<TrustDomain>,
    instance: String,
    reachable: watch::Sender<bool>,
    /// Told when the endpoint does not believe what this workload shows, or cannot be believed by it.
    doubted: Notify,
}

/// What a link needs of its workload.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) control: String,
    pub(crate) instance: String,
    pub(crate) identity: Arc<IdentityStore>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) callers: Arc<Callers>,
}

/// A link at work, for its workload to hold: the conversations first, as they end in the order of the fields.
#[derive(Debug)]
pub(crate) struct Linked {
    _conversations: Vec<Task>,
    pub(crate) link: Arc<Link>,
    _lock: Option<cache::Lock>,
}

impl Link {
    /// Puts in force what the cache holds, and starts the conversations. Asks nobody, so it takes no longer than reading
    /// the cache does.
    pub(crate) async fn start(parts: Parts) -> Result<Linked, SettingsError> {
        let Parts { settings, control, instance, identity, progress, intake, callers } = parts;
        let endpoint = Endpoint::parse(&control)
            .map_err(|e| SettingsError { variable: "MESH_CONTROL", why: e.to_string() })?;
        let trust = Trust::new(Arc::clone(&identity), settings.join_token.clone(), endpoint.is_plain());
        let trust_domain = settings.trust_domain.as_ref().and_then(|name| name.parse().ok());
        let (cache, lock) = open_cache(&settings, &progress).await.unzip();
        let link = Arc::new(Self {
            endpoint: Arc::new(endpoint),
            trust: Arc::new(trust),
            identity,
            progress,
            intake,
            cache: cache.map(Arc::new),
            settings,
            callers,
            trust_domain,
            instance,
            reachable: watch::channel(true).0,
            doubted: Notify::new(),
        });
        let held = link.recall().await;
        let mut conversations = vec![
            Task::spawn(resources::run(Arc::clone(&link), held)),
            Task::spawn(reports::run(Arc::clone(&link))),
        ];
        if !link.settings.brings_identity() {
            conversations.push(Task::spawn(certificates::run(Arc::clone(&link))));
        }
        Ok(Linked { _conversations: conversations, link, _lock: lock })
    }

    /// Keeps the workload in the registry as an endpoint that listens on `listening`.
    pub(crate) fn register(self: &Arc<Self>, listening: SocketAddr, instance: String) -> Registered {
        Registered::start(Arc::clone(self), listening, instance)
    }

    /// Takes from the cache what is still of use.
    async fn recall(&self) -> Held {
        if self.cache.is_none() {
            return Held::default();
        }
        if !self.settings.brings_identity() {
            match self.load::<CachedIdentity>().await {
                Ok(Some(cached)) => self.recall_identity(&cached),
                Ok(None) => {}
                Err(e) => tracing::warn!("cached identity ignored: {e}"),
            }
        }
        match self.load::<CachedResources>().await {
            Ok(Some(cached)) => Held::recall(self, cached).await,
            Ok(None) => {
                self.progress.on_cache_note("the cache (MESH_CACHE_DIR) holds no configuration");
                Held::default()
            }
            Err(e) => {
                tracing::warn!("cached configuration ignored: {e}");
                self.progress.on_cache_note(&format!("the cached configuration does not read ({e})"));
                Held::default()
            }
        }
    }

    fn recall_identity(&self, cached: &CachedIdentity) {
        match read_identity(&cached.chain, &cached.key, &cached.bundles) {
            Ok(identity) if self.identity.clock().now() < identity.svid.not_after() => {
                tracing::info!(id = %identity.svid.id(), serial = identity.svid.serial(), "identity from the cache");
                self.trust.on_renewal(cached.renewal.as_deref());
                self.identity.publish(identity);
            }
            Ok(identity) => {
                tracing::info!(id = %identity.svid.id(), "cached certificate has expired; not used")
            }
            Err(e) => tracing::warn!("cached identity ignored: {e}"),
        }
    }

    async fn load<T: Cached + Send + 'static>(&self) -> Result<Option<T>, String> {
        let Some(cache) = self.cache.clone() else { return Ok(None) };
        tokio::task::spawn_blocking(move || cache.load()).await.unwrap_or_else(|e| Err(e.to_string()))
    }

    async fn store<T: Cached + Send + Sync + 'static>(&self, value: Arc<T>) {
        let Some(cache) = self.cache.clone() else { return };
        let stored = tokio::task::spawn_blocking(move || cache.store(&*value)).await;
        if let Err(e) = stored.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            tracing::warn!("state not kept for a start without the control endpoint: {e}");
        }
    }

    /// Waits for `wait`, or until the endpoint came back or there is a new identity to show it, whichever is first.
    async fn pause(&self, wait: Duration) {
        let mut reachable = self.reachable.subscribe();
        let mut identity = self.identity.subscribe();
        tokio::select! {
            () = sleep(wait) => {}
            () = came_back(&mut reachable) => sleep(jitter(AFTER_RETURN)).await,
            _ = identity.changed() => {}
        }
    }

    /// Waits until the endpoint can be reached, as far as anybody knows.
    async fn reached(&self) {
        let mut reachable = self.reachable.subscribe();
        if !*reachable.borrow_and_update() {
            // The sender is in `self`, so this ends with the endpoint's return only.
            let _ = reachable.wait_for(|&reachable| reachable).await;
            sleep(jitter(AFTER_RETURN)).await;
        }
    }

    /// Waits until there is something to show to the endpoint beside the join token.
    async fn identified(&self) {
        self.identity.arrived().await;
    }
}

/// One conversation: a connection, and what its failures add up to.
#[derive(Debug)]
struct Talk {
    link: Arc<Link>,
    client: Client,
    backoff: Backoff,
    /// Whether this is the conversation that finds out if the endpoint is there. Another one's trouble may be its own,
    /// and must not keep the others waiting.
    probes: bool,
}

impl Talk {
    fn new(link: Arc<Link>) -> Self {
        let client = Client::new(Arc::clone(&link.endpoint), Arc::clone(&link.trust));
        Self { link, client, backoff: Backoff::new(), probes: false }
    }

    fn probing(link: Arc<Link>) -> Self {
        Self { probes: true, ..Self::new(link) }
    }

    /// Asks with the best proof there is.
    async fn ask(&mut self, ask: &Ask<'_>) -> Result<Answer, CallError> {
        let proofs = self.link.trust.proofs();
        let result = self.ask_as(ask, proofs.first().ok_or(CallError::Unproven)?).await;
        if result.as_ref().is_err_and(CallError::is_doubt) {
            self.link.doubted.notify_one();
        }
        result
    }

    async fn ask_as(&mut self, ask: &Ask<'_>, proof: &Proof) -> Result<Answer, CallError> {
        let result = self.client.call(ask, proof).await;
        if !result.as_ref().is_err_and(CallError::is_unreachable) {
            self.link.reachable.send_if_modified(|reachable| !std::mem::replace(reachable, true));
        }
        result
    }

    /// Waits after a failure: not longer than `most`, and not longer than the endpoint is away.
    async fn back_off(&mut self, error: &CallError, most: Duration) {
        if self.probes && error.is_unreachable() {
            self.link.reachable.send_if_modified(std::mem::take);
        }
        let wait = self.backoff.on_failure(most, &mut ThreadDice);
        self.link.pause(wait).await;
    }

    fn describe(&self, error: &CallError) -> String {
        format!("control endpoint {} {error}", self.client.endpoint())
    }
}

async fn came_back(reachable: &mut watch::Receiver<bool>) {
    let _ = reachable.wait_for(|&reachable| !reachable).await;
    if reachable.wait_for(|&reachable| reachable).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Opens the cache; a workload whose cache is out of order starts without it.
async fn open_cache(settings: &Settings, progress: &Progress) -> Option<(Cache, cache::Lock)> {
    let Some(root) = settings.cache_dir.clone() else {
        progress.on_cache_note("no MESH_CACHE_DIR to start from");
        return None;
    };
    let owner = settings.clone();
    let opened = tokio::task::spawn_blocking(move || Cache::open(&root, &owner)).await;
    match opened.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
        Ok(opened) => Some(opened),
        Err(e) => {
            tracing::warn!("no cache: {e}");
            progress.on_cache_note(&format!("the cache (MESH_CACHE_DIR) cannot be used: {e}"));
            None
        }
    }
}

/// Reads an identity and checks that its parts belong together.
fn read_identity(
    chain: &str,
    key: &str,
    bundles: &std::collections::BTreeMap<String, String>,
) -> Result<Identity, String> {
    let svid = Svid::from_pem(chain, key).map_err(|e| e.to_string())?;
    let bundles = bundles.iter().map(|(domain, pem)| (domain.as_str(), pem.as_str()));
    let bundles = Bundles::from_pem(bundles).map_err(|e| e.to_string())?;
    if !bundles.trust_domains().any(|domain| domain.as_str() == svid.id().trust_domain()) {
        return Err(format!("there is no bundle for the trust domain of {}", svid.id()));
    }
    Ok(Identity { svid, bundles })
}

/// Returns anything up to `most`.
fn jitter(most: Duration) -> Duration {
    Duration::from_millis(
        ThreadDice.below(u64::try_from(most.as_millis()).unwrap_or(u64::MAX).saturating_add(1)),
    )
}

/// An endpoint that comes back is asked by everybody, but not in the same instant.
const AFTER_RETURN: Duration = Duration::from_millis(250);
