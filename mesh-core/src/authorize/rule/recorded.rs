//! A rule over a request of which only a part was recorded: it matches, does not, or nobody can tell.

use super::{Clause, Clauses, Condition, End, Rule, Test};
use crate::authorize::Recorded;

impl Rule {
    /// Returns whether the request that was recorded matches; `None` if what was not recorded decides.
    pub(in crate::authorize) fn matched(&self, request: &Recorded<'_>) -> Option<bool> {
        all(self.parts.iter().map(|part| part.matched(request)))
    }
}

impl Clauses {
    fn matched(&self, request: &Recorded<'_>) -> Option<bool> {
        if self.0.is_empty() {
            return Some(true);
        }
        any(self.0.iter().map(|clause| clause.matched(request)))
    }
}

impl Clause {
    fn matched(&self, request: &Recorded<'_>) -> Option<bool> {
        match &*self.conditions {
            [] => Some(self.empty),
            conditions => all(conditions.iter().map(|condition| condition.held(request))),
        }
    }
}

impl Condition {
    fn held(&self, request: &Recorded<'_>) -> Option<bool> {
        match self.test {
            Test::Header { .. }
            | Test::TokenPrincipal(_)
            | Test::Claim(..)
            | Test::Sni(_)
            | Test::Address(End::Remote | End::Destination, _) => None,
            Test::Address(End::Source, _) if request.source.is_none() => None,
            _ => Some(self.holds(&request.request())),
        }
    }
}

/// Returns whether all are true; one that is false decides, whatever nobody can tell.
fn all(answers: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    any(answers.into_iter().map(|answer| answer.map(|answer| !answer))).map(|any| !any)
}

/// Returns whether one is true; one that is true decides, whatever nobody can tell.
fn any(answers: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let mut outcome = Some(false);
    for answer in answers {
        match answer {
            Some(true) => return Some(true),
            Some(false) => {}
            None => outcome = None,
        }
    }
    outcome
}
