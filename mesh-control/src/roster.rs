//! Who was heard of lately, on which version they are, and what they could not put in force.

mod bounded;

use mesh_core::identity::SpiffeId;
use mesh_runtime::control::wire::{Callers, Rejection, Report, WorkloadStatus};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// The workloads heard of lately.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    workloads: BTreeMap<Member, Seen>,
    /// How much is kept of what they have reported, in bytes.
    bytes: usize,
}

/// One workload. Its identity is part of the key: nobody speaks for another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) id: SpiffeId,
}

#[derive(Debug)]
struct Seen {
    heard: Instant,
    version: String,
    rejected: Vec<Rejection>,
    labels: BTreeMap<String, String>,
    certificate_seconds: Option<u64>,
    callers: Option<Callers>,
    /// How much the report takes of what they all may.
    bytes: usize,
}

impl Roster {
    /// Notes a sign of life, and the version if it said one.
    pub(crate) fn on_heard(&mut self, member: &Member, version: Option<&str>, now: Instant) {
        self.make_room(member);
        let seen = self.workloads.entry(member.clone()).or_insert_with(|| Seen {
            heard: now,
            version: String::new(),
            rejected: Vec::new(),
            labels: BTreeMap::new(),
            certificate_seconds: None,
            callers: None,
            bytes: 0,
        });
        seen.heard = now;
        if let Some(version) = version {
            seen.version = short(version);
        }
    }

    /// Notes what a workload reports: what it has in force, and who calls it. Where there is no room for it, none of it
    /// is kept: half a list of callers would be read as all of them.
    pub(crate) fn on_report(&mut self, member: &Member, report: Report, now: Instant) {
        self.on_heard(member, Some(&report.version), now);
        let Some(seen) = self.workloads.get_mut(member) else { return };
        let kept = bounded::report(report);
        let others = self.bytes - seen.bytes;
        seen.certificate_seconds = kept.certificate_seconds;
        seen.bytes = bounded::bytes(&kept);
        if others + seen.bytes <= BYTES_MAX {
            (seen.rejected, seen.labels, seen.callers) = (kept.rejected, kept.labels, Some(kept.callers));
        } else {
            (seen.rejected, seen.labels, seen.callers, seen.bytes) = Default::default();
        }
        self.bytes = others + seen.bytes;
    }

    /// Forgets a workload that said goodbye.
    pub(crate) fn on_left(&mut self, member: &Member) {
        self.bytes -= self.workloads.remove(member).map_or(0, |seen| seen.bytes);
    }

    /// Forgets who was silent for too long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.workloads.retain(|_, seen| now.duration_since(seen.heard) < SILENCE_MAX);
        self.bytes = self.workloads.values().map(|seen| seen.bytes).sum();
    }

    /// Returns everybody, for the status; with their callers those whom `shows` names.
    pub(crate) fn workloads(&self, now: Instant, shows: impl Fn(&Member) -> bool) -> Vec<WorkloadStatus> {
        let status = |(member, seen): (&Member, &Seen)| WorkloadStatus {
            namespace: member.namespace.clone(),
            service: member.service.clone(),
            instance: member.instance.clone(),
            spiffe_id: member.id.as_str().to_owned(),
            version: seen.version.clone(),
            age_seconds: now.duration_since(seen.heard).as_secs(),
            labels: seen.labels.clone(),
            certificate_seconds: seen.certificate_seconds,
            callers: seen.callers.clone().filter(|_| shows(member)),
        };
        self.workloads.iter().map(status).collect()
    }

    /// Returns what workloads refused, each finding once however many made it.
    pub(crate) fn rejected(&self) -> Vec<Rejection> {
        let mut distinct: Vec<Rejection> = Vec::new();
        for rejection in self.workloads.values().flat_map(|seen| &seen.rejected) {
            if distinct.len() < REJECTIONS_MAX && !distinct.contains(rejection) {
                distinct.push(rejection.clone());
            }
        }
        distinct
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.workloads.len()
    }

    fn make_room(&mut self, member: &Member) {
        if self.workloads.len() < MEMBERS_MAX || self.workloads.contains_key(member) {
            return;
        }
        let oldest =
            self.workloads.iter().min_by_key(|(_, seen)| seen.heard).map(|(oldest, _)| oldest.clone());
        if let Some(oldest) = oldest {
            self.on_left(&oldest);
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Long enough to see who left, short enough that a status is about now.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Ten times what one machine runs.
const MEMBERS_MAX: usize = 20_000;
/// Of reports, in all: 20,000 callers of 3 KiB.
const BYTES_MAX: usize = 64 << 20;
const REJECTIONS_MAX: usize = 100;
const TEXT_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_runtime::control::wire::{AskedRecord, CallerRecord, CallsBy, TrialDenial};

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_for_too_long_is_forgotten() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        roster.on_heard(&member("a"), Some("v1"), now);
        roster.on_heard(&member("b"), None, now);
        roster.on_heard(&member("a"), None, now + SILENCE_MAX / 2);
        roster.sweep(now + SILENCE_MAX);
        let left = roster.workloads(now + SILENCE_MAX, |_| true);
        assert_eq!(left.len(), 1);
        assert_eq!(
            (left[0].instance.as_str(), left[0].version.as_str(), left[0].age_seconds),
            ("a", "v1", 150)
        );
        roster.on_left(&member("a"));
        assert_eq!(roster.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_finding_of_many_workloads_is_shown_once_and_in_bounds() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let finding = |n: u32| Rejection {
            resource: "VirtualService shop/x".into(),
            file: "f".into(),
            line: n,
            column: 1,
            code: "IST0101".into(),
            message: "m".repeat(5_000),
            kept: String::new(),
        };
        roster.on_report(&member("a"), report("v1", vec![finding(1), finding(2)]), now);
        roster.on_report(&member("b"), report("v1", vec![finding(2)]), now);
        assert_eq!(roster.rejected().len(), 2);
        assert_eq!(roster.rejected()[0].message.len(), TEXT_MAX);
        roster.on_report(&member("a"), report("v2", (0..5_000).map(finding).collect()), now);
        assert_eq!(roster.rejected().len(), REJECTIONS_MAX);
        roster.on_report(&member("a"), report("v3", Vec::new()), now);
        assert_eq!(roster.rejected().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_are_kept_within_bounds_and_shown_where_they_may_be() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let record = |n: usize| CallerRecord {
            by: CallsBy::Plaintext,
            identity: None,
            address: Some("a".repeat(5_000)),
            port: 80,
            connections: 1,
            refused: 0,
            requests: 1,
            last_seen_seconds: 0,
            asked: vec![
                AskedRecord { method: "GET".into(), host: "h".into(), path: "p".repeat(n), count: 1 };
                20
            ],
            asked_more: 0,
        };
        let callers = Callers { callers: (0..300).map(record).collect(), ..Callers::default() };
        for n in 0..3 {
            let report = Report { callers: callers.clone(), ..report("v1", Vec::new()) };
            roster.on_report(&member(&format!("i{n}")), report, now);
        }
        let all = roster.workloads(now, |member| member.instance != "i1");
        assert!(all.iter().all(|status| (status.instance == "i1") == status.callers.is_none()));
        let first = &all[0].callers.as_ref().unwrap().callers[0];
        assert!(first.address.as_ref().unwrap().len() <= 2_048 && first.asked.len() <= 16, "{first:?}");
    }

    /// One genuine workload can call itself by any number of instances.
    #[tokio::test(start_paused = true)]
    async fn reports_have_one_bound_together_and_what_has_no_room_is_not_known_rather_than_cut() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let asked = AskedRecord { method: "GET".into(), host: "h".into(), path: "p".into(), count: 1 };
        let denial = TrialDenial {
            policy: Some("p".repeat(5_000)),
            caller: "c".repeat(5_000),
            port: 80,
            asked,
            last_seen_seconds: 0,
        };
        let long = Report {
            labels: (0..100).map(|n| (format!("{n:05000}"), "v".repeat(5_000))).collect(),
            callers: Callers { denied_on_trial: vec![denial; 100], ..Callers::default() },
            ..report("v1", Vec::new())
        };
        let mut instances = (0..).map(|n| member(&format!("i{n}")));
        let is_kept = |roster: &Roster, member: &Member| roster.workloads[member].callers.is_some();
        let first_left_out = loop {
            let member = instances.next().unwrap();
            roster.on_report(&member, long.clone(), now);
            if !is_kept(&roster, &member) {
                break member;
            }
            assert!(roster.len() < 1_000, "there is no bound");
        };
        let told = serde_json::to_vec(&roster.workloads(now, |_| true)).unwrap();
        assert!(told.len() <= BYTES_MAX, "{}", told.len());
        roster.on_report(&member("i0"), report("v2", Vec::new()), now);
        roster.on_report(&first_left_out, long, now);
        assert!(is_kept(&roster, &first_left_out), "what another gives up is room");
        for member in roster.workloads.keys().cloned().collect::<Vec<_>>() {
            roster.on_left(&member);
        }
        assert_eq!(roster.bytes, 0);
    }

    fn report(version: &str, rejected: Vec<Rejection>) -> Report {
        Report {
            service: "cart".into(),
            instance: "a".into(),
            version: version.into(),
            rejected,
            labels: BTreeMap::new(),
            certificate_seconds: None,
            callers: Callers::default(),
        }
    }

    fn member(instance: &str) -> Member {
        Member {
            namespace: "shop".into(),
            service: "cart".into(),
            instance: instance.into(),
            id: "spiffe://td/ns/shop/sa/cart".parse().unwrap(),
        }
    }
}
