//! Verification of the certificates of servers.
//!
//! The authorities are those of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`, and those of `network.ca_file`.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use rustls_native_certs::{ErrorKind, load_native_certs};
use webpki::EndEntityCert;

use crate::config::{NetworkSettings, SettingsProblem};
use crate::secrets::{ReloadableSecrets, SecretKind, UnusableSecret, Watched};

/// The settings key of the file.
const KEY: &str = "network.ca_file";
/// The variable that names a file with the authorities of the system.
const SYSTEM_FILE: &str = "SSL_CERT_FILE";

/// The current certificate authorities.
pub(super) struct Authorities {
    verifier: Verifier,
    warnings: Vec<String>,
}

enum Verifier {
    /// The verifier uses the authorities of the system.
    System(Arc<WebPkiServerVerifier>),
    /// The verifier uses the authorities of the system and of the file.
    WithFile(Arc<Watched<Arc<WebPkiServerVerifier>>>),
}

/// The server signed its certificate itself.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is self-signed")]
pub(super) struct SelfSigned;

/// The reason why the content of a file of authorities cannot be used.
#[derive(Debug, thiserror::Error)]
enum InvalidAuthorities {
    #[error("has no certificate in PEM format")]
    Empty,
    #[error("has a certificate that cannot be used: {0}")]
    Certificate(Box<dyn std::error::Error + Send + Sync>),
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
            None => Verifier::System(verifier(system).map_err(|_| none_found())?),
            Some(file) => {
                let parse = move |content: &[u8]| {
                    with_added(system.clone(), content)
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

    fn current(&self) -> Arc<WebPkiServerVerifier> {
        match &self.verifier {
            Verifier::System(verifier) => Arc::clone(verifier),
            Verifier::WithFile(verifier) => Arc::clone(&verifier.current()),
        }
    }
}

/// Returns the problem of the file that `SSL_CERT_FILE` names. Other unreadable files are ignored.
fn of_named_file(error: &rustls_native_certs::Error) -> Option<SettingsProblem> {
    let named = std::env::var_os(SYSTEM_FILE)?;
    match &error.kind {
        ErrorKind::Io { path, .. } if path.as_os_str() == named => {
            Some(SettingsProblem { path: SYSTEM_FILE.to_owned(), detail: error.to_string() })
        }
        _ => None,
    }
}

fn none_found() -> SettingsProblem {
    let detail = "the system has no certificate authorities: install the package ca-certificates, or set this key or the \
                  variable SSL_CERT_FILE";
    SettingsProblem { path: KEY.to_owned(), detail: detail.to_owned() }
}

fn with_added(
    mut roots: RootCertStore,
    content: &[u8],
) -> Result<Arc<WebPkiServerVerifier>, InvalidAuthorities> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(content) {
        let certificate = certificate.map_err(|error| InvalidAuthorities::Certificate(error.into()))?;
        roots.add(certificate).map_err(|error| InvalidAuthorities::Certificate(error.into()))?;
    }
    if roots.len() == before {
        return Err(InvalidAuthorities::Empty);
    }
    verifier(roots).map_err(|error| InvalidAuthorities::Certificate(error.into()))
}

fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()
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
        verified.map_err(|error| {
            // The error has the names and the validity of the certificate. Callers see only the kind of the error.
            tracing::warn!(server_name = ?server_name, %error, "TLS certificate rejected");
            if is_untrusted(&error) && is_self_signed(end_entity) {
                return CertificateError::Other(OtherError(Arc::new(SelfSigned))).into();
            }
            error
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

/// Returns whether the server signed its certificate itself. `openssl req -x509` marks its certificate as an
/// authority, and webpki rejects a server certificate that is an authority.
fn is_untrusted(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        Error::InvalidCertificate(CertificateError::Other(OtherError(error))) => {
            matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.issuer() == certificate.subject())
}
