//! The shape of a value: what its reader takes.

use std::{fmt, time::Duration};

/// What may stand in a place.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Shape {
    /// Whatever; nobody looks at it, or not by way of a reader.
    Any,
    /// A mapping with known fields.
    Object(Object),
    /// A list.
    List(Box<Shape>),
    /// A mapping whose keys are free.
    Map(Box<Shape>),
    /// A text that holds a YAML document of its own.
    Document(Box<Shape>),
    /// A text.
    Text,
    /// A text that is not empty.
    Name,
    /// A text that is what these words say.
    Parsed(String),
    /// Bytes in base64.
    Base64,
    /// True or false.
    Flag,
    /// A whole number.
    Number {
        /// The smallest allowed.
        least: i64,
        /// The largest allowed.
        most: i64,
    },
    /// A number that may have a fraction.
    Decimal {
        /// The smallest allowed.
        least: f64,
        /// The largest allowed.
        most: f64,
    },
    /// A duration.
    Duration {
        /// The shortest allowed.
        least: Duration,
    },
    /// One of these names.
    Choice(Vec<String>),
}

/// A mapping with known fields.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Object {
    /// The fields, in the order in which they are read.
    pub fields: Vec<Field>,
    /// Whether others may stand beside them that nobody looks at, as in a Pod.
    pub open: bool,
}

/// A field of a mapping.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// Its name, in camelCase; snake_case is read too.
    pub name: String,
    /// What may stand in it.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// What becomes of it.
    pub support: Support,
    /// What to write instead of a field that Istio has deprecated.
    pub deprecated: Option<String>,
}

/// What becomes of a field that is written. Of two that a reader says, the later in this order counts: it checks what has
/// no effect, too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Support {
    /// It is known, and is somebody else's: Kubernetes', most of the time.
    PassedOver,
    /// It is obeyed.
    Obeyed,
    /// A warning says that it has no effect, and why.
    NoEffect(String),
    /// An error says why it must not be left out.
    Refused(String),
}

impl Field {
    pub(crate) fn new(name: &str, support: Support) -> Self {
        Self { name: name.to_owned(), shape: Shape::Any, required: false, support, deprecated: None }
    }

    /// Returns the field `name` in which a reader read a `shape`.
    pub(crate) fn read(name: &str, shape: Shape) -> Self {
        Self { shape, ..Self::new(name, Support::Obeyed) }
    }

    pub(crate) fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub(crate) fn deprecated(self, instead: &str) -> Self {
        Self { deprecated: Some(instead.to_owned()), ..self }
    }

    /// Adds what another reader, or the same one later, says of this field.
    fn merge(&mut self, other: Self) {
        self.shape.merge(other.shape);
        self.required |= other.required;
        self.deprecated = self.deprecated.take().or(other.deprecated);
        if self.support < other.support {
            self.support = other.support;
        }
    }
}

impl Object {
    pub(crate) fn of(fields: Vec<Field>) -> Self {
        Self { fields, open: true }
    }

    /// One reader that reports what it does not know is enough to close the mapping.
    fn merge(&mut self, other: Self) {
        self.open &= other.open;
        for other in other.fields {
            match self.fields.iter_mut().find(|field| field.name == other.name) {
                Some(field) => field.merge(other),
                None => self.fields.push(other),
            }
        }
    }
}

impl Shape {
    /// Adds what another reader, or the same one later, says of the same place. A reader of numbers reads a text first:
    /// whoever knows more is right.
    pub(crate) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Object(object), Self::Object(other)) => object.merge(other),
            (Self::List(item), Self::List(other))
            | (Self::Map(item), Self::Map(other))
            | (Self::Document(item), Self::Document(other)) => item.merge(*other),
            (known @ (Self::Any | Self::Text), other) => {
                if !matches!(other, Self::Any) {
                    *known = other;
                }
            }
            (_, _) => {}
        }
    }

    /// Returns the mapping with known fields that this is, or that is within its items or values, and what the paths of
    /// its fields begin with.
    pub fn within(&self) -> Option<(String, &Object)> {
        match self {
            Self::Object(object) => Some((String::new(), object)),
            Self::List(item) => item.within().map(|(path, object)| (format!("[]{path}"), object)),
            Self::Map(value) => value.within().map(|(path, object)| (format!("{{}}{path}"), object)),
            Self::Document(inner) => inner.within(),
            _ => None,
        }
    }
}

/// Adds `fields` and those within them to `found`, each with its path behind `prefix`.
pub(super) fn collect<'s>(prefix: &str, fields: &'s [Field], found: &mut Vec<(String, &'s Field)>) {
    for field in fields {
        let path = if prefix.is_empty() { field.name.clone() } else { format!("{prefix}.{}", field.name) };
        found.push((path.clone(), field));
        if let Some((steps, object)) = field.shape.within() {
            collect(&(path + &steps), &object.fields, found);
        }
    }
}

/// In words, as the documentation has them.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Object(_) => f.write_str("object"),
            Self::List(item) => write!(f, "list of {item}"),
            Self::Map(value) => write!(f, "mapping to {value}"),
            Self::Document(inner) => write!(f, "text that holds YAML: {inner}"),
            Self::Text => f.write_str("text"),
            Self::Name => f.write_str("text, not empty"),
            Self::Parsed(expected) => f.write_str(expected),
            Self::Base64 => f.write_str("base64"),
            Self::Flag => f.write_str("true or false"),
            Self::Number { least, most } if *most >= u32::MAX.into() => {
                write!(f, "whole number, from {least}")
            }
            Self::Number { least, most } => write!(f, "whole number, {least} to {most}"),
            Self::Decimal { least, most } if *most >= f64::MAX => write!(f, "number, from {least}"),
            Self::Decimal { least, most } => write!(f, "number, {least} to {most}"),
            Self::Duration { least } if least.is_zero() => f.write_str("duration"),
            Self::Duration { least } => write!(f, "duration, at least {least:?}"),
            Self::Choice(names) if names.len() == 1 => f.write_str(&names.join("")),
            Self::Choice(names) => write!(f, "one of {}", names.join(", ")),
        }
    }
}
