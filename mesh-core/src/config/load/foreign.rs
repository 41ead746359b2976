//! Kinds that are not read: what is said about them, and the few mistakes in them that Istio's webhook would refuse.

use super::Loader;
use crate::config::{
    decode::{Decoder, shortened},
    diagnostic::{Code, Diagnostic, Level},
    resource::ResourceKey,
    tree::{Node, Value},
};
use std::sync::Arc;

impl Loader<'_> {
    /// Counts an object whose kind has no meaning here, and checks it as far as it is Istio's.
    pub(super) fn on_foreign(&mut self, object: &Node, kind: &str, api_version: &str) {
        let istio = api_version.starts_with("networking.istio.io/");
        if !(istio && HARMLESS.contains(&kind)) {
            let at = object.get("kind").map_or(object.at, |kind| kind.at);
            self.foreign.entry((kind.to_owned(), api_version.to_owned())).or_insert((at, 0)).1 += 1;
        }
        if !istio {
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

fn check<'n>(decoder: &mut Decoder<'n>, object: &'n Node, kind: &str) {
    let Some(spec) = object.get("spec") else { return };
    decoder.within("spec", |decoder| match (kind, spec.get("filters")) {
        ("ProxyConfig", _) => drop(proxy_config(decoder, spec)),
        // spec: istio 1.3.0 pkg/config/validation ValidateEnvoyFilter
        ("EnvoyFilter", Some(filters)) => {
            decoder.within("filters", |decoder| decoder.each(filters, filter));
        }
        _ => {}
    });
}

/// Says which settings of a proxy have no meaning without one. Which image it has is nobody's concern here.
// spec: istio networking/v1beta1/proxy_config.proto
fn proxy_config<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
    let mut fields = decoder.fields(node)?;
    fields.take("selector");
    fields.take("image");
    fields.no_effect(&[
        ("concurrency", "a process has as many threads as its program gives it"),
        ("environmentVariables", "there is no proxy that would read them"),
    ]);
    fields.finish();
    Some(())
}

/// Checks a filter as Istio 1.3 had them.
fn filter<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
    if matches!(node.value, Value::Mapping(_)) && node.get("filterType").is_none() {
        decoder.within("filterType", |decoder| decoder.refuse(node.at, "`filterType` is required"));
    }
    None
}

/// Returns what is said once per file about `count` objects of a kind that has no meaning here; `level` is how bad it
/// is if the kind extends Envoy.
pub(super) fn left_out(kind: &str, api_version: &str, count: usize, level: Level) -> Diagnostic {
    let name = format!("kind {} ({})", shortened(kind), shortened(api_version));
    let times = if count == 1 { String::new() } else { format!(", {count} objects") };
    let said = SECURITY.iter().find(|(security, _)| *security == kind);
    let message = match said {
        Some((_, consequence)) => format!("{name} is NOT in force here{times}: {consequence}"),
        None => format!("{name} has no meaning inside a process and is left out{times}"),
    };
    let level = if EXTENSIONS.contains(&kind) { level } else { Level::Warning };
    let finding = Diagnostic::new(Code::FOREIGN_KIND, level, message);
    if said.is_some() { finding.help("make sure that something else enforces it") } else { finding }
}

/// Kinds that may protect something, and what that they are left out means.
const SECURITY: [(&str, &str); 8] = [
    ("RequestAuthentication", "tokens are not checked, requests without a valid JWT are let through"),
    ("EnvoyFilter", "whatever it enforces in Envoy is not enforced"),
    ("WasmPlugin", "whatever it enforces in Envoy is not enforced"),
    ("TrafficExtension", "whatever it enforces in Envoy is not enforced"),
    ("NetworkPolicy", "it restricts this process only where the network enforces it"),
    ("ClusterRbacConfig", "its access rules are not enforced; write AuthorizationPolicy"),
    ("ServiceRole", "its access rules are not enforced; write AuthorizationPolicy"),
    ("ServiceRoleBinding", "its access rules are not enforced; write AuthorizationPolicy"),
];

/// Kinds that change what Envoy does, which is not there: whatever they were meant to enforce, nobody enforces.
const EXTENSIONS: [&str; 3] = ["EnvoyFilter", "WasmPlugin", "TrafficExtension"];

/// Istio's kinds whose absence changes nothing: a template for workloads, and the settings of a proxy.
const HARMLESS: [&str; 2] = ["WorkloadGroup", "ProxyConfig"];
