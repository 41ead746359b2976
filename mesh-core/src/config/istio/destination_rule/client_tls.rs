//! `tls`: how to talk to the endpoints.

use crate::config::{
    decode::{Decoder, Fields, choice, flag, name},
    diagnostic::{Code, Diagnostic},
    tree::Node,
};

/// `tls`. Written at all, it switches automatic mutual TLS off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// `mode`.
    pub mode: ClientTlsMode,
    /// `clientCertificate`.
    pub client_certificate: Option<String>,
    /// `privateKey`.
    pub private_key: Option<String>,
    /// `caCertificates`; `system`, or absent, is what the system trusts.
    pub ca_certificates: Option<String>,
    /// `caCrl`.
    pub ca_crl: Option<String>,
    /// `subjectAltNames`.
    pub subject_alt_names: Vec<String>,
    /// `sni`.
    pub sni: Option<String>,
    /// `insecureSkipVerify`.
    pub insecure_skip_verify: bool,
}

/// `tls.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTlsMode {
    /// Plaintext.
    Disable,
    /// TLS, the server's certificate only.
    Simple,
    /// Mutual TLS with the certificates named beside it.
    Mutual,
    /// Mutual TLS with the workload's SVID.
    IstioMutual,
}

impl ClientTls {
    /// Reads the block; `unverified` is the code for one that does not say which authorities are trusted.
    pub(super) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node, unverified: Code) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let mode = fields.get("mode", |decoder, node| choice(decoder, node, MODES));
        let read = Self {
            // spec: istio networking/v1alpha3/destination_rule.proto ClientTLSSettings.TLSmode, whose zero is DISABLE
            mode: mode.unwrap_or(ClientTlsMode::Disable),
            client_certificate: fields.get("clientCertificate", name),
            private_key: fields.get("privateKey", name),
            ca_certificates: fields.get("caCertificates", name),
            ca_crl: fields.get("caCrl", name),
            subject_alt_names: fields.list("subjectAltNames", name),
            sni: fields.get("sni", name),
            insecure_skip_verify: fields.get("insecureSkipVerify", flag).unwrap_or_default(),
        };
        fields.unsupported(&[(
            "credentialName",
            "there is no store of secrets here; name files by clientCertificate and privateKey",
        )]);
        read.check(&mut fields);
        read.check_verification(&mut fields, unverified);
        fields.finish();
        Some(read)
    }

    // spec: istio pkg/config/validation/agent ValidateTLS
    fn check(&self, fields: &mut Fields<'_, '_>) {
        if !fields.has("mode") {
            let finding =
                Diagnostic::warning(Code::SECURITY_NOTE, "`tls` without `mode` is DISABLE: plaintext");
            let at = fields.at;
            fields.decoder.find(at, finding.help("write the mode that is meant"));
        }
        match self.mode {
            ClientTlsMode::IstioMutual => {
                // `sni` and `subjectAltNames` occur beside it in Istio's own egress samples.
                for name in FILES.into_iter().chain(["insecureSkipVerify"]) {
                    if fields.has(name) {
                        fields
                            .refuse(name, "ISTIO_MUTUAL uses the workload's own certificate: leave this out");
                    }
                }
            }
            ClientTlsMode::Mutual => {
                for name in ["clientCertificate", "privateKey"] {
                    if !fields.has(name) {
                        fields.refuse(name, format!("MUTUAL needs `{name}`"));
                    }
                }
            }
            ClientTlsMode::Disable | ClientTlsMode::Simple => {}
        }
    }

    fn check_verification(&self, fields: &mut Fields<'_, '_>, unverified: Code) {
        let verifies = matches!(self.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
        if self.insecure_skip_verify {
            let message = "any certificate is accepted from this host";
            fields.find("insecureSkipVerify", Diagnostic::warning(Code::SECURITY_NOTE, message));
            for name in ["caCertificates", "subjectAltNames"] {
                if verifies && fields.has(name) {
                    fields.refuse(name, format!("{name} and insecureSkipVerify exclude each other"));
                }
            }
        } else if verifies && self.ca_certificates.is_none() && !fields.has("credentialName") {
            let message = "the server's certificate is checked against the authorities of the system, as \
                           caCertificates is not set";
            let finding = Diagnostic::warning(unverified, message);
            fields.find("caCertificates", finding.help("name the authority's file, or write `system`"));
        }
    }
}

const FILES: [&str; 4] = ["clientCertificate", "privateKey", "caCertificates", "caCrl"];

const MODES: &[(&str, ClientTlsMode)] = &[
    ("DISABLE", ClientTlsMode::Disable),
    ("SIMPLE", ClientTlsMode::Simple),
    ("MUTUAL", ClientTlsMode::Mutual),
    ("ISTIO_MUTUAL", ClientTlsMode::IstioMutual),
];
