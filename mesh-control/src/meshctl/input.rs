//! The configuration that a command was pointed at.

use mesh_core::{
    config::{Diagnostic, Options, SourceFile},
    identity::TrustDomain,
    snapshot::MeshSettings,
};
use mesh_runtime::config::read_files;
use std::path::{Path, PathBuf};

/// Reads the files named and those in the directories named.
///
/// A path that does not exist is a usage error; what stands in a file is a finding.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>, String> {
    for path in paths {
        std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(read_files(paths))
}

/// The settings of a mesh, as a file of its own says.
pub(crate) struct Settings {
    pub(crate) settings: MeshSettings,
    pub(crate) file: Option<SourceFile>,
    pub(crate) findings: Vec<Diagnostic>,
}

impl Settings {
    /// Reads the MeshConfig in `file`; without one, they are Istio's defaults.
    pub(crate) fn read(file: Option<&Path>, options: &Options) -> Result<Self, String> {
        let Some(path) = file else {
            let settings = MeshSettings::new(TrustDomain::cluster_local());
            return Ok(Self { settings, file: None, findings: Vec::new() });
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let (settings, findings) = MeshSettings::of_file(&name, &text, options);
        Ok(Self { settings, file: Some(SourceFile { name, text: Ok(text) }), findings })
    }
}
