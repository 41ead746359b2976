//! The annotations of this mesh on an object: policies for which Istio has no field.
//!
//! A sidecar does not read them: under Istio the object means what its fields say.

use crate::{
    authorize::flag,
    config::{
        decode::{Decoder, nearest, shortened},
        diagnostic::{Code, Diagnostic},
        resource::{Mark, Meta},
        tree::Node,
    },
};

/// The annotations of one object.
pub(super) struct Annotations<'d, 'n> {
    pub(super) decoder: &'d mut Decoder<'n>,
    pub(super) node: &'n Node,
    pub(super) meta: &'d Meta,
}

impl<'d, 'n> Annotations<'d, 'n> {
    /// Runs `read` over the annotations of `object`, which stand in `meta` too, if any of them is of this mesh.
    ///
    /// Names that are not among `known` are warned of: another version may know them.
    pub(super) fn of(
        decoder: &mut Decoder<'n>,
        object: &'n Node,
        meta: &Meta,
        known: &[&'static str],
        read: impl FnOnce(&mut Annotations<'_, 'n>),
    ) {
        if !meta.annotations.keys().any(|name| name.starts_with(PREFIX)) {
            return;
        }
        let node = object.get("metadata").and_then(|metadata| metadata.get("annotations")).unwrap_or(object);
        decoder.within("metadata", |decoder| {
            decoder.within("annotations", |decoder| {
                let mut annotations = Annotations { decoder, node, meta };
                annotations.note_unknown(known);
                read(&mut annotations);
            });
        });
    }

    fn note_unknown(&mut self, known: &[&'static str]) {
        let ours = self.meta.annotations.keys().filter(|name| name.starts_with(PREFIX));
        for name in ours.filter(|name| !known.contains(&name.as_str())) {
            let message = format!("unknown annotation `{}`: it has no effect", shortened(name));
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("write `{near}`"),
                None => format!("the annotations of this kind are {}", known.join(", ")),
            };
            self.find(name, Diagnostic::warning(Code::SCHEMA_WARNING, message).help(help));
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'d str> {
        self.meta.annotations.get(name).map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.meta.annotations.contains_key(name)
    }

    /// Reads a boolean; one that is not there, or does not read, is false.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let Some(written) = self.get(name) else { return false };
        let read = flag(written);
        if read.is_none() {
            let message = format!("{name}: `{}` is neither true nor false", shortened(written));
            self.find(name, Diagnostic::error(Code::SCHEMA, message).help("write \"true\" or \"false\""));
        }
        read.unwrap_or_default()
    }

    pub(super) fn find(&mut self, name: &str, finding: Diagnostic) {
        self.decoder.find(self.place_of(name), finding);
    }

    pub(super) fn place_of(&self, name: &str) -> Mark {
        self.node.get(name).unwrap_or(self.node).at
    }
}

/// What every annotation of this mesh begins with.
const PREFIX: &str = "mesh/";
