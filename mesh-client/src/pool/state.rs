//! The connections of a pool and those who wait for one: what is decided under the lock.
//!
//! It neither connects nor wakes anybody; that is done with its answers, when the lock is free.

use super::{ConnectError, Lease, Lent, New, One, Terms, Two};
use mesh_core::{
    health::{Overflow, Permit},
    time::Time,
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{runtime::Handle, sync::oneshot};

#[derive(Default)]
pub(super) struct State {
    /// Connections for one request at a time; the one used last is taken first, so that those not needed grow old.
    pub(super) idle: Vec<One>,
    /// Connections for many.
    pub(super) shared: Vec<Arc<Two>>,
    pub(super) waiters: VecDeque<Waiter>,
    /// Connections being made.
    pub(super) connecting: usize,
    /// Connections that live, busy or not.
    pub(super) open: usize,
    /// As the cluster said when a connection was last asked for.
    pub(super) idle_timeout: Duration,
    /// Whether the last handshake agreed on HTTP/2; `None` before the first.
    pub(super) h2: Option<bool>,
}

pub(super) struct Waiter {
    pub(super) to: oneshot::Sender<Result<Lease, ConnectError>>,
    pub(super) terms: Terms,
    /// Where a connection for it is driven: a body may be dropped outside of any runtime.
    pub(super) runtime: Handle,
}

/// A connection to make.
pub(super) struct Start {
    pub(super) place: Permit,
    pub(super) terms: Terms,
    pub(super) runtime: Handle,
}

/// What can be done for those in line.
#[allow(clippy::large_enum_variant, reason = "it is taken apart where it is returned")]
pub(super) enum Next {
    Serve(Waiter, Lent),
    Connect(Vec<Start>),
}

impl State {
    /// Returns what can be done for those in line.
    pub(super) fn next(&mut self, now: Time) -> Next {
        self.waiters.retain(|waiter| !waiter.to.is_closed());
        let Some(waiter) = self.waiters.pop_front() else { return Next::Connect(Vec::new()) };
        if let Some(lent) = self.take(now, &waiter.terms) {
            return Next::Serve(waiter, lent);
        }
        self.waiters.push_front(waiter);
        Next::Connect(self.new_connections())
    }

    /// Takes a place in the line.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.waiters.push_back(waiter);
    }

    /// A connection is made.
    pub(super) fn on_connected(&mut self, new: New) {
        self.connecting -= 1;
        self.h2 = Some(matches!(new, New::Two(_)));
        match new {
            New::One(one) => self.idle.push(one),
            New::Two(two) => self.shared.push(two),
        }
    }

    /// A connection could not be made. Returns those in line whom neither a living connection nor one being made will
    /// serve.
    pub(super) fn on_failed(&mut self, now: Time) -> Vec<Waiter> {
        self.connecting -= 1;
        let served = match self.h2 {
            Some(false) => self.connecting + self.open,
            _ if self.connecting > 0 || self.shared.iter().any(|two| two.is_usable(now, 0)) => usize::MAX,
            _ => 0,
        };
        let failed = self.waiters.len().saturating_sub(served);
        self.waiters.drain(..failed).collect()
    }

    /// A connection has ended.
    pub(super) fn on_closed(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.idle.retain(|one| !one.sender.is_closed());
        self.shared.retain(|two| two.is_usable(Time::ZERO, 0));
    }

    /// Counts in as many new connections as those in line need and the limits allow.
    // spec: envoy intro/arch_overview/upstream/circuit_breaking: one connection per pool is always allowed
    fn new_connections(&mut self) -> Vec<Start> {
        let Some(Waiter { terms, runtime, .. }) = self.waiters.back() else { return Vec::new() };
        let each = if self.h2 == Some(false) { 1 } else { terms.streams_max() as usize };
        let mut new = Vec::new();
        while self.connecting < self.waiters.len().div_ceil(each) {
            let place = match terms.state.admit(Overflow::Connections, &terms.limits) {
                Ok(place) => place,
                Err(_) if self.open + self.connecting == 0 => terms.state.admit_always(Overflow::Connections),
                Err(_) => break,
            };
            self.connecting += 1;
            new.push(Start { place, terms: terms.clone(), runtime: runtime.clone() });
        }
        new
    }

    /// Takes a connection with room.
    pub(super) fn take(&mut self, now: Time, terms: &Terms) -> Option<Lent> {
        self.idle_timeout = terms.idle_timeout;
        let mut found = None;
        self.shared.retain(|two| {
            let usable = two.is_usable(now, terms.requests_max);
            if usable && found.is_none() {
                found = two.open(terms.streams_max()).map(|reused| Lent::Two(Arc::clone(two), reused));
            }
            usable
        });
        if found.is_some() {
            return found;
        }
        while let Some(one) = self.idle.pop() {
            if one.is_usable(now, terms.requests_max) && now.since(one.since) < terms.idle_timeout {
                return Some(Lent::One(one));
            }
        }
        None
    }
}
