//! E12: the clocks of two workloads jump, by an hour within the life of their certificates, and by ten years beyond it.
//!
//! libfaketime tells them what a file says; the control endpoint and this process keep the time. Timers are not touched:
//! a clock that is set does not move them either.

use super::Bench;
use crate::{
    Failed,
    report::{Findings, Unfinished},
    town::{Echo, Town, eventually},
    usage,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep};

pub(super) async fn run(bench: &Bench<'_>) -> Result<Findings, Unfinished> {
    let library = library().ok_or_else(|| {
        Unfinished::Skipped("there is no libfaketimeMT.so.1; the package libfaketime has it".to_owned())
    })?;
    let town = bench.town("").await?;
    let (shop, others) = (Turned::new(&town, &library, "shop"), Turned::new(&town, &library, "others"));
    shop.set("+2h")?;
    others.set("+2h")?;
    let caller = shop.echo(&town, "shop", ANYWHERE).await?;
    let mut replica = others.echo(&town, "replica", ANYWHERE).await?;
    calls_are_fine(&town, &caller).await?;
    let mut findings = bench.findings();

    let (mut spent, idle) = (0.0_f64, bench.options.seconds(10, 1));
    for (what, offset) in [("an hour on", "+3h"), ("an hour back", "+2h")] {
        shop.set(offset)?;
        others.set(offset)?;
        sleep(UNTIL_READ).await;
        // On the connection that stands, and then on one that is made by the new time.
        count_calls(&mut findings, what, &caller.calls(&town, URL, CALLS).await?);
        replica = replace(&town, &others, replica).await?;
        calls_are_fine(&town, &caller).await?;
        count_calls(&mut findings, &format!("{what}, anew"), &caller.calls(&town, URL, CALLS).await?);
        spent = spent.max(busiest([&caller, &replica], idle).await?);
    }

    for (what, offset, reason) in
        [("ten years on", "+10y", "expired"), ("ten years back", "-10y", "valid in")]
    {
        shop.set(offset)?;
        replica = replace(&town, &others, replica).await?;
        // Until it is known that the former one is gone, calls fail because of that.
        let told = format!("the clock {what}, calls fail because of the certificates");
        let is_told = |call: &Option<String>| call.as_ref().is_some_and(|why| why.contains(reason));
        eventually(&told, async || {
            caller.calls(&town, URL, 5).await.is_ok_and(|calls| calls.iter().all(is_told))
        })
        .await?;
        spent = spent.max(busiest([&caller, &replica], idle).await?);
        let calls = caller.calls(&town, URL, CALLS).await?;
        let told = calls.iter().filter(|call| is_told(call)).count();
        findings.count(
            &format!("{what}: calls that fail and say why"),
            told,
            &CALLS.to_string(),
            told == CALLS,
        );
        calls.iter().flatten().take(1).for_each(|why| findings.note(why.as_str()));
        shop.set("+2h")?;
        calls_are_fine(&town, &caller).await?;
        count_calls(&mut findings, "back again", &caller.calls(&town, URL, CALLS).await?);
    }
    let plain = replica.handled_of(&town, "none").await?;
    findings.count("requests without an identity", plain, "0", plain == 0);
    let max = bench.options.pick(5.0, 50.0);
    findings.count(
        "busiest of both while idle",
        format!("{spent:.1} % of a core"),
        &format!("< {max} %"),
        spent < max,
    );
    Ok(findings)
}

const URL: &str = "http://replica/";
const CALLS: usize = 50;
const ANYWHERE: &str = "127.0.0.1:0";

/// Longer than a clock is taken from memory.
const UNTIL_READ: Duration = Duration::from_millis(1500);

/// Returns where the package puts the library.
fn library() -> Option<PathBuf> {
    let given = std::env::var_os("CHAOS_LIBFAKETIME").map(PathBuf::from);
    let of = |directory: &str| Path::new(directory).join("faketime/libfaketimeMT.so.1");
    let architecture = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let usual = [&*architecture, "/usr/lib", "/usr/lib64", "/usr/local/lib"].map(of);
    given.into_iter().chain(usual).find(|path| path.exists())
}

/// Workloads whose clock can be turned.
struct Turned<'a> {
    library: &'a Path,
    file: PathBuf,
}

impl<'a> Turned<'a> {
    fn new(town: &Town, library: &'a Path, name: &str) -> Self {
        Self { library, file: town.path(format!("{name}.clock")) }
    }

    /// Sets it to the time plus `offset`; it is read within [`UNTIL_READ`].
    fn set(&self, offset: &str) -> Result<(), Failed> {
        Ok(std::fs::write(&self.file, offset)?)
    }

    async fn echo(&self, town: &Town, service: &str, listen: &str) -> Result<Echo, Failed> {
        let library = self.library.to_str().ok_or("libfaketime has a strange path")?;
        let file = self.file.to_str().ok_or("temporary files have a strange path")?;
        let variables = [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", file),
            // In seconds; looking each time would cost more than what is measured. See UNTIL_READ.
            ("FAKETIME_CACHE_DURATION", "1"),
            // It has been called by both names.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        town.echo_with(service, &["--listen", listen], &variables).await
    }
}

/// Ends `old` without notice, and starts another one at its address: whoever has no news of the mesh goes there, too.
async fn replace(town: &Town, others: &Turned<'_>, mut old: Echo) -> Result<Echo, Failed> {
    old.process.kill().await?;
    others.echo(town, "replica", &old.mesh).await
}

/// Waits until calls are answered: the caller must hear of who is there.
async fn calls_are_fine(town: &Town, caller: &Echo) -> Result<(), Failed> {
    eventually("calls are answered", async || {
        caller.calls(town, URL, 5).await.is_ok_and(|calls| calls.iter().all(Option::is_none))
    })
    .await
}

fn count_calls(findings: &mut Findings, what: &str, calls: &[Option<String>]) {
    let failed = calls.iter().flatten().count();
    findings.offered += calls.len();
    findings.failed += failed;
    calls.iter().flatten().for_each(|why| findings.note(format!("{what}: {why}")));
    findings.count(&format!("{what}: calls that failed"), failed, "0", failed == 0);
}

/// Returns what share of a core the busiest of `workloads` uses while nothing is asked of them, in percent.
async fn busiest(workloads: [&Echo; 2], time: Duration) -> Result<f64, Failed> {
    let used = || workloads.map(|echo| usage::cpu(echo.process.id()).unwrap_or_default());
    let (begun, before) = (Instant::now(), used());
    sleep(time).await;
    let spent = used().into_iter().zip(before).map(|(now, before)| now.saturating_sub(before));
    Ok(100.0 * spent.max().unwrap_or_default().as_secs_f64() / begun.elapsed().as_secs_f64())
}
