//! Hosts that are dialled as they are named: past the endpoints that are known of one, `simple: PASSTHROUGH`; or because
//! only a pattern is known of them, and nothing is to be resolved.

use super::routes::Compiler;
use crate::{
    config::istio::{ClientTlsMode, Resolution, StringMatch},
    registry::{Instance, Locality, Place, Service, TLS_MODE_LABEL},
    route::{Condition, HeaderOps, Route, RouteAction, RouteMatch, VirtualHost},
};
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

/// Returns `itself`, the virtual host of a port of `service`, with a way past it if nobody can be dialled for `service`
/// because it is a pattern that resolves nothing: calls pass to the host that they name.
///
/// Not so where mutual TLS or the TLS of a rule is due, which whoever passes them on does not speak; and where the port
/// is declared to speak TLS, only those pass that the caller wants to speak it.
// spec: istio networking/v1alpha3/service_entry.proto Resolution NONE: the connection goes to where the caller wants it
pub(super) fn wildcard(
    compiler: &mut Compiler<'_, '_, '_>,
    service: &Service,
    itself: VirtualHost,
) -> VirtualHost {
    let is_open = service.host.contains('*') && service.resolution == Resolution::None;
    let Some(number) = compiler.clusters.number(service, compiler.port, "").filter(|_| is_open) else {
        return itself;
    };
    let cluster = compiler.clusters.get(number);
    let matches = match cluster.tls {
        ClientTlsMode::Disable => RouteMatch::default(),
        ClientTlsMode::Simple if cluster.sources.tls.is_none() => {
            RouteMatch::all(vec![Condition::Scheme(StringMatch::Exact("https".to_owned()))])
        }
        _ => return itself,
    };
    let past = Route {
        name: "passthrough".into(),
        source: None,
        matches,
        action: RouteAction::PassThrough,
        response_headers: HeaderOps::default(),
    };
    VirtualHost { routes: [past].into_iter().chain(itself.routes).collect(), ..itself }
}
