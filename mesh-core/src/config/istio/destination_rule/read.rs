//! Reads the `spec` of a DestinationRule, as strictly as Istio's webhook does.
// spec: istio pkg/config/validation/validation.go validateDestinationRule, validateTrafficPolicy

use super::{
    ClientTls, ConnectionPool, DefaultTrafficPolicy, DestinationRule, LoadBalancer, OutlierDetection,
    PortPolicy, RetryBudget, Subset, TrafficPolicy,
};
use crate::config::{
    decode::{Decoder, Fields, count, decimal, duration, labels, name_at, shortened},
    diagnostic::{Code, Diagnostic},
    istio::common::{self, WorkloadSelector, port_selector},
    resource::At,
    tree::Node,
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

impl DestinationRule {
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let host = fields.require("host", common::host);
        let traffic_policy = fields.get("trafficPolicy", TrafficPolicy::read);
        let subsets = fields.list("subsets", Subset::read);
        let export_to = common::export_to(&mut fields);
        let workload_selector = fields.get("workloadSelector", WorkloadSelector::reader("matchLabels"));
        check_names(&mut fields, &subsets);
        check_export(&mut fields, &export_to);
        fields.finish();
        let read = Self { host: host?, traffic_policy, subsets, export_to, workload_selector };
        read.lint(decoder);
        Some(read)
    }
}

fn check_names(fields: &mut Fields<'_, '_>, subsets: &[Subset]) {
    let mut first = HashMap::new();
    for subset in subsets {
        if let Some(line) = first.insert(subset.name.value.as_str(), subset.name.at.line) {
            let message =
                format!("subset `{}` is defined twice, first on line {line}", shortened(&subset.name));
            fields.decoder.within("subsets", |decoder| decoder.refuse(subset.name.at, message));
        }
    }
}

// spec: istio pkg/config/validation validateExportTo
fn check_export(fields: &mut Fields<'_, '_>, export_to: &[String]) {
    if export_to.iter().any(|scope| scope == "~") {
        let finding = Diagnostic::error(Code::SCHEMA, "`~` is for a ServiceEntry or a Service");
        fields.find("exportTo", finding.help("write `.`, `*` or the name of a namespace"));
    }
    let beyond = export_to.len() > 1 || export_to.iter().any(|scope| scope == "*");
    if fields.has("workloadSelector") && beyond {
        let finding =
            Diagnostic::error(Code::SCHEMA, "a workloadSelector selects in the rule's own namespace only");
        fields.find("exportTo", finding.help("write `exportTo: [\".\"]`, or leave it out"));
    }
}

impl Subset {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let name = fields.require("name", subset_name);
        let labels = fields.get("labels", subset_labels).unwrap_or_default();
        let traffic_policy = fields.get("trafficPolicy", TrafficPolicy::read);
        fields.finish();
        Some(Self { name: name?, labels, traffic_policy })
    }
}

// spec: istio pkg/config/validation validateSubsetName
fn subset_name(decoder: &mut Decoder<'_>, node: &Node) -> Option<At<String>> {
    let name = name_at(decoder, node)?;
    if !is_dns_label(&name) {
        let message = format!("`{}` is not the name of a subset", shortened(&name));
        let help = "write letters, digits and `-` in between, at most 63 of them";
        decoder.find(node.at, Diagnostic::error(Code::SCHEMA, message).help(help));
        return None;
    }
    Some(name)
}

// spec: istio pkg/config/labels Instance.Validate
fn subset_labels<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<BTreeMap<String, String>> {
    let labels = labels(decoder, node)?;
    let wrong = labels.iter().find(|(key, value)| {
        let name = key.rsplit('/').next().unwrap_or_default();
        !common::is_label_text(name) || !(value.is_empty() || common::is_label_text(value))
    });
    if let Some((key, value)) = wrong {
        let message = format!("`{}` is not a label", shortened(&format!("{key}: {value}")));
        let help = "write letters and digits, with `-`, `_` and `.` in between, at most 63 of them";
        decoder.find(node.at, Diagnostic::error(Code::SCHEMA, message).help(help));
    }
    Some(labels)
}

// spec: istio pkg/config/labels IsDNS1123Label, which takes upper case too
fn is_dns_label(text: &str) -> bool {
    !text.contains(['_', '.']) && common::is_label_text(text)
}

impl TrafficPolicy {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mut read = Self::read_blocks(&mut fields, Code::NO_SERVER_VERIFICATION);
        read.retry_budget = block(&mut fields, "retryBudget", RetryBudget::read);
        read.port_level = fields.list("portLevelSettings", PortPolicy::read);
        fields.unsupported(&[
            ("tunnel", "connections are made to the endpoints themselves, past the proxy it names"),
            ("proxyProtocol", "no PROXY header is sent, and the endpoint expects one"),
        ]);
        let blocks = ["retryBudget", "portLevelSettings", "tunnel", "proxyProtocol"];
        require_one(&mut fields, &[&BLOCKS[..], &blocks].concat());
        fields.finish();
        Some(read)
    }

    fn read_blocks(fields: &mut Fields<'_, '_>, unverified: Code) -> Self {
        Self {
            load_balancer: block(fields, "loadBalancer", LoadBalancer::read),
            connection_pool: block(fields, "connectionPool", ConnectionPool::read),
            outlier_detection: block(fields, "outlierDetection", OutlierDetection::read),
            tls: block(fields, "tls", |decoder, node| ClientTls::read(decoder, node, unverified)),
            ..Self::default()
        }
    }
}

impl PortPolicy {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let port = fields.require("port", port_selector);
        let policy = TrafficPolicy::read_blocks(&mut fields, Code::NO_SERVER_VERIFICATION_OF_PORT);
        require_one(&mut fields, &BLOCKS);
        fields.finish();
        Some(Self { at: node.at, port: port?, policy })
    }
}

/// The blocks of a policy that may be written for one port too.
const BLOCKS: [&str; 4] = ["loadBalancer", "connectionPool", "outlierDetection", "tls"];

fn require_one(fields: &mut Fields<'_, '_>, names: &[&str]) {
    if !names.iter().any(|name| fields.has(name)) {
        let finding = Diagnostic::error(Code::SCHEMA, "a traffic policy must say something");
        let at = fields.at;
        fields.decoder.find(at, finding.help(format!("write one of {}", names.join(", "))));
    }
}

impl RetryBudget {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let percent = fields.get("percent", |decoder, node| decimal(decoder, node, 0.0, 100.0));
        let retries_min = fields.get("minRetryConcurrency", count);
        let interval = fields.get("budgetInterval", interval);
        fields.finish();
        Some(Self {
            percent: percent.unwrap_or(RETRY_PERCENT),
            retries_min: retries_min.unwrap_or(RETRIES_MIN),
            interval: interval.unwrap_or_default(),
        })
    }
}

/// Reads an interval of at least a millisecond; zero is none.
fn interval(decoder: &mut Decoder<'_>, node: &Node) -> Option<Duration> {
    let interval = duration(decoder, node)?;
    if !interval.is_zero() && interval < Duration::from_millis(1) {
        decoder.refuse(node.at, "must be at least 1ms, or 0s to count the requests under way");
        return None;
    }
    Some(interval)
}

impl DefaultTrafficPolicy {
    /// Reads `defaultTrafficPolicy` of a MeshConfig; whose object it is, the caller knows.
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self {
            connection_pool: block(&mut fields, "connectionPool", ConnectionPool::read),
            outlier_detection: block(&mut fields, "outlierDetection", OutlierDetection::read),
            source: None,
        };
        fields.finish();
        Some(read)
    }
}

/// Reads field `name`, with the place of its key.
fn block<'n, T>(
    fields: &mut Fields<'_, 'n>,
    name: &'static str,
    read: impl FnOnce(&mut Decoder<'n>, &'n Node) -> Option<T>,
) -> Option<At<T>> {
    let value = fields.get(name, read)?;
    Some(At { value, at: fields.place_of(name) })
}

// spec: istio networking/v1alpha3/destination_rule.proto TrafficPolicy.RetryBudget
const RETRY_PERCENT: f64 = 20.0;
const RETRIES_MIN: u32 = 3;
