//! `meshctl status`.

use super::args::{EndpointArgs, StatusArgs};
use mesh_control::operator_token;
use mesh_runtime::control::{JoinToken, status, wire::Status};
use std::{fmt::Write as _, io::Write as _};

pub(crate) fn run(args: StatusArgs, json: bool) -> Result<(), String> {
    let status = ask(&args.endpoint)?;
    let shown = if json {
        serde_json::to_string(&status).map_err(|error| error.to_string())? + "\n"
    } else {
        text(&status)
    };
    std::io::stdout().write_all(shown.as_bytes()).map_err(|error| format!("writing the status: {error}"))
}

/// Asks an endpoint how it fares.
pub(crate) fn ask(endpoint: &EndpointArgs) -> Result<Status, String> {
    let token = match &endpoint.data {
        Some(data) => operator_token(data).map_err(|error| error.to_string())?,
        None => std::env::var("MESH_JOIN_TOKEN")
            .map_err(|_| "give --data DIR, or a join token in MESH_JOIN_TOKEN".to_owned())?,
    };
    let token = JoinToken::parse(token.trim()).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting the runtime: {error}"))?;
    runtime.block_on(status(&endpoint.control, &token)).map_err(|error| error.to_string())
}

fn text(status: &Status) -> String {
    let mut text = format!("version {}\n\n", status.version);
    if status.workloads.is_empty() {
        text.push_str("no workload was heard of lately\n");
    }
    for workload in &status.workloads {
        let version = match workload.version.as_str() {
            "" => "version not known".to_owned(),
            version if version == status.version => "up to date".to_owned(),
            version => format!("on version {version}"),
        };
        let _ = writeln!(
            text,
            "{}/{} {} as {}: {version}, heard {} s ago",
            workload.namespace, workload.service, workload.instance, workload.spiffe_id, workload.age_seconds
        );
    }
    for rejection in &status.rejected {
        let _ = write!(
            text,
            "\nrejected[{}] {}\n  --> {}:{}:{}\n  {}\n  kept: {}\n",
            rejection.code,
            rejection.resource,
            rejection.file,
            rejection.line,
            rejection.column,
            rejection.message,
            rejection.kept
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_runtime::control::wire::{Rejection, WorkloadStatus};

    #[test]
    fn the_text_says_who_is_behind_and_what_was_refused_where() {
        let workload = |instance: &str, version: &str| WorkloadStatus {
            namespace: "shop".into(),
            service: "cart".into(),
            instance: instance.into(),
            spiffe_id: "spiffe://td/ns/shop/sa/cart".into(),
            version: version.into(),
            age_seconds: 3,
            labels: std::collections::BTreeMap::new(),
            certificate_seconds: None,
            callers: None,
        };
        let status = Status {
            version: "v2".into(),
            workloads: vec![workload("a", "v2"), workload("b", "v1")],
            rejected: vec![Rejection {
                resource: "VirtualService shop/cart".into(),
                file: "mesh.yaml".into(),
                line: 7,
                column: 5,
                code: "IST0106".into(),
                message: "weight is -1".into(),
                kept: "the version read before stays in force".into(),
            }],
        };
        let text = text(&status);
        assert!(
            text.contains("shop/cart a as spiffe://td/ns/shop/sa/cart: up to date, heard 3 s ago"),
            "{text}"
        );
        assert!(text.contains("shop/cart b as spiffe://td/ns/shop/sa/cart: on version v1"), "{text}");
        assert!(text.contains("rejected[IST0106] VirtualService shop/cart\n  --> mesh.yaml:7:5"), "{text}");
    }
}
