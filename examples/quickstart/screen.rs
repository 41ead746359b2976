//! What the reader sees: lines that stay, and on a terminal a table below them that is redrawn in place.
//!
//! Where stdout is no terminal there is no escape sequence at all, and a line a second instead of the table. `NO_COLOR`
//! takes the colours away and leaves the table.

use crate::{load::SharedTally, tally::Glance};
use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How far back the table looks.
const WINDOW: Duration = Duration::from_secs(1);
const BAR: usize = 20;

/// Standard output. Clones share it.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Mutex<Inner>>);

struct Inner {
    style: Style,
    begun: Instant,
    /// Whether there is nothing to follow any more.
    closed: bool,
    /// How many lines of the table stand below the last line that stays.
    drawn: usize,
}

/// What the output can take.
#[derive(Clone, Copy)]
struct Style {
    live: bool,
    colour: bool,
}

/// The meaning of a colour.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Quiet,
    Good,
    Bad,
}

impl Screen {
    /// Returns the screen, having looked at what stdout is.
    pub(crate) fn on_stdout() -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let live = std::io::stdout().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        let style = Style { live, colour: live && !is_set("NO_COLOR") };
        Self(Arc::new(Mutex::new(Inner { style, begun: Instant::now(), closed: false, drawn: 0 })))
    }

    /// Shows `tally` from now on, until the program ends.
    pub(crate) fn follow(&self, tally: SharedTally) {
        let screen = self.clone();
        let period = Duration::from_millis(if screen.inner().style.live { 200 } else { 1000 });
        tokio::spawn(async move {
            let mut tick = tokio::time::interval_at((Instant::now() + period).into(), period);
            loop {
                tick.tick().await;
                let since = Instant::now() - WINDOW;
                let glance = tally.lock().unwrap_or_else(PoisonError::into_inner).glance(since);
                screen.inner().show(&glance);
            }
        });
    }

    /// Takes the table away for good.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        inner.erase();
        inner.closed = true;
    }

    /// Writes a line that stays.
    pub(crate) fn say(&self, tone: Tone, line: &str) {
        let mut inner = self.inner();
        inner.erase();
        let line = inner.style.paint(tone, line);
        println!("{line}");
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn show(&mut self, glance: &Glance) {
        if self.closed {
            return;
        }
        if !self.style.live {
            println!("{}", self.line(glance));
            return;
        }
        self.erase();
        let table = self.table(glance);
        // Without wrapping, every line of the table is one line of the screen, however narrow.
        print!("\x1b[?7l{}\x1b[?7h", table.join("\n") + "\n");
        let _ = std::io::stdout().flush();
        self.drawn = table.len();
    }

    /// Takes the table away; the next line that stays goes where it stood.
    fn erase(&mut self) {
        if self.drawn > 0 {
            print!("\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    fn line(&self, glance: &Glance) -> String {
        let recent = &glance.recent;
        format!(
            "  {:>5.1} s   v1 {:>5.1} %   v2 {:>5.1} %   {:>3} calls/s   {:>6.2} % ok   p50 {}   p99 {}",
            self.begun.elapsed().as_secs_f64(),
            recent.share("v1"),
            recent.share("v2"),
            recent.calls,
            glance.success,
            millis(recent.p50),
            millis(recent.p99),
        )
    }

    fn table(&self, glance: &Glance) -> Vec<String> {
        let recent = &glance.recent;
        let paint = |tone, text: &str| self.style.paint(tone, text);
        let heading =
            format!("  {:<18}{:>9}   {:<28}   called by", "payment-service", "answers", "last second");
        let mut lines = vec![String::new(), paint(Tone::Quiet, &heading)];
        for version in ["v1", "v2"] {
            let share = recent.share(version);
            let callers =
                glance.callers.get(version).into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
            lines.push(format!(
                "  {:<18}{:>9}   {} {:>5.1} %   {}",
                version,
                glance.versions.get(version).copied().unwrap_or_default(),
                paint(Tone::Good, &bar(share)),
                share,
                paint(Tone::Quiet, &callers),
            ));
        }
        let ok = if glance.failed == 0 { Tone::Good } else { Tone::Bad };
        lines.push(String::new());
        lines.push(format!(
            "  {} calls/s   {}   p50 {}   p99 {}   {}",
            recent.calls,
            paint(ok, &format!("{:.2} % ok, {} failed", glance.success, glance.failed)),
            millis(recent.p50),
            millis(recent.p99),
            paint(Tone::Quiet, &format!("{:.0} s", self.begun.elapsed().as_secs_f64())),
        ));
        lines
    }
}

impl Style {
    fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Quiet => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Returns a duration in milliseconds, as wide as all others.
pub(crate) fn millis(duration: Duration) -> String {
    format!("{:>6.2} ms", duration.as_secs_f64() * 1e3)
}

/// Draws a share of 0 to 100 percent.
fn bar(share: f64) -> String {
    let full = ((share / 100.0 * BAR as f64).round() as usize).min(BAR);
    "█".repeat(full) + &"·".repeat(BAR - full)
}
