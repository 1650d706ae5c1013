//! Certificate authorities in files, and the verification of server certificates against them. All TLS clients share these rules.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use webpki::{EndEntityCert, anchor_from_trusted_cert};

/// Verifies the certificates of servers with webpki.
///
/// Like OpenSSL, the verifier also accepts a server whose own certificate is one of the trusted authorities.
/// `openssl req -x509` makes such certificates.
#[derive(Debug)]
pub struct CertificateVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    authorities: Arc<RootCertStore>,
}

/// The server signed its certificate itself.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is self-signed")]
pub struct SelfSigned;

/// The reason why the content of a file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCertificates {
    /// The content has no certificate.
    #[error("has no certificate in PEM format")]
    Empty,
    /// The content is encoded in UTF-16.
    #[error("is encoded in UTF-16: save it as UTF-8")]
    Utf16,
    /// A certificate is damaged.
    #[error("has a certificate that cannot be used: {0}")]
    Pem(#[source] pem::Error),
    /// A certificate cannot be an authority.
    #[error("has a certificate that cannot be used: {0}")]
    Authority(#[source] Error),
    /// The authorities cannot be used for verification.
    #[error("has certificates that cannot be used: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// Parses the certificates of a file in PEM format, or the only certificate of a file in DER format.
///
/// # Errors
/// [`InvalidCertificates`], if the content is UTF-16, has no certificate, or has a damaged one.
pub fn parse(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidCertificates> {
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Err(InvalidCertificates::Utf16);
    }
    // Some editors begin a file with the byte order mark of UTF-8.
    let text = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let certificates = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(InvalidCertificates::Pem)?;
    let is_der = || EndEntityCert::try_from(&CertificateDer::from(content)).is_ok();
    match certificates.is_empty() {
        false => Ok(certificates),
        true if is_der() => Ok(vec![CertificateDer::from(content.to_vec())]),
        true => Err(InvalidCertificates::Empty),
    }
}

impl CertificateVerifier {
    /// Creates a verifier that trusts these authorities.
    ///
    /// # Errors
    /// Returns an error if there are no authorities.
    pub fn new(authorities: RootCertStore) -> Result<Self, VerifierBuilderError> {
        let (authorities, provider) = (Arc::new(authorities), Arc::new(aws_lc_rs::default_provider()));
        let webpki =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&authorities), provider).build()?;
        Ok(Self { webpki, authorities })
    }

    /// Creates a verifier that trusts these authorities and the certificates in the content of a file.
    ///
    /// # Errors
    /// [`InvalidCertificates`], if the content cannot be used.
    pub fn with_file(mut authorities: RootCertStore, content: &[u8]) -> Result<Self, InvalidCertificates> {
        for certificate in parse(content)? {
            authorities.add(certificate).map_err(InvalidCertificates::Authority)?;
        }
        Ok(Self::new(authorities)?)
    }

    /// Returns whether the certificate has the name and the key of a trusted authority. Such a server can be trusted: the
    /// handshake proves that the server has the private key, and with this key it could sign any certificate.
    fn is_authority(&self, certificate: &CertificateDer<'_>) -> bool {
        anchor_from_trusted_cert(certificate).is_ok_and(|anchor| self.authorities.roots.contains(&anchor))
    }
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(error) = verified else { return verified };
        // webpki first checks that the certificate is valid now. Only then does it report that the certificate of a server is
        // that of an authority.
        if is_authority_of_server(&error) && self.is_authority(end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        if is_untrusted(&error) && is_self_signed(end_entity) {
            return Err(CertificateError::Other(OtherError(Arc::new(SelfSigned))).into());
        }
        Err(error)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Returns whether the error means that no trusted authority issued the certificate.
fn is_untrusted(error: &Error) -> bool {
    is_authority_of_server(error)
        || matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

/// Returns whether the error means that the server presents the certificate of an authority.
fn is_authority_of_server(error: &Error) -> bool {
    match error {
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
