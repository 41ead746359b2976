//! The configuration that a command was pointed at.

use mesh_core::config::SourceFile;
use mesh_runtime::config::read_files;
use std::path::PathBuf;

/// Reads the files named and those in the directories named.
///
/// A path that does not exist is a usage error; what stands in a file is a finding.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>, String> {
    for path in paths {
        std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(read_files(paths))
}
