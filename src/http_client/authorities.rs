//! Verification of the certificates of servers.
//!
//! The trusted authorities are those of the system and those of `network.ca_file`. The environment variables `SSL_CERT_FILE`
//! and `SSL_CERT_DIR` replace the authorities of the system.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_native_certs::{ErrorKind, load_native_certs};

use crate::certificates::CertificateVerifier;
use crate::config::{NetworkSettings, SettingsProblem};
use crate::secrets::{ReloadableSecrets, SecretKind, UnusableSecret, Watched};

/// Settings key of the file with additional certificate authorities.
const KEY: &str = "network.ca_file";
/// The environment variable that names a file whose authorities replace those of the system.
const SYSTEM_FILE: &str = "SSL_CERT_FILE";
/// The environment variable that names folders whose authorities replace those of the system.
const SYSTEM_FOLDER: &str = "SSL_CERT_DIR";

/// The current certificate authorities.
pub(super) struct Authorities {
    verifier: Verifier,
    warnings: Vec<String>,
}

enum Verifier {
    /// The verifier uses the authorities of the system.
    System(Arc<CertificateVerifier>),
    /// The verifier uses the authorities of the system and of the file.
    WithFile(Arc<Watched<CertificateVerifier>>),
}

impl Authorities {
    /// Loads the authorities of the system and those of the file.
    pub(super) fn load(settings: &NetworkSettings) -> Result<Self, SettingsProblem> {
        let found = load_native_certs();
        if let Some(problem) = found.errors.iter().find_map(of_named_file) {
            return Err(problem);
        }
        let warnings = found.errors.iter().map(ToString::to_string).collect();
        let mut system = RootCertStore::empty();
        system.add_parsable_certificates(found.certs);
        let verifier = match settings.ca_file.as_deref() {
            None => Verifier::System(Arc::new(CertificateVerifier::new(system).map_err(|_| none_found())?)),
            Some(file) => {
                let parse = move |content: &[u8]| {
                    CertificateVerifier::with_file(system.clone(), content)
                        .map_err(|error| UnusableSecret::InvalidAuthorities(Box::new(error)))
                };
                let kind = SecretKind::CertificateAuthorities;
                Verifier::WithFile(Watched::from_file(kind, KEY.to_owned(), file, parse)?)
            }
        };
        Ok(Self { verifier, warnings })
    }

    pub(super) fn secrets(&self) -> ReloadableSecrets {
        match &self.verifier {
            Verifier::System(_) => Vec::new(),
            Verifier::WithFile(file) => vec![Arc::clone(file) as _],
        }
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn current(&self) -> Arc<CertificateVerifier> {
        match &self.verifier {
            Verifier::System(verifier) => Arc::clone(verifier),
            Verifier::WithFile(verifier) => verifier.current(),
        }
    }
}

/// Returns the problem if the error concerns the file that `SSL_CERT_FILE` names. Other unreadable files cause only warnings.
fn of_named_file(error: &rustls_native_certs::Error) -> Option<SettingsProblem> {
    let named = std::env::var_os(SYSTEM_FILE)?;
    match &error.kind {
        ErrorKind::Io { path, .. } if path.as_os_str() == named => {
            Some(SettingsProblem { path: SYSTEM_FILE.to_owned(), detail: error.to_string() })
        }
        _ => None,
    }
}

/// Returns the problem of a system without authorities. If an environment variable replaces the authorities of the system, the
/// problem names this variable.
fn none_found() -> SettingsProblem {
    let named = [SYSTEM_FILE, SYSTEM_FOLDER].into_iter().find(|name| std::env::var_os(name).is_some());
    let (path, detail) = match named {
        Some(variable) => (variable, "names no file with a certificate in PEM format"),
        None => (
            KEY,
            "the system has no certificate authorities: install the package ca-certificates, or set this key or the variable \
             SSL_CERT_FILE",
        ),
    };
    SettingsProblem { path: path.to_owned(), detail: detail.to_owned() }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.current().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.inspect_err(|error| {
            // The error has the names and the validity of the certificate. Callers see only the kind of the error.
            tracing::warn!(server_name = ?server_name, %error, "TLS certificate rejected");
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().supported_verify_schemes()
    }
}
