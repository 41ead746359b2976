//! E2: endpoints that take everything and answer nothing.

use super::{Bench, Rules, after, count_failures};
use crate::{
    load::{Ask, Load, Pace, millis},
    network::Network,
    report::{Findings, Unfinished},
    town::{Echo, Town, warm_up},
};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How they become so.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// The process is stopped: its kernel still accepts connections and bytes.
    Stop,
    /// No packet gets through: not even a connection is made.
    Drop,
}

pub(super) async fn run(bench: &Bench<'_>, how: How) -> Result<Findings, Unfinished> {
    let filters = match (how, bench.network) {
        (How::Stop, _) => None,
        (How::Drop, Network::Own(filters)) => Some(filters),
        (How::Drop, Network::Shared(why)) => {
            return Err(Unfinished::Skipped(format!("no network namespace with packet filters: {why}")));
        }
    };
    let town = bench.town(&Rules { ejection: "30s", ..Rules::BASE }.text()).await?;
    let replicas = town.echoes("replica", 10).await?;
    let get = Ask::get("http://replica/");
    warm_up(&town, &get).await?;
    let load = Load::start(&town.caller, get, Pace::Even(bench.options.pick(1000.0, 100.0)));

    sleep(Duration::from_secs(1)).await;
    let victims = &replicas[..3];
    let (hit, end) = (load.now(), Instant::now() + bench.options.seconds(10, 6));
    let dropping = match filters {
        Some(filters) => {
            let ports: Result<Vec<u16>, _> = victims.iter().map(Echo::port).collect();
            Some(filters.drop_ports(&ports?)?)
        }
        None => {
            for victim in victims {
                victim.process.stop().await?;
            }
            None
        }
    };
    let ejected = ejected(&town, victims, end).await;
    sleep_until(end).await;
    let calls = load.end().await.due_in(hit..Duration::MAX);
    drop(dropping);

    let mut findings = bench.findings();
    count_failures(&mut findings, &calls);
    let failed = findings.failed;
    findings.count("failed (Envoy: 43 of 10,000)", failed, "<= 10", failed <= 10);
    let limit = bench.options.seconds(2, 6);
    let in_time = ejected.is_some_and(|it| it <= limit);
    findings.count("all three ejected", after(ejected), &format!("<= {} s", limit.as_secs()), in_time);
    let p99 = calls.due_in(hit + Duration::from_secs(3)..Duration::MAX).took(99);
    findings.speed("p99 from second 3 on", millis(p99), "<= 250 ms", p99 <= Duration::from_millis(250));
    Ok(findings)
}

/// Returns after how long all of `victims` are ejected; `None` if they are not at `end`.
async fn ejected(town: &Town, victims: &[Echo], end: Instant) -> Option<Duration> {
    let begun = Instant::now();
    while Instant::now() < end {
        let ejected = town.ejected("replica");
        if victims.iter().all(|victim| ejected.contains(&victim.mesh)) {
            return Some(begun.elapsed());
        }
        sleep(Duration::from_millis(5)).await;
    }
    None
}
