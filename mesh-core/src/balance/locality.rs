//! Which endpoints come first for a caller, by where they and it are, and by their labels.
//!
//! It sorts them into priorities once, when a set is built; how much load each priority gets is the business of
//! `priority`.
// spec: istio pilot/pkg/networking/core/loadbalancer/loadbalancer.go

mod policy;

pub use policy::{
    Distribution, Failover, LocalityPattern, LocalityPatternError, LocalityPolicy, PriorityLabel,
};

use super::Endpoint;
use crate::registry::Locality;
use std::collections::BTreeMap;

/// Where the caller is, and what that means for whom it calls.
#[derive(Clone, Copy, Debug)]
pub struct Nearness<'a> {
    /// The caller's locality.
    pub locality: &'a Locality,
    /// The caller's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What the configuration says.
    pub policy: &'a LocalityPolicy,
}

/// Endpoints of one priority that belong together, and their weight among the others of that priority.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) members: Vec<u32>,
    pub(super) weight: u32,
}

impl<'a> Nearness<'a> {
    /// Drops the endpoints that get no share.
    pub(super) fn retain(&self, endpoints: &mut Vec<Endpoint>) {
        if let Some(rule) = self.distribution() {
            endpoints.retain(|endpoint| rule.share(&endpoint.locality).is_some());
        }
    }

    /// Returns the priorities, first the one that comes first, each in parts. None is empty.
    ///
    /// A priority is one part, unless shares or a failover are written: Istio then has Envoy choose a locality by weight
    /// before it chooses an endpoint.
    // spec: istio pilot/pkg/networking/core/cluster_traffic_policy.go applyLocalityLoadBalancer
    pub(super) fn arrange(&self, endpoints: &[Endpoint]) -> Vec<Vec<Part>> {
        let failover = match self.policy {
            LocalityPolicy::Distribute(_) => {
                let everybody = (0_u32..).zip(endpoints).map(|(number, _)| number).collect();
                return [self.shared(endpoints, everybody)]
                    .into_iter()
                    .filter(|parts| !parts.is_empty())
                    .collect();
            }
            LocalityPolicy::Failover(failover) => failover,
        };
        let mut priorities: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (number, endpoint) in (0..).zip(endpoints) {
            priorities.entry(self.priority(failover, endpoint)).or_default().push(number);
        }
        let by_locality = !(failover.regions.is_empty() && failover.labels.is_empty());
        let parts = |members| match by_locality {
            true => by_weight(endpoints, members),
            false => vec![Part::new(endpoints, members)],
        };
        priorities.into_values().map(parts).collect()
    }

    /// The rule for callers where this one is.
    fn distribution(&self) -> Option<&'a Distribution> {
        match self.policy {
            LocalityPolicy::Distribute(rules) => rules.iter().find(|rule| rule.from.covers(self.locality)),
            LocalityPolicy::Failover(_) => None,
        }
    }

    /// One part for each locality. Those that match one entry divide its share by their own weights, rounded up.
    fn shared(&self, endpoints: &[Endpoint], members: Vec<u32>) -> Vec<Part> {
        let mut parts = by_locality(endpoints, members);
        let Some(rule) = self.distribution() else {
            return parts.into_iter().map(|(_, part)| part).collect();
        };
        let mut totals = BTreeMap::new();
        for (locality, part) in &parts {
            if let Some((entry, _)) = rule.share(locality) {
                *totals.entry(entry).or_insert(0_u64) += u64::from(part.weight);
            }
        }
        for (locality, part) in &mut parts {
            let Some((entry, share)) = rule.share(locality) else { continue };
            let total = totals.get(&entry).copied().unwrap_or(1).max(1);
            let weight = (u64::from(part.weight) * u64::from(share)).div_ceil(total);
            part.weight = u32::try_from(weight).unwrap_or(u32::MAX);
        }
        parts.into_iter().map(|(_, part)| part).collect()
    }

    /// The lower the sooner. Labels come before places, and places count only if there are no labels or they are written.
    fn priority(&self, failover: &Failover, endpoint: &Endpoint) -> u32 {
        if failover.labels.is_empty() {
            return self.distance(failover, &endpoint.locality);
        }
        let unshared = if self.labels.is_empty() { 0 } else { self.unshared(failover, endpoint) };
        match failover.regions.is_empty() {
            true => unshared,
            false => unshared * DISTANCES + self.distance(failover, &endpoint.locality),
        }
    }

    /// From 0, the same subzone, to 3, another region; 4 where that is not the region to fail over to.
    // spec: istio pilot/pkg/networking/util LbPriority
    fn distance(&self, failover: &Failover, other: &Locality) -> u32 {
        let own = self.locality;
        if own.region != other.region {
            let rule = failover.regions.iter().find(|(from, _)| *from == own.region);
            return if rule.is_none_or(|(_, to)| *to == other.region) { 3 } else { 4 };
        }
        match (own.zone == other.zone, own.subzone == other.subzone) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        }
    }

    /// Returns how many of the labels come after the ones that `endpoint` shares without a gap.
    fn unshared(&self, failover: &Failover, endpoint: &Endpoint) -> u32 {
        let is_shared = |wanted: &&PriorityLabel| {
            let own = || label(self.labels, self.locality, &wanted.name);
            wanted.value.as_deref().unwrap_or_else(own)
                == label(&endpoint.labels, &endpoint.locality, &wanted.name)
        };
        let shared = failover.labels.iter().take_while(is_shared).count();
        u32::try_from(failover.labels.len() - shared).unwrap_or(u32::MAX / DISTANCES - 1)
    }
}

impl Distribution {
    /// Returns which of the entries `locality` matches, and that one's share.
    fn share(&self, locality: &Locality) -> Option<(usize, u32)> {
        let mut entries = self.to.iter().enumerate().filter(|(_, (_, share))| *share > 0);
        let (entry, (_, share)) = entries.find(|(_, (pattern, _))| pattern.covers(locality))?;
        Some((entry, *share))
    }
}

impl Part {
    fn new(endpoints: &[Endpoint], members: Vec<u32>) -> Self {
        let weights =
            members.iter().filter_map(|&number| endpoints.get(number as usize)).map(Endpoint::weight);
        let weight = weights.fold(0, u32::saturating_add);
        Self { members, weight }
    }
}

fn by_weight(endpoints: &[Endpoint], members: Vec<u32>) -> Vec<Part> {
    by_locality(endpoints, members).into_iter().map(|(_, part)| part).collect()
}

fn by_locality(endpoints: &[Endpoint], members: Vec<u32>) -> Vec<(&Locality, Part)> {
    let mut localities: BTreeMap<&Locality, Vec<u32>> = BTreeMap::new();
    for number in members {
        if let Some(endpoint) = endpoints.get(number as usize) {
            localities.entry(&endpoint.locality).or_default().push(number);
        }
    }
    localities.into_iter().map(|(at, members)| (at, Part::new(endpoints, members))).collect()
}

/// Returns the label `name`; what says where something is counts as a label of it. A label that is missing is empty.
// spec: istio pilot/pkg/serviceregistry/util/label AugmentLabels
fn label<'a>(labels: &'a BTreeMap<String, String>, locality: &'a Locality, name: &str) -> &'a str {
    let written = labels.get(name).map(String::as_str);
    written.unwrap_or(match name {
        "topology.kubernetes.io/region" => &locality.region,
        "topology.kubernetes.io/zone" => &locality.zone,
        "topology.istio.io/subzone" => &locality.subzone,
        _ => "",
    })
}

/// How many distances there are.
const DISTANCES: u32 = 5;

#[cfg(test)]
mod tests;
