//! E8-outage: the control endpoint is gone until just before certificates end, and then everybody wants a new one.

use super::{Bench, Rules, count_failures};
use crate::{
    Failed,
    load::{Ask, Load, Pace, percent},
    report::{Findings, Unfinished},
    town::{Town, warm_up},
};
use futures_util::future::try_join_all;
use mesh::Mesh;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep};

pub(super) async fn run(bench: &Bench<'_>) -> Result<Findings, Unfinished> {
    let mut town = Town::start(bench.tools, &Rules::BASE.text(), bench.options.pick("120s", "12s")).await?;
    let count = bench.options.pick(200, 10);
    let fleet = Fleet(try_join_all((0..count).map(|_| town.join("caller"))).await?);
    let _replicas = town.echoes("replica", 3).await?;
    let get = Ask::get("http://replica/");
    warm_up(&town, &get).await?;
    let load = Load::start(&town.caller, get, Pace::Even(bench.options.pick(1000.0, 100.0)));

    let mut findings = bench.findings();
    if !bench.options.short {
        judge_spread(&mut findings, &fleet.renewals(&fleet.serials(), Duration::from_secs(80)).await);
    }
    town.control.kill().await?;
    let (before, end) = (fleet.serials(), fleet.first_end()?);
    let spare = bench.options.seconds(5, 4);
    let alone = Instant::now();
    while SystemTime::now() + spare < end {
        sleep(Duration::from_millis(50)).await;
    }
    let alone = alone.elapsed();
    town.restart_control().await?;
    let renewed = fleet.renewals(&before, Duration::from_secs(20)).await.len();
    let calls = load.end().await;

    count_failures(&mut findings, &calls);
    let failed = findings.failed;
    findings.count("failed", failed, "0", failed == 0);
    findings.count("callers with a new certificate", renewed, &count.to_string(), renewed == count);
    let (alone, spare) = (alone.as_secs(), spare.as_secs());
    findings.note(format!("{alone} s without it, until {spare} s before the first certificate ended"));
    Ok(findings)
}

/// Callers that joined together.
struct Fleet(Vec<Mesh>);

impl Fleet {
    /// Returns the serial number of each one's certificate.
    fn serials(&self) -> Vec<Option<String>> {
        let serial = |mesh: &Mesh| Some(mesh.workload().identity().current()?.svid.serial().to_owned());
        self.0.iter().map(serial).collect()
    }

    /// Returns when the first of their certificates ends.
    fn first_end(&self) -> Result<SystemTime, Failed> {
        let end = |mesh: &Mesh| Some(mesh.workload().identity().current()?.svid.not_after());
        Ok(self.0.iter().filter_map(end).min().ok_or("nobody has a certificate")?)
    }

    /// Waits until each has another certificate than `before`, at most so long; returns in which second each got it.
    async fn renewals(&self, before: &[Option<String>], within: Duration) -> Vec<u64> {
        let begun = Instant::now();
        let (mut done, mut seconds) = (BTreeSet::new(), Vec::new());
        while begun.elapsed() < within && done.len() < self.0.len() {
            for (index, (now, before)) in self.serials().iter().zip(before).enumerate() {
                if now != before && done.insert(index) {
                    seconds.push(begun.elapsed().as_secs());
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
        seconds
    }
}

fn judge_spread(findings: &mut Findings, renewals: &[u64]) {
    let mut each = BTreeMap::<u64, usize>::new();
    renewals.iter().for_each(|second| *each.entry(*second).or_default() += 1);
    let most = each.values().copied().max().unwrap_or_default();
    let share = percent(most, renewals.len());
    let shown = format!("{share:.1} % of {}", renewals.len());
    findings.speed("renewals in the fullest second", shown, "<= 15 %", !renewals.is_empty() && share <= 15.0);
}
