//! The answers of `meshctl check`, for people.

use super::{
    facts::Fact,
    strict::{CutOff, Denied, Outlook},
};
use mesh_runtime::control::wire::CallsBy;
use std::fmt::Write as _;

pub(super) fn of_facts(facts: &[Fact]) -> String {
    facts.iter().fold(String::new(), |mut text, fact| {
        let mark = if fact.ok { "ok   " } else { "wrong" };
        let _ = writeln!(text, "{mark} {}", fact.fact);
        if let Some(hint) = fact.hint {
            let _ = writeln!(text, "      {hint}");
        }
        text
    })
}

pub(super) fn of_outlook(outlook: &Outlook) -> String {
    let mut text = String::new();
    if !outlook.cut_off.is_empty() {
        text.push_str("STRICT would cut off:\n");
    }
    outlook.cut_off.iter().for_each(|cut_off| line_of_cut_off(&mut text, cut_off));
    if !outlook.denied.is_empty() {
        text.push_str("policies would deny:\n");
    }
    outlook.denied.iter().for_each(|denied| line_of_denied(&mut text, denied));
    if outlook.is_clear() {
        text.push_str("nothing that was recorded would break\n");
    }
    for note in &outlook.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn line_of_cut_off(text: &mut String, cut_off: &CutOff) {
    let CutOff { workload, requests, last_seen_seconds, .. } = cut_off;
    let by = match cut_off.by {
        CallsBy::Plaintext => "in plaintext",
        _ => "by TLS without a certificate",
    };
    let (port, caller) = match &cut_off.caller {
        Some(caller) => (format!(":{}", cut_off.port), caller.as_str()),
        None => (String::new(), "others, for whom there was no room in the record,"),
    };
    let _ = writeln!(
        text,
        "  {workload}{port}: {caller} {by}, {requests} requests, last seen {last_seen_seconds} s ago"
    );
}

fn line_of_denied(text: &mut String, denied: &Denied) {
    let Denied { workload, port, caller, asked, policy, .. } = denied;
    let certain = if denied.certain { "" } else { ", depending on what is not recorded" };
    let on_trial = if denied.on_trial { " (on trial)" } else { "" };
    let _ = writeln!(
        text,
        "  {workload}:{port}: {} http://{}{} by {caller}, {} requests: {policy}{on_trial}{certain}",
        asked.method, asked.host, asked.path, asked.count
    );
}
