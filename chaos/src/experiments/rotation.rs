//! E8-rotate: certificates that are replaced every two seconds under load, and then the root that signs them.

use super::{Bench, Rules, count_failures};
use crate::{
    Failed,
    connections::{Connections, GRACE},
    load::{Ask, Load, Pace},
    report::{Findings, Unfinished},
    town::{Echo, Town, warm_up},
    usage,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, sleep};

pub(super) async fn run(bench: &Bench<'_>) -> Result<Findings, Unfinished> {
    let rate = bench.options.pick(1000.0, 100.0);
    let quiet = if bench.options.short { None } else { Some(cores_without_rotation(bench, rate).await?) };
    let town = Town::start(bench.tools, &Rules::BASE.text(), TTL).await?;
    let replicas = town.echoes("replica", 3).await?;
    let get = Ask::get("http://replica/");
    warm_up(&town, &get).await?;
    let ports = replicas.iter().map(Echo::port).collect::<Result<_, _>>()?;
    let mut watch = Watch { connections: Connections::to(ports), serials: BTreeSet::new() };
    let load = Load::start(&town.caller, get, Pace::Even(rate));

    let busy = Cores::begin(&replicas);
    let leaves = bench.options.seconds(60, 6);
    watch.until(&town, leaves, || false).await;
    let busy = busy.end(&replicas);
    let certificates = watch.serials.len();

    let root = town.data().join("ca.crt");
    let old_root = std::fs::read(&root)?;
    town.rotate_root().await?;
    let rotation = town.data().join("rotation.json");
    watch.until(&town, ROTATION_MAX, || !rotation.exists()).await;
    // Both sides have certificates of the new root by then, and the last connections of the old one have ended.
    watch.until(&town, bench.options.seconds(8, 2), || false).await;
    let rotated = !rotation.exists() && std::fs::read(&root)? != old_root;
    let calls = load.end().await;

    let mut findings = bench.findings();
    count_failures(&mut findings, &calls);
    let failed = findings.failed;
    findings.count("failed", failed, "0", failed == 0);
    let due = usize::try_from(leaves.as_secs() / 3)?;
    findings.count("certificates of the caller", certificates, &format!(">= {due}"), certificates >= due);
    findings.count("the new root stands alone", rotated, "true", rotated);
    judge_connections(&mut findings, &watch.connections);
    if let Some(quiet) = quiet {
        let share = 100.0 * (busy - quiet);
        let shown = format!("{share:.1} % of a core ({:.1} % in all)", 100.0 * busy);
        findings.speed("rotation, of caller and servers", shown, "< 10 %", share < 10.0);
    }
    Ok(findings)
}

/// A certificate is replaced at half of its life.
const TTL: &str = "4s";
/// Two overlaps, each a little longer than a certificate, and a busy machine.
const ROTATION_MAX: Duration = Duration::from_secs(60);

/// Returns how many cores caller and servers use while nothing is replaced.
async fn cores_without_rotation(bench: &Bench<'_>, rate: f64) -> Result<f64, Failed> {
    let town = bench.town(&Rules::BASE.text()).await?;
    let replicas = town.echoes("replica", 3).await?;
    let get = Ask::get("http://replica/");
    warm_up(&town, &get).await?;
    let load = Load::start(&town.caller, get, Pace::Even(rate));
    let cores = Cores::begin(&replicas);
    sleep(Duration::from_secs(30)).await;
    let cores = cores.end(&replicas);
    load.end().await;
    Ok(cores)
}

/// What caller and servers use of the processors.
struct Cores {
    begun: Instant,
    used: Duration,
}

impl Cores {
    fn begin(servers: &[Echo]) -> Self {
        Self { begun: Instant::now(), used: used(servers) }
    }

    fn end(self, servers: &[Echo]) -> f64 {
        used(servers).saturating_sub(self.used).as_secs_f64() / self.begun.elapsed().as_secs_f64()
    }
}

fn used(servers: &[Echo]) -> Duration {
    let processes = servers.iter().map(|echo| echo.process.id()).chain([std::process::id()]);
    processes.filter_map(usage::cpu).sum()
}

/// What is looked at ten times a second.
struct Watch {
    connections: Connections,
    /// Of the certificates that the caller has had.
    serials: BTreeSet<String>,
}

impl Watch {
    /// Looks until it `is_over`, at most for `time`.
    async fn until(&mut self, town: &Town, time: Duration, is_over: impl Fn() -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < time && !is_over() {
            if let Some(identity) = town.caller.workload().identity().current() {
                self.connections.look(identity.svid.not_after());
                self.serials.insert(identity.svid.serial().to_owned());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn judge_connections(findings: &mut Findings, connections: &Connections) {
    let (late, seen) = (connections.late(), connections.seen());
    let what = format!("connections open {} s after their certificate", GRACE.as_secs());
    findings.count(&what, format!("{late} of {seen}"), "0", late == 0 && seen > 0);
}
