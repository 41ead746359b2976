//! What a workload sees of the mesh: the hosts that its Sidecar names.
//!
//! One Sidecar applies to a workload: of its namespace the oldest whose `workloadSelector` it carries, else the oldest
//! without a selector, else that of the root namespace. Without one it sees everything.
//!
//! What is scoped, beside `exportTo`, which holds all the same:
//! - A *service* is seen if [`Scope::sees`] says so of its namespace and its host.
//! - A *VirtualService* applies if [`Scope::imports`] says so of its namespace and one of its hosts. Its destinations
//!   are called whether or not they are seen: Istio imports the services that an imported rule leads to.
//! - A *DestinationRule* is not scoped by itself: those of a service that is called apply, wherever they stand.
// spec: istio pilot/pkg/model/sidecar.go; pilot/pkg/model/virtualservice.go SelectVirtualServices

use super::{
    MeshSettings, Viewer,
    view::{age, carries},
};
use crate::config::{
    Origin, Resource, Spec,
    istio::{InboundPool, NamespacedHosts, Sidecar},
};
use std::{collections::BTreeMap, sync::Arc};

/// What a workload sees. The default sees everything.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    imports: Option<NamespacedHosts>,
    allow_any: Option<bool>,
    inbound: InboundPools,
    source: Option<Origin>,
}

/// How much a server takes at one time, by the port it listens at. The default is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboundPools {
    every: InboundPool,
    ports: BTreeMap<u16, InboundPool>,
}

impl Scope {
    /// Returns what `viewer` sees.
    pub fn of(resources: &[Arc<Resource>], viewer: &Viewer, settings: &MeshSettings) -> Self {
        let Some((resource, sidecar)) = applying(resources, viewer, settings) else { return Self::default() };
        let hosts = sidecar.egress.iter().flat_map(|listener| &listener.hosts);
        let at = hosts.clone().next().map(|host| host.at).unwrap_or_default();
        Self {
            imports: (!sidecar.egress.is_empty()).then(|| NamespacedHosts::of(hosts, &viewer.namespace)),
            allow_any: sidecar.allow_any,
            inbound: InboundPools::of(sidecar),
            source: Some(resource.origin(at)),
        }
    }

    /// Returns whether the workload sees the service `host`, in full and lower case, of `namespace`.
    pub fn sees(&self, namespace: &str, host: &str) -> bool {
        self.imports.as_ref().is_none_or(|imports| imports.cover(namespace, host))
    }

    /// Returns whether a VirtualService of `namespace` applies by its host `host`, which may be a wildcard: then it
    /// is enough that it has a host in common with what is seen.
    pub fn imports(&self, namespace: &str, host: &str) -> bool {
        self.imports.as_ref().is_none_or(|imports| imports.meet(namespace, host))
    }

    /// Returns whether hosts that nobody knows are passed through; `None` if the mesh's setting decides.
    pub fn allow_any(&self) -> Option<bool> {
        self.allow_any
    }

    /// Returns how much a server takes at one time.
    pub fn inbound(&self) -> &InboundPools {
        &self.inbound
    }

    /// Returns the Sidecar that says all this.
    pub fn source(&self) -> Option<&Origin> {
        self.source.as_ref()
    }
}

// spec: istio pilot/pkg/model/sidecar.go InboundConnectionPoolForPort
impl InboundPools {
    fn of(sidecar: &Sidecar) -> Self {
        let own = sidecar.ingress.iter().filter_map(|listener| Some((listener.port, listener.pool?)));
        Self { every: sidecar.inbound_pool.unwrap_or_default(), ports: own.collect() }
    }

    /// Returns the limits of workload port `port`: its own, which then are all it has, or those of every port.
    pub fn at(&self, port: u16) -> InboundPool {
        self.ports.get(&port).copied().unwrap_or(self.every)
    }
}

/// Returns the Sidecar that applies to `viewer`.
// spec: istio pilot/pkg/model/push_context.go getSidecarScope
fn applying<'a>(
    resources: &'a [Arc<Resource>],
    viewer: &Viewer,
    settings: &MeshSettings,
) -> Option<(&'a Arc<Resource>, &'a Sidecar)> {
    let rank = |resource: &Resource, sidecar: &Sidecar| {
        let own = *resource.key.namespace == *viewer.namespace;
        match &sidecar.workload_selector {
            Some(selector) => (own && carries(&viewer.labels, &selector.labels)).then_some(0),
            None if own => Some(1),
            None => (*resource.key.namespace == *settings.root_namespace).then_some(2),
        }
    };
    let sidecars = resources.iter().filter_map(|resource| match &resource.spec {
        Spec::Sidecar(sidecar) => Some((rank(resource, sidecar)?, resource, sidecar)),
        _ => None,
    });
    let first = sidecars.min_by(|(a, x, _), (b, y, _)| a.cmp(b).then_with(|| age(x).cmp(&age(y))));
    first.map(|(_, resource, sidecar)| (resource, sidecar))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, load};
    use std::collections::BTreeMap;

    /// One row per import: the hosts that `egress` names, and what `shop` sees by them.
    #[test]
    #[rustfmt::skip] // A table: one row, one line.
    fn a_workload_sees_the_hosts_that_its_sidecar_names_and_no_others() {
        for (hosts, namespace, host, sees, imports) in [
            ("*/*", "any", "a.any.svc.cluster.local", true, true),
            ("./*", "shop", "a.shop.svc.cluster.local", true, true),
            ("./*", "bank", "a.bank.svc.cluster.local", false, false),
            ("~/*", "shop", "a.shop.svc.cluster.local", false, false),
            ("bank/*", "bank", "a.bank.svc.cluster.local", true, true),
            ("bank/*", "shop", "a.shop.svc.cluster.local", false, false),
            ("*/a.b.com", "bank", "a.b.com", true, true),
            ("*/a.b.com", "bank", "c.b.com", false, false),
            ("bank/*.b.com", "bank", "a.b.com", true, true),
            ("bank/*.b.com", "bank", "x.a.b.com", true, true),
            ("bank/*.b.com", "bank", "b.com", false, false),
            ("bank/*.b.com", "bank", "ab.com", false, false),
            ("bank/*.b.com", "shop", "a.b.com", false, false),
            // A wildcard is seen whole, and a rule applies by a part of it.
            ("*/*.b.com", "bank", "*.b.com", true, true),
            ("*/*.b.com", "bank", "*.a.b.com", true, true),
            ("*/*.b.com", "bank", "*.com", false, true),
            ("*/a.b.com", "bank", "*.b.com", false, true),
            ("*/a.b.com", "bank", "*", false, true),
            ("*/a.b.com", "bank", "*.c.com", false, false),
            ("~/*", "bank", "*", false, false),
            // One entry of several is enough.
            ("./*, bank/a.b.com", "bank", "a.b.com", true, true),
            ("./*, bank/a.b.com", "shop", "c.b.com", true, true),
        ] {
            let sidecar = sidecar("shop", "a", &format!("egress: [{{hosts: [{}]}}]", quoted(hosts)));
            let scope = scope(&[&sidecar]);
            assert_eq!((scope.sees(namespace, host), scope.imports(namespace, host)), (sees, imports), "{hosts}: {namespace}/{host}");
        }
    }

    #[test]
    #[rustfmt::skip] // A table: one row, one line.
    fn the_selected_sidecar_beats_the_namespaces_and_that_the_roots_and_the_older_the_younger() {
        let select = |labels: &str, host: &str| format!("workloadSelector: {{labels: {labels}}}\negress: [{{hosts: ['*/{host}.com']}}]");
        let plain = |host: &str| format!("egress: [{{hosts: ['*/{host}.com']}}]");
        let root = sidecar("istio-system", "r", &plain("root.x"));
        let root_selected = sidecar("istio-system", "a", &select("{app: cart}", "selected.x"));
        let own = sidecar("shop", "n", &plain("own.x"));
        let elder = sidecar("shop", "z", &plain("elder.x")).replace("{name", "{creationTimestamp: '2020-01-01T00:00:00Z', name");
        let selected = sidecar("shop", "s", &select("{app: cart}", "cart.x"));
        let everybody = sidecar("shop", "e", &select("{}", "all.x"));
        let others = sidecar("shop", "o", &select("{app: other}", "other.x"));
        let foreign = sidecar("bank", "b", &plain("bank.x"));
        for (sidecars, seen) in [
            (vec![], None),
            (vec![&foreign], None),
            (vec![&root_selected], None),
            (vec![&root], Some("root.x.com")),
            (vec![&root, &own], Some("own.x.com")),
            (vec![&root, &own, &elder], Some("elder.x.com")),
            (vec![&own, &others], Some("own.x.com")),
            (vec![&elder, &selected], Some("cart.x.com")),
            (vec![&selected, &everybody], Some("all.x.com")),
        ] {
            let scope = scope(&sidecars.iter().map(|text| text.as_str()).collect::<Vec<_>>());
            let all = ["root.x.com", "own.x.com", "elder.x.com", "cart.x.com", "all.x.com", "other.x.com", "bank.x.com", "selected.x.com"];
            let sees: Vec<_> = all.into_iter().filter(|host| scope.sees("any", host)).collect();
            assert_eq!(sees, seen.map_or(all.to_vec(), |host| vec![host]), "{sidecars:?}");
            assert_eq!(scope.source().is_some(), seen.is_some());
        }
    }

    #[test]
    fn a_sidecar_without_egress_sees_everything_and_still_says_what_unknown_hosts_are() {
        for (spec, allow_any) in [
            ("outboundTrafficPolicy: {mode: REGISTRY_ONLY}", Some(false)),
            ("outboundTrafficPolicy: {}", Some(false)),
            ("outboundTrafficPolicy: {mode: ALLOW_ANY}", Some(true)),
            ("egress: [{hosts: ['*/*']}]", None),
        ] {
            let scope = scope(&[&sidecar("shop", "a", spec)]);
            assert_eq!((scope.allow_any(), scope.sees("x", "a.x.com")), (allow_any, true), "{spec}");
        }
    }

    #[test]
    fn a_port_has_the_limits_of_its_own_entry_whole_or_those_of_every_port() {
        let own = "{port: {number: 81, protocol: HTTP}, connectionPool: {tcp: {maxConnections: 7}}}";
        let spec = format!(
            "inboundConnectionPool: {{http: {{http2MaxRequests: 5}}}}\ningress: [{own}, {{port: {{number: 82, protocol: HTTP}}}}]"
        );
        let scope = scope(&[&sidecar("shop", "a", &spec)]);
        let limits = [80, 81, 82].map(|port| scope.inbound().at(port));
        let told = limits.map(|pool| (pool.requests_max, pool.connections_max, pool.pending_max));
        assert_eq!(told, [(Some(5), None, None), (None, Some(7), None), (Some(5), None, None)]);
    }

    /// The dot of a Sidecar in the root namespace is the namespace of the workload it applies to.
    #[test]
    fn the_own_namespace_is_the_workloads() {
        let scope = scope(&[&sidecar("istio-system", "a", "egress: [{hosts: [./*]}]")]);
        assert!(scope.sees("shop", "a.shop.svc.cluster.local"));
        assert!(!scope.sees("istio-system", "a.istio-system.svc.cluster.local"));
    }

    fn scope(sidecars: &[&str]) -> Scope {
        let loaded = load("f", &sidecars.join("\n---\n"), &Options::default());
        assert!(loaded.broken.is_empty(), "{:#?}", loaded.diagnostics);
        let resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
        let labels = BTreeMap::from([("app".to_owned(), "cart".to_owned())]);
        let viewer = Viewer { namespace: "shop".to_owned(), service: None, labels };
        Scope::of(&resources, &viewer, &MeshSettings::new("cluster.local".parse().unwrap()))
    }

    fn sidecar(namespace: &str, name: &str, spec: &str) -> String {
        let spec = spec.replace('\n', "\n  ");
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {spec}\n"
        )
    }

    fn quoted(hosts: &str) -> String {
        hosts.split(", ").map(|host| format!("'{host}'")).collect::<Vec<_>>().join(", ")
    }
}
