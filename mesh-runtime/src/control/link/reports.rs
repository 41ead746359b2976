//! What this workload has in force, what it refused and who calls it, for the endpoint's status: when it changes, and as a heartbeat.

use super::{Link, Talk, jitter};
use crate::{
    control::{
        http::Ask,
        wire::{Rejection, Report},
    },
    identity::Identity,
    progress::InForce,
};
use http::Method;
use std::{sync::Arc, time::Duration};

/// Reports for ever.
pub(super) async fn run(link: Arc<Link>) {
    let mut talk = Talk::new(Arc::clone(&link));
    let mut facts = link.progress.subscribe();
    loop {
        link.identified().await;
        link.reached().await;
        let in_force = facts.borrow_and_update().in_force.clone();
        if let Some(in_force) = in_force {
            let ask = Ask::send(Method::POST, "/v1/reports", &report(&link, &in_force));
            match talk.ask(&ask).await {
                Ok(_) => talk.backoff.on_answer(),
                Err(error) => {
                    // Nobody's request depends on it, and the long poll says louder what is wrong.
                    tracing::debug!("report not delivered: {}", talk.describe(&error));
                    talk.back_off(&error, HEARTBEAT).await;
                    continue;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(HEARTBEAT - jitter(HEARTBEAT / 10)) => {}
            _ = facts.changed() => {}
        }
    }
}

fn report(link: &Link, in_force: &InForce) -> Report {
    let identity = link.identity.current();
    let left =
        |identity: Arc<Identity>| identity.svid.not_after().duration_since(link.identity.clock().now());
    Report {
        service: link.settings.service.clone(),
        instance: link.instance.clone(),
        version: in_force.version.to_string(),
        rejected: in_force.rejected().take(REJECTIONS_MAX).map(Rejection::from).collect(),
        labels: link.settings.labels.clone(),
        certificate_seconds: identity.map(|identity| left(identity).unwrap_or_default().as_secs()),
        callers: link.callers.report(),
    }
}

const HEARTBEAT: Duration = Duration::from_secs(10);
/// Who refused a hundred objects has one problem, not a hundred.
const REJECTIONS_MAX: usize = 100;
