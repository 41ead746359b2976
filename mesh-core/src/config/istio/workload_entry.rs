//! WorkloadEntry: one endpoint, as an object of its own or under `endpoints` of a ServiceEntry.
// spec: istio networking/v1alpha3/workload_entry.proto

use super::common;
use crate::config::{
    decode::{self, Decoder, Fields, count, name, name_at, shortened, text},
    diagnostic::{Code, Diagnostic},
    resource::At,
    schema::Support,
    tree::Node,
};
use std::{collections::BTreeMap, sync::Arc};

/// `spec` of a WorkloadEntry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// An IP address, or a name where `resolution` is DNS; `None` for what is not dialled: a Unix socket, or a workload
    /// of another network.
    pub address: Option<At<String>>,
    /// Port name to the port it listens on; a port that is not named here uses the service's target port.
    pub ports: BTreeMap<String, u16>,
    /// Labels; `security.istio.io/tlsMode: istio` marks an endpoint that speaks mutual TLS. Shared with the endpoints
    /// made of it.
    pub labels: Arc<BTreeMap<String, String>>,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Relative weight; `None` is 1.
    pub weight: Option<u32>,
    /// The service account, from which the expected SPIFFE ID follows.
    pub service_account: Option<String>,
}

impl WorkloadEntry {
    // spec: istio pkg/config/validation validateWorkloadEntry
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let read = Self {
            address: fields.get("address", address),
            ports: fields.get("ports", ports).unwrap_or_default().into_iter().collect(),
            labels: Arc::new(fields.get("labels", labels).unwrap_or_default()),
            locality: fields.get("locality", text).unwrap_or_default(),
            weight: fields.get("weight", count),
            service_account: fields.get("serviceAccount", name),
        };
        let network = fields.get("network", text).filter(|network| !network.is_empty());
        check_network(&mut fields, network.as_deref());
        fields.describe(&["network"], Support::NoEffect, "every endpoint is dialled directly");
        fields.finish();
        Some(read)
    }
}

fn address(decoder: &mut Decoder<'_>, node: &Node) -> Option<At<String>> {
    let address = name_at(decoder, node)?;
    if address.starts_with("unix://") {
        let finding =
            Diagnostic::warning(Code::NO_EFFECT, "Unix sockets are not dialled; the endpoint is left out");
        decoder.find(node.at, finding.help("let the workload listen on an IP address, and write that"));
        return None;
    }
    if !common::is_host(&address) || address.starts_with('*') {
        decoder.refuse(node.at, "expected an IP address or a host name, without scheme and port");
        return None;
    }
    Some(address)
}

/// Reads port names and the ports behind them.
fn ports<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Vec<(String, u16)>> {
    Some(decoder.entries(node, |decoder, key, node| {
        if !is_port_name(&key.text) {
            let message =
                format!("`{}` is not the name of a port; use a-z, 0-9 and `-`", shortened(&key.text));
            decoder.refuse(key.at, message);
        }
        Some((key.text.to_string(), decode::port(decoder, node)?))
    }))
}

/// Reads labels that Kubernetes would take.
// spec: istio pkg/config/labels Instance.Validate
fn labels<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<BTreeMap<String, String>> {
    let labels = decode::labels(decoder, node)?;
    if let Some((key, value)) = labels.iter().find(|(key, value)| !is_label(key, value)) {
        let label = shortened(&format!("{key}: {value}"));
        decoder.refuse(node.at, format!("`{label}` is not a label: use letters, digits, `-`, `_` and `.`"));
    }
    Some(labels)
}

/// A workload of another network is reached through its gateway, which a process does not do.
fn check_network(fields: &mut Fields<'_, '_>, network: Option<&str>) {
    let Some(network) = network else {
        if !fields.has("address") {
            fields.refuse("address", "`address` is required");
        }
        return;
    };
    let message = if fields.has("address") {
        "`network` has no effect here: every endpoint is dialled directly".to_owned()
    } else {
        format!(
            "without an address there is nothing to dial: the gateway of network `{}` is not used, and the endpoint is left out",
            shortened(network)
        )
    };
    fields.find("network", Diagnostic::warning(Code::NO_EFFECT, message));
}

/// Returns whether `text` may be the name of a port.
// spec: istio pkg/config/validation ValidatePortName; RFC 1123 labels
pub(super) fn is_port_name(text: &str) -> bool {
    let edges = text.bytes().next().into_iter().chain(text.bytes().last());
    text.len() <= 63
        && !text.is_empty()
        && edges.into_iter().all(|c| c.is_ascii_alphanumeric())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

// spec: kubernetes concepts/overview/working-with-objects/labels, syntax and character set
fn is_label(key: &str, value: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("", key));
    (value.is_empty() || common::is_label_text(value))
        && common::is_label_text(name)
        && (!key.contains('/') || (common::is_host(prefix) && !prefix.starts_with('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_what_kubernetes_takes_for_one() {
        for (key, value, is) in [
            ("app", "a", true),
            ("app", "", true),
            ("security.istio.io/tlsMode", "istio", true),
            ("a_b.c-d", "v1.0_x", true),
            ("", "a", false),
            ("/a", "a", false),
            ("a/", "a", false),
            ("a/b/c", "a", false),
            ("-a", "a", false),
            ("a", "b/c", false),
            ("a", "*", false),
        ] {
            assert_eq!(is_label(key, value), is, "{key}: {value}");
        }
    }
}
