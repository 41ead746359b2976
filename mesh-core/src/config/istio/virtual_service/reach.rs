//! Which routes no request can reach, because every request that meets them meets an earlier one.
//!
//! A match counts as covered by an earlier one whose other conditions are the same or none, and whose path condition
//! holds wherever its own does. Each match is looked up, not compared with every other one: there may be thousands.
// spec: istio pkg/config/validation analyzeUnreachableHTTPRules

use super::{HttpMatch, HttpRoute};
use crate::config::{
    decode::Fields,
    diagnostic::{Code, Diagnostic, Level},
    istio::common::StringMatch,
};
use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
};

/// Reports the routes of a VirtualService that none can reach (IST0130), and matches that do nothing (IST0131).
pub(super) fn note_unreachable(fields: &mut Fields<'_, '_>, routes: &[HttpRoute]) {
    let everything = [HttpMatch::default()];
    let mut seen = Seen::default();
    for (index, route) in routes.iter().enumerate() {
        let matches = if route.matches.is_empty() { &everything[..] } else { &route.matches[..] };
        let covered: Vec<_> = matches.iter().map(|alternative| seen.meet(alternative, index)).collect();
        match covered.iter().map(|by| by.filter(|by| *by < index)).collect::<Option<BTreeSet<_>>>() {
            Some(earlier) => note_route(fields, routes, index, &earlier),
            None => note_matches(fields, index, matches, &covered),
        }
        if seen.everything.is_some_and(|by| by < index) {
            return;
        }
    }
}

/// Reports that the routes `earlier` take everything that route `index` matches.
fn note_route(fields: &mut Fields<'_, '_>, routes: &[HttpRoute], index: usize, earlier: &BTreeSet<usize>) {
    let Some(route) = routes.get(index) else { return };
    let takes_all = |by: &usize| routes.get(*by).is_some_and(|route| route.matches.iter().all(is_everything));
    let (message, help) = match earlier.iter().find(|by| takes_all(by)) {
        Some(by) => (
            format!("http[{by}] takes every request; nothing reaches the routes behind it"),
            "put the route without conditions last",
        ),
        None => {
            let named: Vec<_> = earlier.iter().take(NAMED_MAX).map(|by| format!("http[{by}]")).collect();
            let message =
                format!("no request reaches this route: what it matches goes to {}", named.join(", "));
            (message, "put the narrower match first")
        }
    };
    let finding = Diagnostic::warning(Code::UNREACHABLE_RULE, message).help(help);
    fields.decoder.within("http", |decoder| {
        decoder.within_item(index, |decoder| decoder.find(route.at, finding));
    });
}

fn note_matches(fields: &mut Fields<'_, '_>, index: usize, matches: &[HttpMatch], covered: &[Option<usize>]) {
    for (number, (alternative, by)) in matches.iter().zip(covered).enumerate() {
        let Some(by) = by else { continue };
        let message = format!("this match does nothing: what it matches, one in http[{by}] takes before it");
        let finding = Diagnostic::new(Code::INEFFECTIVE_MATCH, Level::Info, message).help("remove it");
        fields.decoder.within("http", |decoder| {
            decoder.within_item(index, |decoder| {
                decoder.within("match", |decoder| {
                    decoder.within_item(number, |decoder| decoder.find(alternative.at, finding));
                });
            });
        });
    }
}

fn is_everything(alternative: &HttpMatch) -> bool {
    is_every_path(alternative) && others(alternative).is_empty()
}

fn is_every_path(alternative: &HttpMatch) -> bool {
    match &alternative.uri {
        None | Some(StringMatch::Present) => true,
        Some(StringMatch::Prefix(prefix)) => matches!(prefix.as_str(), "" | "/"),
        Some(StringMatch::Regex(regex)) => regex.as_str() == "^(?:.*)$",
        Some(StringMatch::Exact(_)) => false,
    }
}

/// The matches met so far, by their conditions on anything but the path.
#[derive(Default)]
struct Seen {
    by_others: HashMap<String, Paths>,
    /// The first route that every request meets.
    everything: Option<usize>,
}

/// Conditions on the path, each with the first route that has it.
#[derive(Default)]
struct Paths {
    any: Option<usize>,
    with_case: Texts,
    /// In lower case.
    without_case: Texts,
    regexes: HashMap<String, usize>,
}

#[derive(Default)]
struct Texts {
    exact: HashMap<String, usize>,
    /// By their digest, which grows with a text: every prefix of one is looked up in one walk along it.
    prefixes: HashMap<u64, (String, usize)>,
    /// How long the prefixes are.
    lengths: BTreeSet<usize>,
}

impl Seen {
    /// Adds a match of route `index`, and returns the route that covers it.
    fn meet(&mut self, alternative: &HttpMatch, index: usize) -> Option<usize> {
        let others = others(alternative);
        let covering = [self.by_others.get(""), self.by_others.get(&others)];
        let by = covering.into_iter().flatten().find_map(|paths| paths.covering(alternative));
        if by.is_none() {
            if others.is_empty() && is_every_path(alternative) {
                self.everything = Some(index);
            }
            self.by_others.entry(others).or_default().add(alternative, index);
        }
        by
    }
}

impl Paths {
    fn add(&mut self, alternative: &HttpMatch, index: usize) {
        let texts = if alternative.ignore_uri_case { &mut self.without_case } else { &mut self.with_case };
        let cased = |text: &str| {
            if alternative.ignore_uri_case { text.to_ascii_lowercase() } else { text.to_owned() }
        };
        match &alternative.uri {
            _ if is_every_path(alternative) => self.any = self.any.or(Some(index)),
            Some(StringMatch::Exact(text)) => drop(texts.exact.entry(cased(text)).or_insert(index)),
            Some(StringMatch::Prefix(text)) => texts.add_prefix(cased(text), index),
            Some(StringMatch::Regex(regex)) => {
                self.regexes.entry(regex.as_str().to_owned()).or_insert(index);
            }
            None | Some(StringMatch::Present) => {}
        }
    }

    fn covering(&self, alternative: &HttpMatch) -> Option<usize> {
        let by_text = |text: &str, exact: bool| {
            let with_case =
                if alternative.ignore_uri_case { None } else { self.with_case.covering(text, exact) };
            with_case.or_else(|| self.without_case.covering(&text.to_ascii_lowercase(), exact))
        };
        self.any.or_else(|| match &alternative.uri {
            Some(StringMatch::Exact(text)) => by_text(text, true),
            Some(StringMatch::Prefix(text)) => by_text(text, false),
            Some(StringMatch::Regex(regex)) => self.regexes.get(regex.as_str()).copied(),
            None | Some(StringMatch::Present) => None,
        })
    }
}

impl Texts {
    fn add_prefix(&mut self, text: String, index: usize) {
        self.lengths.insert(text.len());
        self.prefixes.entry(grown(DIGEST, text.as_bytes())).or_insert((text, index));
    }

    fn covering(&self, text: &str, exact: bool) -> Option<usize> {
        let same = if exact { self.exact.get(text).copied() } else { None };
        same.or_else(|| self.prefix_of(text))
    }

    fn prefix_of(&self, text: &str) -> Option<usize> {
        let (mut digest, mut done) = (DIGEST, 0);
        self.lengths.range(..=text.len()).find_map(|&length| {
            digest = grown(digest, &text.as_bytes()[done..length]);
            done = length;
            let (prefix, index) = self.prefixes.get(&digest)?;
            text.starts_with(prefix.as_str()).then_some(*index)
        })
    }
}

/// Returns the digest of a text that `bytes` make longer.
// spec: draft-eastlake-fnv, FNV-1a, 64 bits
fn grown(digest: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(digest, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Returns the conditions of a match on anything but the path, written the same if they are the same; empty if it has
/// none.
fn others(alternative: &HttpMatch) -> String {
    let HttpMatch { scheme, method, authority, port, source_labels, source_namespace, gateways, .. } =
        alternative;
    let mut text = String::new();
    let mut add = |what: &str, said: &dyn std::fmt::Debug| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what} {said:?}");
    };
    for (what, pattern) in [("scheme", scheme), ("method", method), ("authority", authority)] {
        pattern.iter().for_each(|pattern| add(what, pattern));
    }
    for (what, conditions) in [
        ("header", &alternative.headers),
        ("without", &alternative.without_headers),
        ("parameter", &alternative.query_params),
    ] {
        let mut conditions: Vec<_> =
            conditions.iter().map(|(name, pattern)| format!("{name:?} {pattern:?}")).collect();
        conditions.sort();
        conditions.iter().for_each(|condition| add(what, condition));
    }
    alternative.claims.iter().for_each(|claim| add("claim", claim));
    port.iter().for_each(|port| add("port", port));
    source_labels.iter().for_each(|label| add("label", &label));
    source_namespace.iter().for_each(|namespace| add("namespace", namespace));
    gateways.iter().for_each(|gateway| add("gateway", gateway));
    text
}

/// The digest of the empty text.
const DIGEST: u64 = 0xcbf2_9ce4_8422_2325;

/// A route is covered by few others, or by so many that their names say nothing.
const NAMED_MAX: usize = 5;
