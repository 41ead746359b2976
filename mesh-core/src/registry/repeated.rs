//! One endpoint of what several objects tell of one address.
// spec: envoy source/common/upstream/upstream_impl.cc updateDynamicHostList: the same address is one endpoint

use super::Instance;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Makes one instance of those that listen at the same place and port for the same port of the service, unless they
/// contradict each other: what answers at one address as two versions is an endpoint of either subset.
///
/// Who says that mutual TLS is spoken there is believed, then who names an account, then who says so first: what a
/// workload has registered of itself must not be lost to a list that knows nothing of it. The others add what the one
/// that is believed does not say.
pub(super) fn unite(instances: &mut Vec<Instance>) {
    let mut order: Vec<_> = (0..instances.len()).collect();
    let rank = |at: &usize| instances.get(*at).map(|it| (&it.place, it.credit()));
    order.sort_by(|a, b| rank(a).cmp(&rank(b)));
    let place = |at: &usize| instances.get(*at).map(|it| &it.place);
    let groups = order.chunk_by(|a, b| place(a) == place(b)).filter(|group| group.len() > 1);
    let groups: Vec<Vec<usize>> = groups.map(<[_]>::to_vec).collect();
    if !groups.is_empty() {
        groups.iter().for_each(|group| unite_at_one_place(instances, group));
        instances.retain(|instance| instance.ports.is_empty() || instance.ports.iter().any(Option::is_some));
    }
}

/// Unites instances at one place, of which the ones that are believed come first.
fn unite_at_one_place(instances: &mut [Instance], group: &[usize]) {
    let mut believed: HashMap<(usize, u16), Vec<usize>> = HashMap::new();
    for at in group {
        let Some(instance) = instances.get(*at) else { continue };
        let mut ports = instance.ports.to_vec();
        let agrees = |first: &usize| instances.get(*first).is_some_and(|first| first.agrees(instance));
        let mut better = None;
        for (number, port) in ports.iter_mut().enumerate() {
            let Some(listens) = *port else { continue };
            let known = believed.entry((number, listens)).or_default();
            match known.iter().copied().find(agrees) {
                Some(first) => (*port, better) = (None, Some(first)),
                None => known.push(*at),
            }
        }
        let Some(better) = better else { continue };
        let other = instance.clone();
        if let Some(instance) = instances.get_mut(*at) {
            instance.ports = ports.into();
        }
        if let Some(better) = instances.get_mut(better) {
            better.learn(other);
        }
    }
}

impl Instance {
    /// The less, the more is what it tells to be believed.
    fn credit(&self) -> (bool, bool) {
        (!self.is_meshed(), self.service_account.is_none())
    }

    /// Returns whether it may have the labels of `other` too.
    fn agrees(&self, other: &Self) -> bool {
        other.labels.iter().all(|(name, value)| self.labels.get(name).is_none_or(|own| own == value))
    }

    /// Takes from `other`, which is at the same address, what it does not know itself.
    fn learn(&mut self, other: Self) {
        let told = BTreeMap::clone(&self.labels);
        let mut labels = BTreeMap::clone(&other.labels);
        labels.extend(told);
        if labels != *self.labels {
            self.labels = Arc::new(labels);
        }
        if self.locality.region.is_empty() {
            self.locality = other.locality;
        }
        self.service_account = self.service_account.take().or(other.service_account);
    }
}
