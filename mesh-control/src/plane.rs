//! The state of one endpoint: what the files say and what workloads leased, made into what is served.
//!
//! Requests change the state under a short lock and ask for a publication; one task makes it, so that a hundred leases
//! that arrive together wake every waiting workload once. The disk is another task's.

use crate::{
    ControlError,
    authority::{Authority, Issued},
    caller::{Caller, Judge},
    certified::Certified,
    config_files::ConfigFiles,
    csr::RequestedKey,
    data::DataDir,
    lease_entry::Declared,
    leases::{Change, LeaseError, Leases, SavedLease, ServiceKey},
    locked,
    metrics::{Gauges, Metrics},
    roster::{Member, Roster},
    served::{Item, Served},
    token::{Purpose, TokenKey, unix},
};
use mesh_runtime::control::{
    token::Claims,
    wire::{Lease, Rejection, Report, Status},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

/// The state of one endpoint.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) authority: Arc<Authority>,
    pub(crate) token_key: TokenKey,
    pub(crate) metrics: Metrics,
    pub(crate) insecure_http: bool,
    data: DataDir,
    registry: Mutex<Registry>,
    roster: Mutex<Roster>,
    /// The number of changes made, and of those published.
    made: watch::Sender<u64>,
    published: watch::Sender<u64>,
    served: watch::Sender<Arc<Served>>,
    disk: Mutex<Pending>,
    disk_wanted: Notify,
    /// Held while the disk is written to, so that an older state never lands on a newer one.
    writing: Mutex<()>,
    stopping: watch::Sender<bool>,
}

/// Everything that decides what is served.
#[derive(Debug)]
struct Registry {
    config: Vec<Arc<Item>>,
    declared: Declared,
    rejected: Vec<Rejection>,
    leases: Leases,
    entries: BTreeMap<ServiceKey, Arc<Item>>,
    certified: Certified,
    warming_until: Option<Instant>,
}

/// What the disk has not been told yet.
#[derive(Debug, Default)]
struct Pending {
    leases: bool,
    certified: bool,
    issued: Vec<String>,
}

/// Why a lease is refused.
#[derive(Debug)]
pub(crate) enum LeaseRefusal {
    Forbidden(String),
    Held(LeaseError),
}

impl Plane {
    /// Restores the state from `data` and the files, and makes the first publication.
    pub(crate) fn open(
        data: DataDir,
        authority: Authority,
        files: &ConfigFiles,
        insecure_http: bool,
    ) -> Result<Self, ControlError> {
        let now = Instant::now();
        let certified: Option<Certified> = restored(&data, CERTIFIED_FILE);
        let saved: Option<Vec<SavedLease>> = restored(&data, LEASES_FILE);
        // Whoever holds a certificate was here before; that nothing of it is left must not look like an empty mesh.
        let warming = saved.is_none() && data.path(ISSUED_FILE).exists();
        let registry = Registry {
            config: Vec::new(),
            declared: Declared::default(),
            rejected: Vec::new(),
            leases: Leases::restore(saved.unwrap_or_default(), now),
            entries: BTreeMap::new(),
            certified: certified.unwrap_or_default(),
            warming_until: warming.then(|| now + WARMING),
        };
        let plane = Self {
            token_key: TokenKey::open(&data)?,
            metrics: Metrics::default(),
            insecure_http,
            registry: Mutex::new(registry),
            roster: Mutex::default(),
            made: watch::Sender::new(0),
            published: watch::Sender::new(0),
            served: watch::Sender::new(Arc::new(Served::new(
                authority.trust_domain().as_str(),
                false,
                Vec::new(),
            ))),
            disk: Mutex::default(),
            disk_wanted: Notify::new(),
            writing: Mutex::new(()),
            stopping: watch::Sender::new(false),
            authority: Arc::new(authority),
            data,
        };
        plane.on_config(files);
        plane.publish();
        // From here on a missing file of leases means that they were lost.
        plane.note(|pending| pending.leases = !warming);
        Ok(plane)
    }

    /// Returns what callers are judged by at `now`.
    pub(crate) fn judge(&self, now: SystemTime) -> Judge<'_> {
        Judge {
            token_key: &self.token_key,
            pin: self.authority.pin(),
            trust_domain: self.authority.trust_domain(),
            now,
        }
    }

    /// Returns what is served, as soon as it is not `known`; after `wait`, or when the endpoint stops, whatever it is.
    pub(crate) async fn served(&self, known: impl Fn(&str) -> bool, wait: Duration) -> Arc<Served> {
        let mut served = self.served.subscribe();
        let current = Arc::clone(&served.borrow_and_update());
        if wait.is_zero() || !known(current.version()) {
            return current;
        }
        let mut stopping = self.stopping.subscribe();
        let news = served.wait_for(|served| !known(served.version()));
        let stop = stopping.wait_for(|stopping| *stopping);
        tokio::select! {
            _ = timeout(wait, news) => {}
            _ = stop => {}
        }
        Arc::clone(&self.served.borrow())
    }

    /// Certifies `key` for the caller. Over plain HTTP there is a bearer with it that stands for the certificate.
    pub(crate) fn certify(
        &self,
        caller: &Caller,
        key: &RequestedKey,
        now: SystemTime,
    ) -> Result<(Issued, Option<String>), ControlError> {
        let issued = self.authority.issue(key, caller.id(), &[], now)?;
        let until = unix(issued.not_after);
        let renewal = self.insecure_http.then(|| self.renewal(caller, until)).transpose()?;
        locked(&self.registry).certified.on_certificate(caller.id(), caller.services(), until, unix(now));
        self.metrics.certificates.fetch_add(1, Relaxed);
        self.note(|pending| {
            pending.certified = true;
            pending.issued.push(format!("{} {until} {}", issued.serial, caller.id()));
        });
        Ok((issued, renewal))
    }

    fn renewal(&self, caller: &Caller, expires: u64) -> Result<String, ControlError> {
        let claims = Claims {
            namespace: caller.namespace().to_owned(),
            service_account: caller.account().to_owned(),
            services: caller.services().to_vec(),
            expires,
            ca_sha256: self.authority.pin().to_owned(),
            nonce: crate::random_hex::<16>()?,
        };
        Ok(self.token_key.seal(Purpose::Renewal, &claims))
    }

    /// Grants or renews a lease; it is served when this returns.
    pub(crate) async fn put_lease(
        &self,
        caller: &Caller,
        key: &ServiceKey,
        instance: &str,
        lease: Lease,
    ) -> Result<Change, LeaseRefusal> {
        let change = {
            let mut registry = locked(&self.registry);
            let Registry { leases, declared, certified, .. } = &mut *registry;
            let now = SystemTime::now();
            caller.may_register(key, declared, certified, now).map_err(LeaseRefusal::Forbidden)?;
            let certified = caller.is_certified(certified, now);
            leases
                .put(key, instance, caller.id(), certified, lease, Instant::now())
                .map_err(LeaseRefusal::Held)?
        };
        locked(&self.roster).on_heard(&member(caller, key, instance), None, Instant::now());
        if change != Change::None {
            tracing::info!("{} leases instance {instance} of {}: {change:?}", caller.id(), key.service);
            self.note(|pending| pending.leases = true);
            self.wait_published().await;
        }
        Ok(change)
    }

    /// Ends a lease; it is served no more when this returns. Returns whether there was one.
    pub(crate) async fn end_lease(
        &self,
        caller: &Caller,
        key: &ServiceKey,
        instance: &str,
    ) -> Result<bool, LeaseRefusal> {
        caller.may_act_in(&key.namespace).map_err(LeaseRefusal::Forbidden)?;
        let ended =
            locked(&self.registry).leases.remove(key, instance, caller.id()).map_err(LeaseRefusal::Held)?;
        locked(&self.roster).on_left(&member(caller, key, instance));
        if ended {
            tracing::info!("{} gives up instance {instance} of {}", caller.id(), key.service);
            self.note(|pending| pending.leases = true);
            self.wait_published().await;
        }
        Ok(ended)
    }

    /// Notes that a workload waits for news, and which version it has.
    pub(crate) fn on_poll(&self, caller: &Caller, service: &str, instance: &str, version: Option<&str>) {
        let key = ServiceKey { namespace: caller.namespace().to_owned(), service: service.to_owned() };
        locked(&self.roster).on_heard(&member(caller, &key, instance), version, Instant::now());
    }

    /// Notes how a workload fares.
    pub(crate) fn on_report(&self, caller: &Caller, report: Report) {
        let key = ServiceKey { namespace: caller.namespace().to_owned(), service: report.service };
        let member = member(caller, &key, &report.instance);
        locked(&self.roster).on_report(&member, &report.version, report.rejected, Instant::now());
    }

    /// Returns who is connected, and what was refused.
    pub(crate) fn status(&self) -> Status {
        let mut rejected = locked(&self.registry).rejected.clone();
        let roster = locked(&self.roster);
        let same = |a: &Rejection, b: &Rejection| {
            (&a.resource, &a.code, &a.message) == (&b.resource, &b.code, &b.message)
        };
        for theirs in roster.rejected() {
            if !rejected.iter().any(|ours| same(ours, &theirs)) {
                rejected.push(theirs);
            }
        }
        Status {
            version: self.served.borrow().version().to_owned(),
            workloads: roster.workloads(Instant::now()),
            rejected,
        }
    }

    /// Returns the metrics as text.
    pub(crate) fn metrics_text(&self) -> String {
        let (leases, rejected) = {
            let registry = locked(&self.registry);
            (registry.leases.len(), registry.rejected.len())
        };
        let workloads = locked(&self.roster).len();
        let objects = self.served.borrow().len();
        self.metrics.text(Gauges { leases, workloads, objects, rejected })
    }

    /// Tells every task and every waiting request to end.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Ends when [`Plane::stop`] was called.
    pub(crate) async fn stopped(&self) {
        // The sender lives in `self`, so that this cannot fail.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    fn on_config(&self, files: &ConfigFiles) {
        let (config, declared, rejected) =
            (files.items(), Declared::read(files.resources()), files.rejected());
        let mut registry = locked(&self.registry);
        // Ports of a service may have changed under its leases.
        registry.entries.clear();
        (registry.config, registry.declared, registry.rejected) = (config, declared, rejected);
    }

    fn publish(&self) {
        let made = *self.made.borrow();
        let served = locked(&self.registry).serve(self.authority.trust_domain().as_str(), Instant::now());
        self.served.send_if_modified(|current| {
            let news = current.version() != served.version();
            if news {
                tracing::info!("version {} with {} objects", served.version(), served.len());
                *current = Arc::new(served);
            }
            news
        });
        self.published.send_replace(made);
    }

    fn want_publication(&self) -> u64 {
        let mut mine = 0;
        self.made.send_modify(|made| {
            *made += 1;
            mine = *made;
        });
        mine
    }

    async fn wait_published(&self) {
        let mine = self.want_publication();
        let mut published = self.published.subscribe();
        tokio::select! {
            _ = published.wait_for(|published| *published >= mine) => {}
            () = self.stopped() => {}
        }
    }

    fn note(&self, what: impl FnOnce(&mut Pending)) {
        what(&mut locked(&self.disk));
        self.disk_wanted.notify_one();
    }

    /// Publishes what was asked for, at most every [`PUBLISH_GAP`].
    pub(crate) async fn run_publisher(&self) {
        let mut made = self.made.subscribe();
        while made.changed().await.is_ok() {
            self.publish();
            sleep(PUBLISH_GAP).await;
        }
    }

    /// Lets leases, the warming time and silent workloads end.
    pub(crate) async fn run_sweeper(&self) {
        let mut ticks = interval(SWEEP_GAP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let now = Instant::now();
            self.sweep(now, now.duration_since(last));
            last = now;
        }
    }

    fn sweep(&self, now: Instant, since_last: Duration) {
        let (ended, warm) = {
            let mut registry = locked(&self.registry);
            if since_last > STALL_MIN {
                tracing::warn!("this process did not run for {since_last:?}; leases are prolonged by that");
                registry.leases.on_stall(since_last);
            }
            (registry.leases.sweep(now), registry.warming_until.take_if(|until| *until <= now).is_some())
        };
        for (key, instance) in &ended {
            tracing::warn!(
                "the lease of instance {instance} of {}/{} ended without a goodbye",
                key.namespace,
                key.service
            );
        }
        if warm || !ended.is_empty() {
            self.note(|pending| pending.leases = true);
            self.want_publication();
        }
        locked(&self.roster).sweep(now);
    }

    /// Reads the files whenever they change, and keeps the last good version of every object.
    pub(crate) async fn run_config(self: Arc<Self>, mut files: ConfigFiles) {
        loop {
            sleep(POLL_GAP).await;
            let plane = Arc::clone(&self);
            let look = tokio::task::spawn_blocking(move || {
                if files.poll() {
                    plane.on_config(&files);
                    plane.want_publication();
                    plane.wrote(files.save(&plane.data));
                }
                files
            });
            match look.await {
                Ok(back) => files = back,
                Err(error) => return tracing::error!("configuration is no longer watched: {error}"),
            }
        }
    }

    /// Writes to the disk what it has not been told yet, whenever there is something.
    pub(crate) async fn run_disk(self: Arc<Self>) {
        loop {
            self.disk_wanted.notified().await;
            let plane = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || plane.flush()).await;
            sleep(DISK_GAP).await;
        }
    }

    /// Writes to the disk what it has not been told yet.
    pub(crate) fn flush(&self) {
        let _writing = locked(&self.writing);
        let pending = std::mem::take(&mut *locked(&self.disk));
        if pending.leases {
            let leases = locked(&self.registry).leases.save();
            self.save(LEASES_FILE, &leases);
        }
        if pending.certified {
            let certified = locked(&self.registry).certified.clone();
            self.save(CERTIFIED_FILE, &certified);
        }
        if !pending.issued.is_empty() {
            self.wrote(self.data.append(ISSUED_FILE, &pending.issued.join("\n"), ISSUED_BYTES_MAX));
        }
    }

    fn save(&self, name: &str, content: &impl Serialize) {
        match serde_json::to_vec(content) {
            Ok(json) => self.wrote(self.data.replace(name, &json)),
            Err(error) => tracing::error!("{name}: {error}"),
        }
    }

    /// A full disk stops no workload: what was to be written is only missed at the next start.
    fn wrote(&self, result: Result<(), ControlError>) {
        if let Err(error) = result {
            self.metrics.writes_failed.fetch_add(1, Relaxed);
            tracing::warn!("{error}; this will be missing after a restart");
        }
    }
}

impl Registry {
    /// Returns everything that is served at `now`.
    fn serve(&mut self, trust_domain: &str, now: Instant) -> Served {
        let changed = self.leases.take_changed();
        self.entries.retain(|key, _| !changed.contains(key));
        for key in self.leases.services() {
            if let (false, Some(leases)) = (self.entries.contains_key(key), self.leases.of(key)) {
                let entry = self.declared.entry(key, leases);
                let item = Item::new("ServiceEntry", &key.namespace, &entry);
                self.entries.insert(key.clone(), Arc::new(item));
            }
        }
        let items = self.config.iter().chain(self.entries.values()).cloned().collect();
        Served::new(trust_domain, self.warming_until.is_some_and(|until| now < until), items)
    }
}

fn member(caller: &Caller, key: &ServiceKey, instance: &str) -> Member {
    Member {
        namespace: key.namespace.clone(),
        service: key.service.clone(),
        instance: instance.to_owned(),
        id: caller.id().clone(),
    }
}

/// Returns what the file `name` holds; `None` if there is none or it does not read, which is said.
fn restored<T: DeserializeOwned>(data: &DataDir, name: &str) -> Option<T> {
    let json = match data.read(name) {
        Ok(json) => json?,
        Err(error) => {
            tracing::warn!("{error}; starting without it");
            return None;
        }
    };
    serde_json::from_slice(&json)
        .inspect_err(|error| tracing::warn!("{}: {error}; starting without it", data.path(name).display()))
        .ok()
}

const LEASES_FILE: &str = "leases.json";
const CERTIFIED_FILE: &str = "certified.json";
const ISSUED_FILE: &str = "issued";
/// About 10,000 certificates, twice.
const ISSUED_BYTES_MAX: u64 = 1 << 20;
/// The default TTL of a lease: who is alive has renewed it by then.
const WARMING: Duration = Duration::from_secs(15);
/// Short beside the second in which an edit must be everywhere, long beside the burst of a fleet's start.
const PUBLISH_GAP: Duration = Duration::from_millis(25);
const SWEEP_GAP: Duration = Duration::from_millis(250);
/// Longer than a loaded machine delays a task, shorter than the shortest lease that means it.
const STALL_MIN: Duration = Duration::from_secs(2);
const POLL_GAP: Duration = Duration::from_millis(250);
const DISK_GAP: Duration = Duration::from_millis(100);
