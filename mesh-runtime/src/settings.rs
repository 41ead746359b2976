//! What a workload is told about itself: by its environment, or by builder.

use crate::identity::IdentityFiles;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

/// The settings of a workload. Every field has its environment variable, named at it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Settings {
    /// `MESH_CONTROL`: the URL of the control endpoint.
    pub control: Option<String>,
    /// `MESH_JOIN_TOKEN`: a join token.
    pub join_token: Option<crate::control::JoinToken>,
    /// `MESH_NAMESPACE`. Default `default`.
    pub namespace: String,
    /// `MESH_SERVICE`.
    pub service: String,
    /// `MESH_SERVICE_ACCOUNT`. Default: the service.
    pub service_account: String,
    /// `MESH_SERVICE_PORT`: the port by which callers know the service. Default 80.
    pub service_port: u16,
    /// `MESH_LABELS`: `version=v1,…`. `app` defaults to the service.
    pub labels: BTreeMap<String, String>,
    /// `MESH_ADVERTISE`: the address others dial. Default: the listen address.
    pub advertise: Option<String>,
    /// `MESH_LOCALITY`: `region/zone/subzone`.
    pub locality: String,
    /// `MESH_CACHE_DIR`: where the last good state is kept.
    pub cache_dir: Option<PathBuf>,
    /// `MESH_ADMIN`: address of the admin listener; off when unset.
    pub admin: Option<SocketAddr>,
    /// `MESH_CONFIG`: files or directories instead of a control endpoint.
    pub config: Vec<PathBuf>,
    /// `MESH_CERT`, `MESH_KEY`, `MESH_BUNDLES`: identity from files.
    pub identity_files: Option<IdentityFiles>,
    /// Trust domain; from the control endpoint or the certificate where not set. Default `cluster.local`.
    pub trust_domain: Option<String>,
}

/// A setting that does not read. Says which variable, its value, and what it should look like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {why}")]
pub struct SettingsError {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong and what to write.
    pub why: String,
}

impl Settings {
    /// Returns the defaults for a workload of `service`.
    pub fn for_service(service: impl Into<String>) -> Self {
        let service = service.into();
        Self {
            namespace: "default".to_owned(),
            service_account: service.clone(),
            labels: BTreeMap::from([("app".to_owned(), service.clone())]),
            service,
            service_port: 80,
            ..Self::default()
        }
    }

    /// Reads the settings from `variable`, which is `std::env::var` in a process and a table in a test.
    ///
    /// # Errors
    ///
    /// Returns the first variable that does not read.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let _ = variable;
        todo!()
    }
}
