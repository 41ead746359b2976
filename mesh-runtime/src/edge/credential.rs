//! The files of one server, and what rustls makes of them.

use super::verifier::Named;
use crate::{
    crypto,
    identity::pem::{certificates, private_key},
};
use mesh_core::config::istio::{ServerTls, ServerTlsMode, TlsVersion};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// The content of a server's files.
pub(super) struct Credential {
    chain: Text,
    key: Text,
    /// Who vouches for clients, where they are asked for a certificate.
    authorities: Option<Text>,
}

/// A file, as it read.
struct Text {
    path: PathBuf,
    text: Zeroizing<String>,
}

/// Stands for the content of the files, or for the way in which they could not be read; keeps no key in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(read: &Result<Credential, String>) -> Self {
        let mut content = Vec::new();
        match read {
            Ok(Credential { chain, key, authorities }) => {
                for file in [chain, key].into_iter().chain(authorities) {
                    content.extend_from_slice(&crypto::sha256(file.text.as_bytes()));
                }
            }
            Err(why) => content.extend_from_slice(why.as_bytes()),
        }
        Self(crypto::sha256(&content))
    }
}

impl Credential {
    /// Reads the files that `tls` names, or that `directory` holds under the name it names.
    ///
    /// # Errors
    ///
    /// Returns which file is missing or does not read.
    pub(super) fn read(tls: &ServerTls, directory: Option<&Path>) -> Result<Self, String> {
        let asks = tls.mode != ServerTlsMode::Simple;
        if let Some(name) = &tls.credential_name {
            return Self::stored(name, directory.ok_or("no directory of credentials was given")?, asks);
        }
        let file = |field: &str, path: &Option<String>| {
            Text::read(path.as_ref().ok_or_else(|| format!("there is no `{field}`"))?.into())
        };
        Ok(Self {
            chain: file("serverCertificate", &tls.server_certificate)?,
            key: file("privateKey", &tls.private_key)?,
            authorities: asks.then(|| file("caCertificates", &tls.ca_certificates)).transpose()?,
        })
    }

    fn stored(name: &str, directory: &Path, asks: bool) -> Result<Self, String> {
        // Whoever writes a Gateway names a credential, not any file of this machine.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.starts_with('.') || !name.chars().all(is_plain) {
            return Err(format!("credentialName {name:?} is no name of a credential"));
        }
        let folder = directory.join(name);
        let [chain, key, authorities] = match folder.is_dir() {
            true => ["tls.crt", "tls.key", "ca.crt"].map(|file| folder.join(file)),
            false => ["crt", "key", "ca"].map(|suffix| directory.join(format!("{name}.{suffix}"))),
        };
        Ok(Self {
            chain: Text::read(chain)?,
            key: Text::read(key)?,
            authorities: asks.then(|| Text::read(authorities)).transpose()?,
        })
    }

    /// Returns what rustls ends TLS with, as `tls` asks.
    ///
    /// # Errors
    ///
    /// Returns which file holds what it should not, or that `tls` contradicts itself.
    pub(super) fn config(self, tls: &ServerTls) -> Result<ServerConfig, String> {
        let chain = certificates(&self.chain.text).map_err(|why| self.chain.complaint(&why))?;
        let key = private_key(&self.key.text).map_err(|why| self.key.complaint(&why))?;
        let builder = ServerConfig::builder_with_provider(crypto::provider())
            .with_protocol_versions(&versions(tls))
            .map_err(|error| error.to_string())?;
        let builder = match &self.authorities {
            None => builder.with_no_client_auth(),
            Some(authorities) => builder.with_client_cert_verifier(verifier(authorities, tls)?),
        };
        let mut config =
            builder.with_single_cert(chain, key).map_err(|error| self.chain.complaint(&error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A session that outlives a change would bring back who was let in by what was demanded then.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

fn verifier(authorities: &Text, tls: &ServerTls) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&authorities.text).map_err(|why| authorities.complaint(&why))? {
        roots.add(root).map_err(|error| authorities.complaint(&error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto::provider());
    let builder = match tls.mode {
        ServerTlsMode::OptionalMutual => builder.allow_unauthenticated(),
        _ => builder,
    };
    let chain = builder.build().map_err(|error| authorities.complaint(&error.to_string()))?;
    match &tls.subject_alt_names[..] {
        [] => Ok(chain),
        names => Ok(Arc::new(Named { chain, names: names.into() })),
    }
}

fn versions(tls: &ServerTls) -> Vec<&'static SupportedProtocolVersion> {
    let from = tls.min_version;
    let to = if tls.max_version == TlsVersion::Auto { TlsVersion::V1_3 } else { tls.max_version };
    let known = [(TlsVersion::V1_2, &TLS12), (TlsVersion::V1_3, &TLS13)];
    known
        .into_iter()
        .filter(|(version, _)| (from..=to).contains(version))
        .map(|(_, version)| version)
        .collect()
}

impl Text {
    fn read(path: PathBuf) -> Result<Self, String> {
        let complaint = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let metadata = std::fs::metadata(&path).map_err(|error| complaint(&error))?;
        // A pipe would hold the reader up for ever.
        if !metadata.is_file() || metadata.len() > FILE_LEN_MAX {
            return Err(complaint(&"it is no file, or larger than 4 MiB"));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| complaint(&error))?;
        Ok(Self { path, text: Zeroizing::new(text) })
    }

    fn complaint(&self, why: &str) -> String {
        format!("{}: {why}", self.path.display())
    }
}

// A bundle of a hundred authorities has 200 KiB.
const FILE_LEN_MAX: u64 = 4 << 20;
