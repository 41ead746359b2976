//! An answer becomes configuration in force: what it leaves out is carried over, what it breaks stays as it was.
//!
//! Takes as long as parsing and compiling take, so it runs beside the threads that serve requests.

use super::Link;
use crate::{
    config::intake::Edition,
    control::{
        cache::CachedResources,
        carry::{Items, carry_over},
        http::{Answer, CallError},
        wire::Resources,
    },
};
use mesh_core::{
    config::{Diagnostic, Level, SourceFile},
    identity::TrustDomain,
};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

/// An answer that was put in force.
#[derive(Debug)]
pub(super) struct Digested {
    /// What is in force: of a refused object, the version before.
    pub(super) items: Arc<Items>,
    pub(super) warming: bool,
    pub(super) to_cache: CachedResources,
}

/// Puts `answer` in force, which comes after `old`.
pub(super) fn digest(link: &Link, old: &Items, answer: &Answer) -> Result<Digested, CallError> {
    let Resources { version, trust_domain, items, warming } = answer.json()?;
    let trust_domain = admit(link, &trust_domain)?;
    let (mut items, notes) = carry_over(old, by_name(items), warming);
    let edition = Edition { notes, ..edition(link, &version, &items, trust_domain.clone()) };
    let refused = refused(link, &link.intake.apply(edition));
    for name in &refused {
        if let Some(before) = old.get(name) {
            items.insert(name.clone(), before.clone());
        }
    }
    let items = Arc::new(items);
    // Only what is in force exactly as it was sent need not be sent again.
    let exact = refused.is_empty() && !warming;
    let to_cache = CachedResources {
        version,
        etag: answer.etag.clone().filter(|_| exact),
        trust_domain: trust_domain.to_string(),
        items: Arc::clone(&items),
    };
    Ok(Digested { items, warming, to_cache })
}

/// Returns the state of the endpoint in the form that the intake takes.
pub(super) fn edition(link: &Link, version: &str, items: &Items, trust_domain: TrustDomain) -> Edition {
    // A file per object: one that does not read keeps no other from changing or going.
    let file = |(name, item): (&String, &Value)| SourceFile {
        name: file_name(link, name),
        text: Ok(item.to_string()),
    };
    Edition {
        version: version.into(),
        files: items.iter().map(file).collect(),
        trust_domain,
        from_cache: false,
        notes: Vec::new(),
    }
}

fn file_name(link: &Link, object: &str) -> String {
    format!("{}/v1/resources#{object}", link.endpoint)
}

/// An endpoint of another trust domain than the one this workload is set to is not ours to obey.
fn admit(link: &Link, name: &str) -> Result<TrustDomain, CallError> {
    let served: TrustDomain = name
        .parse()
        .map_err(|e| CallError::Unreadable(format!("trust domain `{}`: {e}", name.escape_debug())))?;
    match &link.trust_domain {
        Some(own) if *own != served => {
            Err(CallError::Unreadable(format!("trust domain {served}; this workload belongs to {own}")))
        }
        _ => Ok(served),
    }
}

/// Names objects by what they say they are. Two of one name are both kept, for the loader to judge.
fn by_name(items: Vec<Value>) -> Items {
    let mut named = Items::new();
    for item in items {
        let text = |pointer| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let namespace =
            Some(text("/metadata/namespace")).filter(|text| !text.is_empty()).unwrap_or("default");
        let name = format!("{} {namespace}/{}", text("/kind"), text("/metadata/name"));
        let mut unique = name.clone();
        let mut number = 2_usize;
        while named.contains_key(&unique) {
            unique = format!("{name}#{number}");
            number += 1;
        }
        named.insert(unique, item);
    }
    named
}

/// Returns the names of the objects that are not in force as sent.
fn refused(link: &Link, findings: &[Diagnostic]) -> BTreeSet<String> {
    let prefix = file_name(link, "");
    let errors = findings.iter().filter(|finding| finding.level == Level::Error);
    errors
        .filter_map(|finding| finding.location.as_ref()?.file.strip_prefix(&prefix).map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_named_by_what_they_say_they_are() {
        let items = by_name(vec![
            json!({"kind": "VirtualService", "metadata": {"name": "a", "namespace": "prod"}}),
            json!({"kind": "VirtualService", "metadata": {"name": "a"}}),
            json!({"kind": "VirtualService", "metadata": {"name": "a", "namespace": "default"}}),
            json!("no object"),
            json!(null),
        ]);
        let names: Vec<_> = items.keys().map(String::as_str).collect();
        let expected = [
            " default/",
            " default/#2",
            "VirtualService default/a",
            "VirtualService default/a#2",
            "VirtualService prod/a",
        ];
        assert_eq!(names, expected);
    }
}
