//! `meshctl check`: one line per fact about the mesh, with what to do about it; or whom a switch to STRICT would cut off.

mod facts;
mod strict;
mod text;

use super::{args::CheckArgs, status};
use std::io::Write as _;

/// Returns whether all is well.
pub(crate) fn run(args: &CheckArgs, json: bool) -> Result<bool, String> {
    let wanted = strict::Wanted::read(args)?;
    let status = status::ask(&args.endpoint)?;
    let (is_well, shown) = if args.strict {
        let outlook = strict::Outlook::of(&status, &wanted);
        (outlook.is_clear(), if json { written(&outlook)? } else { text::of_outlook(&outlook) })
    } else {
        let facts = facts::of(&status, &args.endpoint.control);
        let is_well = facts.iter().all(|fact| fact.ok);
        (is_well, if json { written(&facts)? } else { text::of_facts(&facts) })
    };
    std::io::stdout().write_all(shown.as_bytes()).map_err(|error| format!("writing the answer: {error}"))?;
    Ok(is_well)
}

fn written(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string(value).map(|text| text + "\n").map_err(|error| error.to_string())
}
