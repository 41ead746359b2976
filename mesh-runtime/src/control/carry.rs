//! What of the last answer outlives the next one, so that no endpoint disappears because the control endpoint forgot.
//!
//! The rule, in this order:
//! 1. An answer without any object replaces nothing.
//! 2. While the control endpoint is warming (it started without its leases), and when an answer has no workload at all
//!    though the last one had, the registry is the union of both: an endpoint in both is the new one.
//! 3. A static entry that comes without endpoints, and had some, keeps them: a workload that is gone refuses the
//!    connection and is retried elsewhere, which costs less than knowing of none.
//!
//! An entry that says of itself that its workloads have said goodbye is taken at its word: it is known, and has no
//! endpoint.
//!
//! 1, 2 (the second half) and 3 are said aloud. Routes and policies are always taken as sent; an entry that is not in
//! the answer at all is gone, unless 1 or 2 apply.

use super::wire::{LEASE_MARK, LEASE_WITHDRAWN};
use mesh_core::config::{Code, Diagnostic, Level};
use serde_json::Value;
use std::collections::BTreeMap;

/// Objects by their name, `Kind namespace/name`.
pub(crate) type Items = BTreeMap<String, Value>;

/// Returns what is to be put in force when `new` comes after `old`, and what there is to say about it.
pub(crate) fn carry_over(old: &Items, mut new: Items, warming: bool) -> (Items, Vec<Diagnostic>) {
    if new.is_empty() && !old.is_empty() {
        let kept = format!("the {} objects in force stay", old.len());
        return (old.clone(), vec![note(Level::Warning, "the control endpoint sent no object at all", kept)]);
    }
    let (before, after) = (workloads(old), workloads(&new));
    if warming || (before > 0 && after == 0) {
        unite(old, &mut new);
        let carried = workloads(&new) - after;
        let kept = format!("{carried} workloads of the version before stay");
        let found = match warming {
            _ if carried == 0 => None,
            true => Some(note(
                Level::Info,
                "the control endpoint started anew and is gathering its workloads",
                kept,
            )),
            false => Some(note(Level::Warning, "the control endpoint sent no workload at all", kept)),
        };
        return (new, found.into_iter().collect());
    }
    let notes = new.iter_mut().filter_map(|(name, item)| refill(name, item, old.get(name)?)).collect();
    (new, notes)
}

/// Adds to `new` what only `old` knows of the registry.
fn unite(old: &Items, new: &mut Items) {
    for (name, before) in old.iter().filter(|(_, item)| is_registry(item)) {
        let Some(item) = new.get_mut(name) else {
            new.insert(name.clone(), before.clone());
            continue;
        };
        if is_withdrawn(item) {
            continue;
        }
        let known: Vec<_> = endpoints(item).iter().map(place).collect();
        let lost: Vec<_> =
            endpoints(before).iter().filter(|&e| !known.contains(&place(e))).cloned().collect();
        add_endpoints(item, lost);
    }
}

/// Gives an entry that lost its last endpoint all of them back.
fn refill(name: &str, item: &mut Value, before: &Value) -> Option<Diagnostic> {
    let is_static = item["kind"] == "ServiceEntry" && item["spec"]["resolution"] == "STATIC";
    if !is_static || is_withdrawn(item) || !endpoints(item).is_empty() || endpoints(before).is_empty() {
        return None;
    }
    let endpoints = endpoints(before).to_vec();
    let kept = format!("the {} endpoints of the version before stay", endpoints.len());
    add_endpoints(item, endpoints);
    Some(note(Level::Warning, &format!("{name} came without endpoints"), kept))
}

fn add_endpoints(item: &mut Value, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    // Indexing would panic on a `spec` that is no object.
    let Some(spec) = item.get_mut("spec").and_then(Value::as_object_mut) else { return };
    match spec.entry("endpoints").or_insert_with(|| Value::Array(Vec::new())) {
        Value::Array(endpoints) => endpoints.extend(more),
        other => *other = Value::Array(more),
    }
}

/// Two endpoints at one place are the same one, whatever else is said of them.
fn place(endpoint: &Value) -> (&Value, &Value) {
    (&endpoint["address"], &endpoint["ports"])
}

fn endpoints(item: &Value) -> &[Value] {
    item["spec"]["endpoints"].as_array().map_or(&[], Vec::as_slice)
}

fn workloads(items: &Items) -> usize {
    items.values().filter(|item| is_registry(item)).map(|item| endpoints(item).len()).sum()
}

fn is_registry(item: &Value) -> bool {
    matches!(item["kind"].as_str(), Some("ServiceEntry" | "Service"))
}

/// Returns whether the endpoint says that there are none, which an entry that it forgot to fill does not say.
fn is_withdrawn(item: &Value) -> bool {
    item["metadata"]["annotations"][LEASE_MARK] == LEASE_WITHDRAWN && endpoints(item).is_empty()
}

fn note(level: Level, message: &str, kept: String) -> Diagnostic {
    Diagnostic::new(Code::EMPTY_PUSH, level, message).kept(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_an_answer_replaces_is_this_table() {
        let a1 = json!({"address": "10.0.0.1", "ports": {"http": 1}});
        let a2 = json!({"address": "10.0.0.2", "ports": {"http": 1}});
        let full = items(&[entry("a", &[&a1, &a2]), route("r")]);
        let fewer = items(&[entry("a", &[&a2]), route("r")]);
        let hollow = items(&[entry("a", &[]), route("r")]);
        let other = items(&[entry("b", &[&a1])]);
        let routes = items(&[route("r")]);
        let both = items(&[entry("a", &[&a1, &a2]), entry("b", &[&a1])]);
        let mixed = items(&[entry("a", &[]), entry("b", &[&a1])]);
        let withdrawn = |mut items: Items| {
            items.get_mut("ServiceEntry default/a").unwrap()["metadata"]["annotations"] =
                json!({"mesh/lease": "withdrawn"});
            items
        };
        let (goodbye, last_goodbye) = (&withdrawn(mixed.clone()), &withdrawn(hollow.clone()));
        let none = Items::new();
        // (what, old, new, warming, in force, whether anything is said)
        let table: [(_, &Items, &Items, bool, &Items, bool); 14] = [
            ("the first answer is taken as it is", &none, &hollow, false, &hollow, false),
            ("a smaller registry is taken", &full, &fewer, false, &fewer, false),
            ("an entry that is gone is gone", &full, &other, false, &other, false),
            ("no object at all replaces nothing", &full, &none, false, &full, true),
            ("no workload at all replaces none", &full, &hollow, false, &full, true),
            ("no entry at all replaces none", &full, &routes, false, &full, true),
            ("an entry that lost its last endpoint keeps them", &both, &mixed, false, &both, true),
            ("an entry whose workloads said goodbye has none", &both, goodbye, false, goodbye, false),
            ("so does the last of all", &full, last_goodbye, false, last_goodbye, false),
            ("so does one that says so while warming", &both, goodbye, true, goodbye, false),
            ("warming keeps the endpoints that are missing", &full, &fewer, true, &reordered(&full), true),
            ("warming keeps the entries that are missing", &full, &routes, true, &full, true),
            ("warming that misses nothing says nothing", &full, &full, true, &full, false),
            ("after nothing, nothing is said", &none, &none, true, &none, false),
        ];
        for (what, old, new, warming, expected, said) in table {
            let (got, notes) = carry_over(old, new.clone(), warming);
            assert_eq!(&got, expected, "{what}");
            assert_eq!(!notes.is_empty(), said, "{what}: {notes:?}");
        }
    }

    #[test]
    fn a_workload_that_came_back_with_other_labels_is_the_new_one() {
        let old = json!({"address": "10.0.0.1", "ports": {"http": 1}, "labels": {"version": "v1"}});
        let new = json!({"address": "10.0.0.1", "ports": {"http": 1}, "labels": {"version": "v2"}});
        let (got, _) = carry_over(&items(&[entry("a", &[&old])]), items(&[entry("a", &[&new])]), true);
        assert_eq!(got, items(&[entry("a", &[&new])]));
    }

    #[test]
    fn an_entry_found_by_dns_needs_no_endpoints() {
        let mut dns = entry("a", &[]);
        dns["spec"]["resolution"] = json!("DNS");
        let old = items(&[
            entry("a", &[&json!({"address": "1.1.1.1"})]),
            entry("b", &[&json!({"address": "2.2.2.2"})]),
        ]);
        let new = items(&[dns, entry("b", &[&json!({"address": "2.2.2.2"})])]);
        assert_eq!(carry_over(&old, new.clone(), false), (new, vec![]));
    }

    #[test]
    fn routes_and_policies_are_never_carried_over() {
        let old = items(&[entry("a", &[&json!({"address": "1.1.1.1"})]), route("gone")]);
        let (got, _) = carry_over(&old, items(&[route("new")]), true);
        assert!(
            got.contains_key("VirtualService default/new")
                && !got.contains_key("VirtualService default/gone")
        );
    }

    #[test]
    fn items_of_any_shape_are_taken() {
        for odd in [
            json!(null),
            json!({"kind": "ServiceEntry"}),
            json!({"kind": "ServiceEntry", "spec": 1}),
            json!([]),
        ] {
            let old = items(&[entry("a", &[&json!({"address": "1.1.1.1"})])]);
            let new = Items::from([("ServiceEntry default/a".to_owned(), odd.clone())]);
            for warming in [false, true] {
                carry_over(&old, new.clone(), warming);
                carry_over(&new, old.clone(), warming);
            }
        }
    }

    fn items(items: &[Value]) -> Items {
        let name = |item: &Value| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            format!("{} default/{}", text(&item["kind"]), text(&item["metadata"]["name"]))
        };
        items.iter().map(|item| (name(item), item.clone())).collect()
    }

    fn entry(name: &str, endpoints: &[&Value]) -> Value {
        json!({
            "kind": "ServiceEntry",
            "metadata": {"name": name},
            "spec": {"hosts": [name], "resolution": "STATIC", "endpoints": endpoints},
        })
    }

    fn route(name: &str) -> Value {
        json!({"kind": "VirtualService", "metadata": {"name": name}, "spec": {}})
    }

    /// What is carried over stands behind what is new.
    fn reordered(items: &Items) -> Items {
        let mut items = items.clone();
        for item in items.values_mut() {
            if let Some(endpoints) = item.pointer_mut("/spec/endpoints").and_then(Value::as_array_mut) {
                endpoints.reverse();
            }
        }
        items
    }
}
