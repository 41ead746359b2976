//! Everything that decides what is served: the objects of the files, the leases beside them, and who may hold those.
//!
//! It is plain data under somebody else's lock; it publishes nothing and writes nothing.

use crate::{
    caller::Caller,
    certified::Certified,
    lease_entry::Declared,
    leases::{Change, LeaseError, Leases, ServiceKey},
    served::{Item, Served},
};
use mesh_runtime::control::wire::{Lease, Rejection};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// What is served, and from what.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    config: InForce,
    leases: Leases,
    /// The leases of each service as they are served; made anew when they change.
    entries: BTreeMap<ServiceKey, Arc<Item>>,
    certified: Certified,
    warming_until: Option<Instant>,
}

/// What the files put in force.
#[derive(Debug, Default)]
pub(crate) struct InForce {
    pub(crate) items: Vec<Arc<Item>>,
    pub(crate) declared: Declared,
    /// What keeps objects of the files out.
    pub(crate) rejected: Vec<Rejection>,
}

/// Why a lease is refused.
#[derive(Debug)]
pub(crate) enum LeaseRefusal {
    /// The caller may not.
    Forbidden(String),
    /// Somebody else may.
    Held(LeaseError),
}

/// What time has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) leases: Vec<(ServiceKey, String)>,
    pub(crate) warming: bool,
}

impl Registry {
    /// Returns what a start finds: leases and certificates from the disk. Answers are marked as incomplete until
    /// `warming_until`.
    pub(crate) fn restored(leases: Leases, certified: Certified, warming_until: Option<Instant>) -> Self {
        Self { leases, certified, warming_until, ..Self::default() }
    }

    /// Takes what the files put in force.
    pub(crate) fn on_config(&mut self, config: InForce) {
        self.config = config;
        // Ports of a service may have changed under its leases.
        self.entries.clear();
    }

    /// Grants or renews a lease.
    pub(crate) fn put_lease(
        &mut self,
        caller: &Caller,
        key: &ServiceKey,
        instance: &str,
        lease: Lease,
        (now, wall): (Instant, SystemTime),
    ) -> Result<Change, LeaseRefusal> {
        caller
            .may_register(key, &self.config.declared, &self.certified, wall)
            .map_err(LeaseRefusal::Forbidden)?;
        let certified = caller.is_certified(&self.certified, wall);
        self.leases.put(key, instance, caller.id(), certified, lease, now).map_err(LeaseRefusal::Held)
    }

    /// Ends a lease. Returns whether there was one.
    pub(crate) fn end_lease(
        &mut self,
        caller: &Caller,
        key: &ServiceKey,
        instance: &str,
    ) -> Result<bool, LeaseRefusal> {
        caller.may_act_in(&key.namespace).map_err(LeaseRefusal::Forbidden)?;
        self.leases.remove(key, instance, caller.id()).map_err(LeaseRefusal::Held)
    }

    /// Notes a certificate that is valid `until`, in seconds since 1970 as `now`.
    pub(crate) fn on_certificate(&mut self, caller: &Caller, until: u64, now: u64) {
        self.certified.on_certificate(caller.id(), caller.services(), until, now);
    }

    /// Prolongs every lease by a time in which this process did not run.
    pub(crate) fn on_stall(&mut self, stall: Duration) {
        self.leases.on_stall(stall);
    }

    /// Lets go of what has run out at `now`.
    pub(crate) fn sweep(&mut self, now: Instant) -> Ended {
        Ended {
            leases: self.leases.sweep(now),
            warming: self.warming_until.take_if(|until| *until <= now).is_some(),
        }
    }

    /// Returns everything that is served.
    pub(crate) fn serve(&mut self, trust_domain: &str) -> Served {
        for key in self.leases.take_changed() {
            self.entries.remove(&key);
        }
        for key in self.leases.services() {
            if let (false, Some(leases)) = (self.entries.contains_key(key), self.leases.of(key)) {
                let entry = self.config.declared.entry(key, leases);
                let item = Item::new("ServiceEntry", &key.namespace, &entry);
                self.entries.insert(key.clone(), Arc::new(item));
            }
        }
        let items = self.config.items.iter().chain(self.entries.values()).cloned().collect();
        Served::new(trust_domain, self.warming_until.is_some(), items)
    }

    /// Returns what keeps objects of the files from being in force.
    pub(crate) fn rejected(&self) -> &[Rejection] {
        &self.config.rejected
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(crate) fn certified(&self) -> &Certified {
        &self.certified
    }
}
