//! What the admin listener shows, as JSON.

use super::{Sources, timestamp::timestamp};
use mesh_core::{
    balance::{Endpoint, Security},
    config::Diagnostic,
    explain::retries,
    route::{Route, RouteAction, Target, VirtualHost},
    snapshot::{Cluster, Snapshot},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::SystemTime};

/// The configuration in force: version, age, routes, clusters with their policy and endpoints, and what is not in force
/// as written.
pub(super) fn config(sources: &Sources) -> String {
    let facts = sources.progress.facts();
    let snapshot = sources.config.current();
    let in_force = facts.in_force.as_ref();
    let clusters: Vec<_> = snapshot.clusters().map(|cluster| summary(cluster)).collect();
    pretty(&json!({
        "version": in_force.map(|in_force| &*in_force.version),
        "ageSeconds": in_force.map(|in_force| in_force.since.elapsed().as_secs()),
        "fromCache": in_force.is_some_and(|in_force| in_force.from_cache),
        "trouble": facts.config_trouble.as_deref(),
        "inbound": {
            "mode": format!("{:?}", snapshot.inbound().mode).to_uppercase(),
            "ports": snapshot.inbound().ports.iter()
                .map(|(port, mode)| (port.to_string(), Value::from(format!("{mode:?}").to_uppercase())))
                .collect::<serde_json::Map<_, _>>(),
        },
        "virtualHosts": virtual_hosts(&snapshot),
        "clusters": clusters,
        "rejected": in_force.iter().flat_map(|in_force| in_force.rejected()).map(finding).collect::<Vec<_>>(),
        "findings": in_force.iter().flat_map(|in_force| &*in_force.findings).map(finding).collect::<Vec<_>>(),
    }))
}

/// Every cluster with its endpoints as they are now.
pub(super) fn clusters(sources: &Sources) -> String {
    let snapshot = sources.config.current();
    let cluster = |cluster: &Cluster| {
        let endpoints: Vec<_> =
            cluster.endpoints.as_slice().iter().map(|endpoint| health(endpoint, sources)).collect();
        json!({
            "name": &*cluster.name,
            "host": &*cluster.host,
            "port": cluster.port,
            "subset": &*cluster.subset,
            "endpoints": endpoints,
        })
    };
    let clusters: Vec<_> = snapshot.clusters().map(|it| cluster(it)).collect();
    pretty(&json!({ "version": &**snapshot.version(), "clusters": clusters }))
}

/// Who this workload is, and whom it believes.
pub(super) fn identity(sources: &Sources) -> String {
    let trouble = sources.progress.facts().identity_trouble;
    let Some(identity) = sources.identity.current() else {
        return pretty(&json!({ "spiffeId": null, "trouble": trouble.as_deref(), "bundles": [] }));
    };
    let svid = &identity.svid;
    pretty(&json!({
        "spiffeId": svid.id().as_str(),
        "serial": svid.serial(),
        "notBefore": timestamp(svid.not_before()),
        "notAfter": timestamp(svid.not_after()),
        "expired": svid.not_after() <= sources.identity.clock().now(),
        "trouble": trouble.as_deref(),
        "bundles": identity.bundles.trust_domains().map(|domain| domain.as_str()).collect::<Vec<_>>(),
    }))
}

/// Who calls this workload, how and for what, and what policies on trial would have denied.
pub(super) fn callers(sources: &Sources) -> String {
    pretty(&json!(sources.callers.report()))
}

/// Every virtual host once, however many names it answers to, in the order of names.
fn virtual_hosts(snapshot: &Snapshot) -> Vec<Value> {
    let hosts: BTreeMap<&str, _> = snapshot.hosts().iter().map(|host| (&*host.name, host)).collect();
    let one = |host: &VirtualHost| {
        json!({
            "name": &*host.name,
            "source": host.source.as_ref().map(|source| source.resource.to_string()),
            "routes": host.routes.iter().map(route).collect::<Vec<_>>(),
        })
    };
    hosts.into_values().map(|host| one(host)).collect()
}

fn route(route: &Route) -> Value {
    let mut shown = json!({ "name": &*route.name, "match": route.matches.to_string() });
    match &route.action {
        RouteAction::Forward(forward) => {
            let destination =
                |(target, weight): (&Target, u64)| json!({ "cluster": &*target.name, "weight": weight });
            shown["destinations"] = forward.destinations.iter().map(destination).collect();
            shown["timeoutMs"] = json!(forward.timeout.map(|timeout| timeout.as_millis() as u64));
            shown["retries"] = json!(retries(&forward.retry));
        }
        RouteAction::Redirect(redirect) => shown["redirect"] = json!(redirect.status.as_u16()),
        RouteAction::Direct { status, .. } => shown["directResponse"] = json!(status.as_u16()),
        _ => {}
    }
    shown
}

fn summary(cluster: &Cluster) -> Value {
    let endpoint = |endpoint: &Endpoint| {
        json!({
            "address": endpoint.address.to_string(),
            "labels": &*endpoint.labels,
            "weight": endpoint.weight,
            "security": security(&endpoint.security),
        })
    };
    json!({
        "name": &*cluster.name,
        "balance": format!("{:?}", cluster.endpoints.policy()),
        "connectTimeoutMs": cluster.connect_timeout.as_millis() as u64,
        "idleTimeoutMs": cluster.idle_timeout.as_millis() as u64,
        "limits": {
            "connections": cluster.limits.connections_max,
            "pending": cluster.limits.pending_max,
            "requests": cluster.limits.requests_max,
            "retries": cluster.limits.retries_max,
        },
        "outlierDetection": cluster.outlier.map(|policy| format!("{policy:?}")),
        "rule": cluster.rule.as_ref().map(|rule| rule.resource.to_string()),
        "endpoints": cluster.endpoints.as_slice().iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn health(endpoint: &Endpoint, sources: &Sources) -> Value {
    let now = sources.clock.now();
    let ejected = endpoint.state.ejected_until(now);
    let last = endpoint.state.last_ejection();
    let in_force = last.filter(|last| now < last.until);
    json!({
        "address": endpoint.address.to_string(),
        "health": if ejected.is_some() { "ejected" } else { "admitted" },
        "ejectedUntil": ejected.map(|until| timestamp(SystemTime::now() + until.since(now))),
        "ejectedBy": in_force.map(|ejection| ejection.cause.as_str()),
        "ejectedForMs": in_force.map(|ejection| ejection.since.until(ejection.until).as_millis() as u64),
        "ejections": last.map_or(0, |last| last.count),
        "inFlight": endpoint.state.in_flight(),
        "labels": &*endpoint.labels,
    })
}

fn security(security: &Security) -> Value {
    match security {
        Security::Plaintext => json!("plaintext"),
        Security::Mutual(mutual) => {
            json!({ "mutual": { "sni": &*mutual.sni, "peers": format!("{:?}", mutual.peers) } })
        }
        Security::Refused(reason) => json!({ "refused": &**reason }),
        _ => json!("other"),
    }
}

fn finding(finding: &Diagnostic) -> Value {
    json!({
        "code": finding.code,
        "level": finding.level,
        "resource": finding.resource.as_ref().map(ToString::to_string),
        "file": finding.location.as_ref().map(|location| &*location.file),
        "line": finding.location.as_ref().map(|location| location.line),
        "column": finding.location.as_ref().map(|location| location.column),
        "path": finding.path,
        "message": finding.message,
        "help": finding.help,
        "kept": finding.kept,
    })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
