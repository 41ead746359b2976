//! `tls` of a server: how the edge of the mesh, or a Sidecar's ingress, takes connections.
// spec: istio networking/v1alpha3/gateway.proto ServerTLSSettings

use crate::config::{
    decode::{Decoder, Fields, choice, flag, name},
    diagnostic::{Code, Diagnostic},
    resource::Mark,
    schema::Support,
    tree::Node,
};

/// `tls` of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Where the block starts.
    pub at: Mark,
    /// `httpsRedirect`: requests in plain are sent to `https`.
    pub https_redirect: bool,
    /// `mode`.
    pub mode: ServerTlsMode,
    /// `credentialName`: under which whoever runs the edge keeps certificate and key, and perhaps authorities.
    pub credential_name: Option<String>,
    /// `serverCertificate`: a file.
    pub server_certificate: Option<String>,
    /// `privateKey`: a file.
    pub private_key: Option<String>,
    /// `caCertificates`: a file.
    pub ca_certificates: Option<String>,
    /// `subjectAltNames`: of which a client's certificate must have one.
    pub subject_alt_names: Vec<String>,
    /// `minProtocolVersion`.
    pub min_version: TlsVersion,
    /// `maxProtocolVersion`.
    pub max_version: TlsVersion,
}

/// `tls.mode` of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTlsMode {
    /// The connection goes on as it is, by its server name.
    #[default]
    Passthrough,
    /// The server's certificate only.
    Simple,
    /// The client's too.
    Mutual,
    /// Like `Passthrough`, to the endpoint that the server name spells.
    AutoPassthrough,
    /// Mutual TLS with the workload's SVID.
    IstioMutual,
    /// The client's certificate is looked at if there is one.
    OptionalMutual,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// Whatever both sides know, from 1.2 on.
    #[default]
    Auto,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl ServerTls {
    /// Returns whether `other` says the same, wherever it is written.
    pub fn is_like(&self, other: &Self) -> bool {
        Self { at: other.at, ..self.clone() } == *other
    }

    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mode = fields.get("mode", |decoder, node| choice(decoder, node, MODES)).unwrap_or_default();
        let read = Self {
            at: node.at,
            https_redirect: fields.get("httpsRedirect", flag).unwrap_or_default(),
            mode,
            credential_name: fields.get("credentialName", name),
            server_certificate: fields.get("serverCertificate", name),
            private_key: fields.get("privateKey", name),
            ca_certificates: fields.get("caCertificates", name),
            subject_alt_names: fields.list("subjectAltNames", name),
            min_version: fields.get("minProtocolVersion", TlsVersion::read).unwrap_or_default(),
            max_version: fields.get("maxProtocolVersion", TlsVersion::read).unwrap_or_default(),
        };
        // Their absence is judged below.
        fields.list("credentialNames", name);
        fields.list("tlsCertificates", read_certificate);
        fields.describe(&["credentialNames", "tlsCertificates"], Support::NoEffect, ONE_CERTIFICATE);
        fields.unsupported(&[
            ("caCrl", "revoked certificates would be accepted"),
            ("verifyCertificateSpki", "other certificates than the pinned ones would be accepted"),
            ("verifyCertificateHash", "other certificates than the pinned ones would be accepted"),
        ]);
        fields.no_effect(&[(
            "cipherSuites",
            "the edge offers the suites of TLS 1.2 and 1.3 that are safe, and no others",
        )]);
        read.check(&mut fields);
        fields.finish();
        Some(read)
    }

    // spec: istio pkg/config/validation validateTLSOptions
    fn check(&self, fields: &mut Fields<'_, '_>) {
        let sources = SOURCES.into_iter().filter(|name| fields.has(name));
        let sources: Vec<&'static str> = sources.collect();
        match self.mode {
            ServerTlsMode::IstioMutual => {
                let what = "ISTIO_MUTUAL uses the workload's own certificate: leave this out";
                sources.iter().for_each(|name| fields.refuse(name, what));
                refuse_present(fields, &["privateKey", "caCertificates"], what);
            }
            ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
                if let Some(name) = sources.first() {
                    let message = format!("`{name}` is ignored: the mode passes connections through");
                    fields.find(name, Diagnostic::warning(Code::SCHEMA_WARNING, message));
                }
            }
            _ if sources.len() > 1 => {
                let message = format!("{} and {} exclude each other", sources[0], sources[1]);
                fields.refuse(sources[1], message);
            }
            _ if self.credential_name.is_some() => {}
            _ if sources.iter().any(|name| *name != "serverCertificate") => note_several(fields, sources[0]),
            ServerTlsMode::Simple => require_present(fields, "SIMPLE", &["serverCertificate", "privateKey"]),
            ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
                let needed = ["serverCertificate", "privateKey", "caCertificates"];
                require_present(fields, "MUTUAL", &needed);
            }
        }
    }
}

fn require_present(fields: &mut Fields<'_, '_>, mode: &str, names: &[&'static str]) {
    for name in names.iter().filter(|name| !fields.has(name)).collect::<Vec<_>>() {
        fields.refuse(name, format!("{mode} needs `{name}`"));
    }
}

fn refuse_present(fields: &mut Fields<'_, '_>, names: &[&'static str], what: &str) {
    for name in names.iter().filter(|name| fields.has(name)).collect::<Vec<_>>() {
        fields.refuse(name, what);
    }
}

const ONE_CERTIFICATE: &str = "a server of the edge has one certificate";

fn note_several(fields: &mut Fields<'_, '_>, name: &'static str) {
    let message = format!("`{name}` has no effect here: {ONE_CERTIFICATE}");
    let help = "write credentialName, or name files by serverCertificate, privateKey and caCertificates";
    fields.find(name, Diagnostic::warning(Code::NO_EFFECT, message).help(help));
}

/// Reads an entry of `tlsCertificates`.
fn read_certificate<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
    let mut fields = decoder.fields(node)?;
    fields.require("serverCertificate", name);
    fields.require("privateKey", name);
    fields.get("caCertificates", name);
    fields.finish();
    Some(())
}

impl TlsVersion {
    pub(super) fn read(decoder: &mut Decoder<'_>, node: &Node) -> Option<Self> {
        if let Some(old @ ("TLSV1_0" | "TLSV1_1")) = node.as_text() {
            let message = format!("{old} is not spoken; TLS 1.2 is the least");
            decoder.find(node.at, Diagnostic::warning(Code::NO_EFFECT, message));
            return Some(Self::Auto);
        }
        choice(decoder, node, VERSIONS)
    }
}

const MODES: &[(&str, ServerTlsMode)] = &[
    ("PASSTHROUGH", ServerTlsMode::Passthrough),
    ("SIMPLE", ServerTlsMode::Simple),
    ("MUTUAL", ServerTlsMode::Mutual),
    ("AUTO_PASSTHROUGH", ServerTlsMode::AutoPassthrough),
    ("ISTIO_MUTUAL", ServerTlsMode::IstioMutual),
    ("OPTIONAL_MUTUAL", ServerTlsMode::OptionalMutual),
];

const VERSIONS: &[(&str, TlsVersion)] =
    &[("TLS_AUTO", TlsVersion::Auto), ("TLSV1_2", TlsVersion::V1_2), ("TLSV1_3", TlsVersion::V1_3)];

/// Where a server may have its certificate from.
const SOURCES: [&str; 4] = ["serverCertificate", "credentialName", "credentialNames", "tlsCertificates"];
