//! `meshctl rotate-root`.

use super::args::RotateRootArgs;
use mesh_control::{Rotation, rotate_root};
use std::{
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

pub(crate) fn run(args: &RotateRootArgs, json: bool) -> Result<(), String> {
    let rotation = rotate_root(&args.data, args.certificate_ttl).map_err(|error| error.to_string())?;
    let shown = if json { as_json(rotation) } else { text(rotation) };
    writeln!(std::io::stdout(), "{shown}").map_err(|error| format!("writing the answer: {error}"))
}

fn as_json(rotation: Rotation) -> String {
    let unix = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    serde_json::json!({"issuesFrom": unix(rotation.issues_from), "aloneFrom": unix(rotation.alone_from)})
        .to_string()
}

fn text(rotation: Rotation) -> String {
    let left = |time: SystemTime| time.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
    format!(
        "a new root is announced with every certificate from now on; it issues in {} s, and is alone in {} s: make new \
         join tokens then",
        left(rotation.issues_from),
        left(rotation.alone_from)
    )
}
