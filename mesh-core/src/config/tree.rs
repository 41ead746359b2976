//! YAML and JSON documents as trees whose every node knows its place.
//!
//! It knows nothing of kinds and fields, and resolves no scalar before somebody asks for a type: `1.10` stays the text
//! `1.10` for whoever wants a string.

use super::resource::Mark;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub at: Mark,
    /// What it is.
    pub value: Value,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A scalar as written. `plain` ones may mean null, a boolean or a number; quoted ones are strings.
    Scalar {
        /// The text, unescaped.
        text: String,
        /// Whether it was written without quotes.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order written; keys are unique.
    Mapping(Vec<(Key, Node)>),
}

/// The key of a mapping's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Its place.
    pub at: Mark,
}

impl Node {
    /// Returns the value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Returns the node as JSON, plain scalars resolved by YAML 1.2's core schema.
    pub fn to_json(&self) -> serde_json::Value {
        todo!()
    }
}
