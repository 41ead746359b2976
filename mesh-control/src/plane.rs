//! One running endpoint: its state, what requests do to it, and what they see of it.
//!
//! Requests change the registry under a short lock and ask for a publication; one task makes it, so that a hundred leases
//! that arrive together wake every waiting workload once.

mod tasks;

use crate::{
    ControlError,
    authority::Issued,
    caller::{Caller, Judge},
    config_files::ConfigFiles,
    csr::RequestedKey,
    data::DataDir,
    disk::Disk,
    leases::{Change, Leases, ServiceKey},
    locked,
    metrics::{Gauges, Metrics},
    registry::{LeaseRefusal, Registry},
    roster::{Member, Roster},
    rotation::Authorities,
    served::Served,
    token::{Purpose, TokenKey, unix},
};
use mesh_core::identity::SpiffeId;
use mesh_runtime::control::{
    token::Claims,
    wire::{Lease, Rejection, Report, Status},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// One running endpoint.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) authorities: Arc<Authorities>,
    pub(crate) token_key: TokenKey,
    pub(crate) metrics: Metrics,
    insecure_http: bool,
    registry: Mutex<Registry>,
    roster: Mutex<Roster>,
    disk: Disk,
    served: watch::Sender<Arc<Served>>,
    /// The number of changes made, and of those published.
    made: watch::Sender<u64>,
    published: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
}

/// What a caller is given who asks for a certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) issued: Issued,
    /// PEM bundles by trust domain.
    pub(crate) bundles: BTreeMap<String, String>,
    /// Over plain HTTP: the bearer that stands for it.
    pub(crate) renewal: Option<String>,
}

impl Plane {
    /// Restores the state from `data` and the files, and makes the first publication.
    pub(crate) fn open(
        data: DataDir,
        authorities: Authorities,
        files: &ConfigFiles,
        insecure_http: bool,
    ) -> Result<Self, ControlError> {
        let now = Instant::now();
        let token_key = TokenKey::open(&data)?;
        let disk = Disk::new(data);
        let memory = disk.memory();
        // Whoever holds a certificate was here before; that its lease is lost must not look like an empty mesh.
        let warming = memory.leases.is_none() && memory.was_used;
        let leases = Leases::restore(memory.leases.unwrap_or_default(), now);
        let mut roster = Roster::default();
        for (key, instance, held) in leases.iter().filter(|(_, _, held)| !held.is_withdrawn()) {
            roster.on_heard(&member(&held.owner, key, instance), None, now);
        }
        let registry = Registry::restored(leases, memory.certified, warming.then(|| now + WARMING));
        let nothing = Served::new(authorities.trust_domain().as_str(), false, Vec::new());
        let plane = Self {
            authorities: Arc::new(authorities),
            token_key,
            metrics: Metrics::default(),
            insecure_http,
            registry: Mutex::new(registry),
            roster: Mutex::new(roster),
            disk,
            served: watch::Sender::new(Arc::new(nothing)),
            made: watch::Sender::new(0),
            published: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
        };
        locked(&plane.registry).on_config(files.in_force());
        plane.publish();
        if !warming {
            // From here on a missing record of leases means that they were lost.
            plane.disk.on_leases();
        }
        Ok(plane)
    }

    /// Returns what callers are judged by at `now`.
    pub(crate) fn judge(&self, now: SystemTime) -> Judge<'_> {
        Judge {
            token_key: &self.token_key,
            pins: self.authorities.standing().pins().map(str::to_owned).collect(),
            trust_domain: self.authorities.trust_domain(),
            is_plain: self.insecure_http,
            now,
        }
    }

    /// Returns what is served as soon as it is not `known`; after `wait`, or when the endpoint stops, whatever it is.
    pub(crate) async fn served(&self, known: impl Fn(&str) -> bool, wait: Duration) -> Arc<Served> {
        let mut served = self.served.subscribe();
        let current = Arc::clone(&served.borrow_and_update());
        if wait.is_zero() || !known(current.version()) {
            return current;
        }
        tokio::select! {
            _ = timeout(wait, served.wait_for(|served| !known(served.version()))) => {}
            () = self.stopped() => {}
        }
        Arc::clone(&self.served.borrow())
    }

    /// Certifies `key` for the caller. Over plain HTTP there is a bearer with it that stands for the certificate.
    pub(crate) fn certify(
        &self,
        caller: &Caller,
        key: &RequestedKey,
        now: SystemTime,
    ) -> Result<Certificate, ControlError> {
        let standing = self.authorities.standing();
        let issued = standing.issue(key, caller.id(), now)?;
        let until = unix(issued.not_after);
        // As long as the certificate is good its root is, and so is the pin.
        let pin = standing.issuing(now).pin();
        let renewal = self.insecure_http.then(|| self.renewal(caller, until, pin)).transpose()?;
        locked(&self.registry).on_certificate(caller, until, unix(now));
        self.disk.on_issued(format!("{} {until} {}", issued.serial, caller.id()));
        self.metrics.certificates.fetch_add(1, Relaxed);
        Ok(Certificate { issued, bundles: standing.bundles(), renewal })
    }

    fn renewal(&self, caller: &Caller, expires: u64, pin: &str) -> Result<String, ControlError> {
        let claims = Claims {
            namespace: caller.namespace().to_owned(),
            service_account: caller.account().to_owned(),
            services: caller.services().to_vec(),
            expires,
            ca_sha256: pin.to_owned(),
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
        let now = Instant::now();
        let change =
            locked(&self.registry).put_lease(caller, key, instance, lease, (now, SystemTime::now()))?;
        locked(&self.roster).on_heard(&member(caller.id(), key, instance), None, now);
        if change != Change::None {
            tracing::info!("{} leases {instance} of {}: {change:?}", caller.id(), key.service);
            self.disk.on_leases();
            self.publication().await;
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
        let ended = locked(&self.registry).end_lease(caller, key, instance)?;
        locked(&self.roster).on_left(&member(caller.id(), key, instance));
        if ended {
            tracing::info!("{} gives up {instance} of {}", caller.id(), key.service);
            self.disk.on_leases();
            self.publication().await;
        }
        Ok(ended)
    }

    /// Notes that a workload asks for news, and which version it has.
    pub(crate) fn on_poll(&self, caller: &Caller, service: &str, instance: &str, version: Option<&str>) {
        let key = ServiceKey { namespace: caller.namespace().to_owned(), service: service.to_owned() };
        locked(&self.roster).on_heard(&member(caller.id(), &key, instance), version, Instant::now());
    }

    /// Notes how a workload fares.
    pub(crate) fn on_report(&self, caller: &Caller, report: Report) {
        let service = report.service.clone();
        let key = ServiceKey { namespace: caller.namespace().to_owned(), service };
        let member = member(caller.id(), &key, &report.instance);
        locked(&self.roster).on_report(&member, report, Instant::now());
    }

    /// Returns who is connected, and what was refused, here or there. Who calls whom is told to those of the namespace
    /// that is called, and to `None`, who is the operator.
    pub(crate) fn status(&self, namespace: Option<&str>) -> Status {
        let mut rejected = locked(&self.registry).rejected().to_vec();
        let roster = locked(&self.roster);
        let gist = |finding: &Rejection| (finding.resource.clone(), finding.code.clone());
        for theirs in roster.rejected() {
            // What was refused here already is the same finding again, only without its file.
            if !rejected.iter().any(|ours| gist(ours) == gist(&theirs)) {
                rejected.push(theirs);
            }
        }
        Status {
            version: self.served.borrow().version().to_owned(),
            workloads: roster
                .workloads(Instant::now(), |member| namespace.is_none_or(|asker| asker == member.namespace)),
            rejected,
        }
    }

    /// Returns the metrics as text.
    pub(crate) fn metrics_text(&self) -> String {
        let (leases, rejected) = {
            let registry = locked(&self.registry);
            (registry.leases().len(), registry.rejected().len())
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

    /// Writes to the disk what it has not been told yet.
    pub(crate) fn flush(&self) {
        self.disk.flush(&self.registry, &self.metrics);
    }

    fn publish(&self) {
        let made = *self.made.borrow();
        let served = locked(&self.registry).serve(self.authorities.trust_domain().as_str());
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

    /// Ends when what was changed before is published.
    async fn publication(&self) {
        let mine = self.want_publication();
        let mut published = self.published.subscribe();
        tokio::select! {
            _ = published.wait_for(|published| *published >= mine) => {}
            () = self.stopped() => {}
        }
    }
}

fn member(id: &SpiffeId, key: &ServiceKey, instance: &str) -> Member {
    Member {
        namespace: key.namespace.clone(),
        service: key.service.clone(),
        instance: instance.to_owned(),
        id: id.clone(),
    }
}

/// The default TTL of a lease: who is alive has renewed it by then.
const WARMING: Duration = Duration::from_secs(15);
