//! YAML and JSON documents as trees whose every node knows its place.
//!
//! It knows nothing of kinds and fields, and resolves no scalar before somebody asks for a type: `1.10` stays the text
//! `1.10` for whoever wants a string.

mod fault;
mod parse;

pub(crate) use fault::Fault;
pub(crate) use parse::{Document, parse};

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
        /// The text, unescaped. A document is kept for as long as it is in force, so it has no room to grow.
        text: Box<str>,
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
    pub text: Box<str>,
    /// Its place.
    pub at: Mark,
}

impl Node {
    /// Returns a null that stands at `at`.
    pub fn null(at: Mark) -> Self {
        Self { at, value: Value::Scalar { text: Box::default(), plain: true } }
    }

    /// Returns a string that is written at `at`.
    pub fn string(text: impl Into<Box<str>>, at: Mark) -> Self {
        Self { at, value: Value::Scalar { text: text.into(), plain: false } }
    }

    /// Returns a mapping that is written at `at`.
    pub fn mapping(entries: impl IntoIterator<Item = (String, Self)>, at: Mark) -> Self {
        let entries = entries.into_iter().map(|(text, node)| (Key { text: text.into(), at }, node)).collect();
        Self { at, value: Value::Mapping(entries) }
    }

    /// Returns the value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|(k, _)| *k.text == *key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Returns the text, if this is a scalar that is not null.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Returns whether this is null: nothing at all, `~` or `null`.
    // spec: yaml 1.2.2, 10.3.2 core schema, tag resolution
    pub fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain } => *plain && matches!(&**text, "" | "~" | "null" | "Null" | "NULL"),
            _ => false,
        }
    }

    /// Returns whether both say the same, wherever it is written.
    ///
    /// ```
    /// # use mesh_core::config::{Mark, tree::Node};
    /// let here = Node::string("v1", Mark { line: 1, column: 1 });
    /// let there = Node::string("v1", Mark { line: 9, column: 5 });
    /// assert!(here.says_the_same(&there) && here != there);
    /// ```
    pub fn says_the_same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Sequence(a), Value::Sequence(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says_the_same(b))
            }
            (Value::Mapping(a), Value::Mapping(b)) => {
                let same_order = a.iter().zip(b).all(|(a, b)| a.0.text == b.0.text);
                let alike = || a.iter().zip(b).all(|(a, b)| a.1.says_the_same(&b.1));
                // Order means nothing; JSON's maps are sorted.
                a.len() == b.len() && if same_order { alike() } else { self.to_json() == other.to_json() }
            }
            (Value::Scalar { .. }, Value::Scalar { .. }) => self.scalar_to_json() == other.scalar_to_json(),
            _ => false,
        }
    }

    /// Returns the node as JSON, plain scalars resolved by YAML 1.2's core schema.
    ///
    /// A scalar becomes null, a boolean or a number only if JSON writes that value with the very same characters, else
    /// a string: the label `1.10` must not come back as `1.1`. Read again, the JSON says what the node says.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar { .. } => self.scalar_to_json(),
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => serde_json::Value::Object(
                entries.iter().map(|(key, node)| (key.text.to_string(), node.to_json())).collect(),
            ),
        }
    }

    fn scalar_to_json(&self) -> serde_json::Value {
        let Value::Scalar { text, plain } = &self.value else { return serde_json::Value::Null };
        if self.is_null() {
            return serde_json::Value::Null;
        }
        let string = || serde_json::Value::String(text.to_string());
        // Nothing but these begins a JSON literal that is no string; most scalars are names.
        if !plain || !text.starts_with(|first: char| matches!(first, '-' | '0'..='9' | 't' | 'f')) {
            return string();
        }
        let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return string() };
        let canonical = value.to_string();
        if canonical == **text { value } else { string() }
    }

    /// Returns the node that `json` is, every part of it placed at `at`.
    pub fn from_json(json: &serde_json::Value, at: Mark) -> Self {
        let plain = |text: String| Value::Scalar { text: text.into(), plain: true };
        let value = match json {
            serde_json::Value::Null => return Self::null(at),
            serde_json::Value::Bool(value) => plain(value.to_string()),
            serde_json::Value::Number(value) => plain(value.to_string()),
            serde_json::Value::String(text) => Value::Scalar { text: text.as_str().into(), plain: false },
            serde_json::Value::Array(items) => {
                Value::Sequence(items.iter().map(|item| Self::from_json(item, at)).collect())
            }
            serde_json::Value::Object(fields) => Value::Mapping(
                fields
                    .iter()
                    .map(|(name, value)| (Key { text: name.as_str().into(), at }, Self::from_json(value, at)))
                    .collect(),
            ),
        };
        Self { at, value }
    }
}
