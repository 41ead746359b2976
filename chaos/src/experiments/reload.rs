//! E3: configurations that come and go under load, every other one invalid.
//!
//! A configuration leaves its number in two places of a request, by a header and by a rewritten path: the service answers
//! with both, so an answer tells which configuration it was sent by, and whether that was one and whole. They are pushed
//! the way a user does, by edits of a file: each is in force at the caller, or refused, before the next one is written.

use super::{Bench, compare_p99, count_failures};
use crate::{
    Failed,
    load::{Ask, Call, Calls, End, Load, Pace},
    report::{Findings, Unfinished},
    town::{Town, eventually, warm_up},
};
use std::{ops::RangeInclusive, time::Duration};
use tokio::time::{Instant, sleep};

pub(super) async fn run(bench: &Bench<'_>) -> Result<Findings, Unfinished> {
    let town = bench.town(&valid(0)).await?;
    let _replicas = [
        town.echo("replica", &["--version", "v1"]).await?,
        town.echo("replica", &["--version", "v2"]).await?,
    ];
    town.knows("replica", 2).await?;
    let get = Ask::get("http://replica/").keeping(number);
    warm_up(&town, &get).await?;
    let load = Load::start(&town.caller, get, Pace::Even(bench.options.pick(1000.0, 100.0)));

    sleep(bench.options.seconds(3, 1)).await;
    let quiet = load.now();
    let pushes = bench.options.pick(100, 16);
    let mut history = History { live: vec![Duration::ZERO..=Duration::MAX], refused: 0 };
    let begun = Instant::now();
    for number in 1..=pushes {
        history.push(&town, &load, number).await?;
    }
    let (took, quiet_again) = (begun.elapsed(), load.now());
    sleep(bench.options.seconds(3, 1)).await;
    let calls = load.end().await;

    let mut findings = bench.findings();
    count_failures(&mut findings, &calls);
    let failed = findings.failed;
    findings.count("failed", failed, "0", failed == 0);
    judge_numbers(&mut findings, &calls, &history);
    let refused = history.refused;
    findings.count(
        "invalid ones refused and shown",
        refused,
        &format!("{}", pushes / 2),
        refused == pushes / 2,
    );
    let is_quiet = |call: &Call| call.due < quiet || call.due >= quiet_again;
    let (without, during) = (calls.only(is_quiet), calls.only(|call| !is_quiet(call)));
    compare_p99(&mut findings, "p99 while they come, with that before and after", &without, &during, 1.2);
    findings.note(format!("{pushes} pushes in {:.1} s", took.as_secs_f64()));
    Ok(findings)
}

fn judge_numbers(findings: &mut Findings, calls: &Calls, history: &History) {
    let strange = calls.only(|call| call.is_fine() && !history.has(call));
    strange.iter().take(3).for_each(|call| {
        let End::Answer { kept, .. } = &call.end else { return };
        findings.note(format!("sent by {}: {}", kept.as_deref().unwrap_or("two at once"), call.text()));
    });
    findings.count(
        "sent by no configuration that was live, or by two",
        strange.len(),
        "0",
        strange.len() == 0,
    );
}

/// Which configuration was live when, in the time of the load.
struct History {
    /// By half of the number: the odd ones are invalid, and never live.
    live: Vec<RangeInclusive<Duration>>,
    refused: usize,
}

impl History {
    /// Writes a configuration, and waits until it has had its effect.
    async fn push(&mut self, town: &Town, load: &Load, number: usize) -> Result<(), Failed> {
        let written = load.now();
        if !number.is_multiple_of(2) {
            town.edit(&invalid(number))?;
            eventually("an invalid configuration is refused", async || {
                // By then it has mostly happened: each look is a process, and the load is not to notice them.
                sleep(Duration::from_millis(350)).await;
                town.refused().await.is_ok_and(|refused| !refused.is_empty())
            })
            .await?;
            self.refused += 1;
        } else {
            town.edit(&valid(number))?;
            let name = route_name(number);
            eventually("a configuration is in force", async || in_force(town, &name)).await?;
            if let Some(last) = self.live.last_mut() {
                *last = *last.start()..=load.now();
            }
            self.live.push(written..=Duration::MAX);
        }
        Ok(())
    }

    /// Returns whether the configuration that sent `call` was live at some time between its beginning and its end.
    fn has(&self, call: &Call) -> bool {
        let End::Answer { kept: Some(number), .. } = &call.end else { return false };
        let number = number.parse::<usize>().ok().filter(|number| number.is_multiple_of(2));
        let live = number.and_then(|number| self.live.get(number / 2));
        live.is_some_and(|live| *live.start() <= call.due + call.took && call.due <= *live.end())
    }
}

fn in_force(town: &Town, route: &str) -> bool {
    let snapshot = town.caller.workload().config().current();
    snapshot.hosts().iter().any(|host| host.routes.iter().any(|it| &*it.name == route))
}

/// Returns the number of the configuration that sent what is answered here; nothing if it was not one.
fn number(answer: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let path = answer["path"].as_str()?.strip_prefix('/')?;
    let header = answer["headers"]["x-configuration"][0].as_str()?;
    (path == header).then(|| path.to_owned())
}

fn route_name(number: usize) -> String {
    format!("number-{number}")
}

fn valid(number: usize) -> String {
    let (v1, v2) = if number.is_multiple_of(4) { (90, 10) } else { (10, 90) };
    configuration(number, &format!("weight: {v1}"), &format!("weight: {v2}"))
}

/// Weights are no words.
fn invalid(number: usize) -> String {
    configuration(number, "weight: most", "weight: few")
}

fn configuration(number: usize, v1: &str, v2: &str) -> String {
    let name = route_name(number);
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: replica}}
spec:
  host: replica
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: replica}}
spec:
  hosts: [replica]
  http:
  - name: {name}
    headers: {{request: {{set: {{x-configuration: '{number}'}}}}}}
    rewrite: {{uri: /{number}}}
    route:
    - {{destination: {{host: replica, subset: v1}}, {v1}}}
    - {{destination: {{host: replica, subset: v2}}, {v2}}}
"
    )
}
