//! What a workload reports, cut to bounds: it is proven who it is, not that it is sane.

use super::{REJECTIONS_MAX, short as text};
use mesh_runtime::control::wire::{AskedRecord, CallerRecord, Callers, Rejection, Report, TrialDenial};
use std::collections::BTreeMap;

/// Returns what is kept of `report`, if there is room.
pub(super) fn report(report: Report) -> Report {
    Report {
        rejected: report.rejected.into_iter().take(REJECTIONS_MAX).map(rejection).collect(),
        labels: labels(report.labels),
        callers: callers(report.callers),
        ..report
    }
}

/// Returns about how much memory what is kept of `report` takes, and an answer that shows it.
pub(super) fn bytes(report: &Report) -> usize {
    let rejected = report.rejected.iter().map(|it| {
        it.resource.len() + it.file.len() + it.code.len() + it.message.len() + it.kept.len() + ENTRY_BYTES
    });
    let labels = report.labels.iter().map(|(name, value)| name.len() + value.len() + ENTRY_BYTES);
    let callers = report.callers.callers.iter().map(|it| {
        let who = it.identity.iter().chain(&it.address).map(String::len).sum::<usize>();
        who + it.asked.iter().map(asked_bytes).sum::<usize>() + ENTRY_BYTES
    });
    let denials = report.callers.denied_on_trial.iter();
    let denials = denials
        .map(|it| it.policy.as_ref().map_or(0, String::len) + it.caller.len() + asked_bytes(&it.asked));
    rejected.chain(labels).chain(callers).chain(denials).sum()
}

fn asked_bytes(asked: &AskedRecord) -> usize {
    asked.method.len() + asked.host.len() + asked.path.len() + ENTRY_BYTES
}

fn rejection(rejection: Rejection) -> Rejection {
    Rejection {
        resource: text(&rejection.resource),
        file: text(&rejection.file),
        code: text(&rejection.code),
        message: text(&rejection.message),
        kept: text(&rejection.kept),
        ..rejection
    }
}

fn labels(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.into_iter().take(LABELS_MAX).map(|(name, value)| (short(name), short(value))).collect()
}

fn callers(callers: Callers) -> Callers {
    Callers {
        callers: callers.callers.into_iter().take(CALLERS_MAX).map(caller).collect(),
        denied_on_trial: callers.denied_on_trial.into_iter().take(DENIALS_MAX).map(denial).collect(),
        ..callers
    }
}

fn caller(caller: CallerRecord) -> CallerRecord {
    CallerRecord {
        identity: caller.identity.map(short),
        address: caller.address.map(short),
        asked: caller.asked.into_iter().take(ASKED_MAX).filter_map(asked).collect(),
        ..caller
    }
}

/// A path that is cut off would be another one.
fn asked(asked: AskedRecord) -> Option<AskedRecord> {
    let length = asked.method.len() + asked.host.len() + asked.path.len();
    (length <= ASKED_LENGTH_MAX).then_some(asked)
}

fn denial(denial: TrialDenial) -> TrialDenial {
    let AskedRecord { method, host, path, count } = denial.asked;
    TrialDenial {
        policy: denial.policy.map(short),
        caller: short(denial.caller),
        asked: AskedRecord { method: short(method), host: short(host), path: short(path), count },
        ..denial
    }
}

fn short(text: String) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

// As many as a workload reports; see the `callers` of mesh-runtime.
const CALLERS_MAX: usize = 200;
const ASKED_MAX: usize = 16;
const ASKED_LENGTH_MAX: usize = 160;
const DENIALS_MAX: usize = 64;
const LABELS_MAX: usize = 64;
/// The longest SPIFFE ID.
const TEXT_MAX: usize = 2048;
/// What an entry takes beside its texts, by memory or as JSON.
const ENTRY_BYTES: usize = 200;
