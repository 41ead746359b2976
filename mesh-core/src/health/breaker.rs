//! Limits on what one cluster may have under way. An admission is a value; dropping it gives the place back.
// spec: envoy intro/arch_overview/upstream/circuit_breaking

use super::{interval::Interval, outlier::Ejections};
use crate::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// The limits of a cluster. Istio's default for each is 2^32-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections over all endpoints.
    pub connections_max: u32,
    /// Requests waiting for a connection.
    pub pending_max: u32,
    /// Requests under way.
    pub requests_max: u32,
    /// Retries under way.
    pub retries_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: u32::MAX,
            pending_max: u32::MAX,
            requests_max: u32::MAX,
            retries_max: u32::MAX,
        }
    }
}

/// Which limit refused. Answered as 503 with flag UO; never counted against a host, never retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// `connections_max`.
    Connections,
    /// `pending_max`.
    Pending,
    /// `requests_max`.
    Requests,
    /// `retries_max`.
    Retries,
}

/// A place within a limit, given back on drop.
#[derive(Debug)]
#[must_use = "dropping a permit gives its place back"]
pub struct Permit {
    state: Arc<ClusterState>,
    limit: Overflow,
}

/// What is known of one cluster: how much of its limits is in use, and which interval is counted.
#[derive(Debug, Default)]
pub struct ClusterState {
    requests: AtomicU32,
    pending: AtomicU32,
    connections: AtomicU32,
    retries: AtomicU32,
    /// Whether anything was ever asked of it: thousands of clusters may be known, and few called.
    used: AtomicBool,
    /// How often each limit refused, in the order of [`Overflow::ALL`].
    refused: [AtomicU64; 4],
    /// The interval whose answers are counted, if any are.
    pub(super) interval: Interval,
    /// Held while an ejection is judged: two endpoints that fail at once must not both be the last allowed one.
    pub(super) ejecting: Mutex<Ejections>,
}

impl ClusterState {
    /// Takes a place within the limit that `which` names. The limits are arguments, so a reload that lowers one cuts
    /// nothing off: it admits no more until enough has ended.
    ///
    /// # Errors
    ///
    /// Returns `which` if the limit is reached.
    pub fn admit(self: &Arc<Self>, which: Overflow, limits: &Limits) -> Result<Permit, Overflow> {
        self.on_use();
        let max = limits.of(which);
        let admitted =
            self.count(which).fetch_update(Relaxed, Relaxed, |used| (used < max).then(|| used + 1));
        match admitted {
            Ok(_) => Ok(Permit { state: Arc::clone(self), limit: which }),
            Err(_) => {
                self.refused[which as usize].fetch_add(1, Relaxed);
                Err(which)
            }
        }
    }

    /// Takes a place whatever the limit is: the first connection to an endpoint is always allowed, so that a limit
    /// below the number of endpoints starves none of them.
    // spec: envoy intro/arch_overview/upstream/circuit_breaking: one connection per pool is always allowed
    pub fn admit_always(self: &Arc<Self>, which: Overflow) -> Permit {
        self.count(which).fetch_add(1, Relaxed);
        Permit { state: Arc::clone(self), limit: which }
    }

    /// Returns how much of the limit that `which` names is in use.
    pub fn in_use(&self, which: Overflow) -> u32 {
        self.count(which).load(Relaxed)
    }

    /// Returns how often the limit that `which` names has refused.
    pub fn refused(&self, which: Overflow) -> u64 {
        self.refused[which as usize].load(Relaxed)
    }

    /// Returns whether anything was ever asked of the cluster.
    pub fn is_used(&self) -> bool {
        self.used.load(Relaxed)
    }

    fn on_use(&self) {
        // Read before writing, so that requests share the cache line.
        if !self.is_used() {
            self.used.store(true, Relaxed);
        }
    }

    const fn count(&self, which: Overflow) -> &AtomicU32 {
        match which {
            Overflow::Connections => &self.connections,
            Overflow::Pending => &self.pending,
            Overflow::Requests => &self.requests,
            Overflow::Retries => &self.retries,
        }
    }
}

impl Overflow {
    /// Every limit.
    pub const ALL: [Self; 4] = [Self::Connections, Self::Pending, Self::Requests, Self::Retries];

    /// Returns its name, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
        }
    }
}

impl Limits {
    /// Returns the limit that `which` names.
    pub const fn of(&self, which: Overflow) -> u32 {
        match which {
            Overflow::Connections => self.connections_max,
            Overflow::Pending => self.pending_max,
            Overflow::Requests => self.requests_max,
            Overflow::Retries => self.retries_max,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.state.count(self.limit).fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::{Dice, Seeded};

    #[test]
    fn a_limit_admits_as_many_as_it_says_and_counts_nothing_else() {
        let limits = Limits { connections_max: 1, pending_max: 2, requests_max: 3, retries_max: 4 };
        for which in Overflow::ALL {
            let state = Arc::new(ClusterState::default());
            let permits: Vec<_> = std::iter::from_fn(|| state.admit(which, &limits).ok()).collect();
            assert_eq!(permits.len(), limits.of(which) as usize);
            assert_eq!(state.admit(which, &limits).unwrap_err(), which);
            assert!(Overflow::ALL.iter().all(|&other| other == which || state.in_use(other) == 0));
        }
    }

    #[test]
    fn a_dropped_permit_gives_its_place_back() {
        let state = Arc::new(ClusterState::default());
        let limits = Limits { requests_max: 1, ..Limits::default() };
        for _ in 0..3 {
            let permit = state.admit(Overflow::Requests, &limits).unwrap();
            assert!(state.admit(Overflow::Requests, &limits).is_err());
            drop(permit);
        }
        assert_eq!(state.in_use(Overflow::Requests), 0);
    }

    #[test]
    fn a_lowered_limit_admits_again_only_when_enough_has_ended() {
        let state = Arc::new(ClusterState::default());
        let mut permits: Vec<_> =
            (0..3).map(|_| state.admit(Overflow::Pending, &Limits::default()).unwrap()).collect();
        let low = Limits { pending_max: 2, ..Limits::default() };
        permits.pop();
        assert!(state.admit(Overflow::Pending, &low).is_err());
        permits.pop();
        assert!(state.admit(Overflow::Pending, &low).is_ok());
    }

    #[test]
    fn the_first_connection_of_a_pool_is_admitted_beyond_the_limit_and_counted() {
        let state = Arc::new(ClusterState::default());
        let limits = Limits { connections_max: 1, ..Limits::default() };
        let _one = state.admit(Overflow::Connections, &limits).unwrap();
        let two = state.admit_always(Overflow::Connections);
        assert_eq!(state.in_use(Overflow::Connections), 2);
        drop(two);
        assert_eq!(state.in_use(Overflow::Connections), 1);
    }

    /// The model is the list of those who are in.
    #[test]
    fn over_random_days_a_limit_admits_whom_a_list_has_room_for() {
        for seed in 0..50 {
            let mut dice = Seeded::new(seed);
            let (state, mut inside) = (Arc::new(ClusterState::default()), Vec::new());
            for step in 0..500 {
                let limits = Limits { requests_max: dice.below(6) as u32, ..Limits::default() };
                match dice.below(8) {
                    0..=3 => {
                        let permit = state.admit(Overflow::Requests, &limits);
                        let has_room = inside.len() < limits.requests_max as usize;
                        assert_eq!(permit.is_ok(), has_room, "seed {seed}, step {step}");
                        inside.extend(permit);
                    }
                    4 => inside.push(state.admit_always(Overflow::Requests)),
                    _ if inside.is_empty() => {}
                    _ => drop(inside.swap_remove(dice.below(inside.len() as u64) as usize)),
                }
                assert_eq!(
                    state.in_use(Overflow::Requests) as usize,
                    inside.len(),
                    "seed {seed}, step {step}"
                );
            }
        }
    }

    #[test]
    fn threads_never_hold_more_places_at_once_than_the_limit() {
        let state = Arc::new(ClusterState::default());
        let limits = Limits { requests_max: 2, ..Limits::default() };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let permit = state.admit(Overflow::Requests, &limits);
                        assert!(state.in_use(Overflow::Requests) <= 2);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(state.in_use(Overflow::Requests), 0);
    }

    #[test]
    fn refusals_are_counted_by_limit_and_a_cluster_that_nobody_called_is_told_apart() {
        let state = Arc::new(ClusterState::default());
        assert!(!state.is_used());
        let limits = Limits { requests_max: 0, ..Limits::default() };
        for _ in 0..2 {
            assert_eq!(state.admit(Overflow::Requests, &limits).err(), Some(Overflow::Requests));
        }
        assert!(state.is_used());
        assert_eq!(Overflow::ALL.map(|which| state.refused(which)), [0, 0, 2, 0]);
    }
}
