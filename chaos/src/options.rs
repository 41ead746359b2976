//! The command line.

use crate::{
    Failed,
    experiments::{ALL, Experiment},
};
use clap::{Parser, ValueEnum};
use std::time::Duration;

/// Breaks a mesh of real processes on purpose and counts what its callers notice.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos")]
pub(crate) struct Options {
    /// Run only these, e.g. `E1,E3`.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Lower rates and shorter times, and ratios of latencies are shown but decide nothing: for machines that are busy
    /// with other things.
    #[arg(long)]
    pub(crate) short: bool,
    /// How long the long run lasts, in minutes; it must be longer than the 5 of its warm-up.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(6..=24 * 60))]
    pub(crate) minutes: u64,
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Options {
    /// Returns the experiments that are asked for, in their own order.
    ///
    /// # Errors
    ///
    /// Returns which name nothing goes by.
    pub(crate) fn chosen(&self) -> Result<Vec<&'static Experiment>, Failed> {
        let unknown = self.only.iter().find(|name| ALL.iter().all(|experiment| !experiment.is(name)));
        if let Some(name) = unknown {
            let names: Vec<&str> = ALL.iter().map(|experiment| experiment.name).collect();
            return Err(format!("--only {name}: there are {}", names.join(", ")).into());
        }
        let is_wanted = |experiment: &&Experiment| {
            self.only.is_empty() || self.only.iter().any(|name| experiment.is(name))
        };
        Ok(ALL.iter().filter(is_wanted).collect())
    }

    /// Returns the one for the long form, or the one for the short form.
    pub(crate) fn pick<T>(&self, long: T, short: T) -> T {
        if self.short { short } else { long }
    }

    /// Returns so many seconds in the long form, or in the short form.
    pub(crate) fn seconds(&self, long: u64, short: u64) -> Duration {
        Duration::from_secs(self.pick(long, short))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_chooses_all_of_its_forms_and_a_name_one() {
        let names = |only: &str| -> Vec<&str> {
            let options = Options::parse_from(["chaos", "--only", only]);
            options.chosen().unwrap().iter().map(|experiment| experiment.name).collect()
        };
        assert_eq!(names("E2"), ["E2-stop", "E2-drop"]);
        assert_eq!(names("e3,E2-drop"), ["E2-drop", "E3"]);
    }

    #[test]
    fn a_name_that_nothing_goes_by_is_an_error_that_lists_the_others() {
        let options = Options::parse_from(["chaos", "--only", "E99"]);
        let error = options.chosen().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("E99") && error.contains("E11"), "{error}");
    }
}
