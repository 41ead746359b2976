//! What a workload says of its callers, cut to bounds: it is proven who it is, not that it is sane.

use mesh_runtime::control::wire::{AskedRecord, CallerRecord, Callers, TrialDenial};
use std::collections::BTreeMap;

pub(super) fn labels(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.into_iter().take(LABELS_MAX).map(|(name, value)| (short(name), short(value))).collect()
}

/// Returns what is kept of `callers`, where there is room for `room` of them.
pub(super) fn callers(callers: Callers, room: usize) -> Callers {
    Callers {
        callers: callers.callers.into_iter().take(CALLERS_MAX.min(room)).map(caller).collect(),
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
