//! Where in the world a workload is.
// spec: kubernetes reference/labels-annotations-taints, topology.kubernetes.io; istio pilot/pkg/model GetLocalityLabel

use crate::config::istio::{REGION_LABEL, ZONE_LABEL};
use std::collections::BTreeMap;

/// `region/zone/subzone`; parts that are not known are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Subzone.
    pub subzone: String,
}

impl Locality {
    /// Reads `region/zone/subzone`; missing parts are empty.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), subzone: next() }
    }

    /// Returns the locality that the labels of a workload tell.
    ///
    /// A label that holds it whole beats those that hold a part each.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        let label = |name: &str| labels.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let part = |name| label(name).unwrap_or_default().to_owned();
        match LOCALITY_LABELS.iter().find_map(|name| label(name)) {
            // A label holds no slash.
            Some(whole) if !whole.contains('/') => Self::parse(&whole.replace('.', "/")),
            Some(whole) => Self::parse(whole),
            None => Self {
                region: part(REGION_LABEL),
                zone: part(ZONE_LABEL),
                subzone: part("topology.istio.io/subzone"),
            },
        }
    }

    /// Returns the locality as it was written, else as `labels` tell it.
    pub(super) fn of(written: &str, labels: &BTreeMap<String, String>) -> Self {
        if written.is_empty() { Self::of_labels(labels) } else { Self::parse(written) }
    }
}

/// The whole locality in one label, the better one first.
const LOCALITY_LABELS: [&str; 2] = [LOCALITY_LABEL, "istio-locality"];

/// The label that tells the whole locality of a workload, `region/zone/subzone`.
pub const LOCALITY_LABEL: &str = "topology.istio.io/locality";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locality_is_told_by_one_label_or_by_three() {
        let parts = [
            ("topology.kubernetes.io/region", "eu"),
            ("topology.kubernetes.io/zone", "a"),
            ("topology.istio.io/subzone", "1"),
        ];
        assert_eq!(of(&parts), Locality::parse("eu/a/1"));
        assert_eq!(of(&parts[..1]), Locality::parse("eu"));
        assert_eq!(of(&[("istio-locality", "us.b.2"), parts[0]]), Locality::parse("us/b/2"));
        assert_eq!(of(&[("topology.istio.io/locality", "us/b.c/2")]), Locality::parse("us/b.c/2"));
        assert_eq!(of(&[("istio-locality", ""), parts[0]]), Locality::parse("eu"));
        assert_eq!(of(&[]), Locality::default());
    }

    fn of(labels: &[(&str, &str)]) -> Locality {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Locality::of_labels(&labels.iter().map(owned).collect())
    }
}
