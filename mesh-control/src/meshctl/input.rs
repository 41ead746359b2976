//! The configuration that a command was pointed at.

use mesh_core::{
    config::{Diagnostic, Options, SourceFile, Spec, load::mesh_config_file},
    identity::TrustDomain,
    snapshot::MeshSettings,
};
use mesh_runtime::config::read_files;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

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
        let default = MeshSettings::new(TrustDomain::cluster_local());
        let Some(path) = file else {
            return Ok(Self { settings: default, file: None, findings: Vec::new() });
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let loaded = mesh_config_file(&name, &text, options);
        let configs = loaded.resources.iter().filter_map(|resource| match &resource.spec {
            Spec::MeshConfig(config) => config.trust_domain.as_ref(),
            _ => None,
        });
        let domain = configs.map(|domain| domain.value.clone()).next();
        let own = domain.map_or(default, MeshSettings::new);
        let resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
        let (settings, found) = own.of(&resources);
        let findings = loaded.diagnostics.into_iter().chain(found).collect();
        Ok(Self { settings, file: Some(SourceFile { name, text: Ok(text) }), findings })
    }
}
