//! Reads nodes into types, collecting every finding on the way instead of stopping at the first.
//!
//! A reader is a function from a node to `Option<T>`: `None` means that a finding says why there is no value. Readers
//! call [`Decoder::fields`] for a mapping, name every field they know, and end with [`Fields::finish`], which reports
//! the rest.
//!
//! The same readers say what they would read: over a [`Blank`] they leave a [`Shape`](super::schema::Shape).

mod describe;
mod embedded;
mod fields;
mod scalar;
mod suggest;

pub(crate) use describe::Blank;
pub(crate) use fields::{Fields, is_called};
pub(crate) use scalar::*;
pub(crate) use suggest::nearest;

use super::{
    diagnostic::{Code, Diagnostic, Level, Location},
    resource::Mark,
    tree::{Key, Node, Value},
};
use describe::Describer;
use std::{fmt::Write as _, sync::Arc};

/// One step of a field path.
#[derive(Clone, Copy, Debug)]
enum Step<'n> {
    /// A field that the reader knows by name.
    Field(&'n str),
    /// An entry of a mapping whose keys are free.
    Key(&'n str),
    Index(usize),
}

/// The place in the object that is being read, and what was found wrong so far.
#[derive(Debug)]
pub(crate) struct Decoder<'n> {
    file: &'n Arc<str>,
    lenient: bool,
    path: Vec<Step<'n>>,
    findings: Vec<Diagnostic>,
    suppressed: usize,
    /// Where the first of those is that are only counted.
    suppressed_at: Mark,
    failed: bool,
    /// How large the regular expressions may still be that are read, in bytes of their programs.
    program_bytes: usize,
    /// What the readers say of themselves, if that is all they are run for.
    describer: Option<Box<Describer<'n>>>,
}

impl<'n> Decoder<'n> {
    /// Returns a decoder at the root of an object of `file`.
    pub(crate) fn new(file: &'n Arc<str>, lenient: bool) -> Self {
        Self {
            file,
            lenient,
            path: Vec::new(),
            findings: Vec::new(),
            suppressed: 0,
            suppressed_at: Mark::default(),
            failed: false,
            program_bytes: PROGRAM_BYTES_MAX,
            describer: None,
        }
    }

    /// Returns the decoder with `bytes` left for regular expressions: what was read of the file before took the others.
    pub(crate) fn with_program_bytes(self, bytes: usize) -> Self {
        Self { program_bytes: bytes, ..self }
    }

    /// Returns how many bytes are left for regular expressions.
    pub(crate) fn program_bytes(&self) -> usize {
        self.program_bytes
    }

    /// Takes `bytes` of those that are left for regular expressions; if they are not there, nothing is left for others.
    pub(crate) fn take_program_bytes(&mut self, bytes: usize) -> Option<()> {
        let left = self.program_bytes.checked_sub(bytes);
        self.program_bytes = left.unwrap_or_default();
        left.map(|_| ())
    }

    /// Returns the findings, and whether the object may come into force.
    pub(crate) fn finish(mut self) -> (Vec<Diagnostic>, bool) {
        if self.suppressed > 0 {
            let message = format!("{} more findings about this object are not listed", self.suppressed);
            let at = Location::new(self.file, self.suppressed_at);
            self.findings.push(Diagnostic::new(Code::TOO_LARGE, Level::Info, message).at(at));
        }
        (self.findings, !self.failed)
    }

    /// Adds a finding about what stands at `at`.
    pub(crate) fn find(&mut self, at: Mark, finding: Diagnostic) {
        if self.describer.is_some() {
            return;
        }
        self.failed |= finding.is_error();
        if self.is_full() {
            self.suppress(at);
        } else {
            let path = self.path();
            self.findings.push(finding.at(Location::new(self.file, at)).path(path));
        }
    }

    /// Takes back the findings of `code`: what is read later makes them untrue.
    pub(crate) fn withdraw(&mut self, code: Code) {
        self.findings.retain(|finding| finding.code != code);
    }

    /// Counts a finding about what stands at `at` instead of keeping it.
    fn suppress(&mut self, at: Mark) {
        if self.suppressed == 0 {
            self.suppressed_at = at;
        }
        self.suppressed += 1;
    }

    /// Returns whether further findings are only counted, so that nobody works on their text.
    fn is_full(&self) -> bool {
        self.findings.len() >= FINDINGS_MAX
    }

    /// Returns the one of `names` that was probably meant by `written`.
    fn meant<'a>(&self, written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        if self.is_full() { None } else { nearest(written, names) }
    }

    /// Adds the finding that Istio's webhook would refuse what stands at `at`.
    pub(crate) fn refuse(&mut self, at: Mark, message: impl Into<String>) {
        self.find(at, Diagnostic::error(Code::SCHEMA, message));
    }

    /// Runs `read` with field `name` added to the path.
    pub(crate) fn within<T>(&mut self, name: &'n str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.step(Step::Field(name), read)
    }

    /// Runs `read` with item `index` of a list added to the path.
    pub(crate) fn within_item<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        self.step(Step::Index(index), read)
    }

    fn step<T>(&mut self, step: Step<'n>, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        self.describe_begin();
        let value = read(self);
        self.describe_end();
        self.path.pop();
        value
    }

    /// Reads every item of a list.
    pub(crate) fn each<T>(
        &mut self,
        node: &'n Node,
        mut read: impl FnMut(&mut Self, &'n Node) -> Option<T>,
    ) -> Vec<T> {
        let Some(items) = self.items(node) else { return Vec::new() };
        let read = |(index, item): (usize, &'n Node)| {
            self.step(Step::Index(index), |decoder| {
                if item.is_null() {
                    decoder.refuse(item.at, "an item of a list must not be empty");
                    return None;
                }
                read(decoder, item)
            })
        };
        items.iter().enumerate().filter_map(read).collect()
    }

    /// Reads every value of a mapping whose keys are free.
    pub(crate) fn entries<T>(
        &mut self,
        node: &'n Node,
        mut read: impl FnMut(&mut Self, &'n Key, &'n Node) -> Option<T>,
    ) -> Vec<T> {
        let Some(entries) = self.pairs(node) else { return Vec::new() };
        let read = |(key, item): &'n (Key, Node)| {
            self.step(Step::Key(&key.text), |decoder| read(decoder, key, item))
        };
        entries.iter().filter_map(read).collect()
    }

    /// Returns the items of a list; a blank has one, which is blank too.
    fn items(&mut self, node: &'n Node) -> Option<&'n [Node]> {
        match (&node.value, self.blank()) {
            (Value::Sequence(items), _) => Some(items),
            (_, Some(blank)) => Some(blank.items()),
            (_, None) => {
                self.wrong_type(node, "a list");
                None
            }
        }
    }

    /// Returns keys and values of a mapping; a blank has one of each.
    fn pairs(&mut self, node: &'n Node) -> Option<&'n [(Key, Node)]> {
        match (&node.value, self.blank()) {
            (Value::Mapping(entries), _) => Some(entries),
            (_, Some(blank)) => Some(blank.entries()),
            (_, None) => {
                self.wrong_type(node, "a mapping");
                None
            }
        }
    }

    /// Adds the finding that `node` is not `expected`.
    pub(crate) fn wrong_type(&mut self, node: &Node, expected: &str) {
        let found = match &node.value {
            _ if node.is_null() => "nothing".to_owned(),
            Value::Scalar { text, .. } => format!("`{}`", shortened(text)),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
        };
        self.refuse(node.at, format!("expected {expected}, found {found}"));
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            // Writing to a string cannot fail.
            let _ = match step {
                Step::Index(index) => write!(path, "[{index}]"),
                Step::Field(name) | Step::Key(name) if is_plain(name) && path.is_empty() => {
                    write!(path, "{name}")
                }
                Step::Field(name) | Step::Key(name) if is_plain(name) => write!(path, ".{name}"),
                Step::Field(name) | Step::Key(name) => write!(path, "[{}]", shortened(name)),
            };
        }
        path
    }
}

/// Returns whether `name` can stand behind a dot without confusion.
fn is_plain(name: &str) -> bool {
    name.len() <= TEXT_MAX && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
}

/// Returns `text` as far as it belongs into a message: not too long, and without characters that would break a log
/// line or confuse a terminal.
pub(crate) fn shortened(text: &str) -> String {
    let mut short = String::new();
    for (index, c) in text.chars().enumerate() {
        match c {
            _ if index == TEXT_MAX => {
                short.push('…');
                break;
            }
            c if c.is_control() => short.extend(c.escape_default()),
            c => short.push(c),
        }
    }
    short
}

/// How large the regular expressions of one file may be, compiled: a megabyte of them takes some hundredths of a second
/// without optimisation, so that a hostile file costs a second or two instead of minutes, and a tenth of the memory that
/// the largest mesh may take. Some 250 expressions with two classes of letters (`\w`) fit, which are the largest that
/// people write, and any number of those without.
pub(crate) const PROGRAM_BYTES_MAX: usize = 32 * 1024 * 1024;

/// More findings about one object tell nobody more.
const FINDINGS_MAX: usize = 50;

/// Longer values fill the screen without saying more; the place is in the finding.
const TEXT_MAX: usize = 120;
