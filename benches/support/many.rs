//! A mesh of many services, each with its endpoints and a VirtualService of two routes.

use mesh::core::{
    config::{self, Options, Resource},
    health::States,
    snapshot::{MeshSettings, Snapshot, Viewer, compile},
};
use std::{collections::BTreeMap, sync::Arc};

#[allow(dead_code, reason = "of use to one of two benches")]
pub(crate) fn compiled(resources: &[Arc<Resource>], states: &States) -> Snapshot {
    compile("1", resources, &viewer(), &settings(), states).0
}

pub(crate) fn viewer() -> Viewer {
    Viewer { namespace: "default".to_owned(), service: Some("caller".to_owned()), labels: BTreeMap::new() }
}

pub(crate) fn settings() -> MeshSettings {
    MeshSettings::new("cluster.local".parse().expect("a trust domain"))
}

/// Services with their endpoints, each with a VirtualService of two routes, each in a file of its own.
pub(crate) fn resources(services: u32, endpoints: u32) -> Vec<Arc<Resource>> {
    (0..services).flat_map(|service| load(service, endpoints)).collect()
}

pub(crate) fn load(service: u32, endpoints: u32) -> impl Iterator<Item = Arc<Resource>> {
    let loaded =
        config::load(&format!("{service}.yaml"), &documents(service, endpoints), &Options::default());
    assert_eq!(loaded.resources.len(), 2, "{:?}", loaded.diagnostics);
    loaded.resources.into_iter().map(Arc::new)
}

pub(crate) fn documents(service: u32, endpoints: u32) -> String {
    let (high, low) = (service / 250, service % 250);
    let endpoint = |n| format!("  - {{address: 10.{high}.{low}.{n}, labels: {{version: v1}}}}\n");
    let endpoints: String = (0..endpoints).map(endpoint).collect();
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: service-{service}}}
spec:
  hosts: [service-{service}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints:
{endpoints}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: service-{service}}}
spec:
  hosts: [service-{service}]
  http:
  - match: [{{uri: {{prefix: /admin}}}}]
    route: [{{destination: {{host: service-{service}}}}}]
  - route: [{{destination: {{host: service-{service}}}}}]
"
    )
}
