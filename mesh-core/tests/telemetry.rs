//! Telemetry: what may be written, and what is said of it. How objects add up is tested beside `TelemetryPolicy`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mesh_core::{
    config::{
        Code, Options, Spec,
        istio::{TagOverride, TagSource, Telemetry, WorkloadMode},
        load,
    },
    route::Chance,
};

#[test]
fn every_field_is_read() {
    let telemetry = telemetry(
        "selector: {matchLabels: {app: cart}}
tracing:
- match: {mode: CLIENT}
  providers: [{name: otel}]
  randomSamplingPercentage: 12.5
  disableSpanReporting: false
  customTags:
    a: {literal: {value: x}}
    b: {environment: {name: HOME, defaultValue: y}}
    c: {header: {name: X-C}}
  enableIstioTags: false
  disableContextPropagation: true
metrics:
- overrides:
  - match: {metric: REQUEST_COUNT, mode: SERVER}
    disabled: true
    tagOverrides: {a: {value: request.host}, b: {operation: REMOVE}}
  - match: {customMetric: mine}
  - match: {metric: ALL_METRICS}
accessLogging:
- match: {mode: CLIENT_AND_SERVER}
  disabled: false
  filter: {expression: 'response.code >= 400'}
",
    );
    assert_eq!(telemetry.selector.unwrap().labels["app"], "cart");
    let tracing = &telemetry.tracing[0];
    assert_eq!((tracing.mode, tracing.sampling), (WorkloadMode::Client, Some(Chance::of_percent(12.5))));
    assert_eq!(
        (tracing.disabled, tracing.istio_tags, tracing.context_disabled),
        (Some(false), Some(false), Some(true))
    );
    let tags = tracing.tags.as_ref().unwrap();
    assert_eq!(tags["a"], TagSource::Literal("x".to_owned()));
    assert_eq!(tags["b"], TagSource::Environment { name: "HOME".to_owned(), default: Some("y".to_owned()) });
    assert_eq!(tags["c"], TagSource::Header { name: "x-c".to_owned(), default: None });
    let [count, mine, all] = &telemetry.metrics[0].overrides[..] else { panic!() };
    assert_eq!(
        (count.metric.as_deref(), count.mode, count.disabled),
        (Some("REQUEST_COUNT"), WorkloadMode::Server, Some(true))
    );
    assert!(matches!(count.tags["a"], TagOverride::Upsert(_)));
    assert_eq!(count.tags["b"], TagOverride::Remove);
    assert_eq!((mine.metric.as_deref(), all.metric.as_deref()), (Some("mine"), None));
    let logging = &telemetry.access_logging[0];
    assert!(logging.filter.is_some() && logging.disabled == Some(false));
}

/// One row per mistake or remark: `spec`, the field, whether it is an error, and a part of what is said.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_istio_would_refuse_is_refused_and_what_has_no_effect_is_said() {
    let tag = |tag: &str| format!("tracing: [{{customTags: {{a: {{{tag}}}}}}}]");
    let change = |change: &str| format!("metrics: [{{overrides: [{{{change}}}]}}]");
    for (spec, path, error, part) in [
        ("tracing: [{randomSamplingPercentage: 101}]".to_owned(), "tracing[0].randomSamplingPercentage", true, "out of range"),
        ("tracing: [{randomSamplingPercentage: -1}]".to_owned(), "tracing[0].randomSamplingPercentage", true, "out of range"),
        ("tracing: [{match: {mode: BOTH}}]".to_owned(), "tracing[0].match.mode", true, "unknown value"),
        ("tracing: [{providers: [{}]}]".to_owned(), "tracing[0].providers[0].name", true, "`name` is required"),
        ("tracing: [{providers: [{name: a}]}]".to_owned(), "tracing[0].providers", false, "no effect"),
        ("tracing: [{useRequestIdForTraceSampling: true}]".to_owned(), "tracing[0].useRequestIdForTraceSampling", false, "no effect"),
        (tag("literal: {}"), "tracing[0].customTags.a.literal.value", true, "`value` is required"),
        (tag("environment: {}"), "tracing[0].customTags.a.environment.name", true, "`name` is required"),
        (tag("header: {name: 'a b'}"), "tracing[0].customTags.a.header.name", true, "not the name of a header"),
        (tag("formatter: {value: a}"), "tracing[0].customTags.a.formatter", false, "not evaluated"),
        (tag(""), "tracing[0].customTags.a", true, "is required"),
        (tag("literal: {value: a}, header: {name: a}"), "tracing[0].customTags.a", true, "is required"),
        (change("match: {metric: REQUEST_COUNTS}"), "metrics[0].overrides[0].match.metric", true, "did you mean `REQUEST_COUNT`?"),
        (change("match: {metric: REQUEST_COUNT, customMetric: a}"), "metrics[0].overrides[0].match.customMetric", true, "exclude each other"),
        (change("match: {customMetric: ''}"), "metrics[0].overrides[0].match.customMetric", true, "must not be empty"),
        (change("tagOverrides: {a: {}}"), "metrics[0].overrides[0].tagOverrides.a.value", true, "UPSERT needs"),
        (change("tagOverrides: {a: {operation: REMOVE, value: b}}"), "metrics[0].overrides[0].tagOverrides.a.value", true, "has no value"),
        (change("tagOverrides: {a: {value: size(b)}}"), "metrics[0].overrides[0].tagOverrides.a.value", false, "not evaluated"),
        ("metrics: [{reportingInterval: 5s}]".to_owned(), "metrics[0].reportingInterval", false, "no effect"),
        ("accessLogging: [{filter: {expression: size(a) > 1}}]".to_owned(), "accessLogging[0].filter.expression", false, "everything is logged"),
        ("accessLogging: [{match: {mod: CLIENT}}]".to_owned(), "accessLogging[0].match.mod", true, "did you mean `mode`?"),
        ("targetRefs: [{kind: Gateway, name: a}]".to_owned(), "targetRefs", false, "applies to no workload"),
        ("targetRef: {kind: Gateway, name: a}\n  selector: {matchLabels: {a: b}}".to_owned(), "selector", true, "exclude each other"),
        ("tracing: [{}]\n  accessLogging: [{}]".to_owned(), "tracing", false, "tracing, accessLogging have no effect yet"),
    ] {
        let loaded = load("f", &object(&spec), &Options::default());
        let path = format!("spec.{path}");
        let found = loaded.diagnostics.iter().find(|finding| finding.path == path && finding.is_error() == error);
        let finding = found.unwrap_or_else(|| panic!("{spec}\n{:#?}", loaded.diagnostics));
        assert!(finding.to_string().contains(part), "{finding}");
        assert_eq!(loaded.resources.len(), usize::from(!error), "{spec}");
    }
}

#[test]
fn what_is_not_obeyed_yet_is_said_once_per_object() {
    let spec = "tracing: [{}]\n  metrics: [{}]\n  accessLogging: [{}]";
    let loaded = load(
        "f",
        &format!("{}---\n{}", object(spec), object(spec).replace("name: a", "name: b")),
        &Options::default(),
    );
    let said: Vec<_> = loaded.diagnostics.iter().map(|finding| finding.code).collect();
    assert_eq!(said, [Code::NO_EFFECT, Code::NO_EFFECT]);
}

fn telemetry(spec: &str) -> Telemetry {
    let loaded = load("f", &object(&spec.replace('\n', "\n  ")), &Options::default());
    assert!(loaded.broken.is_empty(), "{:#?}", loaded.diagnostics);
    match &loaded.resources[0].spec {
        Spec::Telemetry(telemetry) => telemetry.clone(),
        other => panic!("{other:?}"),
    }
}

fn object(spec: &str) -> String {
    format!("apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: a}}\nspec:\n  {spec}\n")
}
