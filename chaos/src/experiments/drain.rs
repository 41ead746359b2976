//! E4: a rolling restart by SIGTERM, with long requests and longer streams in flight.

use super::{Bench, Rules, count_failures};
use crate::{
    Failed,
    load::{Ask, Calls, Load, Pace},
    report::{Findings, Unfinished},
    town::{Echo, Town, eventually, warm_up},
};
use std::time::Duration;
use tokio::time::sleep;

pub(super) async fn run(bench: &Bench<'_>) -> Result<Findings, Unfinished> {
    // A stream of five seconds needs a route that lets it come.
    let rules = Rules { timeout_seconds: 15, try_millis: 15_000, ..Rules::BASE };
    let town = bench.town(&rules.text()).await?;
    let replicas = town.echoes("replica", 3).await?;
    warm_up(&town, &Ask::get("http://replica/")).await?;
    let rate = bench.options.pick(200.0, 50.0);
    let requests = Load::start(&town.caller, Ask::get("http://replica/?delay=200ms"), Pace::Even(rate));
    let stream = bench.options.pick("http://replica/?stream=5s", "http://replica/?stream=2s");
    let streams = Load::start(&town.caller, Ask::get(stream), Pace::Even(rate / 20.0));

    sleep(bench.options.seconds(5, 2)).await;
    let mut restarts = Vec::new();
    let mut again = Vec::new();
    for replica in replicas {
        let (restart, started) = restart(&town, replica, &requests).await?;
        restarts.push(restart);
        again.push(started);
    }
    let mut calls = requests.end().await;
    let late = restarts.iter().map(|restart| restart.last_begun(&calls)).max().unwrap_or_default();
    calls.extend(streams.end().await);

    let mut findings = bench.findings();
    count_failures(&mut findings, &calls);
    let failed = findings.failed;
    findings.count("failed", failed, "0", failed == 0);
    let gone = restarts.iter().filter(|restart| restart.ended_well).count();
    findings.count("gone within their grace of 20 s, with status 0", gone, "3", gone == 3);
    let late = late.as_secs_f64();
    findings.speed(
        "last request that one still took, after SIGTERM",
        format!("{late:.2} s"),
        "<= 2 s",
        late <= 2.0,
    );
    let took = restarts.iter().map(|restart| restart.took.as_secs_f64()).fold(0.0, f64::max);
    findings.note(format!("the slowest was gone {took:.1} s after SIGTERM"));
    Ok(findings)
}

struct Restart {
    address: String,
    /// When SIGTERM was sent, in the time of the load.
    told: Duration,
    took: Duration,
    ended_well: bool,
}

/// Ends `old` and, when it is gone, starts another one in its place.
async fn restart(town: &Town, mut old: Echo, load: &Load) -> Result<(Restart, Echo), Failed> {
    let told = load.now();
    old.process.terminate().await?;
    let ended = old.process.ended(Duration::from_secs(20)).await?;
    let took = load.now() - told;
    let new = town.echo("replica", &["--listen", &old.mesh]).await?;
    // The next one must not leave before this one has taken its place.
    eventually("the caller knows it again", async || town.endpoints("replica", |_| true).contains(&new.mesh))
        .await?;
    let ended_well = ended.is_some_and(|status| status.success());
    Ok((Restart { address: old.mesh, told, took, ended_well }, new))
}

impl Restart {
    /// Returns how long after SIGTERM it still took a request, before it was gone.
    fn last_begun(&self, calls: &Calls) -> Duration {
        let while_it_left = self.told..self.told + self.took;
        let taken = calls.iter().filter(|call| call.endpoint() == Some(&*self.address));
        // It has answered 200 ms after it took it.
        let begun = taken.map(|call| (call.due + call.took).saturating_sub(Duration::from_millis(200)));
        let last = begun.filter(|begun| while_it_left.contains(begun)).max();
        last.map_or(Duration::ZERO, |last| last - self.told)
    }
}
