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
    /// How many callers they have reported, in all.
    records: usize,
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
        });
        seen.heard = now;
        if let Some(version) = version {
            seen.version = short(version);
        }
    }

    /// Notes what a workload reports: what it has in force, and who calls it.
    pub(crate) fn on_report(&mut self, member: &Member, report: Report, now: Instant) {
        self.on_heard(member, Some(&report.version), now);
        let before = self.workloads.get(member).map_or(0, Seen::records);
        let room = RECORDS_MAX - (self.records - before);
        if let Some(seen) = self.workloads.get_mut(member) {
            seen.rejected = report.rejected.into_iter().take(REJECTIONS_MAX).map(shortened).collect();
            seen.labels = bounded::labels(report.labels);
            seen.certificate_seconds = report.certificate_seconds;
            seen.callers = Some(bounded::callers(report.callers, room));
            self.records = RECORDS_MAX - room + seen.records();
        }
    }

    /// Forgets a workload that said goodbye.
    pub(crate) fn on_left(&mut self, member: &Member) {
        self.records -= self.workloads.remove(member).map_or(0, |seen| seen.records());
    }

    /// Forgets who was silent for too long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.workloads.retain(|_, seen| now.duration_since(seen.heard) < SILENCE_MAX);
        self.records = self.workloads.values().map(Seen::records).sum();
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

impl Seen {
    /// Returns how many callers it has reported.
    fn records(&self) -> usize {
        self.callers.as_ref().map_or(0, |callers| callers.callers.len())
    }
}

fn shortened(rejection: Rejection) -> Rejection {
    Rejection {
        resource: short(&rejection.resource),
        file: short(&rejection.file),
        code: short(&rejection.code),
        message: short(&rejection.message),
        kept: short(&rejection.kept),
        ..rejection
    }
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Long enough to see who left, short enough that a status is about now.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Ten times what one machine runs.
const MEMBERS_MAX: usize = 20_000;
/// Of callers, in all: 3 KiB each at most. What is reported beyond that is not kept.
const RECORDS_MAX: usize = 20_000;
const REJECTIONS_MAX: usize = 100;
const TEXT_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_runtime::control::wire::{AskedRecord, CallerRecord, CallsBy};

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
        for n in 0..110 {
            let report = Report { callers: callers.clone(), ..report("v1", Vec::new()) };
            roster.on_report(&member(&format!("i{n}")), report, now);
        }
        let all = roster.workloads(now, |member| member.instance != "i1");
        let kept = |status: &WorkloadStatus| status.callers.as_ref().map_or(0, |it| it.callers.len());
        assert!(all.iter().map(kept).sum::<usize>() <= RECORDS_MAX);
        assert!(all.iter().all(|status| (status.instance == "i1") == status.callers.is_none()));
        let first = &all[0].callers.as_ref().unwrap().callers[0];
        assert!(first.address.as_ref().unwrap().len() <= 2_048 && first.asked.len() <= 16, "{first:?}");
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
