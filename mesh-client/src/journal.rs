//! What has happened to one call so far.
//!
//! It stands beside the call, so that a step which cancels the steps below it (a timeout) still knows how far they
//! came.

use crate::body::CallInfo;
use mesh_core::{
    balance::Tried,
    event::Flag,
    retry::{GiveUp, Provenance},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The journal of one call; written by the steps, read at its end.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    account: Account,
    /// Every endpoint tried but the last.
    tried: Tried,
    last: Option<usize>,
    /// How many attempts may have put a byte on the wire.
    sendings: u32,
    stale: bool,
    elapsed: bool,
}

/// What the call amounts to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) info: CallInfo,
    /// Whether a byte of any attempt may have reached a server.
    pub(crate) sent: bool,
    /// What the end of its retries says to whoever it was made for.
    pub(crate) provenance: Provenance,
}

impl Journal {
    /// Returns a journal of a call to `cluster`.
    pub(crate) fn of(cluster: Option<Arc<str>>) -> Self {
        let mut notes = Notes::default();
        notes.account.info.cluster = cluster;
        Self(Mutex::new(notes))
    }

    /// An attempt begins if `pick` finds an endpoint that suits what was tried; returns that and the attempt's number,
    /// from 1.
    pub(crate) fn on_attempt(&self, pick: impl FnOnce(&Tried) -> Option<usize>) -> Option<(usize, u32)> {
        let mut notes = self.lock();
        // Only now, when it matters: most calls have one attempt, and need no list.
        if let Some(last) = notes.last.take() {
            notes.tried.on_attempt(last);
        }
        let index = pick(&notes.tried)?;
        notes.last = Some(index);
        notes.account.info.attempts += 1;
        Some((index, notes.account.info.attempts))
    }

    /// The attempt goes to `endpoint`.
    pub(crate) fn on_endpoint(&self, endpoint: &Arc<str>) {
        self.lock().account.info.endpoint = Some(Arc::clone(endpoint));
    }

    /// From here on a byte of the request may be on the wire.
    pub(crate) fn on_sending(&self) {
        self.lock().sendings += 1;
    }

    /// A connection took nothing of the request after all.
    pub(crate) fn on_unsent(&self) {
        let mut notes = self.lock();
        notes.sendings = notes.sendings.saturating_sub(1);
    }

    /// A connection that had served before ended under the request: others may be about to end too.
    pub(crate) fn on_stale(&self) {
        self.lock().stale = true;
    }

    /// The call has run out of time.
    pub(crate) fn on_elapsed(&self) {
        self.lock().elapsed = true;
    }

    /// Returns whether the call has run out of time.
    pub(crate) fn is_elapsed(&self) -> bool {
        self.lock().elapsed
    }

    /// Returns whether connections that served before are to be avoided.
    pub(crate) fn is_stale(&self) -> bool {
        self.lock().stale
    }

    /// The last attempt stands, and why.
    pub(crate) fn on_give_up(&self, reason: GiveUp) {
        if let Some(flag) = reason.flag() {
            self.on_flag(flag);
        }
        let mut notes = self.lock();
        notes.account.provenance = notes.account.provenance.and(reason.provenance());
    }

    /// Adds a response flag.
    pub(crate) fn on_flag(&self, flag: Flag) {
        let mut notes = self.lock();
        notes.account.info.flags = notes.account.info.flags.with(flag);
    }

    /// Returns what the call amounts to so far.
    pub(crate) fn account(&self) -> Account {
        let notes = self.lock();
        Account { sent: notes.sendings > 0, ..notes.account.clone() }
    }

    // Poison is no danger here: every section above leaves the notes whole.
    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
