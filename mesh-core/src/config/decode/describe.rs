//! Readers say what they read: run over a blank instead of an object, they leave a shape instead of a value.
//!
//! A blank is whatever it is asked for: a mapping that has every field, a list of one blank, a mapping of one key to a
//! blank, and to whoever looks at it by hand an empty text. What a reader finds wrong with it is dropped. A field that is
//! read only if another one says so is missed; what the readers of real objects know is compared in the tests.

use super::{Decoder, Step};
use crate::config::{
    resource::Mark,
    schema::{Field, Shape},
    tree::{Key, Node},
};
use std::{slice, sync::Arc};

/// What readers are run over to say what they read.
#[derive(Debug)]
pub(crate) struct Blank {
    file: Arc<str>,
    entry: (Key, Node),
}

impl Blank {
    /// Returns a blank.
    pub(crate) fn new() -> Self {
        let at = Mark { line: 1, column: 1 };
        // As a key it passes for a port, a label and the name of a header.
        let key = Key { text: "1".to_owned(), at };
        Self { file: "".into(), entry: (key, Node::string("", at)) }
    }

    /// Returns the node to run a reader over.
    pub(crate) fn node(&self) -> &Node {
        &self.entry.1
    }

    pub(super) fn items(&self) -> &[Node] {
        slice::from_ref(&self.entry.1)
    }

    pub(super) fn entries(&self) -> &[(Key, Node)] {
        slice::from_ref(&self.entry)
    }
}

/// What the readers said so far.
#[derive(Debug)]
pub(super) struct Describer<'n> {
    blank: &'n Blank,
    /// The places that are being read, the innermost last.
    places: Vec<Place>,
    unfinished: Vec<String>,
}

/// What is known of one place.
#[derive(Debug, Default)]
struct Place {
    shape: Option<Shape>,
    /// Mappings that a reader has begun and not finished.
    begun: usize,
}

impl<'n> Decoder<'n> {
    /// Returns a decoder that learns from readers run over `blank` what they read.
    pub(crate) fn describing(blank: &'n Blank) -> Self {
        let describer = Describer { blank, places: vec![Place::default()], unfinished: Vec::new() };
        Self { describer: Some(Box::new(describer)), ..Self::new(&blank.file, false) }
    }

    /// Returns what may stand where the readers were run, and the paths at which a reader gave up before it had named
    /// every field it knows.
    pub(crate) fn described(self) -> (Shape, Vec<String>) {
        let Some(mut describer) = self.describer else { return (Shape::Any, Vec::new()) };
        let root = describer.places.pop().and_then(|root| root.shape);
        (root.unwrap_or(Shape::Any), describer.unfinished)
    }

    /// Says that what stands here is a `shape`, if that is what the reader is run for.
    pub(crate) fn describe(&mut self, shape: impl FnOnce() -> Shape) {
        if let Some(place) = self.described_place() {
            place.add(shape());
        }
    }

    /// Returns the value under `key`, which a blank has too.
    pub(crate) fn child(&self, node: &'n Node, key: &str) -> Option<&'n Node> {
        node.get(key).or_else(|| self.blank().map(Blank::node))
    }

    /// Returns the blank that readers are run over, if they are run to say what they read.
    pub(super) fn blank(&self) -> Option<&'n Blank> {
        self.describer.as_ref().map(|describer| describer.blank)
    }

    /// Says that a mapping stands here; `None` if it is nested deeper than any.
    pub(super) fn describe_fields(&mut self) -> Option<()> {
        let depth = self.path.len();
        let place = self.described_place()?;
        place.add(Shape::Object(Vec::new()));
        if depth >= DEPTH_MAX {
            return None;
        }
        place.begun += 1;
        Some(())
    }

    /// Says that the mapping that stands here has a field.
    pub(super) fn describe_field(&mut self, field: impl FnOnce() -> Field) {
        self.describe(|| Shape::Object(vec![field()]));
    }

    /// Runs `read` over what stands here as a text that holds a document.
    #[allow(dead_code, reason = "for readers of documents within documents")]
    pub(super) fn describe_document<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        self.describe_begin();
        let value = read(self);
        let inner = self.describer.as_mut().and_then(|describer| describer.places.pop());
        let shape = inner.and_then(|inner| inner.shape).unwrap_or(Shape::Any);
        self.describe(|| Shape::Document(Box::new(shape)));
        value
    }

    /// Says that every field of a mapping has been named.
    pub(super) fn describe_finished(&mut self) {
        if let Some(place) = self.described_place() {
            place.begun = place.begun.saturating_sub(1);
        }
    }

    /// Begins the place that the path leads to.
    pub(super) fn describe_begin(&mut self) {
        if let Some(describer) = &mut self.describer {
            describer.places.push(Place::default());
        }
    }

    /// Ends it, and hands what is known of it to the place around it.
    pub(super) fn describe_end(&mut self) {
        let Some(inner) = self.describer.as_mut().and_then(|describer| describer.places.pop()) else {
            return;
        };
        if inner.begun > 0 {
            let path = self.path();
            self.describer.iter_mut().for_each(|describer| describer.unfinished.push(path.clone()));
        }
        let step = self.path.last().copied();
        if let (Some(step), Some(outer)) = (step, self.described_place()) {
            outer.add_inner(step, inner.shape);
        }
    }

    fn described_place(&mut self) -> Option<&mut Place> {
        self.describer.as_mut()?.places.last_mut()
    }
}

impl Place {
    fn add(&mut self, shape: Shape) {
        match &mut self.shape {
            Some(known) => known.merge(shape),
            None => self.shape = Some(shape),
        }
    }

    fn add_inner(&mut self, step: Step<'_>, inner: Option<Shape>) {
        match (step, inner) {
            // Nothing was read there; somebody only wanted to complain.
            (Step::Field(_), None) => {}
            (Step::Field(name), Some(shape)) => self.add(Shape::Object(vec![Field::read(name, shape)])),
            (Step::Index(_), inner) => self.add(Shape::List(Box::new(inner.unwrap_or(Shape::Any)))),
            (Step::Key(_), inner) => self.add(Shape::Map(Box::new(inner.unwrap_or(Shape::Any)))),
        }
    }
}

/// Istio's messages nest a dozen deep; a reader that reads itself must end somewhere.
const DEPTH_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        decode::{choice, count, labels, name, text},
        schema::Support,
    };

    #[test]
    fn a_reader_run_over_a_blank_leaves_what_it_reads_and_finds_nothing_wrong() {
        fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<String> {
            let mut fields = decoder.fields(node)?;
            let host = fields.require("host", name);
            fields.list("items", |decoder, node| {
                let mut fields = decoder.fields(node)?;
                fields.get("weight", count);
                fields.finish();
                Some(())
            });
            fields.get("old", text);
            fields.deprecated("old", "host");
            fields.get("mode", |decoder, node| choice(decoder, node, &[("A", 1), ("B", 2)]));
            fields.no_effect(&[("tunnel", "there is none")]);
            fields.unsupported(&[("guard", "nobody would guard it")]);
            fields.take("uid");
            fields.get("doc", |decoder, node| decoder.describe_document(|decoder| labels(decoder, node)));
            fields.decoder.within("host", |decoder| decoder.refuse(node.at, "only to complain"));
            fields.finish();
            host
        }
        let weight = Field::read("weight", Shape::Number { least: 0, most: u32::MAX.into() });
        let blank = Blank::new();
        let mut decoder = Decoder::describing(&blank);
        read(&mut decoder, blank.node());
        let (shape, unfinished) = decoder.described();
        assert_eq!(
            shape,
            Shape::Object(vec![
                Field::read("host", Shape::Name).required(),
                Field::read("items", Shape::List(Box::new(Shape::Object(vec![weight])))),
                Field::read("old", Shape::Text).deprecated("host"),
                Field::read("mode", Shape::Choice(vec!["A".to_owned(), "B".to_owned()])),
                Field::new("tunnel", Support::NoEffect("there is none".to_owned())),
                Field::new("guard", Support::Refused("nobody would guard it".to_owned())),
                Field::new("uid", Support::PassedOver),
                Field::read("doc", Shape::Document(Box::new(Shape::Map(Box::new(Shape::Text))))),
            ])
        );
        assert_eq!(unfinished, [""; 0]);
    }

    #[test]
    fn a_reader_that_gives_up_before_it_has_named_its_fields_is_found_out() {
        fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
            let mut fields = decoder.fields(node)?;
            fields.require("first", name)?;
            fields.get("second", name);
            fields.finish();
            Some(())
        }
        let blank = Blank::new();
        let mut decoder = Decoder::describing(&blank);
        decoder.within("spec", |decoder| read(decoder, blank.node()));
        assert_eq!(decoder.described().1, ["spec"]);
    }

    #[test]
    fn a_reader_that_reads_itself_comes_to_an_end() {
        fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
            let mut fields = decoder.fields(node)?;
            fields.get("inner", read);
            fields.finish();
            Some(())
        }
        let blank = Blank::new();
        let mut decoder = Decoder::describing(&blank);
        read(&mut decoder, blank.node());
        assert!(matches!(decoder.described().0, Shape::Object(fields) if fields.len() == 1));
    }
}
