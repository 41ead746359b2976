//! What is traced, counted and logged of one workload's requests.
//!
//! Telemetry objects are laid over each other: that of the root namespace, that of the workload's namespace (the oldest
//! without a selector each), then those that select the workload, by age. A later one replaces what it says field by
//! field; custom tags it replaces as a whole, overrides of metrics it adds to. Providers are not looked at: there is one,
//! the process's own. It records nothing.
// spec: istio pilot/pkg/model/telemetry.go applicableTelemetries, Tracing, mergeMetrics, mergeLogs

use super::{
    MeshSettings, Viewer,
    view::{age, carries},
};
use crate::{
    config::{
        Resource, Spec,
        istio::{
            AccessLogging, Expression, METRICS, MetricOverride, TagOverride, TagSource, Telemetry, Tracing,
            WorkloadMode,
        },
    },
    route::Chance,
};
use std::{collections::BTreeMap, sync::Arc};

/// What is told of a workload's requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TelemetryPolicy {
    /// Of those it makes.
    pub client: RequestTelemetry,
    /// Of those it answers.
    pub server: RequestTelemetry,
}

/// What is told of requests in one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestTelemetry {
    /// How often a trace is begun; `None` leaves it to the process.
    pub sampling: Option<Chance>,
    /// Whether spans are reported. Default true.
    pub spans: bool,
    /// Tags of every span beside the usual ones.
    pub tags: BTreeMap<String, TagSource>,
    /// Whether spans have Istio's own tags. Default true.
    pub istio_tags: bool,
    /// Whether the trace is told to whoever is called. Default true.
    pub propagated: bool,
    /// Whether any metric is kept. Default true.
    pub metrics: bool,
    /// What differs for single metrics, by Istio's name (`REQUEST_COUNT`) or the metric's own.
    pub overrides: BTreeMap<String, MetricPolicy>,
    /// Which requests are logged.
    pub access_log: AccessLog,
}

/// What differs for one metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricPolicy {
    /// Whether it is left out.
    pub disabled: bool,
    /// Its tags that are set or removed.
    pub tags: BTreeMap<String, TagOverride>,
}

/// Which requests are logged.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AccessLog {
    /// No Telemetry says; the settings of the mesh do.
    #[default]
    OfMesh,
    /// None.
    Off,
    /// Those for which the expression holds, or all.
    On(Option<Expression>),
}

impl TelemetryPolicy {
    /// Returns what is told of the requests of `viewer`.
    pub fn of(resources: &[Arc<Resource>], viewer: &Viewer, settings: &MeshSettings) -> Self {
        let mut policy = Self::default();
        for side in [&mut policy.client, &mut policy.server] {
            side.sampling = settings.sampling;
        }
        for telemetry in layers(resources, viewer, settings) {
            policy.lay(telemetry);
        }
        policy
    }

    fn lay(&mut self, telemetry: &Telemetry) {
        for tracing in &telemetry.tracing {
            self.each(tracing.mode, |side| side.on_tracing(tracing));
        }
        for change in telemetry.metrics.iter().flat_map(|metrics| &metrics.overrides) {
            self.each(change.mode, |side| side.on_metric(change));
        }
        for logging in &telemetry.access_logging {
            self.each(logging.mode, |side| side.on_logging(logging));
        }
    }

    fn each(&mut self, mode: WorkloadMode, change: impl Fn(&mut RequestTelemetry)) {
        if mode != WorkloadMode::Server {
            change(&mut self.client);
        }
        if mode != WorkloadMode::Client {
            change(&mut self.server);
        }
    }
}

impl RequestTelemetry {
    fn on_tracing(&mut self, tracing: &Tracing) {
        self.sampling = tracing.sampling.or(self.sampling);
        self.spans = tracing.disabled.map_or(self.spans, |disabled| !disabled);
        self.istio_tags = tracing.istio_tags.unwrap_or(self.istio_tags);
        self.propagated = tracing.context_disabled.map_or(self.propagated, |disabled| !disabled);
        if let Some(tags) = &tracing.tags {
            self.tags.clone_from(tags);
        }
    }

    /// Every metric switched off is one switch, which any later override switches on again.
    fn on_metric(&mut self, change: &MetricOverride) {
        self.metrics = change.metric.is_some() || change.disabled != Some(true);
        let names = match &change.metric {
            Some(name) => vec![name.as_str()],
            None if self.metrics => METRICS.into_iter().skip(1).collect(),
            None => Vec::new(),
        };
        for name in names {
            let policy = self.overrides.entry(name.to_owned()).or_default();
            policy.disabled = change.disabled.unwrap_or(policy.disabled);
            policy.tags.extend(change.tags.iter().map(|(tag, with)| (tag.clone(), with.clone())));
        }
    }

    fn on_logging(&mut self, logging: &AccessLogging) {
        self.access_log = match logging.disabled {
            Some(true) => AccessLog::Off,
            _ => AccessLog::On(logging.filter.clone()),
        };
    }
}

impl Default for RequestTelemetry {
    fn default() -> Self {
        Self {
            sampling: None,
            spans: true,
            tags: BTreeMap::new(),
            istio_tags: true,
            propagated: true,
            metrics: true,
            overrides: BTreeMap::new(),
            access_log: AccessLog::default(),
        }
    }
}

/// Returns the objects that apply to `viewer`, the widest first.
fn layers<'a>(
    resources: &'a [Arc<Resource>],
    viewer: &Viewer,
    settings: &MeshSettings,
) -> impl Iterator<Item = &'a Telemetry> {
    let rank = |resource: &Resource, telemetry: &Telemetry| {
        let namespace = &*resource.key.namespace;
        let own = *namespace == *viewer.namespace;
        let selector = telemetry.selector.as_ref().filter(|selector| !selector.labels.is_empty());
        match selector {
            _ if telemetry.is_targeted => None,
            Some(selector) => (own && carries(&viewer.labels, &selector.labels)).then_some(Rank::Workload),
            None if *namespace == *settings.root_namespace => Some(Rank::Mesh),
            None => own.then_some(Rank::Namespace),
        }
    };
    let found = resources.iter().filter_map(|resource| match &resource.spec {
        Spec::Telemetry(telemetry) => Some((rank(resource, telemetry)?, resource, telemetry)),
        _ => None,
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by(|(a, x, _), (b, y, _)| a.cmp(b).then_with(|| age(x).cmp(&age(y))));
    // Of the whole mesh and of a namespace there is one.
    found.dedup_by(|(next, ..), (rank, ..)| next == rank && *rank != Rank::Workload);
    found.into_iter().map(|(_, _, telemetry)| telemetry)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Mesh,
    Namespace,
    Workload,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Options,
        istio::{Literal, Operand},
        load,
    };

    /// One row per set of objects: namespace, name, `spec`; and the sampling of requests made and answered.
    #[test]
    #[rustfmt::skip] // A table: one row, one line.
    fn the_narrower_object_beats_the_wider_and_of_one_scope_the_oldest_counts() {
        let root = ("istio-system", "r", "tracing: [{randomSamplingPercentage: 1}]");
        let own = ("shop", "n", "tracing: [{randomSamplingPercentage: 2}]");
        let younger = ("shop", "z", "tracing: [{randomSamplingPercentage: 9}]");
        let selected = ("shop", "s", "selector: {matchLabels: {app: cart}}\n  tracing: [{randomSamplingPercentage: 3}]");
        let second = ("shop", "t", "selector: {matchLabels: {app: cart}}\n  tracing: [{match: {mode: SERVER}, randomSamplingPercentage: 4}]");
        let other = ("shop", "o", "selector: {matchLabels: {app: other}}\n  tracing: [{randomSamplingPercentage: 9}]");
        let targeted = ("shop", "a", "targetRefs: [{kind: Gateway, name: a}]\n  tracing: [{randomSamplingPercentage: 9}]");
        let foreign = ("bank", "a", "tracing: [{randomSamplingPercentage: 9}]");
        let of_root = ("istio-system", "a", "selector: {matchLabels: {app: cart}}\n  tracing: [{randomSamplingPercentage: 9}]");
        let client = ("shop", "n", "tracing: [{match: {mode: CLIENT}, randomSamplingPercentage: 5}, {disableSpanReporting: true}]");
        for (objects, made, answered) in [
            (vec![], None, None),
            (vec![foreign, other, targeted, of_root], None, None),
            (vec![root], Some(1.0), Some(1.0)),
            (vec![own, root, younger], Some(2.0), Some(2.0)),
            (vec![selected, own, root], Some(3.0), Some(3.0)),
            (vec![selected, second, own, root], Some(3.0), Some(4.0)),
            (vec![root, client], Some(5.0), Some(1.0)),
        ] {
            let policy = policy(&objects);
            let percent = |side: &RequestTelemetry| side.sampling.map(Chance::percent);
            assert_eq!((percent(&policy.client), percent(&policy.server)), (made, answered), "{objects:?}");
        }
    }

    #[test]
    fn a_field_that_is_not_said_is_inherited_and_tags_are_replaced_as_a_whole() {
        let root = "tracing: [{randomSamplingPercentage: 50, disableSpanReporting: true, enableIstioTags: false,
    disableContextPropagation: true, customTags: {a: {literal: {value: x}}, b: {environment: {name: HOME}}}}]";
        let own = "tracing: [{disableSpanReporting: false, customTags: {c: {header: {name: X-C, defaultValue: d}}}}]";
        let wide = policy(&[("istio-system", "r", root)]).client;
        assert_eq!((wide.spans, wide.istio_tags, wide.propagated), (false, false, false));
        assert_eq!(wide.tags.keys().collect::<Vec<_>>(), ["a", "b"]);
        let both = policy(&[("istio-system", "r", root), ("shop", "n", own)]).client;
        assert_eq!((both.spans, both.istio_tags, both.propagated), (true, false, false));
        assert_eq!(both.sampling, Some(Chance::of_percent(50.0)));
        let header = TagSource::Header { name: "x-c".to_owned(), default: Some("d".to_owned()) };
        assert_eq!(both.tags, BTreeMap::from([("c".to_owned(), header)]));
    }

    #[test]
    fn overrides_of_metrics_add_up_and_a_later_one_switches_them_on_again() {
        let off = ("istio-system", "r", "metrics: [{overrides: [{disabled: true}]}]");
        assert_eq!((policy(&[off]).client.metrics, policy(&[off]).server.metrics), (false, false));
        let on = (
            "shop",
            "n",
            "metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: CLIENT}, tagOverrides: {a: {value: \"'x'\"}, b: {operation: REMOVE}}}]}]",
        );
        let both = policy(&[off, on]);
        assert_eq!((both.client.metrics, both.server.metrics), (true, false));
        let count = &both.client.overrides["REQUEST_COUNT"];
        let text = Operand::Literal(Literal::Text("x".to_owned()));
        assert_eq!((&count.tags["a"], &count.tags["b"]), (&TagOverride::Upsert(text), &TagOverride::Remove));
        let more = (
            "shop",
            "s",
            "selector: {matchLabels: {app: cart}}\n  metrics: [{overrides: [{tagOverrides: {c: {operation: REMOVE}}}, {match: {customMetric: mine}, disabled: true}]}]",
        );
        let all = policy(&[off, on, more]);
        assert_eq!(all.client.overrides["REQUEST_COUNT"].tags.len(), 3);
        assert_eq!(all.server.overrides["REQUEST_SIZE"].tags.len(), 1);
        assert_eq!(all.server.overrides.len(), METRICS.len());
        assert!(all.server.metrics && all.server.overrides["mine"].disabled);
    }

    #[test]
    fn the_last_word_about_the_access_log_counts() {
        let on = "accessLogging: [{filter: {expression: 'response.code >= 400'}}]";
        let off = "accessLogging: [{disabled: true}]";
        let server = "accessLogging: [{match: {mode: SERVER}}]";
        let log = |objects: &[Object]| {
            let policy = policy(objects);
            (policy.client.access_log, policy.server.access_log)
        };
        assert_eq!(log(&[]), (AccessLog::OfMesh, AccessLog::OfMesh));
        let filtered = || AccessLog::On(Expression::parse("response.code >= 400").ok());
        assert_eq!(log(&[("istio-system", "r", on)]), (filtered(), filtered()));
        assert_eq!(log(&[("istio-system", "r", on), ("shop", "n", off)]), (AccessLog::Off, AccessLog::Off));
        assert_eq!(
            log(&[("istio-system", "r", on), ("shop", "n", server)]),
            (filtered(), AccessLog::On(None))
        );
    }

    #[test]
    fn sampling_that_no_object_sets_is_the_meshs() {
        let mut settings = MeshSettings::new("cluster.local".parse().unwrap());
        settings.sampling = Some(Chance::ALWAYS);
        assert_eq!(TelemetryPolicy::of(&[], &viewer(), &settings).server.sampling, Some(Chance::ALWAYS));
    }

    type Object<'a> = (&'a str, &'a str, &'a str);

    fn policy(objects: &[Object<'_>]) -> TelemetryPolicy {
        let text = |(namespace, name, spec): &Object<'_>| {
            format!(
                "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {spec}\n---\n"
            )
        };
        let loaded = load("f", &objects.iter().map(text).collect::<String>(), &Options::default());
        assert!(loaded.broken.is_empty(), "{:#?}", loaded.diagnostics);
        let resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
        TelemetryPolicy::of(&resources, &viewer(), &MeshSettings::new("cluster.local".parse().unwrap()))
    }

    fn viewer() -> Viewer {
        let labels = BTreeMap::from([("app".to_owned(), "cart".to_owned())]);
        Viewer { namespace: "shop".to_owned(), service: None, labels }
    }
}
