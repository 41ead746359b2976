//! E11: everything at once, for long: instances that come and go, edits, certificates that rotate, packets that are lost.

use super::{Bench, Rules, slope::Series};
use crate::{
    Failed,
    load::{Ask, Load, Pace, percent},
    network::{Losing, Network},
    report::{Findings, Unfinished},
    town::{Echo, Town, warm_up},
    usage::{self, Usage},
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, interval};

pub(super) async fn run(bench: &Bench<'_>) -> Result<Findings, Unfinished> {
    let ttl = bench.options.pick("20s", "10s");
    let town = Town::start(bench.tools, &rules(0), ttl).await?;
    let steady = town.echoes("replica", 2).await?;
    let mut changing = Changing::of(vec![town.echo("replica", &[]).await?, town.echo("replica", &[]).await?]);
    warm_up(&town, &Ask::get("http://replica/")).await?;
    let (losing, url) = loss(bench.network)?;
    let load = Load::start(&town.caller, Ask::get(url), Pace::Even(bench.options.pick(200.0, 50.0)));

    let mut findings = bench.findings();
    let mut watch = Watch::default();
    let (begun, time) = (Instant::now(), bench.options.seconds(60 * bench.options.minutes, 60));
    let mut tick = interval(Duration::from_secs(1));
    let mut second = 0;
    while begun.elapsed() < time {
        tick.tick().await;
        second += 1;
        if second % EDIT_EVERY == 0 {
            town.edit(&rules(second))?;
        }
        if second % CHURN_EVERY == 0 {
            changing.change(&town).await?;
        }
        watch.look(&town, &steady[0], begun.elapsed()).await?;
        super::count_failures(&mut findings, &load.take());
    }
    super::count_failures(&mut findings, &load.end().await);
    drop(losing);

    if let Network::Shared(why) = bench.network {
        findings.note(format!("1 % of the answers broke off instead of lost packets: {why}"));
    }
    let of_steady: usize = steady.iter().map(|echo| echo.process.panics()).sum();
    let panics = usage::panics() + town.control.panics() + of_steady + changing.panics;
    findings.count("panics in any process", panics, "0", panics == 0);
    let (share, max) = (percent(findings.failed, findings.offered), bench.options.pick(0.1, 3.0));
    findings.count("failed", format!("{share:.3} %"), &format!("<= {max} %"), share <= max);
    let certificates = watch.serials.len();
    findings.count("certificates of the caller", certificates, ">= 3", certificates >= 3);
    findings.note(format!("{} instances came and went", changing.changes));
    watch.judge(bench, &mut findings);
    Ok(findings)
}

const EDIT_EVERY: u64 = 3;
const CHURN_EVERY: u64 = 4;

/// Something that is different each time, and changes how calls are made. A lost packet alone must not use up a try.
fn rules(edit: u64) -> String {
    Rules { timeout_seconds: 2 + edit % 3, try_millis: 600, edit, ..Rules::BASE }.text()
}

/// Loses packets where that is possible, and breaks off answers where it is not. Returns what to ask for, too.
fn loss(network: &Network) -> Result<(Option<Losing>, &'static str), Failed> {
    match network {
        Network::Own(filters) => Ok((Some(filters.lose_one_percent()?), "http://replica/")),
        Network::Shared(_) => Ok((None, "http://replica/?abort=1&abort-percent=1")),
    }
}

/// Instances that come and go.
struct Changing {
    /// The oldest first.
    echoes: Vec<Echo>,
    changes: usize,
    panics: usize,
}

impl Changing {
    fn of(echoes: Vec<Echo>) -> Self {
        Self { echoes, changes: 0, panics: 0 }
    }

    /// Ends the oldest, by turns with and without notice, and starts another one.
    async fn change(&mut self, town: &Town) -> Result<(), Failed> {
        let mut oldest = self.echoes.remove(0);
        if self.changes.is_multiple_of(2) {
            oldest.process.kill().await?;
        } else {
            oldest.process.terminate().await?;
            oldest.process.ended(Duration::from_secs(20)).await?;
        }
        self.panics += oldest.process.panics();
        self.changes += 1;
        self.echoes.push(town.echo("replica", &[]).await?);
        Ok(())
    }
}

/// What is looked at again and again.
struct Watch {
    caller: Series,
    control: Series,
    server: Series,
    /// Of the certificates that the caller has had.
    serials: BTreeSet<String>,
}

impl Default for Watch {
    fn default() -> Self {
        let [caller, control, server] = ["caller", "control endpoint", "server"].map(Series::of);
        Self { caller, control, server, serials: BTreeSet::new() }
    }
}

impl Watch {
    /// Looks at everybody.
    ///
    /// # Errors
    ///
    /// Returns who is gone that should have stayed.
    async fn look(&mut self, town: &Town, server: &Echo, at: Duration) -> Result<(), Failed> {
        self.caller.add(at, Usage::own())?;
        self.control.add(at, Usage::of(town.control.id(), 0))?;
        // An answer that was lost is no reason to end: it is asked again in a second.
        if let Ok(tasks) = server.tasks(town).await {
            self.server.add(at, Usage::of(server.process.id(), tasks))?;
        }
        let identity = town.caller.workload().identity().current();
        self.serials.extend(identity.map(|identity| identity.svid.serial().to_owned()));
        Ok(())
    }

    fn judge(&self, bench: &Bench<'_>, findings: &mut Findings) {
        for series in [&self.caller, &self.control, &self.server] {
            judge_memory(bench, findings, series);
            for (what, figure, bar) in COUNTS {
                let growth = series.growth(figure);
                let (first, last) = series.ends(figure);
                if last == 0.0 {
                    // Nobody tells how many tasks the control endpoint has.
                    continue;
                }
                let shown = format!("{growth:+.0} ({first:.0} to {last:.0})");
                findings.count(
                    &format!("{what} of the {}", series.name),
                    shown,
                    &format!("<= +{bar}"),
                    growth <= bar,
                );
            }
        }
    }
}

/// Within these the counts go up and down with the load and the instances that are there; a leak goes beyond them in a
/// minute, at an instance every four seconds and fifty requests a second.
const COUNTS: [(&str, Figure, f64); 3] = [
    ("file descriptors", |usage| usage.descriptors, 8.0),
    ("threads", |usage| usage.threads, 4.0),
    ("tasks", |usage| usage.tasks, 30.0),
];

type Figure = fn(&Usage) -> f64;

/// A minute is too short for a slope: then the last third is compared with the second.
fn judge_memory(bench: &Bench<'_>, findings: &mut Findings, series: &Series) {
    let (first, last) = series.ends(|usage| usage.resident_kib / 1024.0);
    let (figure, bar) = if bench.options.short {
        (series.growth(|usage| usage.resident_kib / 1024.0), 6.0)
    } else {
        (series.per_ten_minutes(Duration::from_secs(300), |usage| usage.resident_kib / 1024.0), 1.0)
    };
    let what = bench.options.pick("MiB in 10 minutes", "MiB from the second third to the last");
    let shown = format!("{figure:+.2} ({first:.1} to {last:.1})");
    findings.count(&format!("{}: {what}", series.name), shown, &format!("< +{bar}"), figure < bar);
}
