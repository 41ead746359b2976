//! The long poll: what the endpoint serves is put in force, object by object, and kept for the day it does not answer.

use super::{
    Link, Talk,
    digest::{Digested, digest, edition},
};
use crate::{
    config::intake::Edition,
    control::{
        backoff::LONGEST,
        cache::CachedResources,
        carry::Items,
        http::{Answer, Ask, CallError},
    },
    task::Task,
};
use http::StatusCode;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// Keeps the configuration current for ever.
pub(super) async fn run(link: Arc<Link>, held: Held) {
    let (unsaved, saved) = watch::channel(None);
    let _saving = Task::spawn(save(Arc::clone(&link), saved));
    let mut poll = Poll { talk: Talk::probing(link), held, unsaved, well: false };
    loop {
        poll.talk.link.identified().await;
        let next = Instant::now() + SPACING;
        match poll.once().await {
            Ok(()) => {
                poll.on_answer();
                sleep_until(next).await;
            }
            Err(error) => poll.on_failure(&error).await,
        }
    }
}

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Held {
    etag: Option<String>,
    /// In force: of a refused object, the version before.
    items: Arc<Items>,
    warming: bool,
}

#[derive(Debug)]
struct Poll {
    talk: Talk,
    held: Held,
    unsaved: watch::Sender<Option<Arc<CachedResources>>>,
    /// Whether the last question got its answer. If not, the next one is answered without waiting for news: everybody
    /// waits to hear that the endpoint is back.
    well: bool,
}

impl Held {
    /// Puts in force what the cache holds.
    pub(super) async fn recall(link: &Link, cached: CachedResources) -> Self {
        let CachedResources { version, etag, trust_domain, items } = cached;
        let Ok(trust_domain) = trust_domain.parse() else {
            tracing::warn!("cached configuration ignored: its trust domain does not read");
            return Self::default();
        };
        let edition = Edition { from_cache: true, ..edition(link, &version, &items, trust_domain) };
        link.intake.apply_aside(edition).await;
        Self { etag, items, warming: false }
    }
}

impl Poll {
    async fn once(&mut self) -> Result<(), CallError> {
        let etag = self.held.etag.clone();
        let link = &self.talk.link;
        // Who asks is on the endpoint's status before its first report.
        let path = format!("/v1/resources?service={}&instance={}", link.settings.service, link.instance);
        let wait = self.well.then_some(WAIT);
        let ask = Ask { etag: etag.as_deref(), wait, ..Ask::get(&path) };
        let answer = self.talk.ask(&ask).await?;
        if answer.status != StatusCode::NOT_MODIFIED {
            return self.take(answer).await;
        }
        if etag.is_none() {
            return Err(CallError::Unreadable("304 to a question without a version".to_owned()));
        }
        if self.held.warming {
            // Whatever becomes of its version, an endpoint must be able to say that it is warm.
            self.held.etag = None;
        }
        self.talk.link.progress.on_config_confirmed();
        Ok(())
    }

    /// Puts a new answer in force.
    async fn take(&mut self, answer: Answer) -> Result<(), CallError> {
        let (link, old) = (Arc::clone(&self.talk.link), Arc::clone(&self.held.items));
        let etag = answer.etag.clone();
        let digested = tokio::task::spawn_blocking(move || digest(&link, &old, &answer)).await;
        // A panic there is a defect of ours, and no reason to stop asking: the next answer may do.
        let defect = |_| CallError::Unreadable("it could not be digested, which is a defect".to_owned());
        let Digested { items, warming, to_cache } = digested.map_err(defect)??;
        self.held = Held { etag, items, warming };
        self.unsaved.send_replace(Some(Arc::new(to_cache)));
        Ok(())
    }

    fn on_answer(&mut self) {
        self.well = true;
        self.talk.backoff.on_answer();
    }

    async fn on_failure(&mut self, error: &CallError) {
        self.well = false;
        let trouble = self.talk.describe(error);
        if self.talk.link.progress.on_config_trouble(&trouble) {
            tracing::warn!("configuration not refreshed, the last good one stays: {trouble}");
        }
        self.talk.back_off(error, LONGEST).await;
    }
}

/// Writes what is in force to the cache, not more often than a disk can take when versions come in crowds.
async fn save(link: Arc<Link>, mut unsaved: watch::Receiver<Option<Arc<CachedResources>>>) {
    while unsaved.changed().await.is_ok() {
        let resources = unsaved.borrow_and_update().clone();
        if let Some(resources) = resources {
            link.store(resources).await;
        }
        sleep(SAVE_SPACING).await;
    }
}

/// How long the endpoint may hold an answer back: below what proxies and NATs cut.
const WAIT: Duration = Duration::from_secs(30);
/// An endpoint that answers at once each time is asked ten times a second, not in a loop.
const SPACING: Duration = Duration::from_millis(100);
const SAVE_SPACING: Duration = Duration::from_secs(1);
