//! The immutable set a cluster balances over.

use super::{
    Endpoint, Nearness, Policy, WarmUp, group::Group, locality::Part, priority::Priorities,
    slow_start::SlowStart,
};
use crate::{health, time::Time};

/// The endpoints of one cluster; never changes once built.
#[derive(Debug)]
pub struct EndpointSet {
    endpoints: Box<[Endpoint]>,
    policy: Policy,
    min_health_percent: u8,
    slow_start: Option<SlowStart>,
    order: Order,
}

/// Who comes first.
#[derive(Debug)]
pub(super) enum Order {
    /// Nobody.
    Alike(Group),
    /// Some before others.
    Priorities(Priorities),
}

/// How a set chooses among its endpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetPolicy<'a> {
    /// How an endpoint is chosen.
    pub policy: Policy,
    /// Below this percentage of healthy endpoints all are used (`minHealthPercent`). Default 0: never.
    pub min_health_percent: u8,
    /// How an endpoint that joins warms up; of effect with round robin and least request.
    pub warm_up: Option<WarmUp>,
    /// What the places of caller and endpoints mean; nothing if `None`.
    pub nearness: Option<Nearness<'a>>,
}

impl EndpointSet {
    /// Returns the set of `endpoints`, balanced by [`Policy::default`]. It never panics: if all are ejected, none is
    /// picked.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self::build(endpoints, &SetPolicy::default())
    }

    /// Returns the set of `endpoints` that chooses by `policy`. It holds only those that can be chosen.
    pub fn build(mut endpoints: Vec<Endpoint>, policy: &SetPolicy<'_>) -> Self {
        let Some(nearness) = &policy.nearness else { return Self::arranged(endpoints, policy, Vec::new()) };
        nearness.retain(&mut endpoints);
        let arranged = nearness.arrange(&endpoints);
        Self::arranged(endpoints, policy, arranged)
    }

    /// Returns the set of `endpoints` that are `arranged` in priorities and parts of them; all alike if there are none.
    pub(super) fn arranged(
        endpoints: Vec<Endpoint>,
        policy: &SetPolicy<'_>,
        arranged: Vec<Vec<Part>>,
    ) -> Self {
        let is_alike = arranged.iter().flatten().count() <= 1;
        Self {
            order: match is_alike {
                true => Order::Alike(Group::new(&endpoints, None, policy.policy)),
                false => Order::Priorities(Priorities::new(&endpoints, arranged, policy.policy)),
            },
            endpoints: endpoints.into_boxed_slice(),
            policy: policy.policy,
            min_health_percent: policy.min_health_percent,
            slow_start: policy.warm_up.filter(|_| policy.policy.warms_up()).map(SlowStart::new),
        }
    }

    /// Returns the set with a bound below which ejections are ignored (`minHealthPercent`).
    #[must_use]
    pub fn with_min_health_percent(self, min_health_percent: u8) -> Self {
        Self { min_health_percent, ..self }
    }

    /// Returns the endpoints in order.
    pub fn as_slice(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Returns how it chooses.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Returns the priority of endpoint number `index`, 0 being the first to be used.
    pub fn priority(&self, index: usize) -> u32 {
        match &self.order {
            Order::Alike(_) => 0,
            Order::Priorities(priorities) => priorities.of(index),
        }
    }

    /// Returns how many are not ejected.
    pub fn healthy(&self, now: Time) -> usize {
        self.endpoints.iter().filter(|endpoint| !endpoint.state.is_ejected(now)).count()
    }

    /// Returns whether so few are healthy that ejections are ignored, in a set without priorities.
    ///
    /// Five sevenths are always enough, whatever the minimum says.
    // spec: envoy source/extensions/load_balancing_policies/common/load_balancer_impl.cc recalculatePerPriorityPanic
    pub fn is_panic(&self, now: Time) -> bool {
        if self.min_health_percent == 0 {
            return false;
        }
        let (healthy, total) = (self.healthy(now), self.len());
        health::is_panic(healthy, total, self.min_health_percent) && 7 * healthy < 5 * total
    }

    pub(super) fn min_health_percent(&self) -> u8 {
        self.min_health_percent
    }

    pub(super) fn order(&self) -> &Order {
        &self.order
    }

    pub(super) fn slow_start(&self) -> Option<&SlowStart> {
        self.slow_start.as_ref()
    }
}

impl Default for EndpointSet {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}
