//! E7: a dependency fails behind three tiers that try three times each: what it has to bear, and whether it recovers.
//!
//! The caller calls `front`, that calls `middle`, that calls `ledger`. During the outage the requests say what the ledger
//! does to them; they have a path of their own, so the ledger's counts tell them from the others.

use super::{Bench, after, settled};
use crate::{
    load::{Ask, Call, Calls, End, Load, Pace, percent},
    report::{Findings, Unfinished},
    town::{Town, warm_up},
};
use std::time::Duration;
use tokio::time::sleep;

/// How the ledger fails.
pub(super) struct Outage {
    /// What is asked for meanwhile.
    url: &'static str,
    /// How long the caller, front and middle let a try take; as long as the caller's deadline allows if `None`.
    tries: Option<[&'static str; 3]>,
    /// How much of the load that is offered may reach the ledger.
    load_max: f64,
}

/// It answers 503, and so does whoever called it.
pub(super) const ERROR: Outage = Outage {
    url: "http://front/down?status=503&call=http%3A%2F%2Fmiddle%2Fdown%3Fstatus%3D503%26call%3D\
          http%253A%252F%252Fledger%252Fdown%253Fstatus%253D503",
    tries: None,
    load_max: 1.25,
};

/// It does not answer.
pub(super) const HANG: Outage = Outage {
    url: "http://front/down?status=503&call=http%3A%2F%2Fmiddle%2Fdown%3Fstatus%3D503%26call%3D\
          http%253A%252F%252Fledger%252Fdown%253Fdelay%253D5s",
    tries: None,
    load_max: 1.25,
};

/// It does not answer, and each tier waits a third as long for a try as the one above it: each gives up before the one
/// below could say that it has tried again already. Then the budgets multiply, to 1.2 to the third power at the most,
/// and what they start with comes on top.
pub(super) const TRIES: Outage =
    Outage { url: HANG.url, tries: Some(["150ms", "50ms", "15ms"]), load_max: 1.85 };

const UP: &str = "http://front/up?call=http%3A%2F%2Fmiddle%2Fup%3Fcall%3Dhttp%253A%252F%252Fledger%252Fup";

pub(super) async fn run(bench: &Bench<'_>, outage: &Outage) -> Result<Findings, Unfinished> {
    let town = bench.town(&outage.rules()).await?;
    let [_front, _middle, ledger] = tiers(&town).await?;
    let deadline = Duration::from_millis(500);
    let (up, down) = (Ask::get(UP).within(deadline).keeping(whole), Ask::get(outage.url).within(deadline));
    warm_up(&town, &up).await?;
    let rate = bench.options.pick(200.0, 60.0);

    let load = Load::start(&town.caller, up.clone(), Pace::Even(rate));
    // Longer than the two seconds whose requests a budget remembers: those of the warm-up came faster.
    sleep(bench.options.seconds(5, 3)).await;
    let before = load.end().await;
    let load = Load::start(&town.caller, down, Pace::Even(rate));
    sleep(Duration::from_secs(10)).await;
    let during = load.end().await;
    let (load, healing) = (Load::start(&town.caller, up, Pace::Even(rate)), bench.options.seconds(10, 6));
    sleep(healing).await;
    let healed = load.end().await;

    let mut findings = bench.findings();
    findings.offered = before.len() + during.len() + healed.len();
    findings.failed = before.len() + healed.len() - successes(&before) - successes(&healed);
    let max = outage.load_max;
    let load = ledger.handled(&town, "/down").await? as f64 / during.len() as f64;
    findings.count(
        "load on the ledger (naive retries: 27x)",
        format!("{load:.2}x"),
        &format!("<= {max}x"),
        load <= max,
    );
    findings.count("and it was asked at all", format!("{load:.2}x"), ">= 0.5x", load >= 0.5);
    let success = |second: &Calls| percent(successes(second), second.len()) > 99.0;
    let recovered = settled(&healed, Duration::ZERO, healing, success);
    let in_time = recovered.is_some_and(|it| it <= Duration::from_secs(5));
    findings.count("success above 99 % after healing", after(recovered), "<= 5 s", in_time);
    before
        .iter()
        .chain(healed.iter())
        .filter(|call| !is_whole(call))
        .for_each(|call| findings.note(call.text()));
    Ok(findings)
}

async fn tiers(town: &Town) -> Result<[crate::town::Echo; 3], crate::Failed> {
    let (front, middle, ledger) =
        (town.echo("front", &[]).await?, town.echo("middle", &[]).await?, town.echo("ledger", &[]).await?);
    town.knows("front", 1).await?;
    Ok([front, middle, ledger])
}

/// Returns something if the whole chain answered.
fn whole(answer: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let (middle, ledger) = (&answer["call"], &answer["call"]["body"]["call"]);
    (middle["status"] == 200 && ledger["status"] == 200).then(String::new)
}

fn is_whole(call: &Call) -> bool {
    call.is_fine() && matches!(&call.end, End::Answer { kept: Some(_), .. })
}

fn successes(calls: &Calls) -> usize {
    calls.iter().filter(|call| is_whole(call)).count()
}

impl Outage {
    /// Three tries everywhere. Only what is asked for during the outage has limits so short: they are to bring retries
    /// about, not to judge how fast the machine is when all is well.
    fn rules(&self) -> String {
        let rule = |(index, name): (usize, &str)| {
            let limit =
                self.tries.map(|tries| format!(", perTryTimeout: {}", tries[index])).unwrap_or_default();
            format!(
                "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  http:
  - match: [{{uri: {{exact: /down}}}}]
    retries: {{attempts: 2, retryOn: 5xx{limit}}}
    route: [{{destination: {{host: {name}}}}}]
  - retries: {{attempts: 2, retryOn: 5xx}}
    route: [{{destination: {{host: {name}}}}}]
"
            )
        };
        ["front", "middle", "ledger"].into_iter().enumerate().map(rule).collect::<Vec<_>>().join("---")
    }
}
