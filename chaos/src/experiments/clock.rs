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
    let mut pair = Pair::start(bench, &library).await?;
    let mut findings = bench.findings();
    for (what, offset) in [("an hour on", "+3h"), ("an hour back", WITHIN)] {
        pair.jump_within(&mut findings, what, offset).await?;
    }
    for (what, offset, reason) in
        [("ten years on", "+10y", "expired"), ("ten years back", "-10y", "valid in")]
    {
        pair.jump_beyond(&mut findings, what, offset, reason).await?;
    }
    let Pair { plain, busy, .. } = pair;
    findings.count("requests without an identity", plain, "0", plain == 0);
    let max = bench.options.pick(5.0, 50.0);
    let shown = format!("{busy:.1} % of a core");
    findings.count("busiest of both while idle", shown, &format!("< {max} %"), busy < max);
    Ok(findings)
}

/// An hour before and after this, a certificate of a day that is new now is valid.
const WITHIN: &str = "+2h";

/// A caller and who is called.
struct Pair {
    town: Town,
    shop: Turned,
    others: Turned,
    caller: Echo,
    replica: Echo,
    /// How long nothing is asked of them, to see what they do by themselves.
    idle: Duration,
    /// Requests that came without an identity, while the caller had none to show.
    plain: usize,
    /// The largest share of a core that one of them used while idle, in percent.
    busy: f64,
}

impl Pair {
    async fn start(bench: &Bench<'_>, library: &Path) -> Result<Self, Failed> {
        let town = bench.town("").await?;
        let (shop, others) = (Turned::new(&town, library, "shop"), Turned::new(&town, library, "others"));
        shop.set(WITHIN)?;
        others.set(WITHIN)?;
        let caller = shop.echo(&town, "shop", "127.0.0.1:0").await?;
        let replica = others.echo(&town, "replica", "127.0.0.1:0").await?;
        let idle = bench.options.seconds(10, 1);
        let pair = Self { town, shop, others, caller, replica, idle, plain: 0, busy: 0.0 };
        pair.calls_are_fine().await?;
        Ok(pair)
    }

    /// Turns both clocks; calls on the connection that stands, and on one that is made by the new time.
    async fn jump_within(&mut self, findings: &mut Findings, what: &str, offset: &str) -> Result<(), Failed> {
        self.shop.set(offset)?;
        self.others.set(offset)?;
        sleep(UNTIL_READ).await;
        self.count_calls(findings, what).await?;
        self.replace().await?;
        self.calls_are_fine().await?;
        self.count_calls(findings, &format!("{what}, anew")).await?;
        self.idle().await
    }

    /// Turns the caller's clock, and back again; what is called meanwhile needs a new connection.
    async fn jump_beyond(
        &mut self,
        findings: &mut Findings,
        what: &str,
        offset: &str,
        reason: &str,
    ) -> Result<(), Failed> {
        self.shop.set(offset)?;
        // A connection that is made before would go on.
        sleep(UNTIL_READ).await;
        self.replace().await?;
        let is_told = |call: &Option<String>| call.as_ref().is_some_and(|why| why.contains(reason));
        // Until the new one is there, calls fail because of that.
        eventually(&format!("calls fail because of the certificates, {what}"), async || {
            self.calls(5).await.is_ok_and(|calls| calls.iter().all(is_told))
        })
        .await?;
        self.idle().await?;
        let calls = self.calls(CALLS).await?;
        let told = calls.iter().filter(|call| is_told(call)).count();
        let bar = CALLS.to_string();
        findings.count(&format!("{what}: calls that fail and say why"), told, &bar, told == CALLS);
        calls.iter().flatten().take(1).for_each(|why| findings.note(why.as_str()));
        self.plain += self.replica.handled_of(&self.town, "none").await?;
        self.shop.set(WITHIN)?;
        self.calls_are_fine().await?;
        self.count_calls(findings, &format!("{what}, and back")).await
    }

    /// Ends who is called without notice, and starts another one at its address: a caller that has no news of the mesh
    /// goes there, too.
    async fn replace(&mut self) -> Result<(), Failed> {
        self.replica.process.kill().await?;
        self.replica = self.others.echo(&self.town, "replica", &self.replica.mesh).await?;
        Ok(())
    }

    async fn calls(&self, count: usize) -> Result<Vec<Option<String>>, Failed> {
        self.caller.calls(&self.town, "http://replica/", count).await
    }

    async fn calls_are_fine(&self) -> Result<(), Failed> {
        eventually("calls are answered", async || {
            self.calls(5).await.is_ok_and(|calls| calls.iter().all(Option::is_none))
        })
        .await
    }

    async fn count_calls(&self, findings: &mut Findings, what: &str) -> Result<(), Failed> {
        let calls = self.calls(CALLS).await?;
        let failed = calls.iter().flatten().count();
        findings.offered += calls.len();
        findings.failed += failed;
        calls.iter().flatten().for_each(|why| findings.note(format!("{what}: {why}")));
        findings.count(&format!("{what}: calls that failed"), failed, "0", failed == 0);
        Ok(())
    }

    /// Asks nothing of them for a while, and sees what they use of a core.
    async fn idle(&mut self) -> Result<(), Failed> {
        let used = || [&self.caller, &self.replica].map(|echo| usage::cpu(echo.process.id()));
        let (begun, before) = (Instant::now(), used());
        sleep(self.idle).await;
        for (now, before) in used().into_iter().zip(before) {
            let used = now.zip(before).ok_or("a workload has ended")?;
            let share = used.0.saturating_sub(used.1).as_secs_f64() / begun.elapsed().as_secs_f64();
            self.busy = self.busy.max(100.0 * share);
        }
        Ok(())
    }
}

const CALLS: usize = 50;

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
struct Turned {
    library: PathBuf,
    file: PathBuf,
}

impl Turned {
    fn new(town: &Town, library: &Path, name: &str) -> Self {
        Self { library: library.to_owned(), file: town.path(format!("{name}.clock")) }
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
