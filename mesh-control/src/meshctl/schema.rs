//! `meshctl schema`: what may stand in a file, said by the code that reads it.

use super::args::SchemaArgs;
use mesh_core::config::{Kind, UnknownKind, schema::Schema};
use std::io::Write as _;

pub(crate) fn run(args: &SchemaArgs, json: bool) -> Result<(), String> {
    let text = match (&args.kind, args.list) {
        (Some(kind), _) => {
            let kind: Kind = kind.parse().map_err(unknown)?;
            format!("{:#}\n", Schema::of(kind).to_json_schema())
        }
        (None, false) => format!("{:#}\n", Schema::any_document()),
        (None, true) if json => format!("{:#}\n", list_as_json()),
        (None, true) => list_as_text(),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("writing the schema: {error}"))
}

fn unknown(error: UnknownKind) -> String {
    format!("{error}; `meshctl schema --list` names them all")
}

fn list_as_json() -> serde_json::Value {
    let rows = Kind::ALL.map(Schema::of);
    rows.iter()
        .map(|schema| serde_json::json!({"kind": schema.kind.as_str(), "apiVersions": schema.api_versions}))
        .collect()
}

fn list_as_text() -> String {
    let row = |schema: Schema| format!("{:<22} {}\n", schema.kind.as_str(), schema.api_versions.join(", "));
    Kind::ALL.map(Schema::of).into_iter().map(row).collect()
}
