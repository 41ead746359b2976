//! Who serves what at which address: leases that workloads keep alive by heartbeats.
//!
//! ```text
//! Live --ttl without heartbeat, others of the service live--> gone
//! Live --ttl without heartbeat, the last of its service-----> Expired --heartbeat--> Live
//! Expired --another of its service is live--> gone
//! any --DELETE by its owner, others of the service live or expired--> gone
//! any --DELETE by its owner, the last of its service--> Withdrawn --heartbeat of any--> Live
//! ```
//!
//! A withdrawn lease serves no endpoint, but it keeps the service known: callers of a name that nobody knows would go
//! past the mesh in plain text, to whatever DNS says.
//!
//! Whether an account may register a service at all is decided in `caller`.

use mesh_core::identity::SpiffeId;
use mesh_runtime::control::{
    name::{self, quoted},
    wire::Lease,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};
use tokio::time::Instant;

/// A service: namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ServiceKey {
    pub(crate) namespace: String,
    pub(crate) service: String,
}

/// Every lease. Methods that change what is served note the service, for [`Leases::take_changed`].
#[derive(Debug, Default)]
pub(crate) struct Leases {
    services: BTreeMap<ServiceKey, BTreeMap<String, Held>>,
    changed: BTreeSet<ServiceKey>,
}

/// One lease and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    pub(crate) owner: SpiffeId,
    /// Whether its owner has a certificate to serve with.
    pub(crate) certified: bool,
    pub(crate) state: State,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Until then, unless a heartbeat comes.
    Live(Instant),
    /// Since then, and kept because stale is better than none.
    Expired(Instant),
    /// Given up by its owner: no endpoint, and kept because the service is still known.
    Withdrawn,
}

/// What a heartbeat changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Created,
    Altered,
    None,
}

/// Why a lease is not granted or given up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("instance {instance} of {service} is held by {owner}; take another instance name")]
    HeldByOther { service: String, instance: String, owner: SpiffeId },
    #[error(
        "{owner} holds {held} instances of {service}, and that is the limit for one identity; give up those that do not \
         run, or let them run out"
    )]
    TooMany { service: String, owner: SpiffeId, held: usize },
    #[error("{0} leases are held, and that is the limit of this endpoint")]
    Full(usize),
}

/// A lease as it is written to disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedLease {
    #[serde(flatten)]
    key: ServiceKey,
    instance: String,
    owner: String,
    certified: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    withdrawn: bool,
    lease: Lease,
}

impl Held {
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.state == State::Withdrawn
    }
}

impl Leases {
    /// Grants or renews a lease.
    pub(crate) fn put(
        &mut self,
        key: &ServiceKey,
        instance: &str,
        owner: &SpiffeId,
        certified: bool,
        lease: Lease,
        now: Instant,
    ) -> Result<Change, LeaseError> {
        let held = self.services.get(key).and_then(|instances| instances.get(instance));
        let change = match held {
            None => {
                self.check_room(key, owner)?;
                Change::Created
            }
            // An expired lease is nobody's any more, and neither is one that was given up.
            Some(held) if held.owner != *owner && matches!(held.state, State::Live(_)) => {
                return Err(LeaseError::HeldByOther {
                    service: key.service.clone(),
                    instance: instance.to_owned(),
                    owner: held.owner.clone(),
                });
            }
            Some(Held { state: State::Expired(_) | State::Withdrawn, .. }) => Change::Created,
            Some(held) if held.owner == *owner && held.lease == lease && held.certified == certified => {
                Change::None
            }
            Some(_) => Change::Altered,
        };
        let state = State::Live(now + Duration::from_secs(lease.ttl_seconds.into()));
        let instances = self.services.entry(key.clone()).or_default();
        instances.insert(instance.to_owned(), Held { lease, owner: owner.clone(), certified, state });
        instances.retain(|_, held| matches!(held.state, State::Live(_)));
        if change != Change::None {
            self.changed.insert(key.clone());
        }
        Ok(change)
    }

    /// Ends a lease. Returns whether there was one.
    pub(crate) fn remove(
        &mut self,
        key: &ServiceKey,
        instance: &str,
        caller: &SpiffeId,
    ) -> Result<bool, LeaseError> {
        let Some(instances) = self.services.get_mut(key) else { return Ok(false) };
        match instances.get_mut(instance) {
            None => return Ok(false),
            Some(held) if held.is_withdrawn() => return Ok(false),
            Some(held) if held.owner != *caller => {
                return Err(LeaseError::HeldByOther {
                    service: key.service.clone(),
                    instance: instance.to_owned(),
                    owner: held.owner.clone(),
                });
            }
            Some(held) => held.state = State::Withdrawn,
        }
        if instances.len() > 1 {
            instances.remove(instance);
        }
        self.changed.insert(key.clone());
        Ok(true)
    }

    /// Checks that `owner` may have one more instance of a service.
    fn check_room(&self, key: &ServiceKey, owner: &SpiffeId) -> Result<(), LeaseError> {
        let Some(instances) = self.services.get(key) else {
            let kept: usize = self.services.values().map(BTreeMap::len).sum();
            return if kept < LEASES_MAX { Ok(()) } else { Err(LeaseError::Full(LEASES_MAX)) };
        };
        let own = instances.values().filter(|held| held.owner == *owner).count();
        if own >= INSTANCES_MAX {
            return Err(LeaseError::TooMany {
                service: key.service.clone(),
                owner: owner.clone(),
                held: own,
            });
        }
        // What is withdrawn or expired makes place for a live one.
        let joins = instances.values().any(|held| matches!(held.state, State::Live(_)));
        let kept: usize = self.services.values().map(BTreeMap::len).sum();
        if joins && kept >= LEASES_MAX { Err(LeaseError::Full(LEASES_MAX)) } else { Ok(()) }
    }

    /// Lets go of what has run out at `now`, but for the last of each service. Returns what ran out.
    pub(crate) fn sweep(&mut self, now: Instant) -> Vec<(ServiceKey, String)> {
        let mut ended = Vec::new();
        for (key, instances) in &mut self.services {
            let before = ended.len();
            for (instance, held) in instances.iter_mut() {
                if let State::Live(until) = held.state
                    && until <= now
                {
                    held.state = State::Expired(until);
                    ended.push((key.clone(), instance.clone()));
                }
            }
            if ended.len() > before {
                keep_live_or_last(instances);
                self.changed.insert(key.clone());
            }
        }
        ended
    }

    /// Prolongs every live lease by the time in which this process did not run: that silence was not the workloads'.
    pub(crate) fn on_stall(&mut self, stall: Duration) {
        for held in self.services.values_mut().flat_map(BTreeMap::values_mut) {
            if let State::Live(until) = &mut held.state {
                *until += stall;
            }
        }
    }

    /// Returns the services whose leases changed since the last call.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<ServiceKey> {
        std::mem::take(&mut self.changed)
    }

    /// Returns the leases of a service by instance; never empty.
    pub(crate) fn of(&self, key: &ServiceKey) -> Option<&BTreeMap<String, Held>> {
        self.services.get(key)
    }

    /// Returns every service that has a lease, or had one.
    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.services.keys()
    }

    /// Returns how many leases there are; what was given up is none.
    pub(crate) fn len(&self) -> usize {
        self.iter().filter(|(_, _, held)| !held.is_withdrawn()).count()
    }

    /// Returns every lease: service, instance, and what is held.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ServiceKey, &str, &Held)> {
        self.services.iter().flat_map(|(key, instances)| {
            instances.iter().map(move |(instance, held)| (key, instance.as_str(), held))
        })
    }

    /// Returns all of it for the disk.
    pub(crate) fn save(&self) -> Vec<SavedLease> {
        self.iter()
            .map(|(key, instance, held)| SavedLease {
                key: key.clone(),
                instance: instance.to_owned(),
                owner: held.owner.as_str().to_owned(),
                certified: held.certified,
                withdrawn: held.is_withdrawn(),
                lease: held.lease.clone(),
            })
            .collect()
    }

    /// Returns the leases from the disk, each as if it had just been renewed. What does not read is left out.
    pub(crate) fn restore(saved: Vec<SavedLease>, now: Instant) -> Self {
        let mut leases = Self::default();
        for SavedLease { key, instance, owner, certified, withdrawn, lease } in saved {
            let (Ok(owner), Ok(())) = (owner.parse::<SpiffeId>(), validate(&lease)) else { continue };
            if leases.put(&key, &instance, &owner, certified, lease, now).is_ok() && withdrawn {
                let _ = leases.remove(&key, &instance, &owner);
            }
        }
        leases
    }
}

/// Keeps the live ones; if there are none, the one that was live last.
fn keep_live_or_last(instances: &mut BTreeMap<String, Held>) {
    let rank = |held: &Held| match held.state {
        State::Live(until) => (true, Some(until)),
        State::Expired(since) => (false, Some(since)),
        State::Withdrawn => (false, None),
    };
    let live = instances.values().any(|held| matches!(held.state, State::Live(_)));
    let last = instances.iter().max_by_key(|(_, held)| rank(held)).map(|(instance, _)| instance.clone());
    instances.retain(|instance, held| match held.state {
        State::Live(_) => true,
        State::Expired(_) | State::Withdrawn => !live && Some(instance) == last.as_ref(),
    });
}

/// Checks the body of a lease, and says which field is wrong.
pub(crate) fn validate(lease: &Lease) -> Result<(), String> {
    let address: IpAddr = lease.address.parse().map_err(|_| {
        format!("address: {} is no IP address; write the one that others dial", quoted(&lease.address))
    })?;
    let broadcast = IpAddr::from([255, 255, 255, 255]);
    if address.is_unspecified() || address.is_multicast() || address == broadcast {
        return Err(format!("address: {address} cannot be dialled; write the one that others dial"));
    }
    if !(1..=PORTS_MAX).contains(&lease.ports.len()) {
        return Err(format!("ports: {} of them; write 1 to {PORTS_MAX}", lease.ports.len()));
    }
    for (port, number) in &lease.ports {
        name::label("name", port).map_err(|why| format!("ports: {why}"))?;
        if *number == 0 {
            return Err(format!("ports.{port}: 0; write the port it listens on, 1 to 65535"));
        }
    }
    if lease.labels.len() > name::LABELS_MAX {
        return Err(format!("labels: {} of them; at most {}", lease.labels.len(), name::LABELS_MAX));
    }
    for (key, value) in &lease.labels {
        name::label_key(key).map_err(|why| format!("labels: {why}"))?;
        name::label_value(value).map_err(|why| format!("labels.{key}: {why}"))?;
    }
    name::locality(&lease.locality)?;
    if !(1..=TTL_SECONDS_MAX).contains(&lease.ttl_seconds) {
        return Err(format!("ttlSeconds: {}; write 1 to {TTL_SECONDS_MAX}", lease.ttl_seconds));
    }
    if lease.service_port == 0 {
        return Err("servicePort: 0; write the port by which callers know the service, 1 to 65535".to_owned());
    }
    Ok(())
}

/// Ten times what one machine runs.
const LEASES_MAX: usize = 20_000;
/// More than one service has on one machine, and a twentieth of all: one stolen identity must not fill the endpoint.
const INSTANCES_MAX: usize = 1_000;
const PORTS_MAX: usize = 16;
const TTL_SECONDS_MAX: u32 = 3600;

#[cfg(test)]
mod tests;
