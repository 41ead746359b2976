//! Telemetry: what is traced, counted and logged of a workload's requests.
// spec: istio telemetry/v1alpha1/telemetry.proto

mod expression;
mod read;

pub use expression::{Attribute, Expression, Literal, Operand};

use super::common::WorkloadSelector;
use crate::route::Chance;
use std::collections::BTreeMap;

/// `spec` of a Telemetry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// `selector`; `None` means the namespace, or the mesh if it stands in the root namespace.
    pub selector: Option<WorkloadSelector>,
    /// Whether it has `targetRef` or `targetRefs`: it is meant for a gateway or waypoint, and for no workload.
    pub is_targeted: bool,
    /// `tracing`.
    pub tracing: Vec<Tracing>,
    /// `metrics`.
    pub metrics: Vec<Metrics>,
    /// `accessLogging`.
    pub access_logging: Vec<AccessLogging>,
}

/// Which of a workload's requests are meant: those it makes, those it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkloadMode {
    /// Both.
    #[default]
    ClientAndServer,
    /// Those it makes.
    Client,
    /// Those it answers.
    Server,
}

/// One entry of `tracing`. What is `None` is inherited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracing {
    /// `match.mode`.
    pub mode: WorkloadMode,
    /// `randomSamplingPercentage`.
    pub sampling: Option<Chance>,
    /// `disableSpanReporting`.
    pub disabled: Option<bool>,
    /// `customTags`; they replace those inherited, all of them.
    pub tags: Option<BTreeMap<String, TagSource>>,
    /// `enableIstioTags`.
    pub istio_tags: Option<bool>,
    /// `disableContextPropagation`.
    pub context_disabled: Option<bool>,
}

/// Where a custom tag has its value from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagSource {
    /// `literal.value`.
    Literal(String),
    /// `environment`: a variable of the process.
    Environment {
        /// `name`.
        name: String,
        /// `defaultValue`: without it there is no tag.
        default: Option<String>,
    },
    /// `header` of the request.
    Header {
        /// `name`, in lower case.
        name: String,
        /// `defaultValue`: without it there is no tag.
        default: Option<String>,
    },
}

/// One entry of `metrics`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// `overrides`, in order: a later one beats an earlier one.
    pub overrides: Vec<MetricOverride>,
}

/// One entry of `overrides`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricOverride {
    /// `match.metric` or `match.customMetric`; `None` is every metric.
    pub metric: Option<String>,
    /// `match.mode`.
    pub mode: WorkloadMode,
    /// `disabled`.
    pub disabled: Option<bool>,
    /// `tagOverrides`.
    pub tags: BTreeMap<String, TagOverride>,
}

/// What becomes of a tag of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum TagOverride {
    /// `UPSERT`.
    Upsert(Operand),
    /// `REMOVE`.
    Remove,
}

/// One entry of `accessLogging`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessLogging {
    /// `match.mode`.
    pub mode: WorkloadMode,
    /// `disabled`; `None` is false.
    pub disabled: Option<bool>,
    /// `filter.expression`; only what it holds for is logged.
    pub filter: Option<Expression>,
}

/// Istio's metrics, by the names of `match.metric`; the first means all of them.
// spec: istio telemetry/v1alpha1/telemetry.proto MetricSelector.IstioMetric
pub const METRICS: [&str; 11] = [
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
];
