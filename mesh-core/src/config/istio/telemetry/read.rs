//! Reads the `spec` of a Telemetry.
// spec: istio pkg/config/validation validateTelemetry

use super::{
    AccessLogging, Expression, METRICS, MetricOverride, Metrics, Operand, TagOverride, TagSource, Telemetry,
    Tracing, WorkloadMode,
};
use crate::{
    config::{
        decode::{Decoder, Fields, choice, decimal, duration, flag, name, shortened, text},
        diagnostic::{Code, Diagnostic},
        istio::common::{self, WorkloadSelector},
        schema::Support,
        tree::{Key, Node},
    },
    route::Chance,
};

impl Telemetry {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let selector = fields.get("selector", WorkloadSelector::reader("matchLabels"));
        let tracing = fields.list("tracing", Tracing::read);
        let metrics = fields.list("metrics", Metrics::read);
        let access_logging = fields.list("accessLogging", AccessLogging::read);
        let target = "it is meant for a gateway or waypoint, and applies to no workload";
        fields.no_effect(&[("targetRef", target), ("targetRefs", target)]);
        let is_targeted = fields.has("targetRef") || fields.has("targetRefs");
        if is_targeted && fields.has("selector") {
            fields.refuse("selector", "selector and targetRefs exclude each other");
        }
        fields.not_obeyed(&["tracing", "metrics", "accessLogging"]);
        fields.describe(&["selector"], Support::NoEffect, "nothing that it would select for is obeyed yet");
        fields.finish();
        Some(Self { selector, is_targeted, tracing, metrics, access_logging })
    }
}

/// Reads `{mode: ...}`.
fn mode<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<WorkloadMode> {
    let mut fields = decoder.fields(node)?;
    let mode = fields.get("mode", |decoder, node| choice(decoder, node, MODES));
    fields.finish();
    Some(mode.unwrap_or_default())
}

const MODES: &[(&str, WorkloadMode)] = &[
    ("CLIENT_AND_SERVER", WorkloadMode::ClientAndServer),
    ("CLIENT", WorkloadMode::Client),
    ("SERVER", WorkloadMode::Server),
];

/// Reads `providers`, which name what Envoy would report to.
fn providers(fields: &mut Fields<'_, '_>) {
    fields.list("providers", |decoder, node| {
        let mut fields = decoder.fields(node)?;
        fields.require("name", name);
        fields.finish();
        Some(())
    });
    fields.no_effect(&[(
        "providers",
        "metrics are read at MESH_ADMIN, and events go to the `tracing` of the program, whatever it names",
    )]);
}

impl Tracing {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let sampling = fields.get("randomSamplingPercentage", |d, n| decimal(d, n, 0.0, 100.0));
        let tags = fields.get("customTags", |decoder, node| Some(decoder.entries(node, tag)));
        let read = Self {
            mode: fields.get("match", mode).unwrap_or_default(),
            sampling: sampling.map(Chance::of_percent),
            disabled: fields.get("disableSpanReporting", flag),
            tags: tags.map(|tags| tags.into_iter().collect()),
            istio_tags: fields.get("enableIstioTags", flag),
            context_disabled: fields.get("disableContextPropagation", flag),
        };
        providers(&mut fields);
        fields.no_effect(&[(
            "useRequestIdForTraceSampling",
            "whether a trace is begun is drawn, and what the caller decided is kept",
        )]);
        fields.finish();
        Some(read)
    }
}

fn tag<'n>(decoder: &mut Decoder<'n>, key: &'n Key, node: &'n Node) -> Option<(String, TagSource)> {
    if key.text.is_empty() {
        decoder.refuse(key.at, "the name of a tag must not be empty");
    }
    Some((key.text.to_string(), TagSource::read(decoder, node)?))
}

impl TagSource {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let literal = fields.get("literal", value).map(Self::Literal);
        let environment = fields.get("environment", |decoder, node| {
            let mut fields = decoder.fields(node)?;
            let name = fields.require("name", name);
            let default = fields.get("defaultValue", text);
            fields.finish();
            Some(Self::Environment { name: name?, default })
        });
        let header = fields.get("header", |decoder, node| {
            let mut fields = decoder.fields(node)?;
            let name = fields.require("name", |decoder, node| {
                let written = name(decoder, node)?;
                common::header_name(decoder, &written, node.at)
            });
            let default = fields.get("defaultValue", text);
            fields.finish();
            Some(Self::Header { name: name?, default })
        });
        fields.get("formatter", value);
        fields.no_effect(&[("formatter", "Envoy's formats are not evaluated; the tag is left out")]);
        let sources = ["literal", "environment", "header", "formatter"];
        if sources.into_iter().filter(|name| fields.has(name)).count() != 1 {
            let at = fields.at;
            fields.decoder.refuse(at, format!("one of {} is required", sources.join(", ")));
        }
        fields.finish();
        literal.or(environment).or(header)
    }
}

/// Reads `{value: ...}`.
fn value<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<String> {
    let mut fields = decoder.fields(node)?;
    let value = fields.require("value", name);
    fields.finish();
    value
}

impl Metrics {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let overrides = fields.list("overrides", MetricOverride::read);
        providers(&mut fields);
        fields.get("reportingInterval", duration);
        fields.no_effect(&[("reportingInterval", "it is about TCP")]);
        fields.finish();
        Some(Self { overrides })
    }
}

impl MetricOverride {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let (metric, mode) = fields.get("match", selected).unwrap_or_default();
        let disabled = fields.get("disabled", flag);
        let tags = fields.get("tagOverrides", |decoder, node| Some(decoder.entries(node, tag_override)));
        fields.finish();
        let tags = tags.unwrap_or_default().into_iter().collect();
        Some(Self { metric, mode, disabled, tags })
    }
}

/// Reads `match`: which metric (`None` is all), and of which requests.
fn selected<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<(Option<String>, WorkloadMode)> {
    let table = METRICS.map(|name| (name, name));
    let mut fields = decoder.fields(node)?;
    let metric = fields.get("metric", |decoder, node| choice(decoder, node, &table));
    let custom = fields.get("customMetric", name);
    let mode = fields.get("mode", |decoder, node| choice(decoder, node, MODES));
    if fields.has("metric") && fields.has("customMetric") {
        fields.refuse("customMetric", "metric and customMetric exclude each other");
    }
    fields.finish();
    let metric = metric.filter(|name| *name != METRICS[0]).map(str::to_owned);
    Some((metric.or(custom), mode.unwrap_or_default()))
}

fn tag_override<'n>(
    decoder: &mut Decoder<'n>,
    key: &'n Key,
    node: &'n Node,
) -> Option<(String, TagOverride)> {
    let mut fields = decoder.fields(node)?;
    let remove =
        fields.get("operation", |decoder, node| choice(decoder, node, OPERATIONS)).unwrap_or_default();
    let value = fields.get("value", |decoder, node| Some((text(decoder, node)?, node.at)));
    let written = value.as_ref().is_some_and(|(value, _)| !value.is_empty());
    if remove && written {
        fields.refuse("value", "a tag that is removed has no value");
    }
    if !remove && !written {
        fields.refuse("value", "UPSERT needs a `value`");
    }
    let value = value.and_then(|(value, _)| match Operand::parse(&value) {
        Ok(operand) => Some(operand),
        Err(reason) => {
            let help = "write a text in quotes, such as `\"'red'\"`, or an attribute, such as request.host";
            let message =
                format!("this value is not evaluated, and the tag stays as it is: {}", shortened(&reason));
            fields.find("value", Diagnostic::warning(Code::NO_EFFECT, message).help(help));
            None
        }
    });
    fields.finish();
    let operation = if remove { TagOverride::Remove } else { TagOverride::Upsert(value?) };
    Some((key.text.to_string(), operation))
}

/// Whether the tag is removed.
const OPERATIONS: &[(&str, bool)] = &[("UPSERT", false), ("REMOVE", true)];

impl AccessLogging {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self {
            mode: fields.get("match", mode).unwrap_or_default(),
            disabled: fields.get("disabled", flag),
            filter: fields.get("filter", filter),
        };
        providers(&mut fields);
        fields.finish();
        Some(read)
    }
}

/// An expression that is not understood filters nothing: more is logged than was meant, and nothing is missing.
fn filter<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Expression> {
    let mut fields = decoder.fields(node)?;
    let written = fields.get("expression", text).filter(|written| !written.is_empty());
    let read = written.and_then(|written| match Expression::parse(&written) {
        Ok(expression) => Some(expression),
        Err(reason) => {
            let message =
                format!("this filter is not evaluated, and everything is logged: {}", shortened(&reason));
            let help = "write comparisons of attributes such as response.code, `has`, `&&`, `||` and `!`";
            fields.find("expression", Diagnostic::warning(Code::NO_EFFECT, message).help(help));
            None
        }
    });
    fields.finish();
    read
}
