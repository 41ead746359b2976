//! E1: a process dies without a word, and comes back.

use super::{Bench, Rules, compare_p99, count_failures};
use crate::{
    load::{Ask, Call, Calls, End, Load, Pace},
    report::{Findings, Unfinished},
    town::warm_up,
};
use std::time::Duration;
use tokio::time::sleep;

pub(super) async fn run(bench: &Bench<'_>) -> Result<Findings, Unfinished> {
    let town = bench.town(&Rules::BASE.text()).await?;
    let mut replicas = town.echoes("replica", 3).await?;
    let get = Ask::get("http://replica/");
    warm_up(&town, &get).await?;
    let rate = bench.options.pick(1000.0, 100.0);
    let gets = Load::start(&town.caller, get, Pace::Even(rate));
    // So slow that some are under way at every moment.
    let post = Ask::get("http://replica/?delay=50ms").post();
    let posts = Load::start(&town.caller, post, Pace::Even(rate / 10.0));

    sleep(bench.options.seconds(4, 2)).await;
    let mut victim = replicas.remove(0);
    let killed = gets.now();
    victim.process.kill().await?;
    sleep(Duration::from_secs(5)).await;
    let _again = town.echo("replica", &["--listen", &victim.mesh]).await?;
    let restarted = gets.now();
    sleep(bench.options.seconds(12, 6)).await;

    let (gets, posts) = (gets.end().await, posts.end().await);
    let mut findings = bench.findings();
    count_failures(&mut findings, &gets);
    let failed = gets.failed().count();
    findings.count("GETs that failed (Envoy: 2 of 10,000)", failed, "0", failed == 0);
    judge_posts(&mut findings, &posts, &victim.mesh);
    let second = Duration::from_secs(1);
    let before = gets.due_in(killed.saturating_sub(2 * second)..killed);
    compare_p99(
        &mut findings,
        "p99 in the second after",
        &before,
        &gets.due_in(killed..killed + second),
        3.0,
    );
    judge_share(bench, &mut findings, &gets.due_in(restarted..Duration::MAX), &victim.mesh);
    Ok(findings)
}

/// A POST may fail only if it may have been executed by who was killed, and must say so.
fn judge_posts(findings: &mut Findings, posts: &Calls, victim: &str) {
    let failed: Vec<&Call> = posts.failed().collect();
    let is_told = |call: &&&Call| match &call.end {
        End::Error(failure) => failure.may_have_been_sent && failure.endpoint.as_deref() == Some(victim),
        _ => false,
    };
    let untold = failed.iter().filter(|call| !is_told(call)).count();
    findings.offered += posts.len();
    findings.count(
        "POSTs that failed other than under way there, and told",
        format!("{untold} of {}", failed.len()),
        "0",
        untold == 0,
    );
    failed.iter().for_each(|call| findings.note(format!("POST {}", call.text())));
}

/// Its share must be back to a third; in the short form there are fewer answers to tell by.
fn judge_share(bench: &Bench<'_>, findings: &mut Findings, since: &Calls, restarted: &str) {
    let tolerance = bench.options.pick(5.0, 10.0);
    let from = since.iter().map(|call| call.due).min().unwrap_or_default();
    let window = bench.options.seconds(1, 2);
    let share = |n: u32| since.due_in(from + STEP * n..from + STEP * n + window).share(restarted);
    let back = (0..40).find(|&n| (share(n) - 100.0 / 3.0).abs() <= tolerance).map(|n| STEP * n + window);
    let bar = format!("33 +-{tolerance}%, 10 s");
    let limit = Duration::from_secs(10);
    findings.count("share of traffic back", super::after(back), &bar, back.is_some_and(|it| it <= limit));
}

const STEP: Duration = Duration::from_millis(250);
