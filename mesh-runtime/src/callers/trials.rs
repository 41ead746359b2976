//! What policies on trial would have denied, up to a bound.

use super::{
    Caller, FORGOTTEN_AFTER, Seen,
    asked::{is_short, record},
};
use crate::control::wire::TrialDenial;
use http::Method;
use mesh_core::{
    authorize::{Authorizer, Grounds},
    time::Time,
};
use std::sync::Arc;

/// The denials, in the order in which they first came.
#[derive(Debug, Default)]
pub(super) struct Trials {
    /// Those that denied.
    policies: Option<Arc<Authorizer>>,
    denials: Vec<Denial>,
    more: u64,
}

#[derive(Debug)]
struct Denial {
    by: Option<Grounds>,
    caller: String,
    port: u16,
    method: Method,
    host: Box<str>,
    path: Box<str>,
    count: u64,
    seen: Time,
}

impl Trials {
    /// Forgets what other policies than `policies` have denied.
    pub(super) fn keep_those_of(&mut self, policies: &Arc<Authorizer>) {
        if self.policies.as_ref().is_none_or(|known| !Arc::ptr_eq(known, policies)) {
            *self = Self { policies: Some(Arc::clone(policies)), ..Self::default() };
        }
    }

    pub(super) fn on_denied(&mut self, by: Option<&Grounds>, caller: &Caller, seen: Seen<'_>, now: Time) {
        let who = caller.to_string();
        if let Some(known) = self.denials.iter_mut().find(|denial| denial.is(by, &who, caller.port, seen)) {
            (known.count, known.seen) = (known.count + 1, now);
            return;
        }
        if self.denials.len() >= DENIALS_MAX {
            self.denials.retain(|denial| !denial.is_forgotten(now));
        }
        if self.denials.len() >= DENIALS_MAX || !is_short(seen) {
            self.more += 1;
            return;
        }
        self.denials.push(Denial {
            by: by.cloned(),
            caller: who,
            port: caller.port,
            method: seen.method.clone(),
            host: seen.host.into(),
            path: seen.path.into(),
            count: 1,
            seen: now,
        });
    }

    /// Returns the denials, and how many are not among them.
    pub(super) fn records(&mut self, now: Time) -> (Vec<TrialDenial>, u64) {
        self.denials.retain(|denial| !denial.is_forgotten(now));
        (self.denials.iter().map(|denial| denial.record(now)).collect(), self.more)
    }
}

impl Denial {
    fn is(&self, by: Option<&Grounds>, caller: &str, port: u16, seen: Seen<'_>) -> bool {
        *self.path == *seen.path
            && self.method == *seen.method
            && *self.host == *seen.host
            && (&*self.caller, self.port) == (caller, port)
            && self.by.as_ref() == by
    }

    fn is_forgotten(&self, now: Time) -> bool {
        now.since(self.seen) > FORGOTTEN_AFTER
    }

    fn record(&self, now: Time) -> TrialDenial {
        TrialDenial {
            policy: self.by.as_ref().map(ToString::to_string),
            caller: self.caller.clone(),
            port: self.port,
            asked: record(&self.method, &self.host, &self.path, self.count),
            last_seen_seconds: now.since(self.seen).as_secs(),
        }
    }
}

// A policy that would deny more kinds of requests than that is not one that is nearly right.
const DENIALS_MAX: usize = 64;
