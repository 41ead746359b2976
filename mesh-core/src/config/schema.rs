//! What may stand in an object, as its readers say; there is no second source that could say otherwise.
//!
//! A [`Schema`] is what an editor completes from ([`Schema::to_json_schema`]) and what the documentation of the fields is
//! made of ([`Schema::fields`]).

mod json;
mod shape;

pub use shape::{Field, Object, Shape, Support};

use super::resource::Kind;

/// What may stand in an object of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// The kind.
    pub kind: Kind,
    /// The API versions under which it is read; the first is the one to write.
    pub api_versions: &'static [&'static str],
    /// The fields of the whole object: `apiVersion`, `kind`, `metadata`, and what it says.
    pub fields: Vec<Field>,
}

impl Schema {
    /// Returns every field with its path, as in `spec.http[].route[].weight`: `[]` is an item, `{}` a value under a free
    /// key. A field comes before those within it.
    ///
    /// ```
    /// # use mesh_core::config::{Kind, schema::Schema};
    /// let schema = Schema::of(Kind::VirtualService);
    /// let weight = schema.fields().find(|(path, _)| path == "spec.http[].route[].weight");
    /// assert_eq!(weight.unwrap().1.shape.to_string(), "whole number, 0 to 2147483647");
    /// ```
    pub fn fields(&self) -> impl Iterator<Item = (String, &Field)> {
        let mut found = Vec::new();
        shape::collect("", &self.fields, &mut found);
        found.into_iter()
    }
}
