//! Where exactly a field was written: the line of the field within the block that an [`Origin`] names.
//!
//! A snapshot remembers blocks only, as thousands of clusters share them; the lines are looked up in the documents of
//! the objects, and only when somebody asks for an explanation.

use super::Place;
use crate::config::{
    Mark, Origin, Resource, is_called,
    tree::{Node, Value},
};
use std::sync::Arc;

/// The objects in which fields are looked up; without any, the place of a field is that of its block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a>(pub(super) &'a [Arc<Resource>]);

impl Written<'_> {
    /// Returns where the first of `paths` that the block at `origin` has is written; `None` if it has none of them: what
    /// is in force there is a default.
    pub(super) fn field(self, origin: &Origin, paths: &[&str]) -> Option<Place> {
        let resource = self.0.iter().find(|resource| resource.key == origin.resource);
        let blocks = resource.map(|resource| blocks_at(&resource.document, origin)).unwrap_or_default();
        if blocks.is_empty() {
            return Some(Place::of(origin));
        }
        let line = blocks.iter().find_map(|block| paths.iter().find_map(|path| line_of(block, path)))?;
        Some(Place { line, ..Place::of(origin) })
    }
}

/// Returns what starts at the place of `origin`: a value whose key stands there, and the mapping of which that is the
/// first key.
fn blocks_at<'a>(node: &'a Node, origin: &Origin) -> Vec<&'a Node> {
    let is_there = |at: Mark| (at.line, at.column) == (origin.location.line, origin.location.column);
    match &node.value {
        Value::Mapping(entries) => {
            let keyed = entries.iter().filter(|(key, _)| is_there(key.at)).map(|(_, node)| node);
            let whole = is_there(node.at).then_some(node);
            let deeper = entries.iter().flat_map(|(_, node)| blocks_at(node, origin));
            keyed.chain(whole).chain(deeper).collect()
        }
        Value::Sequence(items) => items.iter().flat_map(|node| blocks_at(node, origin)).collect(),
        Value::Scalar { .. } => Vec::new(),
    }
}

/// Returns the line of the field at `path`, whose names are separated by dots.
fn line_of(block: &Node, path: &str) -> Option<u32> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let Value::Mapping(entries) = &block.value else { return None };
    let (key, node) = entries.iter().find(|(key, _)| is_called(&key.text, name))?;
    rest.map_or(Some(key.at.line), |rest| line_of(node, rest))
}
