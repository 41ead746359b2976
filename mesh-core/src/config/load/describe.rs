//! The schema of a kind: its readers, run over a blank.

use super::{
    kinds::api_versions,
    malformed,
    metadata::Metadata,
    object::{check_envelope, read_spec},
};
use crate::config::{
    decode::{Blank, Decoder},
    resource::{Kind, ResourceKey},
    schema::{Field, Schema, Shape},
};

impl Schema {
    /// Returns what the readers of `kind` say of it.
    pub fn of(kind: Kind) -> Self {
        let fields = match described(kind) {
            Shape::Object(object) => object.fields,
            _ => Vec::new(),
        };
        let fields = fields.into_iter().filter(|field| field.name != malformed::MARKER);
        Self {
            kind,
            api_versions: api_versions(kind),
            fields: fields.map(|field| in_full(field, kind)).collect(),
        }
    }
}

/// Returns what everything that reads an object of `kind` says of it.
fn described(kind: Kind) -> Shape {
    let blank = Blank::new();
    let mut decoder = Decoder::describing(&blank);
    let node = blank.node();
    check_envelope(&mut decoder, node, kind);
    Metadata::read(&mut decoder, node, kind, "default");
    let key = ResourceKey::new(kind.as_str(), "default", "default");
    read_spec(&mut decoder, node, node, kind, &key);
    decoder.described()
}

/// Adds what the loader asks of the envelope before any reader runs.
fn in_full(field: Field, kind: Kind) -> Field {
    let choice = |names: &[&str]| Shape::Choice(names.iter().map(|name| (*name).to_owned()).collect());
    match field.name.as_str() {
        "apiVersion" => Field::read("apiVersion", choice(api_versions(kind))).required(),
        "kind" => Field::read("kind", choice(&[kind.as_str()])).required(),
        // Without it, the fields that it must have would be missing.
        "metadata" | "spec" => Field { required: requires_a_field(&field.shape), ..field },
        _ => field,
    }
}

fn requires_a_field(shape: &Shape) -> bool {
    matches!(shape, Shape::Object(object) if object.fields.iter().any(|field| field.required))
}
