//! One running workload: its settings, its configuration, its identity, and the tasks that keep them current.

#[cfg(feature = "spiffe")]
use crate::identity::workload_api;
use crate::{
    admin,
    callers::Callers,
    clock::Clock,
    config::{ConfigStore, intake::Intake, keys, resolver, watched::WatchedFiles},
    control::link::{self, Link, Linked, Registered},
    identity::{Identity, IdentityError, IdentityStore},
    progress::{InForce, Progress, Readiness},
    settings::{Settings, SettingsError},
    task::Task,
    telemetry::Telemetry,
};
use mesh_core::{
    config::{Diagnostic, istio::MtlsMode},
    identity::TrustDomain,
    registry::LOCALITY_LABEL,
    snapshot::{Snapshot, Viewer},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::timeout;

/// A running workload. Clones share it; when the last one is dropped its tasks end and its lease runs out.
#[derive(Clone, Debug)]
pub struct Workload {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    instance: String,
    clock: Clock,
    config: Arc<ConfigStore>,
    identity: Arc<IdentityStore>,
    telemetry: Arc<Telemetry>,
    callers: Arc<Callers>,
    progress: Arc<Progress>,
    linked: Option<Linked>,
    admin: Option<SocketAddr>,
    registrations: AtomicUsize,
    /// None of them holds this struct, so they end with it.
    tasks: Vec<Task>,
}

/// Why a workload did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting does not read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The identity files do not read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The configuration files do not read, and there is nothing to fall back to.
    #[error("configuration: {}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Config(Vec<Diagnostic>),
    /// A listener could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl Workload {
    /// Starts a workload: takes what its cache holds, starts to ask its sources, and keeps both current from then on.
    ///
    /// A control endpoint that does not answer is no error: the workload starts, is not ready unless its cache was
    /// enough, and fails calls at once with the reason. Files are read before this returns. Where only a Workload API can
    /// say in which trust domain they are to be read, its first answer is waited for, for at most 30 seconds.
    ///
    /// # Errors
    ///
    /// Returns what in the settings or the files makes a start pointless.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        settings.check()?;
        let (clock, due) = (Clock::start(), settings.has_identity_source());
        // Whoever can prove itself asks others for proof until policy says otherwise.
        let first = Snapshot::empty(if due { MtlsMode::Strict } else { MtlsMode::Permissive });
        let identity = Arc::new(IdentityStore::empty());
        let config = Arc::new(match settings.gateway.clone() {
            Some(gateway) => ConfigStore::of_edge(first, clock, gateway),
            None => ConfigStore::new(first, clock),
        });
        let mut inner = Inner {
            instance: format!("{}-{:010x}", settings.service, fastrand::u64(..1 << 40)),
            clock,
            callers: Arc::new(Callers::new(clock, Arc::clone(&config))),
            config,
            telemetry: Arc::new(Telemetry::new(&settings)),
            progress: Arc::new(Progress::new(Arc::clone(&identity), due)),
            linked: None,
            admin: None,
            registrations: AtomicUsize::new(0),
            tasks: Vec::new(),
            identity,
            settings,
        };
        inner.follow_identity_files()?;
        inner.follow_workload_api()?;
        inner.follow_configuration().await?;
        inner.open_admin().await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns its settings.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Returns the name of this instance, new with each start: `{service}-{ten hexadecimal digits}`.
    pub fn instance(&self) -> &str {
        &self.inner.instance
    }

    /// Returns its clock.
    pub fn clock(&self) -> Clock {
        self.inner.clock
    }

    /// Returns the configuration in force.
    pub fn config(&self) -> &Arc<ConfigStore> {
        &self.inner.config
    }

    /// Returns which configuration is in force since when, and what was found in it; `None` before the first.
    pub fn in_force(&self) -> Option<InForce> {
        self.inner.progress.facts().in_force
    }

    /// Returns why the source does not confirm what is in force, if it does not: the workload goes on with it.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.inner.progress.facts().config_trouble
    }

    /// Returns the identity in force.
    pub fn identity(&self) -> &Arc<IdentityStore> {
        &self.inner.identity
    }

    /// Returns the recorder.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.inner.telemetry
    }

    /// Returns the record of who calls it.
    pub fn callers(&self) -> &Arc<Callers> {
        &self.inner.callers
    }

    /// Returns where the admin listener listens, if there is one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.inner.admin
    }

    /// Returns whether it is ready, and if not, why.
    pub fn readiness(&self) -> Readiness {
        self.inner.progress.readiness()
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        self.inner.progress.ready().await;
    }

    /// Registers this workload as an endpoint that listens on `listening`, and renews the lease until the returned
    /// registration is withdrawn. Without a control endpoint it does nothing.
    ///
    /// Does not wait for the control endpoint: the lease is taken as soon as the workload is ready. What
    /// others are told to dial is `MESH_ADVERTISE`, else `listening`, else (where that is every address) the one from
    /// which the control endpoint is reached.
    pub async fn register(&self, listening: SocketAddr) -> Registration {
        // A process that serves on several ports is several endpoints.
        let instance = match self.inner.registrations.fetch_add(1, Relaxed) {
            0 => self.inner.instance.clone(),
            n => format!("{}-{}", self.inner.instance, n + 1),
        };
        let lease = self.inner.linked.as_ref().map(|linked| linked.link.register(listening, instance));
        Registration { lease }
    }

    /// Waits until the control endpoint has taken a lease of this workload, so that others can find it. Without a control
    /// endpoint there is nothing to wait for; while it does not answer, this waits.
    pub async fn registered(&self) {
        if self.inner.linked.is_some() {
            self.inner.progress.registered().await;
        }
    }

    /// Marks the workload as draining: not ready from now on.
    pub fn drain(&self) {
        self.inner.progress.on_drain();
    }
}

/// The steps of a start, in their order.
impl Inner {
    fn follow_identity_files(&mut self) -> Result<(), IdentityError> {
        if let Some(files) = self.settings.identity_files.clone() {
            self.identity.publish(files.read()?);
            self.tasks.push(Task::spawn(files.follow(Arc::clone(&self.identity))));
        }
        Ok(())
    }

    #[cfg(feature = "spiffe")]
    fn follow_workload_api(&mut self) -> Result<(), SettingsError> {
        if let Some(api) = self.settings.read_workload_api()? {
            let (store, progress) = (Arc::clone(&self.identity), Arc::clone(&self.progress));
            self.tasks.push(Task::spawn(workload_api::follow(api, store, progress)));
        }
        Ok(())
    }

    /// Settings that name one do not pass their check.
    #[cfg(not(feature = "spiffe"))]
    fn follow_workload_api(&mut self) -> Result<(), SettingsError> {
        Ok(())
    }

    async fn follow_configuration(&mut self) -> Result<(), StartError> {
        let settings = &self.settings;
        let (config, progress) = (Arc::clone(&self.config), Arc::clone(&self.progress));
        self.tasks.push(Task::spawn(resolver::run(Arc::clone(&config))));
        self.tasks.push(Task::spawn(keys::run(Arc::clone(&config))));
        let intake = Arc::new(Intake::new(config, Arc::clone(&progress), viewer(settings)));
        if let Some(control) = settings.control.clone() {
            let parts = link::Parts {
                settings: settings.clone(),
                control,
                instance: self.instance.clone(),
                identity: Arc::clone(&self.identity),
                progress,
                intake,
                callers: Arc::clone(&self.callers),
            };
            self.linked = Some(Link::start(parts).await?);
            return Ok(());
        }
        let domain = trust_domain(settings, &self.identity).await?;
        let files = WatchedFiles::open(&settings.config, intake, domain).await.map_err(StartError::Config)?;
        if !settings.config.is_empty() {
            self.tasks.push(Task::spawn(files.run()));
        }
        Ok(())
    }

    async fn open_admin(&mut self) -> Result<(), StartError> {
        let Some(address) = self.settings.admin else { return Ok(()) };
        let sources = admin::Sources {
            clock: self.clock,
            config: Arc::clone(&self.config),
            identity: Arc::clone(&self.identity),
            telemetry: Arc::clone(&self.telemetry),
            callers: Arc::clone(&self.callers),
            progress: Arc::clone(&self.progress),
        };
        let listen = |source| StartError::Listen { address, source };
        let (bound, listener) = admin::listen(address, sources).await.map_err(listen)?;
        self.tasks.push(listener);
        self.admin = Some(bound);
        Ok(())
    }
}

/// A lease that is kept alive. Dropped without being withdrawn, it runs out by itself.
#[derive(Debug)]
pub struct Registration {
    lease: Option<Registered>,
}

impl Registration {
    /// Takes the endpoint out of the registry, before the drain. Takes at most two seconds.
    pub async fn withdraw(self) {
        if let Some(lease) = self.lease {
            lease.withdraw().await;
        }
    }
}

fn viewer(settings: &Settings) -> Viewer {
    let mut labels = settings.labels.clone();
    if !settings.locality.is_empty() {
        labels.insert(LOCALITY_LABEL.to_owned(), settings.locality.clone());
    }
    Viewer { namespace: settings.namespace.clone(), service: Some(settings.service.clone()), labels }
}

/// Without a control endpoint to say so, the trust domain is the one set, else the certificate's, else Istio's default.
///
/// Policies cannot be read without it, so a Workload API is waited for, unless it is known whose SVID it is to give.
async fn trust_domain(settings: &Settings, identity: &IdentityStore) -> Result<TrustDomain, StartError> {
    let api = settings.read_workload_api()?;
    let named = || api.as_ref()?.trust_domain();
    let of = |identity: &Identity| identity.svid.id().trust_domain().to_owned();
    let name = match settings.trust_domain.clone().or_else(named) {
        Some(name) => name,
        None if api.is_some() => match timeout(FIRST_SVID_MAX, identity.arrived()).await {
            Ok(identity) => of(&identity),
            Err(_) => return Err(identity.missing().into()),
        },
        None => identity.current().map_or_else(|| "cluster.local".to_owned(), |identity| of(&identity)),
    };
    let wrong = |e| SettingsError { variable: "trust domain", why: format!("`{name}`: {e}") };
    Ok(name.parse().map_err(wrong)?)
}

// An agent that starts together with its workloads has synchronised by then. Whoever starts this program starts it again.
const FIRST_SVID_MAX: Duration = Duration::from_secs(30);
