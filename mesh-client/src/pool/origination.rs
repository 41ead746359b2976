//! TLS to servers that are no workloads of the mesh: verified by authorities from a file or of the system, and by the
//! names in the certificate, not by a SPIFFE ID.
//!
//! A configuration is built once per settings and protocol, off the runtime's threads, and again when one of its files
//! changes; the connections made before stay.
// spec: istio networking/v1alpha3/destination_rule.proto ClientTLSSettings

use mesh_core::balance::TlsOrigination;
use mesh_runtime::{
    crypto,
    identity::{Alpn, carries_any},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
        pem::PemObject as _,
    },
};
use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// The configurations built so far.
#[derive(Debug, Default)]
pub(crate) struct Originations(Mutex<HashMap<(TlsOrigination, Alpn), Built>>);

#[derive(Clone, Debug)]
struct Built {
    config: Arc<ClientConfig>,
    stamps: Vec<Stamp>,
}

/// What tells one state of a file from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Option<(SystemTime, u64)>);

impl Originations {
    /// Returns the configuration for `settings`, built again if a file of theirs is another than before. Reads files.
    ///
    /// # Errors
    ///
    /// Returns which file does not read, or what rustls makes of it.
    pub(crate) fn config(&self, settings: &TlsOrigination, alpn: Alpn) -> Result<Arc<ClientConfig>, String> {
        let stamps: Vec<_> = settings.files().map(Stamp::of).collect();
        let key = (settings.clone(), alpn);
        let known = self.table().get(&key).filter(|built| built.stamps == stamps).cloned();
        if let Some(built) = known {
            return Ok(built.config);
        }
        let config = Arc::new(build(settings, alpn)?);
        let mut table = self.table();
        if table.len() >= CONFIGS_MAX {
            table.clear();
        }
        table.insert(key, Built { config: Arc::clone(&config), stamps });
        Ok(config)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<(TlsOrigination, Alpn), Built>> {
        // A panic leaves a map without the entry, which is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamp {
    fn of(path: &str) -> Self {
        let meta = fs::metadata(path).ok();
        Self(meta.and_then(|meta| Some((meta.modified().ok()?, meta.len()))))
    }
}

fn build(settings: &TlsOrigination, alpn: Alpn) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier(settings)?);
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = certificates(&files.certificate)?;
            let key = PrivateKeyDer::from_pem_file(&*files.private_key);
            let key = key.map_err(|error| format!("privateKey {}: {error}", files.private_key))?;
            let pair = builder.with_client_auth_cert(chain, key);
            pair.map_err(|error| format!("clientCertificate {}: {error}", files.certificate))?
        }
    };
    config.alpn_protocols = alpn.protocols();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(config)
}

fn verifier(settings: &TlsOrigination) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if settings.skip_verify {
        return Ok(Arc::new(Anybody));
    }
    let roots = match &settings.authorities {
        Some(file) => {
            roots_of(certificates(file)?).map_err(|error| format!("caCertificates {file}: {error}"))?
        }
        None => {
            crypto::system_roots().map_err(|error| format!("{error}; name a file in `caCertificates`"))?
        }
    };
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto::provider());
    let builder = match &settings.revocations {
        None => builder,
        Some(file) => {
            let lists = CertificateRevocationListDer::pem_file_iter(&**file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>);
            builder.with_crls(lists.map_err(|error| format!("caCrl {file}: {error}"))?)
        }
    };
    let chain = builder.build().map_err(|error| error.to_string())?;
    match &*settings.names {
        [] => Ok(chain),
        names => Ok(Arc::new(Named { chain, names: names.into() })),
    }
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(format!("{file} holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{file}: {error}")),
    }
}

fn roots_of(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    certificates.into_iter().try_for_each(|certificate| roots.add(certificate))?;
    Ok(roots)
}

/// Asks for a chain to an authority, and for one of several names, whatever the host is called.
#[derive(Debug)]
struct Named {
    chain: Arc<WebPkiServerVerifier>,
    names: Box<[String]>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        // The name is looked at last: what is not valid for it is valid otherwise.
        match self.chain.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            Ok(_)
            | Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {}
            Err(error) => return Err(error),
        }
        match carries_any(leaf, &self.names) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::Error::InvalidCertificate(NotValidForName)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Asks for nothing but that the peer owns the certificate it shows: `insecureSkipVerify`.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = crypto::provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = crypto::provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// One per host outside that a rule names; whoever has more builds some of them again.
const CONFIGS_MAX: usize = 256;

// rustls' own default: 32 servers with 8 tickets each.
const SESSIONS_MAX: usize = 256;
