//! Who holds a certificate of this authority, and which services a join token named for them: the SVID that follows the
//! token cannot say it.

use mesh_core::identity::SpiffeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The identities with a certificate that is still valid. Times are seconds since 1970.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Certified(BTreeMap<String, Grant>);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Grant {
    until: u64,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    services: BTreeSet<String>,
}

impl Certified {
    /// Notes a certificate for `id` that is valid `until`. The services of its earlier tokens stay as long as
    /// certificates follow each other without a gap.
    pub(crate) fn on_certificate(&mut self, id: &SpiffeId, services: &[String], until: u64, now: u64) {
        self.0.retain(|_, grant| grant.until > now);
        let grant = self.0.entry(id.as_str().to_owned()).or_default();
        grant.until = grant.until.max(until);
        grant.services.extend(services.iter().cloned());
    }

    /// Returns whether `id` holds a valid certificate.
    pub(crate) fn holds(&self, id: &SpiffeId, now: u64) -> bool {
        self.valid(id, now).is_some()
    }

    /// Returns whether a token named `service` for `id`.
    pub(crate) fn may_register(&self, id: &SpiffeId, service: &str, now: u64) -> bool {
        self.valid(id, now).is_some_and(|grant| grant.services.contains(service))
    }

    fn valid(&self, id: &SpiffeId, now: u64) -> Option<&Grant> {
        self.0.get(id.as_str()).filter(|grant| grant.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_named_by_a_token_outlive_it_as_long_as_certificates_follow_each_other() {
        let id: SpiffeId = "spiffe://td/ns/shop/sa/cart".parse().unwrap();
        let mut certified = Certified::default();
        assert!(!certified.holds(&id, 0));
        certified.on_certificate(&id, &["basket".into()], 100, 0);
        certified.on_certificate(&id, &[], 150, 50);
        assert!(certified.may_register(&id, "basket", 149));
        assert!(!certified.may_register(&id, "payment", 149));
        assert!(!certified.holds(&id, 150));
        certified.on_certificate(&id, &[], 300, 200);
        assert!(certified.holds(&id, 200));
        assert!(!certified.may_register(&id, "basket", 200), "a grant survived a gap");
    }
}
