//! Parser events become trees, within budgets, and one broken document does not take the others with it.
//!
//! What could be read of a broken document is kept too: it often still says which object it was.

use super::{Key, Node, Value, fault::Fault};
use crate::config::{decode::shortened, resource::Mark};
use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};
use std::collections::HashMap;

/// One document of a stream.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// What it holds, or as much of it as could be read. `None` if there was nothing to read.
    pub(crate) root: Option<Node>,
    /// What is wrong with it. If there is anything, nothing in `root` may come into force.
    pub(crate) faults: Vec<Fault>,
}

/// Reads every document of `text`. Empty ones are left out.
pub(crate) fn parse(text: &str) -> Vec<Document> {
    if text.len() > BYTES_MAX {
        let message =
            format!("the file has {} bytes; at most {BYTES_MAX} are read, so nothing is", text.len());
        let fault = Fault::too_large(Mark { line: 1, column: 1 }, message);
        return vec![Document { root: None, faults: vec![fault.help("split it into several files")] }];
    }
    Stream::new(text.strip_prefix('\u{feff}').unwrap_or(text)).read()
}

/// The documents read so far, and the one being read.
struct Stream<'t> {
    parser: Parser<'t, StrInput<'t>>,
    documents: Vec<Document>,
    /// Nodes of all documents together.
    nodes: usize,
    unreadable: usize,
    building: Building,
}

/// The document being read.
#[derive(Default)]
struct Building {
    document: Document,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
}

/// A collection whose end has not come yet.
struct Open {
    at: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<(Key, Node)>, key: Option<Key> },
}

impl<'t> Stream<'t> {
    fn new(text: &'t str) -> Self {
        let mut options = granit_parser::options! {
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        options.set_emit_comments(false);
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            documents: Vec::new(),
            nodes: 0,
            unreadable: 0,
            building: Building::default(),
        }
    }

    fn read(mut self) -> Vec<Document> {
        while let Some(next) = self.parser.next_event() {
            let read = next
                .map_err(|error| Fault::of_syntax(&error, mark(error.marker()), DEPTH_MAX))
                .and_then(|(event, span)| self.on_event(event, span));
            let Err(fault) = read else { continue };
            if !self.abandon(fault) || !self.parser.proceed_next_document().unwrap_or(false) {
                break;
            }
        }
        self.documents
    }

    fn on_event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let at = mark(&span.start);
        let tagged = span.tag_start().as_ref().map_or(at, mark);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.admit(1, at)?;
                let plain = plain(style, tag.as_deref(), tagged)?;
                let node = Node { at, value: Value::Scalar { text: text.into(), plain } };
                self.place(node, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                plain(ScalarStyle::Plain, tag.as_deref(), tagged)?;
                self.open(Content::Sequence(Vec::new()), anchor, at)
            }
            Event::MappingStart(_, anchor, tag) => {
                plain(ScalarStyle::Plain, tag.as_deref(), tagged)?;
                self.open(Content::Mapping { entries: Vec::new(), key: None }, anchor, at)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.building.close() {
                Some((node, anchor)) => self.place(node, anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => self.expand(anchor, at),
            Event::DocumentEnd => {
                let document = std::mem::take(&mut self.building).document;
                self.documents.extend((!document.is_empty()).then_some(document));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, content: Content, anchor: usize, at: Mark) -> Result<(), Fault> {
        self.admit(1, at)?;
        if self.building.open.len() >= DEPTH_MAX {
            return Err(Fault::too_deep(at, DEPTH_MAX));
        }
        self.building.open.push(Open { at, anchor, content });
        Ok(())
    }

    /// An alias stands for a copy, so it costs as much as what it names: that stops a "billion laughs".
    fn expand(&mut self, anchor: usize, at: Mark) -> Result<(), Fault> {
        let Some(node) = self.building.anchors.get(&anchor) else {
            return Err(Fault::unreadable(at, "the alias stands inside the very node that it names"));
        };
        let (nodes, depth) = node.extent();
        if self.building.open.len() + depth > DEPTH_MAX {
            return Err(Fault::too_deep(at, DEPTH_MAX));
        }
        self.admit(nodes, at)?;
        let node = self.building.anchors[&anchor].clone();
        self.building.place(node)
    }

    /// A node that has an anchor is kept a second time, for its aliases.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.admit(node.extent().0, node.at)?;
            self.building.anchors.insert(anchor, node.clone());
        }
        self.building.place(node)
    }

    fn admit(&mut self, nodes: usize, at: Mark) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let message = format!("the file holds more than {NODES_MAX} values; the rest of it is not read");
        Err(Fault::too_large(at, message).help("split it, and write repeated parts without many aliases"))
    }

    /// Gives the document up and returns whether the next one may be read.
    fn abandon(&mut self, fault: Fault) -> bool {
        let at = fault.at;
        let go_on = self.nodes <= NODES_MAX;
        self.documents.push(std::mem::take(&mut self.building).salvage(fault));
        self.unreadable += 1;
        if self.unreadable < UNREADABLE_MAX {
            return go_on;
        }
        let message =
            format!("{UNREADABLE_MAX} documents are not readable; the rest of the file is not read");
        self.documents.push(Document { root: None, faults: vec![Fault::unreadable(at, message)] });
        false
    }
}

impl Building {
    fn place(&mut self, node: Node) -> Result<(), Fault> {
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.document.root = Some(node),
            Some(Content::Sequence(items)) => items.push(node),
            Some(Content::Mapping { entries, key: key @ Some(_) }) => {
                entries.extend(key.take().map(|key| (key, node)));
            }
            Some(Content::Mapping { key, .. }) => match node.value {
                Value::Scalar { text, .. } => *key = Some(Key { text, at: node.at }),
                _ => return Err(Fault::collection_as_key(node.at)),
            },
        }
        Ok(())
    }

    /// Ends the innermost collection and returns it with its anchor.
    fn close(&mut self) -> Option<(Node, usize)> {
        let Open { at, anchor, content } = self.open.pop()?;
        let value = match content {
            Content::Sequence(mut items) => {
                // A document is kept for as long as it is in force.
                items.shrink_to_fit();
                Value::Sequence(items)
            }
            Content::Mapping { entries, .. } => Value::Mapping(self.without_duplicates(entries)),
        };
        Some((Node { at, value }, anchor))
    }

    fn without_duplicates(&mut self, entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
        let mut first: HashMap<Box<str>, Mark> = HashMap::with_capacity(entries.len());
        let mut unique = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            if let Some(earlier) = first.get(&key.text) {
                let fault = Fault::duplicate(&key, *earlier);
                if self.document.faults.len() < DUPLICATES_MAX {
                    self.document.faults.push(fault);
                }
            } else {
                first.insert(key.text.clone(), key.at);
                unique.push((key, node));
            }
        }
        unique
    }

    /// Closes what is open, so that the part that was read can still say which object it was.
    fn salvage(mut self, fault: Fault) -> Document {
        loop {
            if let Some(Open { content: Content::Mapping { entries, key }, at, .. }) = self.open.last_mut() {
                // A key whose value is lost was there all the same.
                entries.extend(key.take().map(|key| (key, Node::null(*at))));
            }
            let Some((node, _)) = self.close() else { break };
            if self.place(node).is_err() {
                break;
            }
        }
        self.document.faults.push(fault);
        self.document
    }
}

impl Document {
    fn is_empty(&self) -> bool {
        self.faults.is_empty() && self.root.as_ref().is_none_or(Node::is_null)
    }
}

impl Node {
    /// Returns how many nodes it has, itself included, and how many levels.
    fn extent(&self) -> (usize, usize) {
        let children: &mut dyn Iterator<Item = &Self> = match &self.value {
            Value::Scalar { .. } => return (1, 1),
            Value::Sequence(items) => &mut items.iter(),
            Value::Mapping(entries) => &mut entries.iter().map(|(_, node)| node),
        };
        let (nodes, depth) = children
            .map(Self::extent)
            .fold((0, 0), |all: (usize, usize), one| (all.0.saturating_add(one.0), all.1.max(one.1)));
        (nodes + 1, depth + 1)
    }
}

/// Returns whether a scalar may mean something else than its text: an explicit tag overrides the way it is written.
fn plain(style: ScalarStyle, tag: Option<&Tag>, at: Mark) -> Result<bool, Fault> {
    let Some(tag) = tag else { return Ok(style == ScalarStyle::Plain) };
    match tag.core_suffix() {
        Some("str") => Ok(false),
        Some("null" | "bool" | "int" | "float" | "map" | "seq") => Ok(true),
        _ => Err(Fault::unreadable(at, format!("tag `{}` has no meaning here", shortened(&tag.original())))),
    }
}

fn mark(marker: &Marker) -> Mark {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Mark { line: count(marker.line()).max(1), column: count(marker.col()).saturating_add(1) }
}

/// 8 MiB hold about 20,000 routes in block style, twice what the largest meshes have in one place; Kubernetes itself
/// stops at 1.5 MiB per object.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The deepest Istio field lies 12 levels down, a custom resource definition of Kubernetes (which is skipped, but must
/// not spoil its file) about 40. Every recursion over a tree is bounded by it.
const DEPTH_MAX: usize = 96;

/// Real files have one value per 15 to 25 bytes: half a million in the largest file. At 100 bytes each this bounds the
/// memory of a tree, whatever its aliases say.
const NODES_MAX: usize = 1_000_000;

/// Whoever has so many broken documents in one file has something else than a configuration in it.
const UNREADABLE_MAX: usize = 100;

/// Enough to see the pattern.
const DUPLICATES_MAX: usize = 20;
