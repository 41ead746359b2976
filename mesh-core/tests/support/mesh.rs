//! A mesh made of YAML, and what one workload in it decides.

use http::{HeaderMap, Method};
use mesh_core::{
    config::{self, Options, Resource},
    dice::Seeded,
    explain::{Explanation, explain},
    health::States,
    registry::LOCALITY_LABEL,
    route::{Decision, Forward, Head},
    snapshot::{Cluster, MeshSettings, Snapshot, Viewer, compile},
};
use std::{collections::BTreeMap, sync::Arc};

/// What `checkout` in namespace `default`, labelled `app: checkout`, sees.
pub(crate) struct Mesh {
    resources: Vec<Arc<Resource>>,
    pub(crate) snapshot: Snapshot,
}

impl Mesh {
    /// Returns the mesh of `documents`, in which nothing may be wrong.
    pub(crate) fn of(documents: &[&str]) -> Self {
        let mut resources = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let loaded = config::load(&format!("{index}.yaml"), document, &Options::default());
            let error = loaded.diagnostics.iter().find(|finding| finding.is_error());
            assert_eq!(error, None, "{document}");
            resources.extend(loaded.resources.into_iter().map(Arc::new));
        }
        resources.sort_by(|a, b| a.key.cmp(&b.key));
        Self::seen(resources, "default", "checkout")
    }

    /// Returns it as `app` in `namespace` sees it.
    pub(crate) fn seen_by(&self, namespace: &str, app: &str) -> Self {
        Self::seen(self.resources.clone(), namespace, app)
    }

    /// Returns it as `checkout` in `locality` sees it.
    pub(crate) fn seen_from(&self, locality: &str) -> Self {
        let locality = (LOCALITY_LABEL.to_owned(), locality.to_owned());
        Self::seen_with(self.resources.clone(), "default", "checkout", BTreeMap::from([locality]))
    }

    fn seen(resources: Vec<Arc<Resource>>, namespace: &str, app: &str) -> Self {
        Self::seen_with(resources, namespace, app, BTreeMap::new())
    }

    fn seen_with(
        resources: Vec<Arc<Resource>>,
        namespace: &str,
        app: &str,
        mut labels: BTreeMap<String, String>,
    ) -> Self {
        labels.insert("app".to_owned(), app.to_owned());
        let viewer = Viewer { namespace: namespace.to_owned(), service: Some(app.to_owned()), labels };
        let settings = MeshSettings::new("cluster.local".parse().unwrap());
        let (snapshot, _) = compile("1", &resources, &viewer, &settings, &States::default());
        Self { resources, snapshot }
    }

    /// Returns where a GET of `url` goes.
    pub(crate) fn decide(&self, url: &str) -> Decision<'_> {
        self.decide_with(url, &HeaderMap::new(), &mut Seeded::new(0))
    }

    pub(crate) fn decide_with(&self, url: &str, headers: &HeaderMap, dice: &mut Seeded) -> Decision<'_> {
        self.snapshot.route(&head(url, headers), dice)
    }

    /// Returns how a GET of `url` is forwarded.
    pub(crate) fn forward(&self, url: &str) -> &Forward {
        match self.decide(url) {
            Decision::Forward { forward, .. } => forward,
            other => panic!("{url}: {other:?}"),
        }
    }

    /// Returns the name of the route that takes a GET of `url`, if one does.
    pub(crate) fn route(&self, url: &str) -> Option<String> {
        match self.decide(url) {
            Decision::Forward { route, .. } | Decision::Answer { route, .. } => Some(route.name.to_string()),
            _ => None,
        }
    }

    /// Returns the cluster that a GET of `url` goes to.
    pub(crate) fn cluster(&self, url: &str) -> &Arc<Cluster> {
        match self.decide(url) {
            Decision::Forward { target, .. } => self.snapshot.cluster(target.cluster.unwrap()),
            other => panic!("{url}: {other:?}"),
        }
    }

    /// Returns the story of a GET of `url`.
    pub(crate) fn explain(&self, url: &str) -> Explanation {
        explain(&self.snapshot, &head(url, &HeaderMap::new()))
    }
}

fn head<'a>(url: &'a str, headers: &'a HeaderMap) -> Head<'a> {
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path_and_query) = rest.split_at(rest.find('/').unwrap());
    Head { method: &Method::GET, scheme: "http", authority, path_and_query, headers }
}

/// A service with two meshed endpoints, one per version.
pub(crate) const REVIEWS: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.1, labels: {security.istio.io/tlsMode: istio, version: v1}, serviceAccount: reviews}
  - {address: 10.0.0.2, labels: {security.istio.io/tlsMode: istio, version: v2}, serviceAccount: reviews}
";

/// Returns a VirtualService for `reviews`, its `http` in flow style.
pub(crate) fn routes(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews}}\n\
         spec: {{hosts: [reviews], http: [{http}]}}\n"
    )
}

/// Returns a DestinationRule for `reviews`, what follows its host in flow style.
pub(crate) fn rule(rest: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: reviews}}\n\
         spec: {{host: reviews, {rest}}}\n"
    )
}
