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

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::config::{Options, Spec, load};

    #[test]
    fn a_credential_is_found_by_name_in_either_form_and_nothing_else_is_read_by_it() {
        let directory = tempfile::tempdir().unwrap();
        let put = |file: &str| std::fs::write(directory.path().join(file), file).unwrap();
        std::fs::create_dir(directory.path().join("folder")).unwrap();
        ["flat.crt", "flat.key", "folder/tls.crt", "folder/tls.key"].into_iter().for_each(put);
        for (name, found) in [
            ("flat", Ok("flat.crt")),
            ("folder", Ok("folder/tls.crt")),
            ("gone", Err("No such file")),
            ("../flat", Err("is no name")),
            ("a/../flat", Err("is no name")),
            (".", Err("is no name")),
        ] {
            let read = Credential::read(
                &tls(&format!("mode: SIMPLE, credentialName: '{name}'")),
                Some(directory.path()),
            );
            match (read, found) {
                (Ok(read), Ok(text)) => assert_eq!(&**read.chain.text, text),
                (Err(why), Err(part)) => assert!(why.contains(part), "{name}: {why}"),
                (read, _) => panic!("{name}: {:?}", read.err()),
            }
        }
        let mutual = Credential::read(&tls("mode: MUTUAL, credentialName: flat"), Some(directory.path()));
        assert!(mutual.is_err_and(|why| why.contains("flat.ca")), "without authorities nobody is let in");
        let nowhere = Credential::read(&tls("mode: SIMPLE, credentialName: flat"), None);
        assert!(nowhere.is_err_and(|why| why.contains("no directory")));
    }

    #[test]
    fn a_file_that_holds_no_certificate_is_named_and_no_byte_of_a_key_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let [chain, key] = ["cert.pem", "key.pem"].map(|file| directory.path().join(file));
        std::fs::write(&chain, rcgen_pem()).unwrap();
        std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nsecret!\n-----END PRIVATE KEY-----\n").unwrap();
        let files = format!("serverCertificate: '{}', privateKey: '{}'", chain.display(), key.display());
        let tls = tls(&format!("mode: SIMPLE, {files}"));
        let why = Credential::read(&tls, None).and_then(|read| read.config(&tls)).unwrap_err();
        assert!(why.contains("key.pem") && !why.contains("secret"), "{why}");
    }

    fn rcgen_pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()
    }

    fn tls(tls: &str) -> ServerTls {
        let server =
            format!("{{port: {{number: 443, name: a, protocol: HTTPS}}, hosts: ['*'], tls: {{{tls}}}}}");
        let yaml = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec: {{servers: [{server}]}}\n"
        );
        let loaded = load("mesh.yaml", &yaml, &Options::default());
        match &loaded.resources[0].spec {
            Spec::Gateway(gateway) => gateway.servers[0].tls.clone().unwrap(),
            _ => panic!("{yaml}"),
        }
    }
}
