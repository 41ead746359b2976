//! What there is to say about a mesh at a glance.

use mesh_runtime::control::wire::{CallsBy, Status, WorkloadStatus};
use serde::Serialize;

/// One thing that is well, or is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fact {
    pub(super) ok: bool,
    /// What was found.
    pub(super) fact: String,
    /// What to do about it, or where to look on.
    pub(super) hint: Option<&'static str>,
}

impl Fact {
    fn well(fact: String) -> Self {
        Self { ok: true, fact, hint: None }
    }

    fn wrong(fact: String, hint: &'static str) -> Self {
        Self { ok: false, fact, hint: Some(hint) }
    }
}

/// Returns the facts, in the order in which one would ask.
pub(super) fn of(status: &Status, url: &str) -> Vec<Fact> {
    let mut facts = vec![Fact::well(format!("the control endpoint at {url} answers"))];
    facts.extend(versions(status));
    facts.extend(certificates(status));
    facts.extend(rejections(status));
    facts.extend(plaintext(status));
    facts
}

fn versions(status: &Status) -> Vec<Fact> {
    let behind: Vec<_> = status
        .workloads
        .iter()
        .filter(|workload| workload.version != status.version)
        .map(|workload| {
            let version = if workload.version.is_empty() { "none that is known" } else { &workload.version };
            let fact =
                format!("{} is on version {version}, and {} is served", name(workload), status.version);
            Fact::wrong(
                fact,
                "ask again in a second; then look into its log, and at /config of its admin listener",
            )
        })
        .collect();
    match behind.is_empty() {
        true => vec![Fact::well(format!("{} workloads, all on the version served", status.workloads.len()))],
        false => behind,
    }
}

fn certificates(status: &Status) -> Vec<Fact> {
    let known = || status.workloads.iter().filter_map(|it| Some((it.certificate_seconds?, it)));
    let ended: Vec<_> = known()
        .filter(|(seconds, _)| *seconds == 0)
        .map(|(_, workload)| {
            let fact = format!("the certificate of {} has ended", name(workload));
            Fact::wrong(fact, "its renewals fail: /identity of its admin listener says why")
        })
        .collect();
    match known().min_by_key(|(seconds, _)| *seconds) {
        Some((seconds, workload)) if ended.is_empty() => {
            vec![Fact::well(format!(
                "every certificate is valid, that of {} for the shortest: {seconds} s",
                name(workload)
            ))]
        }
        _ => ended,
    }
}

fn rejections(status: &Status) -> Vec<Fact> {
    let wrong = status.rejected.iter().map(|rejection| {
        let at = format!("{}:{}:{}", rejection.file, rejection.line, rejection.column);
        let fact =
            format!("{} at {at} is not in force as written: {}", rejection.resource, rejection.message);
        Fact::wrong(fact, "mend it; `meshctl analyze FILE` says more")
    });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() { vec![Fact::well("every object is in force as written".to_owned())] } else { wrong }
}

/// Plaintext is what PERMISSIVE is for, and no fault.
fn plaintext(status: &Status) -> Vec<Fact> {
    let unproven = |workload: &&WorkloadStatus| {
        let callers = workload.callers.iter().flat_map(|callers| &callers.callers);
        callers.filter(|caller| caller.by != CallsBy::MutualTls).any(|caller| caller.requests > 0)
    };
    let called: Vec<_> = status.workloads.iter().filter(unproven).map(name).collect();
    match called.is_empty() {
        true => vec![Fact::well("no workload has recorded a caller without a proven identity".to_owned())],
        false => vec![Fact {
            ok: true,
            fact: format!("called without a proven identity: {}", called.join(", ")),
            hint: Some("`meshctl check --strict` says by whom"),
        }],
    }
}

fn name(workload: &WorkloadStatus) -> String {
    format!("{}/{} {}", workload.namespace, workload.service, workload.instance)
}
