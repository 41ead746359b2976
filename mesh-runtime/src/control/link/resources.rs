//! The long poll: what the endpoint serves is put in force, object by object, and kept for the day it does not answer.

use super::{Link, Talk};
use crate::{
    config::intake::Edition,
    control::{
        backoff::LONGEST,
        cache::CachedResources,
        carry::{Items, carry_over},
        http::{Answer, Ask, CallError},
        wire::Resources,
    },
};
use http::StatusCode;
use mesh_core::{
    config::{Diagnostic, Level, SourceFile},
    identity::TrustDomain,
};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Keeps the configuration current for ever.
pub(super) async fn run(link: Arc<Link>, held: Held) {
    let mut poll = Poll { talk: Talk::new(link), held, well: false };
    loop {
        poll.talk.link.identified().await;
        let next = Instant::now() + SPACING;
        match poll.once().await {
            Ok(()) => {
                poll.well = true;
                poll.talk.backoff.on_answer();
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
    items: Items,
    warming: bool,
}

#[derive(Debug)]
struct Poll {
    talk: Talk,
    held: Held,
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
        let ask = Ask { etag: etag.as_deref(), wait: self.well.then_some(WAIT), ..Ask::get(&path) };
        let answer = self.talk.ask(&ask).await?;
        if answer.status != StatusCode::NOT_MODIFIED {
            return self.take(&answer).await;
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
    async fn take(&mut self, answer: &Answer) -> Result<(), CallError> {
        let Resources { version, trust_domain, items, warming } = answer.json()?;
        let trust_domain = self.admit(&trust_domain)?;
        let link = Arc::clone(&self.talk.link);
        let (mut items, notes) = carry_over(&self.held.items, by_name(items), warming);
        let edition = Edition { notes, ..edition(&link, &version, &items, trust_domain.clone()) };
        let findings = link.intake.apply_aside(edition).await;
        let refused = refused(&link, &findings);
        keep_refused(&mut items, &mut self.held.items, &refused);
        self.held = Held { etag: answer.etag.clone(), items, warming };
        let exact = refused.is_empty() && !warming;
        link.store(CachedResources {
            version,
            etag: answer.etag.clone().filter(|_| exact),
            trust_domain: trust_domain.to_string(),
            items: self.held.items.clone(),
        })
        .await;
        Ok(())
    }

    /// An endpoint of another trust domain than the one this workload is set to is not ours to obey.
    fn admit(&self, name: &str) -> Result<TrustDomain, CallError> {
        let served: TrustDomain = name
            .parse()
            .map_err(|e| CallError::Unreadable(format!("trust domain `{}`: {e}", name.escape_debug())))?;
        match &self.talk.link.trust_domain {
            Some(own) if *own != served => {
                Err(CallError::Unreadable(format!("trust domain {served}; this workload belongs to {own}")))
            }
            _ => Ok(served),
        }
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

fn edition(link: &Link, version: &str, items: &Items, trust_domain: TrustDomain) -> Edition {
    // A file per object: one that does not read keeps no other from changing or going.
    let file = |(name, item): (&String, &Value)| SourceFile {
        name: file_name(link, name),
        text: Ok(item.to_string()),
    };
    Edition {
        version: version.into(),
        files: items.iter().map(file).collect(),
        trust_domain,
        from_cache: false,
        notes: Vec::new(),
    }
}

fn file_name(link: &Link, object: &str) -> String {
    format!("{}/v1/resources#{object}", link.endpoint)
}

/// Names objects by what they say they are. Two of one name are both kept, for the loader to judge.
fn by_name(items: Vec<Value>) -> Items {
    let mut named = Items::new();
    for item in items {
        let text = |pointer| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let namespace =
            Some(text("/metadata/namespace")).filter(|text| !text.is_empty()).unwrap_or("default");
        let name = format!("{} {namespace}/{}", text("/kind"), text("/metadata/name"));
        let mut unique = name.clone();
        let mut number = 2_usize;
        while named.contains_key(&unique) {
            unique = format!("{name}#{number}");
            number += 1;
        }
        named.insert(unique, item);
    }
    named
}

/// Returns the names of the objects that are not in force as sent.
fn refused(link: &Link, findings: &[Diagnostic]) -> BTreeSet<String> {
    let prefix = file_name(link, "");
    let errors = findings.iter().filter(|finding| finding.level == Level::Error);
    errors
        .filter_map(|finding| finding.location.as_ref()?.file.strip_prefix(&prefix).map(str::to_owned))
        .collect()
}

/// Keeps of refused objects what is in force of them, so that the cache does not forget it.
fn keep_refused(items: &mut Items, old: &mut Items, refused: &BTreeSet<String>) {
    for name in refused {
        if let Some(before) = old.remove(name) {
            items.insert(name.clone(), before);
        }
    }
}

/// How long the endpoint may hold an answer back: below what proxies and NATs cut.
const WAIT: Duration = Duration::from_secs(30);
/// An endpoint that answers at once each time is asked ten times a second, not in a loop.
const SPACING: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_named_by_what_they_say_they_are() {
        let items = by_name(vec![
            json!({"kind": "VirtualService", "metadata": {"name": "a", "namespace": "prod"}}),
            json!({"kind": "VirtualService", "metadata": {"name": "a"}}),
            json!({"kind": "VirtualService", "metadata": {"name": "a", "namespace": "default"}}),
            json!("no object"),
            json!(null),
        ]);
        let names: Vec<_> = items.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                " default/",
                " default/#2",
                "VirtualService default/a",
                "VirtualService default/a#2",
                "VirtualService prod/a"
            ]
        );
    }

    #[test]
    fn of_a_refused_object_the_version_in_force_is_kept() {
        let items =
            |of: &[(&str, u8)]| of.iter().map(|&(name, n)| (name.to_owned(), json!(n))).collect::<Items>();
        let mut new = items(&[("a", 2), ("b", 2), ("c", 2)]);
        let refused = ["b", "c"].map(str::to_owned).into();
        keep_refused(&mut new, &mut items(&[("a", 1), ("b", 1)]), &refused);
        assert_eq!(new, items(&[("a", 2), ("b", 1), ("c", 2)]));
    }
}
