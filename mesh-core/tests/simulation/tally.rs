//! What was seen in a day, and what each retry budget has paid for.

use mesh_core::{
    health::Change,
    retry::{Budget, GiveUp},
    snapshot::Cluster,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What was seen.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    /// By service.
    pub(crate) attempts: [u64; 3],
    pub(crate) reserved: u64,
    pub(crate) retries: u64,
    pub(crate) repeated: u64,
    pub(crate) useful: u64,
    pub(crate) ejected: u64,
    pub(crate) spared: u64,
    pub(crate) hung_up: u64,
    pub(crate) deadlines: u64,
    pub(crate) try_timeouts: u64,
    pub(crate) refused_at_the_door: u64,
    pub(crate) waited: u64,
    pub(crate) restarts: u64,
    pub(crate) reloads: u64,
    pub(crate) good_edits: u64,
    pub(crate) bad_edits: u64,
    pub(crate) given_up: BTreeMap<&'static str, u64>,
    pub(crate) longest: Duration,
    accounts: BTreeMap<usize, Account>,
}

/// What a budget that is always on was used for. It holds the budget, so that no other has its address.
struct Account {
    _budget: Arc<Budget>,
    requests: u64,
    /// Retries that did not help, or have not yet.
    futile: u64,
}

impl Tally {
    pub(crate) fn on_call(&mut self, cluster: &Cluster) {
        if cluster.retry_budget.is_none() {
            self.account(cluster).requests += 1;
        }
    }

    /// Retries that did not help are a fifth of the requests and ten at most.
    pub(crate) fn on_retry(&mut self, cluster: &Cluster) {
        self.retries += 1;
        if cluster.retry_budget.is_none() {
            let account = self.account(cluster);
            account.futile += 1;
            let Account { requests, futile, .. } = *account;
            assert!(
                5 * futile <= requests + 50,
                "{futile} futile retries of {requests} requests to {}",
                cluster.host
            );
        }
    }

    /// The last retry of a call helped, and was free.
    pub(crate) fn on_useful(&mut self, cluster: &Cluster) {
        self.useful += 1;
        self.account(cluster).futile -= 1;
    }

    pub(crate) fn on_changes(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Ejected { .. } => self.ejected += 1,
                Change::Spared { .. } => self.spared += 1,
                Change::None => {}
            }
        }
    }

    pub(crate) fn on_settled(&mut self, reason: Option<GiveUp>) {
        *self.given_up.entry(reason.map_or("no_policy", GiveUp::as_str)).or_default() += 1;
    }

    fn account(&mut self, cluster: &Cluster) -> &mut Account {
        let budget = &cluster.budget;
        let new = || Account { _budget: Arc::clone(budget), requests: 0, futile: 0 };
        self.accounts.entry(Arc::as_ptr(budget).addr()).or_insert_with(new)
    }

    /// Returns every count, by name.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::from([
            ("calls", self.calls),
            ("attempts at the last tier", self.attempts[2]),
            ("retries reserved", self.reserved),
            ("retries", self.retries),
            ("handlers run again", self.repeated),
            ("useful retries", self.useful),
            ("ejections", self.ejected),
            ("endpoints spared", self.spared),
            ("callers hung up", self.hung_up),
            ("deadlines", self.deadlines),
            ("tries timed out", self.try_timeouts),
            ("refused at the door", self.refused_at_the_door),
            ("waited at the door", self.waited),
            ("restarts", self.restarts),
            ("reloads", self.reloads),
            ("good edits", self.good_edits),
            ("bad edits", self.bad_edits),
        ]);
        counts.extend(&self.given_up);
        counts
    }
}
