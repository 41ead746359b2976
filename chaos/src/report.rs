//! What an experiment showed beside what it should show.

use crate::{Failed, options::Output};
use serde::Serialize;
use std::fmt::Write as _;

/// What one experiment showed.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    experiment: &'static str,
    what: &'static str,
    verdict: Verdict,
    /// Why it was not done, or could not be finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(flatten)]
    findings: Findings,
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Verdict {
    #[serde(rename = "ok")]
    Ok,
    Failed,
    Skipped,
}

/// Figures, and what was seen on the way.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// Requests offered.
    pub(crate) offered: usize,
    /// Those of them that got no answer, or not the one they should.
    pub(crate) failed: usize,
    figures: Vec<Figure>,
    /// The first failures, and whatever helps to understand them.
    notes: Vec<String>,
    /// Whether figures that depend on the speed of the machine decide.
    #[serde(skip)]
    speed_decides: bool,
}

/// One figure beside its bar.
#[derive(Debug, Serialize)]
struct Figure {
    what: String,
    figure: String,
    bar: String,
    holds: bool,
    decides: bool,
}

/// How an experiment ended that was not finished.
pub(crate) enum Unfinished {
    /// This machine cannot do it.
    Skipped(String),
    /// Something else went wrong than what it is about.
    Failed(Failed),
}

impl<E: Into<Failed>> From<E> for Unfinished {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Findings {
    /// Returns empty findings; `speed_decides` is whether [`Self::speed`] does.
    pub(crate) fn new(speed_decides: bool) -> Self {
        Self { speed_decides, ..Self::default() }
    }

    /// Adds a figure that means the same on every machine.
    pub(crate) fn count(&mut self, what: &str, figure: impl ToString, bar: &str, holds: bool) {
        self.add(what, figure, bar, holds, true);
    }

    /// Adds a figure that depends on how fast and how busy the machine is.
    pub(crate) fn speed(&mut self, what: &str, figure: impl ToString, bar: &str, holds: bool) {
        self.add(what, figure, bar, holds, self.speed_decides);
    }

    fn add(&mut self, what: &str, figure: impl ToString, bar: &str, holds: bool, decides: bool) {
        let (what, figure, bar) = (what.to_owned(), figure.to_string(), bar.to_owned());
        self.figures.push(Figure { what, figure, bar, holds, decides });
    }

    /// Adds what helps to understand the figures; the first few do.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note.into());
        }
    }
}

const NOTES_MAX: usize = 8;

impl Report {
    /// Returns what `result` amounts to.
    pub(crate) fn of(
        experiment: &'static str,
        what: &'static str,
        result: Result<Findings, Unfinished>,
        seconds: u64,
    ) -> Self {
        let (verdict, why, findings) = match result {
            Ok(findings) if findings.figures.iter().any(|it| it.decides && !it.holds) => {
                (Verdict::Failed, None, findings)
            }
            Ok(findings) => (Verdict::Ok, None, findings),
            Err(Unfinished::Skipped(why)) => (Verdict::Skipped, Some(why), Findings::default()),
            Err(Unfinished::Failed(why)) => (Verdict::Failed, Some(why.to_string()), Findings::default()),
        };
        Self { experiment, what, verdict, why, findings, seconds }
    }

    /// Returns whether it showed something that it should not.
    pub(crate) fn is_failure(&self) -> bool {
        self.verdict == Verdict::Failed
    }

    /// Returns the rows of the table.
    pub(crate) fn text(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "SKIPPED",
        };
        let Findings { offered, failed, figures, notes, .. } = &self.findings;
        let (experiment, what, seconds) = (self.experiment, self.what, self.seconds);
        let mut text = format!(
            "{experiment:<11} {what:<58} {offered:>7} offered {failed:>6} failed  {verdict:<7} {seconds:>4} s\n"
        );
        for Figure { what, figure, bar, holds, decides } in figures {
            let verdict = match (holds, decides) {
                (true, _) => "ok",
                (false, true) => "FAILED",
                (false, false) => "not ok, decides nothing here",
            };
            let _ = writeln!(text, "            - {what:<56} {figure:>26}  bar {bar:<14} {verdict}");
        }
        for note in self.why.iter().chain(notes) {
            let _ = writeln!(text, "            . {note}");
        }
        text
    }
}

/// Prints the rows of one, as soon as it is there: on stdout, unless that is for a program.
pub(crate) fn show(report: &Report, output: Output) {
    match output {
        Output::Text => print(&report.text()),
        Output::Json => eprint!("{}", report.text()),
    }
}

/// Prints what a program reads, at the end.
pub(crate) fn finish(reports: &[Report], output: Output) {
    if output == Output::Json {
        print(&(serde_json::to_string_pretty(reports).unwrap_or_default() + "\n"));
    }
}

/// A reader that is gone has no use for it.
fn print(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_of_speed_fails_an_experiment_only_where_speed_decides() {
        for (speed_decides, verdict) in [(false, Verdict::Ok), (true, Verdict::Failed)] {
            let mut findings = Findings::new(speed_decides);
            findings.count("failed", 0, "0", true);
            findings.speed("p99", "9x", "<= 3x", false);
            assert_eq!(Report::of("E0", "nothing", Ok(findings), 0).verdict, verdict);
        }
    }

    #[test]
    fn a_count_that_does_not_hold_fails_an_experiment_and_the_row_says_which() {
        let mut findings = Findings::new(false);
        findings.count("failed requests", 3, "0", false);
        let report = Report::of("E0", "nothing", Ok(findings), 0);
        assert!(report.is_failure() && report.text().contains("FAILED"), "{}", report.text());
        assert!(report.text().contains("failed requests"), "{}", report.text());
    }

    #[test]
    fn what_cannot_be_done_is_skipped_and_says_why() {
        let report = Report::of("E0", "nothing", Err(Unfinished::Skipped("no iptables".to_owned())), 0);
        assert!(!report.is_failure() && report.text().contains("no iptables"), "{}", report.text());
    }
}
