//! What became of calls, and what that adds up to.

use http::StatusCode;
use mesh::client::{self, ErrorKind};
use std::{ops::Range, sync::Arc, time::Duration};

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When it was due, since the load began.
    pub(crate) due: Duration,
    /// How long after that it ended.
    pub(crate) took: Duration,
    /// How.
    pub(crate) end: End,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// With an answer, whole.
    Answer { status: StatusCode, endpoint: Option<Arc<str>>, kept: Option<String> },
    /// With an error of the mesh.
    Error(Failure),
    /// It was not sent: too many others are under way.
    Unsent,
}

/// An error of the mesh.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) may_have_been_sent: bool,
    message: String,
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Self {
            kind: error.kind(),
            endpoint: error.call_info().endpoint.clone(),
            may_have_been_sent: error.may_have_been_sent(),
            message: error.to_string(),
        }
    }
}

impl End {
    /// Returns whether it is an answer that is a success.
    pub(crate) fn is_fine(&self) -> bool {
        matches!(self, Self::Answer { status, .. } if status.is_success())
    }
}

impl Call {
    /// Returns whether it got an answer that is a success.
    pub(crate) fn is_fine(&self) -> bool {
        self.end.is_fine()
    }

    /// Returns whether it got an answer of this status.
    pub(crate) fn is(&self, wanted: StatusCode) -> bool {
        matches!(&self.end, End::Answer { status, .. } if *status == wanted)
    }

    /// Returns who answered.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        match &self.end {
            End::Answer { endpoint, .. } => endpoint.as_deref(),
            _ => None,
        }
    }

    /// Returns it as a report shows it.
    pub(crate) fn text(&self) -> String {
        let (due, took) = (self.due.as_secs_f64(), millis(self.took));
        let end = match &self.end {
            End::Answer { status, endpoint, .. } => {
                format!("{status} of {}", endpoint.as_deref().unwrap_or("nobody"))
            }
            End::Error(Failure { kind, endpoint, message, .. }) => {
                format!("{kind} at {}: {message}", endpoint.as_deref().unwrap_or("nobody"))
            }
            End::Unsent => "not sent".to_owned(),
        };
        format!("due at {due:.2} s, after {took}: {end}")
    }
}

/// Calls of one load, in the order in which they ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Vec<Call>);

impl Calls {
    pub(crate) fn of(calls: Vec<Call>) -> Self {
        Self(calls)
    }

    /// Adds those of another load.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Call> {
        self.0.iter()
    }

    /// Returns those that got no success.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &Call> {
        self.0.iter().filter(|call| !call.is_fine())
    }

    /// Returns those that were due in `time`.
    pub(crate) fn due_in(&self, time: Range<Duration>) -> Self {
        self.only(|call| time.contains(&call.due))
    }

    /// Returns those that are as `wanted`.
    pub(crate) fn only(&self, wanted: impl Fn(&Call) -> bool) -> Self {
        Self(self.0.iter().filter(|call| wanted(call)).cloned().collect())
    }

    /// Returns the time in which `percent` of them ended.
    pub(crate) fn took(&self, percent: usize) -> Duration {
        let mut times: Vec<Duration> = self.0.iter().map(|call| call.took).collect();
        times.sort_unstable();
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default()
    }

    /// Returns the share of `endpoint` among those who answered, in percent.
    pub(crate) fn share(&self, endpoint: &str) -> f64 {
        let answered = self.0.iter().filter_map(Call::endpoint);
        percent(answered.clone().filter(|it| *it == endpoint).count(), answered.count())
    }
}

/// Returns what share `part` is of `whole`, in percent.
pub(crate) fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Returns a time as reports show it.
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(of: &[(u64, &'static str)]) -> Calls {
        let call = |&(took, endpoint): &(u64, &'static str)| Call {
            due: Duration::ZERO,
            took: Duration::from_millis(took),
            end: End::Answer { status: StatusCode::OK, endpoint: Some(endpoint.into()), kept: None },
        };
        Calls::of(of.iter().map(call).collect())
    }

    #[test]
    fn a_percentile_is_that_of_the_sorted_times_and_none_of_nothing() {
        let calls = answers(&[(30, "a"), (10, "a"), (20, "b")]);
        assert_eq!(calls.took(0), Duration::from_millis(10));
        assert_eq!(calls.took(50), Duration::from_millis(20));
        assert_eq!(calls.took(99), Duration::from_millis(30));
        assert_eq!(Calls::default().took(99), Duration::ZERO);
    }

    #[test]
    fn what_nobody_answered_has_no_part_in_the_shares_and_is_no_success() {
        let mut calls = answers(&[(1, "a"), (1, "a"), (1, "b")]);
        let unsent = Call { due: Duration::ZERO, took: Duration::ZERO, end: End::Unsent };
        calls.extend(Calls::of(vec![unsent]));
        assert_eq!((calls.share("b").round(), calls.failed().count()), (33.0, 1));
    }
}
