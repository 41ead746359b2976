//! The kinds of requests of one caller: method, host and path, up to a bound.

use super::Seen;
use crate::control::wire::AskedRecord;
use http::Method;

/// The kinds of requests, in the order in which they first came.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<Kind>);

#[derive(Debug)]
struct Kind {
    method: Method,
    host: Box<str>,
    path: Box<str>,
    count: u64,
}

impl Asked {
    pub(super) fn on_request(&mut self, seen: Seen<'_>) {
        if let Some(kind) = self.0.iter_mut().find(|kind| kind.is(seen)) {
            kind.count += 1;
        } else if self.0.len() < KINDS_MAX && is_short(seen) {
            self.0.push(Kind {
                method: seen.method.clone(),
                host: seen.host.into(),
                path: seen.path.into(),
                count: 1,
            });
        }
    }

    /// Returns the kinds, and how many of `requests` are of no kind that is listed.
    pub(super) fn records(&self, requests: u64) -> (Vec<AskedRecord>, u64) {
        let record = |kind: &Kind| record(&kind.method, &kind.host, &kind.path, kind.count);
        let listed = self.0.iter().map(|kind| kind.count).sum();
        (self.0.iter().map(record).collect(), requests.saturating_sub(listed))
    }
}

impl Kind {
    fn is(&self, seen: Seen<'_>) -> bool {
        *self.path == *seen.path && self.method == *seen.method && *self.host == *seen.host
    }
}

pub(super) fn record(method: &Method, host: &str, path: &str, count: u64) -> AskedRecord {
    AskedRecord { method: method.to_string(), host: host.to_owned(), path: path.to_owned(), count }
}

/// Returns whether it is short enough to be written down. Cut off it would be another path, and judged as one.
pub(super) fn is_short(seen: Seen<'_>) -> bool {
    seen.method.as_str().len() + seen.host.len() + seen.path.len() <= LENGTH_MAX
}

// Enough for the routes of a service; paths with an ID in each are beyond any bound.
const KINDS_MAX: usize = 16;

// Longer than the paths that people write policies for.
const LENGTH_MAX: usize = 160;
