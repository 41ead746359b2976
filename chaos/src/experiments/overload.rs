//! E6: three times as many requests as a server can answer.
//!
//! The server has so many workers and each takes so long for a request, which it does not know; what it can answer is
//! measured first, by half as many callers again as there are workers, so that none of these is idle.

use super::{Bench, after, settled};
use crate::{
    load::{Ask, Call, Calls, Load, Pace, millis, percent},
    report::{Findings, Unfinished},
    town::{Town, warm_up},
};
use http::StatusCode;
use std::time::Duration;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// What the server is told about how many requests it may run.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    /// How many workers it has.
    Fixed,
    /// To find that out.
    Adaptive,
}

pub(super) async fn run(bench: &Bench<'_>, limit: Limit) -> Result<Findings, Unfinished> {
    let town = bench.town("").await?;
    let (workers, work) = bench.options.pick(("4", "20ms"), ("4", "40ms"));
    let max = match limit {
        Limit::Fixed => workers,
        Limit::Adaptive => "adaptive",
    };
    let flags = ["--latency", work, "--at-once", workers];
    let _server = town.echo_with("server", &flags, &[("MESH_REQUESTS_MAX", max)]).await?;
    town.knows("server", 1).await?;
    let get = Ask::get("http://server/").within(Duration::from_millis(500));
    warm_up(&town, &get).await?;

    let capacity = capacity(&town, &get, workers.parse()?, bench.options.seconds(4, 2)).await;
    let offer = async |share: f64, time: Duration| {
        let load = Load::start(&town.caller, get.clone(), Pace::of_strangers(capacity * share));
        sleep(time).await;
        load.end().await
    };
    let at_capacity = offer(1.0, bench.options.seconds(10, 3)).await;
    let time = bench.options.seconds(60, 6);
    let over = offer(3.0, time).await;
    let time_after = Duration::from_secs(8);
    let afterwards = offer(0.5, time_after).await;

    let mut findings = bench.findings();
    findings.offered = at_capacity.len() + over.len() + afterwards.len();
    judge_overload(&mut findings, &at_capacity, &over, capacity * time.as_secs_f64());
    let is_recovered = |second: &Calls| percent(second.failed().count(), second.len()) <= 5.0;
    let recovered = settled(&afterwards, Duration::ZERO, time_after, is_recovered);
    let in_time = recovered.is_some_and(|it| it <= Duration::from_secs(5));
    findings.count("95 % answered at half of the capacity", after(recovered), "<= 5 s", in_time);
    findings.note(format!("capacity {capacity:.0}/s; p50 at capacity {}", millis(at_capacity.took(50))));
    Ok(findings)
}

/// Returns how many answers there are in a second if half as many again ask as there are workers, each as soon as it is
/// answered. The few who wait are within what may wait for ever.
async fn capacity(town: &Town, ask: &Ask, workers: usize, time: Duration) -> f64 {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..workers * 3 / 2 {
        let (caller, ask) = (town.caller.clone(), ask.clone());
        callers.spawn(async move {
            let mut answers = 0_u32;
            while begun.elapsed() < time {
                answers += u32::from(ask.once(&caller).await.is_fine());
            }
            answers
        });
    }
    let answers: u32 = callers.join_all().await.into_iter().sum();
    f64::from(answers) / begun.elapsed().as_secs_f64()
}

fn judge_overload(findings: &mut Findings, at_capacity: &Calls, over: &Calls, possible: f64) {
    let (admitted, refused) = (over.only(Call::is_fine), over.only(is_refused));
    let lost = over.only(|call| !call.is_fine() && !is_refused(call));
    findings.failed = lost.len();
    lost.iter().for_each(|call| findings.note(call.text()));
    let kept = 100.0 * admitted.len() as f64 / possible;
    findings.count("answered in time, of the capacity", format!("{kept:.0} %"), ">= 90 %", kept >= 90.0);
    let unanswered = percent(lost.len(), over.len());
    findings.speed("neither answered nor refused", format!("{unanswered:.2} %"), "<= 1 %", unanswered <= 1.0);
    let fine = at_capacity.only(Call::is_fine);
    super::compare_p99(findings, "p99 of the answered, with that at capacity", &fine, &admitted, 2.0);
    let p99 = refused.took(99);
    findings.speed("p99 of a refusal", millis(p99), "< 5 ms", p99 < Duration::from_millis(5));
}

fn is_refused(call: &Call) -> bool {
    call.is(StatusCode::SERVICE_UNAVAILABLE)
}
