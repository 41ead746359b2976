//! Objects made up from a schema.

use mesh_core::{
    config::schema::{Field, Schema, Shape, Support},
    dice::{Dice as _, Seeded},
};
use serde_json::{Map, Value, json};

/// Makes up values, the same for the same seed.
pub(crate) struct Example {
    dice: Seeded,
}

/// The name of a field that nobody knows, far from every one that somebody does.
pub(crate) const UNKNOWN: &str = "qqqqqqqqqqqqqqqqqqqq";

impl Example {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Seeded::new(seed) }
    }

    /// Returns an object of which about half of the fields are written, and none that would be refused.
    pub(crate) fn object(&mut self, schema: &Schema) -> Value {
        let mut object = self.fields(&schema.fields);
        // The mesh's own ConfigMap is known by its name, and a name must be one.
        let name = if schema.kind.as_str() == "ConfigMap" { "istio" } else { "default" };
        object["metadata"]["name"] = name.into();
        object["metadata"]["namespace"] = "default".into();
        object
    }

    fn fields(&mut self, fields: &[Field]) -> Value {
        let mut object = Map::new();
        for field in fields {
            let written = match field.support {
                Support::Refused(_) => false,
                Support::Obeyed => field.required || self.dice.below(2) == 0,
                _ => field.required || self.dice.below(8) == 0,
            };
            if written {
                object.insert(field.name.clone(), self.value(&field.shape));
            }
        }
        Value::Object(object)
    }

    fn value(&mut self, shape: &Shape) -> Value {
        match shape {
            Shape::Object(object) => self.fields(&object.fields),
            Shape::List(item) => (0..=self.dice.below(2)).map(|_| self.value(item)).collect(),
            Shape::Map(value) => json!({"80": self.value(value)}),
            Shape::Document(inner) => self.value(inner).to_string().into(),
            Shape::Text => self.one_of(&[json!("a"), json!(""), json!(1.5), json!(true)]),
            Shape::Name => self.one_of(&[json!("a"), json!("*"), json!(7)]),
            Shape::Base64 => json!("YQ=="),
            Shape::Flag => self.one_of(&[json!(true), json!(false), json!("true")]),
            Shape::Number { least, most } => {
                self.one_of(&[json!(least), json!(most), json!((*least).max(1)), json!(least.to_string())])
            }
            Shape::Decimal { least, .. } => json!(least.max(1.0)),
            Shape::Duration { .. } => self.one_of(&[json!("1s"), json!("1m0.5s"), json!("250ms")]),
            Shape::Choice(names) => {
                let names: Vec<_> = names.iter().map(|name| json!(name)).collect();
                self.one_of(&names)
            }
            _ => json!("a"),
        }
    }

    fn one_of(&mut self, values: &[Value]) -> Value {
        values[self.dice.below(values.len() as u64) as usize].clone()
    }
}

/// A mapping of an object, and what the schema says of it.
pub(crate) struct Known {
    /// The JSON pointer to it.
    pub(crate) pointer: String,
    /// The fields that are known there.
    pub(crate) fields: Vec<String>,
    /// Whether others may stand beside them.
    pub(crate) open: bool,
}

/// Adds a field that nobody knows to one of the mappings of `object`, and returns to which.
pub(crate) fn add_unknown_field(object: &mut Value, schema: &Schema, seed: u64) -> Known {
    let mut mappings = Vec::new();
    known_fields("", object, &schema.fields, false, &mut mappings);
    let chosen = Seeded::new(seed).below(mappings.len() as u64) as usize;
    let known = mappings.swap_remove(chosen);
    if let Some(Value::Object(fields)) = object.pointer_mut(&known.pointer) {
        fields.insert(UNKNOWN.to_owned(), json!(1));
    }
    known
}

/// Collects the mappings in `value` that have known fields.
fn known_fields(pointer: &str, value: &Value, fields: &[Field], open: bool, found: &mut Vec<Known>) {
    let names = fields.iter().map(|field| field.name.clone()).collect();
    found.push(Known { pointer: pointer.to_owned(), fields: names, open });
    for field in fields {
        if let Some(inner) = value.get(&field.name) {
            known_within(&format!("{pointer}/{}", field.name), inner, &field.shape, found);
        }
    }
}

fn known_within(pointer: &str, value: &Value, shape: &Shape, found: &mut Vec<Known>) {
    match (shape, value) {
        (Shape::Object(object), _) => known_fields(pointer, value, &object.fields, object.open, found),
        (Shape::List(item), Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                known_within(&format!("{pointer}/{index}"), value, item, found);
            }
        }
        (Shape::Map(inner), Value::Object(entries)) => {
            for (key, value) in entries {
                known_within(&format!("{pointer}/{key}"), value, inner, found);
            }
        }
        _ => {}
    }
}

/// Replaces one of the values within `object`, but what makes it the object that it is.
pub(crate) fn replace_a_value(object: &mut Value, by: Value, seed: u64) {
    let mut places = Vec::new();
    values("", object, &mut places);
    places.retain(|place| !matches!(place.as_str(), "/kind" | "/metadata" | "/metadata/name"));
    let chosen = Seeded::new(seed).below(places.len() as u64) as usize;
    if let Some(value) = object.pointer_mut(&places[chosen]) {
        *value = by;
    }
}

/// Collects the JSON pointers of the values within `value`.
fn values(pointer: &str, value: &Value, found: &mut Vec<String>) {
    let mut add = |step: &str, value: &Value| {
        let pointer = format!("{pointer}/{step}");
        values(&pointer, value, found);
        found.push(pointer);
    };
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| add(&index.to_string(), value))
        }
        Value::Object(fields) => fields.iter().for_each(|(name, value)| add(name, value)),
        _ => {}
    }
}
