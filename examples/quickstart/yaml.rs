//! The configuration as a team would have written it for Istio, and the edits of the story.

use std::{io, path::Path};

/// The share of the calls that each version of payment gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) v1: u32,
    pub(crate) v2: u32,
}

const TEMPLATE: &str = include_str!("../../docs/mesh.yaml");

/// Returns the configuration with this split.
pub(crate) fn with(split: Split) -> String {
    TEMPLATE
        .replace("subset: v1}\n      weight: 90", &format!("subset: v1}}\n      weight: {}", split.v1))
        .replace("subset: v2}\n      weight: 10", &format!("subset: v2}}\n      weight: {}", split.v2))
}

/// Returns the configuration with a mistake in it: a subset that no DestinationRule defines.
pub(crate) fn broken(split: Split) -> String {
    with(split).replace("subset: v2}", "subset: v3}")
}

/// Puts `text` in the place of the file at `path`, all at once, as an editor saves.
pub(crate) fn save(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("yaml.new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}
