//! A schema as JSON Schema, from which editors complete, and by which they underline.
// spec: json-schema draft 2020-12

use super::{Field, Schema, Shape, Support};
use crate::config::resource::Kind;
use serde_json::{Map, Value, json};
use std::time::Duration;

impl Schema {
    /// Returns the JSON Schema (draft 2020-12) of an object of this kind.
    ///
    /// It takes what the readers take, which is more than Kubernetes does: a number for a text, a quoted number for a
    /// number. It knows only the camelCase name of a field, and judges each field by itself.
    pub fn to_json_schema(&self) -> Value {
        let mut schema = of_object(&self.fields, false, false);
        schema.insert("$schema".to_owned(), DRAFT.into());
        schema.insert("$id".to_owned(), format!("urn:mesh:{}", self.kind).into());
        schema.insert("title".to_owned(), self.kind.as_str().into());
        schema.insert("description".to_owned(), NOTE.into());
        Value::Object(schema)
    }

    /// Returns the JSON Schema of any document that the loader reads: an object of any kind, or a list of objects. Kinds
    /// that are not read may say what they like.
    pub fn any_document() -> Value {
        let kinds = Kind::ALL.map(Kind::as_str);
        let of_kind = |kind| json!({"if": is_of(kind), "then": Self::of(kind).body()});
        let mut all: Vec<_> = Kind::ALL.into_iter().map(of_kind).collect();
        all.push(json!({
            "if": {"type": "object", "required": ["items"], "properties": {"kind": {"pattern": "List$"}}},
            "then": {"properties": {"items": {"type": "array", "items": {"$ref": "#"}}}},
        }));
        json!({
            "$schema": DRAFT,
            "$id": "urn:mesh:any",
            "title": "Configuration of the mesh",
            "description": NOTE,
            "type": ["object", "array"],
            "items": {"$ref": "#"},
            "properties": {"kind": {"anyOf": [{"enum": kinds}, {"type": "string"}]}},
            "allOf": all,
        })
    }

    fn body(&self) -> Value {
        let mut schema = of_object(&self.fields, false, false);
        schema.insert("title".to_owned(), self.kind.as_str().into());
        Value::Object(schema)
    }
}

/// Returns the condition that an object is the one of `kind` that is read: others have kinds of that name too.
fn is_of(kind: Kind) -> Value {
    let groups = Schema::of(kind).api_versions.iter().map(|version| match version.split_once('/') {
        Some((group, _)) => format!("^{}/", group.replace('.', "\\.")),
        None => "^[^/]*$".to_owned(),
    });
    let mut groups: Vec<_> = groups.collect();
    groups.dedup();
    let mut properties =
        json!({"kind": {"const": kind.as_str()}, "apiVersion": {"pattern": groups.join("|")}});
    let mut required = vec!["kind"];
    if kind == Kind::ConfigMap {
        properties["metadata"] = json!({"required": ["name"], "properties": {"name": {"const": "istio"}}});
        required.push("metadata");
    }
    json!({"type": "object", "required": required, "properties": properties})
}

fn of_object(fields: &[Field], open: bool, nullable: bool) -> Map<String, Value> {
    let properties = fields.iter().map(|field| (field.name.clone(), of_field(field))).collect();
    let required: Vec<_> =
        fields.iter().filter(|field| field.required).map(|field| field.name.as_str()).collect();
    let mut schema = typed(&["object"], nullable);
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("additionalProperties".to_owned(), open.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema
}

fn of_field(field: &Field) -> Value {
    let mut schema = match &field.support {
        // Null is as good as absent.
        Support::Refused(_) => typed(&[], true),
        _ => of_shape(&field.shape, !field.required),
    };
    let mut said = Vec::new();
    match &field.support {
        Support::Refused(why) => said.push(format!("refused: {why}")),
        Support::NoEffect(why) => said.push(format!("no effect here: {why}")),
        Support::PassedOver => said.push("says nothing to the mesh".to_owned()),
        Support::Obeyed => said.extend(in_words(&field.shape)),
    }
    if let Some(instead) = &field.deprecated {
        said.push(format!("deprecated: write `{instead}`"));
        schema.insert("deprecated".to_owned(), true.into());
    }
    if !said.is_empty() {
        schema.insert("description".to_owned(), said.join("; ").into());
    }
    Value::Object(schema)
}

/// Returns what the keywords do not say.
fn in_words(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Parsed(_) | Shape::Duration { .. } => Some(shape.to_string()),
        _ => None,
    }
}

fn of_shape(shape: &Shape, nullable: bool) -> Map<String, Value> {
    let (types, rest): (&[&str], Value) = match shape {
        Shape::Any => return Map::new(),
        Shape::Object(object) => return of_object(&object.fields, object.open, nullable),
        Shape::Choice(names) => return of_choice(names, nullable),
        Shape::List(item) => (&["array"], json!({"items": of_shape(item, false)})),
        Shape::Map(value) => (&["object"], json!({"additionalProperties": of_shape(value, true)})),
        Shape::Document(inner) => (
            &["string"],
            json!({"contentMediaType": "application/yaml", "contentSchema": of_shape(inner, true)}),
        ),
        Shape::Text => (SCALAR, json!({})),
        Shape::Name | Shape::Parsed(_) => (SCALAR, json!({"minLength": 1})),
        Shape::Base64 => (&["string"], json!({"contentEncoding": "base64"})),
        Shape::Flag => (&["boolean", "string"], json!({"pattern": FLAG})),
        Shape::Number { least, most } => {
            (&["integer", "string"], json!({"minimum": least, "maximum": most, "pattern": NUMBER}))
        }
        Shape::Decimal { least, most } if *most >= f64::MAX => {
            (&["number", "string"], json!({"minimum": least, "pattern": DECIMAL}))
        }
        Shape::Decimal { least, most } => {
            (&["number", "string"], json!({"minimum": least, "maximum": most, "pattern": DECIMAL}))
        }
        Shape::Duration { least: Duration::ZERO } => {
            (&["string", "integer"], json!({"pattern": DURATION, "minimum": 0, "maximum": 0}))
        }
        Shape::Duration { .. } => (&["string"], json!({"pattern": DURATION})),
    };
    let mut schema = typed(types, nullable);
    if let Value::Object(rest) = rest {
        schema.extend(rest);
    }
    schema
}

fn of_choice(names: &[String], nullable: bool) -> Map<String, Value> {
    let null = nullable.then_some(Value::Null);
    let names: Vec<_> = names.iter().map(|name| Value::from(name.as_str())).chain(null).collect();
    Map::from_iter([match &names[..] {
        [only] => ("const".to_owned(), only.clone()),
        _ => ("enum".to_owned(), names.into()),
    }])
}

fn typed(types: &[&str], nullable: bool) -> Map<String, Value> {
    let null = nullable.then_some("null");
    let types: Vec<_> = types.iter().copied().chain(null).collect();
    let types = match types[..] {
        [only] => only.into(),
        _ => Value::from(types),
    };
    Map::from_iter([("type".to_owned(), types)])
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

const NOTE: &str = "Generated from the code that reads it: what the mesh obeys, what has no effect in it, and what it \
                    refuses. Fields may be written in snake_case too, which is not completed here.";

/// Texts are taken as they are written: `1.10` is a text too.
const SCALAR: &[&str] = &["string", "number", "boolean"];

const FLAG: &str = "^(true|True|TRUE|false|False|FALSE)$";

const NUMBER: &str = "^([+-]?[0-9]+|0x[0-9A-Fa-f]+|0o[0-7]+)$";

const DECIMAL: &str = "^[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?$";

const DURATION: &str = "^\\+?(0|(([0-9]+\\.?[0-9]*|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_says_what_becomes_of_it() {
        let flag = |support| Field { shape: Shape::Flag, ..Field::new("a", support) };
        for (field, keyword, said) in [
            (flag(Support::Obeyed).deprecated("b"), "deprecated", json!(true)),
            (flag(Support::Obeyed).deprecated("b"), "description", json!("deprecated: write `b`")),
            (flag(Support::Obeyed), "type", json!(["boolean", "string", "null"])),
            (flag(Support::Obeyed).required(), "type", json!(["boolean", "string"])),
            (flag(Support::Obeyed), "description", Value::Null),
            (flag(Support::NoEffect("why".into())), "description", json!("no effect here: why")),
            (flag(Support::NoEffect("why".into())), "type", json!(["boolean", "string", "null"])),
            (flag(Support::Refused("why".into())), "description", json!("refused: why")),
            (flag(Support::Refused("why".into())), "type", json!("null")),
            (flag(Support::PassedOver), "description", json!("says nothing to the mesh")),
        ] {
            assert_eq!(of_field(&field)[keyword], said, "{field:?}");
        }
    }
}
