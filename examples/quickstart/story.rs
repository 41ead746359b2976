//! The story: six steps, each with what it must show.

use crate::{
    Failed, finding,
    load::{Load, SharedTally},
    screen::{Screen, Tone, millis},
    tally::Stretch,
    world::World,
    yaml::{self, Split},
};
use mesh::runtime::control::wire::Rejection;
use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

/// Who every answer must name as its caller.
const CHECKOUT: &str = "spiffe://cluster.local/ns/default/sa/checkout";

/// How long each step watches the calls: at 200 a second, 500 of them.
const WATCH: Duration = Duration::from_millis(2500);

/// How long an edit may take until it is in force. It takes a quarter of a second; a machine that is busy with something
/// else gets the benefit of the doubt, and the time is shown.
const EDIT_MAX: Duration = Duration::from_secs(5);

/// How long checkout may take to find the control endpoint again. Its back-off is jittered and grows to 30 s; after an
/// absence of [`WATCH`] it is a few seconds.
const RETURN_MAX: Duration = Duration::from_secs(30);

/// The narrator.
pub(crate) struct Story {
    world: World,
    load: Load,
    tally: SharedTally,
    screen: Screen,
    /// Whether everything so far was as it must be.
    held: bool,
    /// Whether it was told to the end.
    told: bool,
}

impl Story {
    /// Returns the story of `world` under `load`, told on `screen`.
    pub(crate) fn new(world: World, load: Load, screen: Screen) -> Self {
        let tally = load.tally();
        Self { world, load, tally, screen, held: true, told: false }
    }

    /// Tells it to the end, or until Ctrl-C, and returns whether every step held.
    pub(crate) async fn tell(mut self, stay: bool) -> Result<bool, Failed> {
        tokio::select! {
            told = self.steps(stay) => told?,
            _ = tokio::signal::ctrl_c() => {}
        }
        self.conclude().await
    }

    async fn steps(&mut self, stay: bool) -> Result<(), Failed> {
        self.introduce();
        self.as_written().await;
        self.edit(2, "edit the weights to 50/50", Split { v1: 50, v2: 50 }).await?;
        self.broken_edit(Split { v1: 50, v2: 50 }).await?;
        self.edit(4, "mend the file, and go to 0/100", Split { v1: 0, v2: 100 }).await?;
        self.control_gone(Split { v1: 0, v2: 100 }).await;
        self.control_back().await?;
        self.told = true;
        if stay {
            self.stay().await;
        }
        Ok(())
    }

    fn introduce(&self) {
        self.screen.say(Tone::Strong, "A canary over mutual TLS, with no sidecar: one process, four parts.");
        self.screen.say(Tone::Quiet, &format!("  configuration  {}", self.world.config().display()));
        if let Some(control) = self.world.control() {
            self.screen.say(Tone::Quiet, &format!("  control        {}", control.url()));
        }
    }

    async fn as_written(&mut self) {
        self.step(1, "the split as written: 90/10");
        let seen = self.watch(WATCH).await;
        self.expect_split(&seen, Split { v1: 90, v2: 10 });
        let others: Vec<String> = {
            let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.callers.values().flatten().filter(|caller| *caller != CHECKOUT).cloned().collect()
        };
        self.expect(
            others.is_empty(),
            &format!("every answer names its caller: {CHECKOUT} {}", others.join(" ")),
        );
    }

    async fn edit(&mut self, number: u32, title: &str, split: Split) -> Result<(), Failed> {
        self.step(number, title);
        let took = self.save_and_wait(&yaml::with(split), EDIT_MAX).await?;
        match took {
            Some(took) => self.expect(true, &format!("in force in checkout {took:.0?} after saving")),
            None => self.expect(false, &format!("not in force {EDIT_MAX:?} after saving")),
        }
        let seen = self.watch(WATCH).await;
        self.expect_split(&seen, split);
        Ok(())
    }

    async fn broken_edit(&mut self, kept: Split) -> Result<(), Failed> {
        self.step(3, "a broken edit: subset v3, which nobody defined");
        yaml::save(self.world.config(), &yaml::broken(kept))?;
        let refused = within(EDIT_MAX, || self.refused()).await.unwrap_or_default();
        self.expect(!refused.is_empty(), "the control endpoint refused it, and says so:");
        for rejection in &refused {
            for line in finding::lines(rejection, &yaml::broken(kept)) {
                self.screen.say(Tone::Quiet, &format!("       {line}"));
            }
        }
        let seen = self.watch(WATCH).await;
        self.expect_split(&seen, kept);
        Ok(())
    }

    async fn control_gone(&mut self, kept: Split) {
        self.step(5, "the control endpoint is gone");
        self.world.lose_control().await;
        let seen = self.watch(WATCH).await;
        self.expect_split(&seen, kept);
    }

    /// That the workloads have found it is shown by an edit that they could only have from it.
    async fn control_back(&mut self) -> Result<(), Failed> {
        let split = Split { v1: 90, v2: 10 };
        self.step(6, "it comes back, with an edit made while it was away: 90/10");
        yaml::save(self.world.config(), &yaml::with(split))?;
        let before = self.version();
        let begun = Instant::now();
        self.world.regain_control().await?;
        let found = within(RETURN_MAX, || (self.version() != before).then_some(())).await.is_some();
        let took = begun.elapsed();
        self.expect(found, &format!("checkout found it, and took the edit, after {took:.1?}"));
        let seen = self.watch(WATCH).await;
        self.expect_split(&seen, split);
        Ok(())
    }

    async fn stay(&self) {
        self.screen.say(Tone::Strong, "\nStill running. Edit the file, save, and watch; Ctrl-C ends it.");
        self.screen.say(Tone::Plain, &format!("  {}", self.world.config().display()));
        std::future::pending::<()>().await;
    }

    async fn conclude(self) -> Result<bool, Failed> {
        let Self { world, load, tally, screen, held, told } = self;
        load.end().await;
        screen.close();
        world.end().await?;
        let tally = tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (p50, p99) = tally.latency();
        let versions: Vec<String> = tally.versions.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let all_fine = held && tally.failed == 0 && tally.answered > 0;
        screen.say(Tone::Strong, "\nSummary");
        screen.say(Tone::Plain, &format!("  {} calls answered: {}", tally.answered, versions.join(", ")));
        screen.say(
            if tally.failed == 0 { Tone::Good } else { Tone::Bad },
            &format!("  {} failed", tally.failed),
        );
        if let Some(why) = &tally.first_failure {
            screen.say(Tone::Bad, &format!("  the first of them: {why}"));
        }
        screen.say(Tone::Plain, &format!("  p50 {}   p99 {}", millis(p50).trim(), millis(p99).trim()));
        let verdict = match (all_fine, told) {
            (true, true) => "every step held",
            (true, false) => "interrupted; every step so far held",
            (false, _) => "NOT every step held: see above",
        };
        screen.say(if all_fine { Tone::Good } else { Tone::Bad }, &format!("  {verdict}"));
        Ok(all_fine)
    }

    fn step(&self, number: u32, title: &str) {
        self.screen.say(Tone::Strong, &format!("\n{number}  {title}"));
    }

    /// Says whether something is as it must be, and remembers if not.
    fn expect(&mut self, holds: bool, what: &str) {
        self.held &= holds;
        let (tone, mark) = if holds { (Tone::Good, "ok ") } else { (Tone::Bad, "BAD") };
        self.screen.say(tone, &format!("   {mark} {}", what.trim_end()));
    }

    fn expect_split(&mut self, seen: &Stretch, wanted: Split) {
        let share = seen.share("v1");
        let holds = seen.calls > 0 && (share - f64::from(wanted.v1)).abs() <= tolerance(wanted, seen.calls);
        let what = format!(
            "v1 {share:.1} %, v2 {:.1} % of {} calls, where {}/{} is configured",
            seen.share("v2"),
            seen.calls,
            wanted.v1,
            wanted.v2
        );
        self.expect(holds, &what);
    }

    /// Watches for `period` and returns what was seen of the calls that began in it.
    async fn watch(&self, period: Duration) -> Stretch {
        let begun = Instant::now();
        tokio::time::sleep(period).await;
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).since(begun)
    }

    /// Saves `text` and returns how long it took until checkout had it in force.
    async fn save_and_wait(&self, text: &str, at_most: Duration) -> Result<Option<Duration>, Failed> {
        let before = self.version();
        let begun = Instant::now();
        yaml::save(self.world.config(), text)?;
        Ok(within(at_most, || (self.version() != before).then(|| begun.elapsed())).await)
    }

    /// Returns the version that checkout has in force.
    fn version(&self) -> String {
        self.world.checkout().workload().config().current().version().to_string()
    }

    /// Returns what the control endpoint refused, if it refused anything.
    fn refused(&self) -> Option<Vec<Rejection>> {
        Some(self.world.control()?.status().rejected).filter(|rejected| !rejected.is_empty())
    }
}

/// Five standard deviations of the share, in percent points: one honest run in two million is called wrong. A version
/// with weight 0 gets nothing at all.
fn tolerance(split: Split, calls: u64) -> f64 {
    let p = f64::from(split.v1) / f64::from(split.v1 + split.v2).max(1.0);
    500.0 * (p * (1.0 - p) / calls.max(1) as f64).sqrt()
}

/// Asks every 10 ms until there is an answer, or time is up.
async fn within<T>(at_most: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + at_most;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= until {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
