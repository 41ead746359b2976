//! The certificates of an edge: read from PEM files, in force for each server of a Gateway, and read again when the files
//! or the Gateway change.
//!
//! Who may come in by them is a Gateway's word; who listens is `mesh_server`'s.

mod credential;
mod verifier;

use crate::Workload;
use arc_swap::ArcSwap;
use credential::{Credential, Fingerprint};
use mesh_core::config::istio::{Gateway, Server, ServerTls};
use rustls::ServerConfig;
use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

/// The TLS configurations of the servers of the Gateway that a workload enforces.
pub struct EdgeCertificates {
    /// By the name of the server's port.
    in_force: ArcSwap<HashMap<String, Held>>,
    directory: Option<PathBuf>,
}

/// What one server ends TLS with.
#[derive(Clone)]
struct Held {
    /// What the Gateway said when it was read.
    tls: ServerTls,
    fingerprint: Fingerprint,
    /// `None` if the files have never read for this `tls`.
    config: Option<Arc<ServerConfig>>,
}

impl EdgeCertificates {
    /// Reads the certificates of the Gateway in force at `workload`, and keeps them current for as long as the result is
    /// held: looks at the files every second. A `credentialName` is looked for in `directory`, as `NAME.crt` and
    /// `NAME.key`, with the authorities for clients in `NAME.ca`; or as `NAME/tls.crt`, `NAME/tls.key` and `NAME/ca.crt`.
    ///
    /// A server whose files do not read is logged; it goes on with what it had, and without that refuses every handshake.
    /// It must be called in a tokio runtime.
    pub async fn watch(workload: &Workload, directory: Option<PathBuf>) -> Arc<Self> {
        let certificates = Arc::new(Self { in_force: ArcSwap::default(), directory });
        let config = Arc::clone(workload.config());
        look(&certificates, config.current().gateway().cloned()).await;
        let mut changed = config.subscribe();
        let (watched, config) = (Arc::downgrade(&certificates), Arc::downgrade(&config));
        drop(tokio::spawn(async move {
            loop {
                // An error is a workload that is gone.
                if let Ok(Err(_)) = tokio::time::timeout(POLL, changed.changed()).await {
                    return;
                }
                let (Some(certificates), Some(config)) = (Weak::upgrade(&watched), Weak::upgrade(&config))
                else {
                    return;
                };
                look(&certificates, config.current().gateway().cloned()).await;
            }
        }));
        certificates
    }

    /// Returns what `server` ends TLS with; `None` if it has no certificate that reads.
    pub fn config(&self, server: &Server) -> Option<Arc<ServerConfig>> {
        let held = self.in_force.load();
        let held = held.get(&server.port.name)?;
        // Not the certificate, and above all not the demands, of what the server was before.
        let is_meant = server.tls.as_ref().is_some_and(|tls| tls.is_like(&held.tls));
        if is_meant { held.config.clone() } else { None }
    }

    fn look(&self, gateway: &Gateway) {
        let before = self.in_force.load_full();
        let secure = gateway.servers.iter().filter_map(|server| Some((server, server.ends_tls()?)));
        let now = secure.map(|(server, tls)| {
            let name = &server.port.name;
            (name.clone(), self.held(name, tls, before.get(name)))
        });
        self.in_force.store(Arc::new(now.collect()));
    }

    fn held(&self, name: &str, tls: &ServerTls, before: Option<&Held>) -> Held {
        let before = before.filter(|held| held.tls.is_like(tls));
        let credential = Credential::read(tls, self.directory.as_deref());
        let fingerprint = Fingerprint::of(&credential);
        if let Some(before) = before.filter(|held| held.fingerprint == fingerprint) {
            return before.clone();
        }
        let config = match credential.and_then(|credential| credential.config(tls)) {
            Ok(config) => {
                tracing::info!(server = name, "certificate read from files");
                Some(Arc::new(config))
            }
            Err(why) => {
                let kept = before.and_then(|held| held.config.clone());
                let instead =
                    if kept.is_some() { "the old one stays in force" } else { "nobody gets in there" };
                tracing::error!(server = name, "the certificate does not read, {instead}: {why}");
                kept
            }
        };
        Held { tls: tls.clone(), fingerprint, config }
    }
}

/// Looks at the files on a thread that may wait for the disk.
async fn look(certificates: &Arc<EdgeCertificates>, gateway: Option<Arc<Gateway>>) {
    let (certificates, gateway) = (Arc::clone(certificates), gateway.unwrap_or_default());
    // A panic of the reader, which is not expected, is one look missed.
    let _ = tokio::task::spawn_blocking(move || certificates.look(&gateway)).await;
}

impl fmt::Debug for EdgeCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.in_force.load().keys().cloned().collect();
        f.debug_struct("EdgeCertificates").field("servers", &names).finish_non_exhaustive()
    }
}

/// Three small reads a second and server are nothing, and a certificate is renewed weeks before its end.
const POLL: Duration = Duration::from_secs(1);
