//! What the performance lab tells a process by its environment (`LAB_*`), and how that becomes a workload.

use mesh::{Mesh, core::identity::SpiffeId};
use std::{
    env,
    error::Error,
    io::{IsTerminal, Write},
};
use tempfile::NamedTempFile;
use tracing_subscriber::EnvFilter;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Returns the variable, or says that it is missing.
pub(crate) fn variable(name: &str) -> Result<String, BoxError> {
    env::var(name).map_err(|_| format!("{name} is not set").into())
}

/// Returns the SPIFFE ID in the variable.
pub(crate) fn identity(name: &str) -> Result<SpiffeId, BoxError> {
    let text = variable(name)?;
    text.parse().map_err(|error| format!("{name} is {text:?}: {error}").into())
}

/// Returns namespace and service account of `id`, which the variable `name` holds.
pub(crate) fn account<'a>(name: &str, id: &'a SpiffeId) -> Result<(&'a str, &'a str), BoxError> {
    id.account().ok_or_else(|| format!("{name} is {id}; write spiffe://TRUST-DOMAIN/ns/NS/sa/SA").into())
}

/// Returns a runtime with as many threads as the lab asks for.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, BoxError> {
    let workers = env::var("LAB_WORKERS").map_or(Ok(2), |workers| workers.parse())?;
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?)
}

/// Starts the workload that `LAB_ID` names, with the identity in the lab's files and `resources` as its configuration.
/// The configuration is a file that is watched, and gone when it is dropped.
pub(crate) async fn start(
    service: &str,
    version: Option<&str>,
    resources: &str,
) -> Result<(Mesh, NamedTempFile), BoxError> {
    let id = identity("LAB_ID")?;
    let (namespace, account) = account("LAB_ID", &id)?;
    let mut config = NamedTempFile::with_suffix(".yaml")?;
    config.write_all(resources.as_bytes())?;
    let mut builder = Mesh::builder(service)
        .namespace(namespace)
        .service_account(account)
        .trust_domain(id.trust_domain())
        .identity_files(variable("LAB_CERT")?, variable("LAB_KEY")?)
        .bundle(id.trust_domain(), variable("LAB_CA")?)
        .config(config.path());
    if let Some(version) = version {
        builder = builder.version(version);
    }
    let mesh = builder.start().await?;
    mesh.ready().await;
    Ok((mesh, config))
}

/// Writes the log to stderr; `RUST_LOG` chooses what, by default warnings.
pub(crate) fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
}
