//! What is known of the clusters that were called, at the moment somebody looks: limits, ejections, retry budgets.

use super::text::{Labels, Text};
use mesh_core::{
    health::{Cause, Overflow},
    snapshot::{Cluster, Snapshot},
    time::Time,
};
use std::{collections::BTreeMap, sync::Arc};

/// Writes the state of the clusters of `snapshot`, of those alone that were called: a mesh has thousands.
pub(super) fn render(text: &mut Text, snapshot: &Snapshot, now: Time) {
    let called: Vec<&Arc<Cluster>> = snapshot.clusters().filter(|it| it.state.is_used()).collect();
    limits(text, &called);
    endpoints(text, &called, now);
    ejections(text, &called);
    text.family("mesh_retry_budget_tokens", "gauge", "Retries that the budget of a host would lend now.");
    let budgets: BTreeMap<&str, u64> =
        called.iter().map(|cluster| (&*cluster.host, cluster.budget.available())).collect();
    for (host, tokens) in budgets {
        text.sample(&Labels::new().with("destination_service", host), tokens);
    }
}

fn limits(text: &mut Text, called: &[&Arc<Cluster>]) {
    text.family("mesh_cluster_in_use", "gauge", "What a cluster has under way, by what is limited.");
    each_limit(called, |labels, cluster, which| text.sample(&labels, cluster.state.in_use(which)));
    text.family("mesh_cluster_limit", "gauge", "How much a cluster may have under way, where it is limited.");
    each_limit(called, |labels, cluster, which| {
        let limit = cluster.limits.of(which);
        if limit != u32::MAX {
            text.sample(&labels, limit);
        }
    });
    text.family("mesh_cluster_refused_total", "counter", "What a limit of a cluster refused.");
    each_limit(called, |labels, cluster, which| text.sample(&labels, cluster.state.refused(which)));
}

fn each_limit(called: &[&Arc<Cluster>], mut show: impl FnMut(Labels, &Cluster, Overflow)) {
    for cluster in called {
        for which in Overflow::ALL {
            show(named(cluster).with("limit", which.as_str()), cluster, which);
        }
    }
}

fn endpoints(text: &mut Text, called: &[&Arc<Cluster>], now: Time) {
    text.family("mesh_cluster_endpoints", "gauge", "Endpoints of a cluster, by their health.");
    for cluster in called {
        let admitted = cluster.endpoints.healthy(now);
        text.sample(&named(cluster).with("health", "admitted"), admitted);
        text.sample(&named(cluster).with("health", "ejected"), cluster.endpoints.len() - admitted);
    }
}

fn ejections(text: &mut Text, called: &[&Arc<Cluster>]) {
    let ejecting = || called.iter().filter(|cluster| cluster.outlier.is_some());
    text.family(
        "mesh_cluster_ejections_total",
        "counter",
        "Ejections of endpoints, by the rule that made them.",
    );
    for cluster in ejecting() {
        let ejections = cluster.state.ejections();
        for cause in Cause::ALL {
            text.sample(&named(cluster).with("cause", cause.as_str()), ejections.made(cause));
        }
    }
    text.family(
        "mesh_cluster_ejections_spared_total",
        "counter",
        "Ejections not made: too many are ejected.",
    );
    for cluster in ejecting() {
        text.sample(&named(cluster), cluster.state.ejections().spared());
    }
}

fn named(cluster: &Cluster) -> Labels {
    Labels::new().with("cluster", &cluster.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::{
        config::{Options, load},
        health::{States, Verdict},
        snapshot::{MeshSettings, Viewer, compile},
    };

    #[test]
    fn a_cluster_that_was_called_shows_its_limits_endpoints_and_ejections_and_no_other_does() {
        let snapshot = snapshot();
        let cluster = snapshot.clusters().find(|cluster| cluster.host.starts_with("reviews")).unwrap();
        let _under_way = cluster.state.admit(Overflow::Requests, &cluster.limits).unwrap();
        assert!(cluster.state.admit(Overflow::Requests, &cluster.limits).is_err());
        for endpoint in cluster.endpoints.as_slice() {
            let (begun, policy) = (endpoint.state.begin(Time::ZERO), cluster.outlier.unwrap());
            let verdict = Verdict::Status(500);
            cluster.state.on_answer(&begun, verdict, &policy, &cluster.endpoints, Time::ZERO);
        }
        let mut text = Text::default();
        render(&mut text, &snapshot, Time::ZERO);
        let text = text.finish();
        let of = "cluster=\"outbound|80||reviews.default.svc.cluster.local\"";
        for line in [
            format!("mesh_cluster_in_use{{{of},limit=\"requests\"}} 1\n"),
            format!("mesh_cluster_limit{{{of},limit=\"requests\"}} 1\n"),
            format!("mesh_cluster_refused_total{{{of},limit=\"requests\"}} 1\n"),
            format!("mesh_cluster_endpoints{{{of},health=\"admitted\"}} 1\n"),
            format!("mesh_cluster_endpoints{{{of},health=\"ejected\"}} 1\n"),
            format!("mesh_cluster_ejections_total{{{of},cause=\"consecutive_5xx\"}} 1\n"),
            format!("mesh_cluster_ejections_spared_total{{{of}}} 1\n"),
            "mesh_retry_budget_tokens{destination_service=\"reviews.default.svc.cluster.local\"} 10\n"
                .to_owned(),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(!text.contains("limit=\"pending\"} 4294967295") && !text.contains("ratings"), "{text}");
    }

    fn snapshot() -> Snapshot {
        let entry = |name: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}
spec:
  hosts: [{name}.default.svc.cluster.local]
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 10.0.0.1}}, {{address: 10.0.0.2}}]
---
"
            )
        };
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    connectionPool: {http: {http2MaxRequests: 1}}
    outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 50}
";
        let yaml = entry("reviews") + &entry("ratings") + rule;
        let resources: Vec<_> =
            load("test.yaml", &yaml, &Options::default()).resources.into_iter().map(Arc::new).collect();
        let viewer = Viewer { namespace: "default".to_owned(), service: None, labels: BTreeMap::new() };
        let settings = MeshSettings::new("cluster.local".parse().unwrap());
        compile("1", &resources, &viewer, &settings, &States::default()).0
    }
}
