//! A host that is dialled as it is named, past the endpoints that are known of it: `simple: PASSTHROUGH`.

use crate::registry::{Instance, Locality, Place, Service, TLS_MODE_LABEL};
use std::sync::Arc;

/// Returns `service` itself as its one instance, or `None` if its name is a pattern.
///
/// What is known of its instances still holds: if one speaks mutual TLS, or none is known, so does whoever answers; and
/// if they share an account, it has that one.
// spec: istio pilot/pkg/networking/core/cluster_tls.go applyUpstreamTLSSettings, for ORIGINAL_DST clusters
pub(super) fn itself(service: &Service) -> Option<Instance> {
    let known = &service.instances;
    let meshed = known.is_empty() || known.iter().any(Instance::is_meshed);
    let label = meshed.then(|| (TLS_MODE_LABEL.to_owned(), "istio".to_owned()));
    let account = known.first().and_then(|first| first.service_account.clone());
    let shared = known.iter().all(|instance| instance.service_account == account);
    (!service.host.contains('*')).then(|| Instance {
        place: Place::new(&service.host),
        ports: service.ports.iter().map(|port| Some(port.number)).collect(),
        labels: Arc::new(label.into_iter().collect()),
        locality: Locality::default(),
        weight: 1,
        namespace: Arc::clone(&service.namespace),
        service_account: account.filter(|_| shared),
    })
}
