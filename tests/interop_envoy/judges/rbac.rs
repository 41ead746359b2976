//! Istio's policies as Envoy's RBAC filters, translated as istiod translates them.
// spec: istio pilot/pkg/security/authz/{model/model.go, model/generator.go, matcher}

use crate::envoy::typed;
use serde_json::{Map, Value, json};

const RBAC: &str = "envoy.extensions.filters.http.rbac.v3.RBAC";

/// Returns the filters for `policies`: what denies, then what allows, if anything does.
pub(crate) fn filters(policies: &[Value]) -> Vec<Value> {
    ["DENY", "ALLOW"].into_iter().filter_map(|action| filter(policies, action)).collect()
}

fn filter(policies: &[Value], action: &str) -> Option<Value> {
    let mut all = Map::new();
    for policy in policies.iter().filter(|policy| policy["spec"]["action"] == action) {
        for (index, rule) in list(&policy["spec"]["rules"]).iter().enumerate() {
            let name = format!("ns[default]-policy[{}]-rule[{index}]", policy["metadata"]["name"]);
            all.insert(name, policy_of(rule));
        }
    }
    let config = typed(RBAC, json!({"rules": {"action": action, "policies": all}}));
    (!all.is_empty()).then(|| json!({"name": format!("rbac-{action}"), "typed_config": config}))
}

/// Every `when` belongs to each operation, or to each source, by its key.
fn policy_of(rule: &Value) -> Value {
    let (mut permissions, mut principals) = (Vec::new(), Vec::new());
    for when in list(&rule["when"]) {
        let key = when["key"].as_str().unwrap();
        let conditions = if key.starts_with("destination.") { &mut permissions } else { &mut principals };
        conditions.push((key, &when["values"], false));
        conditions.push((key, &when["notValues"], true));
    }
    let of = |parts: &Value, part: &str, whens: &[(&str, &Value, bool)], and: &str, or: &str, not: &str| {
        let nothing = json!([{part: {}}]);
        let parts = if parts.is_null() { &nothing } else { parts };
        let clauses = list(parts).iter().map(|clause| {
            let written = clause[part].as_object().unwrap().iter();
            let written = written.map(|(name, values)| (name.as_str(), values, name.starts_with("not")));
            let all = written.chain(whens.iter().copied());
            let matchers: Vec<Value> = all
                .filter(|(_, values, _)| !list(values).is_empty())
                .map(|condition| one_of(condition, or, not))
                .collect();
            if matchers.is_empty() { json!({"any": true}) } else { json!({and: {and_inner(and): matchers}}) }
        });
        clauses.collect::<Vec<Value>>()
    };
    json!({
        "permissions": of(&rule["to"], "operation", &permissions, "and_rules", "or_rules", "not_rule"),
        "principals": of(&rule["from"], "source", &principals, "and_ids", "or_ids", "not_id"),
    })
}

/// Returns the matcher for a list, or for its opposite.
fn one_of((name, values, negated): (&str, &Value, bool), or: &str, not: &str) -> Value {
    let matchers: Vec<Value> =
        list(values).iter().map(|value| matcher(name, value.as_str().unwrap())).collect();
    let any = json!({or: {and_inner(or): matchers}});
    if negated { json!({not: any}) } else { any }
}

fn and_inner(set: &str) -> &'static str {
    if set.ends_with("rules") { "rules" } else { "ids" }
}

fn matcher(name: &str, value: &str) -> Value {
    match name {
        "paths" | "notPaths" if value.contains("{*}") || value.contains("{**}") => template(value),
        "paths" | "notPaths" => json!({"url_path": {"path": text(value, "")}}),
        "methods" | "notMethods" => header(":method", value, false),
        "hosts" | "notHosts" => header(":authority", value, true),
        "ports" | "notPorts" => json!({"destination_port": value}),
        "principals" | "notPrincipals" | "source.principal" => authenticated(&text(value, "spiffe://")),
        "namespaces" | "notNamespaces" | "source.namespace" => {
            authenticated(&regex(&format!(".*/ns/{}/.*", value.replace('*', ".*"))))
        }
        "serviceAccounts" | "notServiceAccounts" => {
            let (namespace, account) = value.split_once('/').unwrap_or(("default", value));
            authenticated(&regex(&format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?")))
        }
        "ipBlocks" | "notIpBlocks" | "source.ip" => json!({"direct_remote_ip": block(value)}),
        "destination.ip" => json!({"destination_ip": block(value)}),
        _ => {
            let header_name = name.strip_prefix("request.headers[").and_then(|name| name.strip_suffix(']'));
            header(header_name.unwrap_or_else(|| panic!("nobody translates {name}")), value, false)
        }
    }
}

fn template(path: &str) -> Value {
    let path = path.replace("{**}", "**").replace("{*}", "*");
    let config = typed(
        "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
        json!({"path_template": path}),
    );
    json!({"uri_template": {"name": "uri-template", "typed_config": config}})
}

fn authenticated(matcher: &Value) -> Value {
    json!({"authenticated": {"principal_name": matcher}})
}

fn header(name: &str, value: &str, ignore_case: bool) -> Value {
    if value == "*" {
        return json!({"header": {"name": name, "present_match": true}});
    }
    let mut matcher = text(value, "");
    if ignore_case {
        matcher["ignore_case"] = json!(true);
    }
    json!({"header": {"name": name, "string_match": matcher}})
}

fn block(value: &str) -> Value {
    let whole = if value.contains(':') { "128" } else { "32" };
    let (address, length) = value.split_once('/').unwrap_or((value, whole));
    json!({"address_prefix": address, "prefix_len": length.parse::<u8>().unwrap()})
}

/// Returns the matcher of a text, with `prefix` before what it is compared with.
// spec: istio pilot/pkg/security/authz/matcher/string.go StringMatcherWithPrefix
fn text(value: &str, prefix: &str) -> Value {
    match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(""), _) => regex(".+"),
        (Some(suffix), _) if prefix.is_empty() => json!({"suffix": suffix}),
        (Some(suffix), _) => regex(&format!("{prefix}.*{suffix}")),
        (None, Some(start)) => json!({"prefix": format!("{prefix}{start}")}),
        (None, None) => json!({"exact": format!("{prefix}{value}")}),
    }
}

fn regex(expression: &str) -> Value {
    json!({"safe_regex": {"regex": expression}})
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
