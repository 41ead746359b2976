//! Readers say what they read: run over a blank instead of an object, they leave a shape instead of a value.
//!
//! A blank is whatever it is asked for: a mapping that has every field, a list of one blank, a mapping of one key to a
//! blank, and to whoever looks at it by hand an empty text. What a reader finds wrong with it is dropped. A mapping that
//! its reader does not finish is open: it may hold what nobody looks at. What is read only if another field says so is
//! missed; the tests compare what is said of a blank with what is said of objects.

use super::{Decoder, Step};
use crate::config::{
    resource::Mark,
    schema::{Field, Object, Shape},
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
        let key = Key { text: "1".into(), at };
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
    /// What is known of the places that are being read, the innermost last.
    places: Vec<Option<Shape>>,
}

impl<'n> Decoder<'n> {
    /// Returns a decoder that learns from readers run over `blank` what they read.
    pub(crate) fn describing(blank: &'n Blank) -> Self {
        let describer = Describer { blank, places: vec![None] };
        Self { describer: Some(Box::new(describer)), ..Self::new(&blank.file, false) }
    }

    /// Returns what may stand where the readers were run.
    pub(crate) fn described(self) -> Shape {
        self.describer.and_then(|mut describer| describer.places.pop()?).unwrap_or(Shape::Any)
    }

    /// Says that what stands here is a `shape`, if that is what the reader is run for.
    pub(crate) fn describe(&mut self, shape: impl FnOnce() -> Shape) {
        match self.described_place() {
            Some(Some(known)) => known.merge(shape()),
            Some(place) => *place = Some(shape()),
            None => {}
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
        self.describe(|| Shape::Object(Object::of(Vec::new())));
        (self.path.len() < DEPTH_MAX).then_some(())
    }

    /// Says that the mapping that stands here has a field.
    pub(super) fn describe_field(&mut self, field: impl FnOnce() -> Field) {
        self.describe(|| Shape::Object(Object::of(vec![field()])));
    }

    /// Runs `read` over what stands here as a text that holds a document.
    pub(super) fn describe_document<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        self.describe_begin();
        let value = read(self);
        let inner = self.describer.as_mut().and_then(|describer| describer.places.pop()?);
        let shape = inner.unwrap_or(Shape::Any);
        self.describe(|| Shape::Document(Box::new(shape)));
        value
    }

    /// Says that every field of a mapping has been named.
    pub(super) fn describe_finished(&mut self) {
        if let Some(Some(Shape::Object(object))) = self.described_place() {
            object.open = false;
        }
    }

    /// Begins the place that the path leads to.
    pub(super) fn describe_begin(&mut self) {
        if let Some(describer) = &mut self.describer {
            describer.places.push(None);
        }
    }

    /// Ends it, and tells the place around it what is known of it.
    pub(super) fn describe_end(&mut self) {
        let Some(inner) = self.describer.as_mut().and_then(|describer| describer.places.pop()) else {
            return;
        };
        let within = || Box::new(inner.clone().unwrap_or(Shape::Any));
        match (self.path.last().copied(), &inner) {
            // Nothing was read there; somebody only wanted to complain.
            (None, _) | (Some(Step::Field(_)), None) => {}
            (Some(Step::Field(name)), Some(shape)) => {
                self.describe_field(|| Field::read(name, shape.clone()))
            }
            (Some(Step::Index(_)), _) => self.describe(|| Shape::List(within())),
            (Some(Step::Key(_)), _) => self.describe(|| Shape::Map(within())),
        }
    }

    fn described_place(&mut self) -> Option<&mut Option<Shape>> {
        self.describer.as_mut()?.places.last_mut()
    }
}

/// Istio's messages nest a dozen deep; a reader that reads itself must end somewhere.
const DEPTH_MAX: usize = 32;

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
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
            fields.get("checked", text);
            fields.describe(&["checked"], Support::NoEffect, "it is only checked");
            fields.get("later", text);
            fields.not_obeyed(&["later"]);
            fields.get("mode", |decoder, node| choice(decoder, node, &[("A", 1), ("B", 2)]));
            fields.no_effect(&[("tunnel", "there is none")]);
            fields.unsupported(&[("guard", "nobody would guard it")]);
            fields.take("uid");
            fields.get("doc", |decoder, node| decoder.describe_document(|decoder| labels(decoder, node)));
            fields.decoder.within("host", |decoder| decoder.refuse(node.at, "only to complain"));
            fields.finish();
            host
        }
        let closed = |fields| Shape::Object(Object { fields, open: false });
        let idle = |name, why: &str| Field {
            support: Support::NoEffect(why.to_owned()),
            ..Field::read(name, Shape::Text)
        };
        let weight = Field::read("weight", Shape::Number { least: 0, most: u32::MAX.into() });
        assert_eq!(
            described(|decoder, node| drop(read(decoder, node))),
            closed(vec![
                Field::read("host", Shape::Name).required(),
                Field::read("items", Shape::List(Box::new(closed(vec![weight])))),
                Field::read("old", Shape::Text).deprecated("host"),
                idle("checked", "it is only checked"),
                idle("later", "nothing obeys it yet in this version"),
                Field::read("mode", Shape::Choice(vec!["A".to_owned(), "B".to_owned()])),
                Field::new("tunnel", Support::NoEffect("there is none".to_owned())),
                Field::new("guard", Support::Refused("nobody would guard it".to_owned())),
                Field::new("uid", Support::PassedOver),
                Field::read("doc", Shape::Document(Box::new(Shape::Map(Box::new(Shape::Text))))),
            ])
        );
    }

    #[test]
    fn a_mapping_is_open_unless_one_of_its_readers_names_all_its_fields() {
        let shape = described(|decoder, node| {
            let mut fields = decoder.fields(node)?;
            fields.get("open", |decoder, node| decoder.fields(node)?.get("a", name));
            fields.get("closed", |decoder, node| decoder.fields(node)?.get("b", name));
            fields.get("closed", |decoder, node| {
                decoder.fields(node)?.finish();
                Some(())
            })
        });
        let Shape::Object(object) = shape else { panic!("{shape:?}") };
        let open = object.fields.iter().map(|field| field.shape.within().map(|(_, inner)| inner.open));
        assert_eq!(open.collect::<Vec<_>>(), [Some(true), Some(false)]);
    }

    #[test]
    fn a_reader_that_reads_itself_comes_to_an_end() {
        fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
            let mut fields = decoder.fields(node)?;
            fields.get("inner", read);
            fields.finish();
            Some(())
        }
        assert!(matches!(described(read), Shape::Object(object) if object.fields.len() == 1));
    }

    fn described<T>(read: impl for<'n> FnOnce(&mut Decoder<'n>, &'n Node) -> T) -> Shape {
        let blank = Blank::new();
        let mut decoder = Decoder::describing(&blank);
        read(&mut decoder, blank.node());
        decoder.described()
    }
}
