//! How far a workload has come: what is in force, what stands in the way, and the one sentence that says so.

use crate::identity::{Identity, IdentityStore};
use mesh_core::config::{Diagnostic, Level};
use std::{sync::Arc, time::SystemTime};
use tokio::{sync::watch, time::Instant};

/// Why a workload is not ready, for `/readyz` and for the error of a call made meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has configuration, and an identity if one is due.
    Ready,
    /// Not yet (or no more): the reason.
    NotReady(Arc<str>),
}

/// The configuration in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Its version.
    pub version: Arc<str>,
    /// Since when it is in force here.
    pub since: Instant,
    /// Whether it comes from the cache, and the control endpoint has not confirmed it.
    pub from_cache: bool,
    /// What was found in it; an error means that the object is not in force as written.
    pub findings: Arc<[Diagnostic]>,
}

impl InForce {
    /// Returns the findings about objects that are not in force as written.
    pub fn rejected(&self) -> impl Iterator<Item = &Diagnostic> {
        self.findings.iter().filter(|finding| finding.level == Level::Error)
    }
}

/// The facts, and who waits for them to change.
#[derive(Debug)]
pub(crate) struct Progress {
    facts: watch::Sender<Facts>,
    identity: Arc<IdentityStore>,
    /// Whether there is a source of an identity, so that being without one means not being ready.
    identity_due: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) draining: bool,
    /// Whether the control endpoint has taken a lease of this workload.
    pub(crate) registered: bool,
    pub(crate) in_force: Option<InForce>,
    /// Why the configuration is not current; `None` while it is.
    pub(crate) config_trouble: Option<Arc<str>>,
    /// Why the identity is not renewed; `None` while all is well.
    pub(crate) identity_trouble: Option<Arc<str>>,
    /// Why there was nothing to start from.
    pub(crate) cache_note: Option<Arc<str>>,
}

impl Progress {
    pub(crate) fn new(identity: Arc<IdentityStore>, identity_due: bool) -> Self {
        Self { facts: watch::channel(Facts::default()).0, identity, identity_due }
    }

    pub(crate) fn facts(&self) -> Facts {
        self.facts.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Facts> {
        self.facts.subscribe()
    }

    pub(crate) fn on_drain(&self) {
        self.facts.send_modify(|facts| facts.draining = true);
    }

    pub(crate) fn on_registered(&self) {
        self.facts.send_if_modified(|facts| !std::mem::replace(&mut facts.registered, true));
    }

    pub(crate) fn on_config(&self, in_force: InForce) {
        self.facts.send_modify(|facts| {
            facts.config_trouble = None;
            facts.in_force = Some(in_force);
        });
    }

    /// The source says that what is in force is current.
    pub(crate) fn on_config_confirmed(&self) {
        self.facts.send_if_modified(|facts| {
            let cached = facts.in_force.as_mut().map(|in_force| std::mem::take(&mut in_force.from_cache));
            facts.config_trouble.take().is_some() || cached == Some(true)
        });
    }

    /// Returns whether this is news.
    pub(crate) fn on_config_trouble(&self, trouble: &str) -> bool {
        self.facts.send_if_modified(|facts| replace(&mut facts.config_trouble, trouble))
    }

    /// Returns whether this is news.
    pub(crate) fn on_identity_trouble(&self, trouble: &str) -> bool {
        // A handshake that finds no identity gives this as the reason.
        self.identity.explain_missing(trouble);
        self.facts.send_if_modified(|facts| replace(&mut facts.identity_trouble, trouble))
    }

    pub(crate) fn on_identity(&self) {
        self.facts.send_if_modified(|facts| facts.identity_trouble.take().is_some());
    }

    pub(crate) fn on_cache_note(&self, note: &str) {
        self.facts.send_if_modified(|facts| replace(&mut facts.cache_note, note));
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let identity = self.identity.current();
        judge(&self.facts.borrow(), identity.as_deref(), self.identity_due, self.identity.clock().now())
    }

    pub(crate) async fn registered(&self) {
        // The sender lives in `self`, so the wait ends only as it should.
        let _ = self.facts.subscribe().wait_for(|facts| facts.registered).await;
    }

    pub(crate) async fn ready(&self) {
        let mut facts = self.facts.subscribe();
        let mut identity = self.identity.subscribe();
        while self.readiness() != Readiness::Ready {
            // The senders live in `self` and its store, so a change is the only way on.
            tokio::select! {
                _ = facts.changed() => {}
                _ = identity.changed() => {}
            }
        }
    }
}

/// The whole rule: draining, then configuration, then identity.
fn judge(facts: &Facts, identity: Option<&Identity>, identity_due: bool, now: SystemTime) -> Readiness {
    let not_ready = |reason: String| Readiness::NotReady(reason.into());
    if facts.draining {
        return not_ready("draining: this workload is on its way out".to_owned());
    }
    if facts.in_force.is_none() {
        let trouble = facts.config_trouble.as_ref().or(facts.identity_trouble.as_ref());
        let trouble = trouble.map_or("the first answer is under way", |trouble| trouble);
        let note = facts.cache_note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        return not_ready(format!("no configuration yet: {trouble}{note}"));
    }
    let trouble = facts.identity_trouble.as_ref().map_or("the first answer is under way", |trouble| trouble);
    match identity {
        None if identity_due => not_ready(format!("no identity yet: {trouble}")),
        Some(identity) if now >= identity.svid.not_after() => {
            let ago = now.duration_since(identity.svid.not_after()).unwrap_or_default().as_secs();
            not_ready(format!(
                "the certificate of {} expired {ago} s ago and could not be renewed: {trouble}",
                identity.svid.id()
            ))
        }
        _ => Readiness::Ready,
    }
}

fn replace(old: &mut Option<Arc<str>>, new: &str) -> bool {
    let changed = old.as_deref() != Some(new);
    if changed {
        *old = Some(new.into());
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_without_configuration_says_what_stands_in_the_way_and_what_would_have_helped() {
        let mut facts = Facts::default();
        assert_eq!(reason(&facts), "no configuration yet: the first answer is under way");
        facts.identity_trouble =
            Some("control endpoint https://c:1 does not answer (connection refused)".into());
        facts.cache_note = Some("no MESH_CACHE_DIR to start from".into());
        assert_eq!(
            reason(&facts),
            "no configuration yet: control endpoint https://c:1 does not answer (connection refused); no \
             MESH_CACHE_DIR to start from"
        );
    }

    #[test]
    fn configuration_alone_is_enough_only_where_no_identity_is_due() {
        let facts = Facts { in_force: Some(in_force()), ..Facts::default() };
        assert_eq!(judge(&facts, None, false, SystemTime::now()), Readiness::Ready);
        assert_eq!(reason(&facts), "no identity yet: the first answer is under way");
    }

    #[test]
    fn a_source_that_went_away_does_not_make_a_workload_unready() {
        let trouble = Some("control endpoint https://c:1 does not answer".into());
        let facts = Facts { in_force: Some(in_force()), config_trouble: trouble, ..Facts::default() };
        assert_eq!(judge(&facts, None, false, SystemTime::now()), Readiness::Ready);
    }

    #[test]
    fn draining_outweighs_everything() {
        let facts = Facts { draining: true, in_force: Some(in_force()), ..Facts::default() };
        assert!(reason(&facts).starts_with("draining"));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_the_last_fact_that_was_missing() {
        let progress = Arc::new(Progress::new(Arc::new(IdentityStore::empty()), false));
        let waiting = tokio::spawn({
            let progress = Arc::clone(&progress);
            async move { progress.ready().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        progress.on_config(in_force());
        waiting.await.unwrap();
    }

    #[test]
    fn trouble_is_news_once_and_an_answer_ends_it() {
        let progress = Progress::new(Arc::new(IdentityStore::empty()), false);
        assert!(progress.on_config_trouble("down"));
        assert!(!progress.on_config_trouble("down"));
        progress.on_config_confirmed();
        assert_eq!(progress.facts().config_trouble, None);
        assert!(progress.on_config_trouble("down"));
    }

    fn reason(facts: &Facts) -> String {
        match judge(facts, None, true, SystemTime::now()) {
            Readiness::NotReady(reason) => reason.to_string(),
            Readiness::Ready => "ready".to_owned(),
        }
    }

    fn in_force() -> InForce {
        InForce { version: "1".into(), since: Instant::now(), from_cache: false, findings: [].into() }
    }
}
