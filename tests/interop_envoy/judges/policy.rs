//! Random policies over a small world, in Istio's words.

use crate::certificates::DOMAIN;
use serde_json::{Map, Value, json};

/// What stands for the port of whichever server judges.
pub(crate) const OWN_PORT: &str = "@own";

/// Returns one to three policies.
pub(crate) fn policies(dice: &mut fastrand::Rng) -> Vec<Value> {
    (0..dice.usize(1..=3)).map(|index| policy(dice, index)).collect()
}

fn policy(dice: &mut fastrand::Rng, index: usize) -> Value {
    let action = if dice.bool() { "ALLOW" } else { "DENY" };
    let rules: Vec<Value> = (0..dice.usize(1..=2)).map(|_| rule(dice)).collect();
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": format!("p{index}"), "namespace": "default"},
        "spec": {"action": action, "rules": rules},
    })
}

fn rule(dice: &mut fastrand::Rng) -> Value {
    let mut rule = Map::new();
    if dice.u8(..3) == 0 {
        let sources: Vec<Value> = (0..dice.usize(1..=2)).map(|_| json!({"source": source(dice)})).collect();
        rule.insert("from".to_owned(), sources.into());
    }
    if dice.u8(..3) != 0 {
        let operations: Vec<Value> =
            (0..dice.usize(1..=2)).map(|_| json!({"operation": lists(dice, &OPERATIONS)})).collect();
        rule.insert("to".to_owned(), operations.into());
    }
    if dice.u8(..3) == 0 {
        rule.insert("when".to_owned(), json!([condition(dice)]));
    }
    rule.into()
}

/// Lists of a source or an operation, each with what may stand in it.
type Choices = [(&'static str, &'static str, &'static [&'static str])];

/// Service accounts stand beside neither principals nor namespaces.
fn source(dice: &mut fastrand::Rng) -> Map<String, Value> {
    let accounts = dice.u8(..4) == 0;
    lists(dice, if accounts { &SOURCES[2..] } else { &SOURCES[..3] })
}

const SOURCES: [(&str, &str, &[&str]); 4] = [
    ("principals", "notPrincipals", &PRINCIPALS),
    ("namespaces", "notNamespaces", &["default", "shop", "sh*", "*"]),
    ("ipBlocks", "notIpBlocks", &BLOCKS),
    ("serviceAccounts", "notServiceAccounts", &["caller", "shop/admin", "default/stranger"]),
];

const OPERATIONS: [(&str, &str, &[&str]); 4] = [
    ("paths", "notPaths", &PATHS),
    ("methods", "notMethods", &["GET", "POST", "P*", "*T", "*", "get"]),
    ("hosts", "notHosts", &HOSTS),
    ("ports", "notPorts", &[OWN_PORT, "1"]),
];

const CONDITIONS: [(&str, &[&str]); 7] = [
    ("request.headers[x-role]", &["admin", "adm*", "*min", "*", "user", "admin,user"]),
    ("request.headers[x-none]", &["*", "a"]),
    ("request.headers[:method]", &["GET", "P*"]),
    ("source.ip", &BLOCKS),
    ("source.principal", &PRINCIPALS),
    ("source.namespace", &["default", "shop"]),
    ("destination.ip", &BLOCKS),
];

const PRINCIPALS: [&str; 7] = [
    "cluster.local/ns/default/sa/caller",
    "cluster.local/ns/shop/sa/admin",
    "cluster.local/ns/default/*",
    "cluster.local/*",
    "*/sa/admin",
    "*r",
    "*",
];

const BLOCKS: [&str; 5] = ["127.0.0.1", "127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0", "::1/128"];

const PATHS: [&str; 16] = [
    "/admin",
    "/admin/*",
    "/admin*",
    "*/admin",
    "*.html",
    "/",
    "*",
    "/a/b",
    "/a//b",
    "/A/b",
    "/a/{*}",
    "/a/{*}/c",
    "/{**}",
    "/a/{**}/c",
    "/~user",
    "/caf%C3%A9",
];

const HOSTS: [&str; 8] = ["echo", "ECHO", "echo.default", "*.default", "echo*", "*", "echo:80", "other"];

/// Returns some of the lists, at least one, each with one to three of its values.
fn lists(dice: &mut fastrand::Rng, choices: &Choices) -> Map<String, Value> {
    let mut lists = Map::new();
    while lists.is_empty() {
        for (list, opposite, values) in choices {
            for name in [list, opposite] {
                if dice.u8(..5) == 0 {
                    lists.insert((*name).to_owned(), some(dice, values).into());
                }
            }
        }
    }
    lists
}

fn condition(dice: &mut fastrand::Rng) -> Value {
    let (key, values) = CONDITIONS[dice.usize(..CONDITIONS.len())];
    let list = if dice.bool() { "values" } else { "notValues" };
    json!({"key": key, list: some(dice, values)})
}

fn some(dice: &mut fastrand::Rng, values: &[&str]) -> Vec<String> {
    (0..dice.usize(1..=3)).map(|_| values[dice.usize(..values.len())].to_owned()).collect()
}

/// Accounts whose callers ask, with their namespaces; one more asks in plaintext.
pub(crate) const CALLERS: [(&str, &str); 3] =
    [("default", "caller"), ("default", "stranger"), ("shop", "admin")];

/// Returns the ID of an account.
pub(crate) fn id_of(namespace: &str, account: &str) -> String {
    format!("spiffe://{DOMAIN}/ns/{namespace}/sa/{account}")
}
