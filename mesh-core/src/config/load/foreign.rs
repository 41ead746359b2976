//! Kinds that are not read: what is said about them, and the few mistakes in them that Istio's webhook would refuse.

use super::Loader;
use crate::config::{
    decode::{Decoder, shortened},
    diagnostic::{Code, Diagnostic},
    resource::ResourceKey,
    tree::{Node, Value},
};
use std::sync::Arc;

impl Loader<'_> {
    /// Counts an object whose kind has no meaning here, and checks it as far as it is Istio's.
    pub(super) fn on_foreign(&mut self, object: &Node, kind: &str, api_version: &str) {
        let at = object.get("kind").map_or(object.at, |kind| kind.at);
        self.foreign.entry((kind.to_owned(), api_version.to_owned())).or_insert((at, 0)).1 += 1;
        if !api_version.starts_with("networking.istio.io/") {
            return;
        }
        let file = Arc::clone(&self.file);
        let mut decoder = Decoder::new(&file, self.options.lenient);
        check(&mut decoder, object, kind);
        let key = self.key_of(object, kind);
        for mut finding in decoder.finish().0 {
            finding.resource.clone_from(&key);
            self.report(finding);
        }
    }

    fn key_of(&self, object: &Node, kind: &str) -> Option<ResourceKey> {
        let text = |field| object.get("metadata")?.get(field)?.as_text();
        Some(ResourceKey::new(kind, text("namespace").unwrap_or(&self.options.namespace), text("name")?))
    }
}

// spec: istio 1.3.0 pkg/config/validation ValidateGateway, ValidateSidecar, ValidateEnvoyFilter
fn check<'n>(decoder: &mut Decoder<'n>, object: &'n Node, kind: &str) {
    let spec = object.get("spec").unwrap_or(object);
    let has = |field: &&str| spec.get(field).is_some_and(|node| !node.is_null());
    let needs: &[&str] = match kind {
        "Gateway" => &["servers"],
        "Sidecar" => &["egress", "ingress", "outboundTrafficPolicy", "inboundConnectionPool"],
        _ => &[],
    };
    decoder.within("spec", |decoder| {
        if let [first, ..] = needs
            && !needs.iter().any(has)
        {
            decoder.within(first, |decoder| decoder.refuse(spec.at, format!("`{first}` is required")));
        }
        if let ("EnvoyFilter", Some(filters)) = (kind, spec.get("filters")) {
            decoder.within("filters", |decoder| decoder.each(filters, filter));
        }
    });
}

/// Checks a filter as Istio 1.3 had them.
fn filter<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
    if matches!(node.value, Value::Mapping(_)) && node.get("filterType").is_none() {
        decoder.within("filterType", |decoder| decoder.refuse(node.at, "`filterType` is required"));
    }
    None
}

/// Returns what is said once per file about `count` objects of a kind that has no meaning here.
pub(super) fn left_out(kind: &str, api_version: &str, count: usize) -> Diagnostic {
    let name = format!("kind {} ({})", shortened(kind), shortened(api_version));
    let times = if count == 1 { String::new() } else { format!(", {count} objects") };
    let said = SECURITY.iter().find(|(security, _)| *security == kind);
    let message = match said {
        Some((_, consequence)) => format!("{name} is NOT in force here{times}: {consequence}"),
        None => format!("{name} has no meaning inside a process and is left out{times}"),
    };
    let finding = Diagnostic::warning(Code::FOREIGN_KIND, message);
    if said.is_some() { finding.help("make sure that something else enforces it") } else { finding }
}

/// Kinds that may protect something, and what that they are left out means.
const SECURITY: [(&str, &str); 8] = [
    ("EnvoyFilter", "whatever it enforces in Envoy is not enforced"),
    ("WasmPlugin", "whatever it enforces in Envoy is not enforced"),
    ("TrafficExtension", "whatever it enforces in Envoy is not enforced"),
    ("Sidecar", "outbound traffic and the reach of the configuration are not restricted by it"),
    ("NetworkPolicy", "it restricts this process only where the network enforces it"),
    ("ClusterRbacConfig", "its access rules are not enforced; write AuthorizationPolicy"),
    ("ServiceRole", "its access rules are not enforced; write AuthorizationPolicy"),
    ("ServiceRoleBinding", "its access rules are not enforced; write AuthorizationPolicy"),
];
