//! TLS to the server. The parameters `sslmode` and `sslrootcert` of the connection URL have the same meaning as in libpq
//! (PostgreSQL documentation, section 32.19.1).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    ALL_VERSIONS, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_platform_verifier::Verifier as PlatformVerifier;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::certificates::{self, CertificateVerifier};

static NEWEST_VERSION: &[&SupportedProtocolVersion] = &[&TLS13];

/// Verification of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// No verification. TLS then protects against eavesdropping, but not against an active attacker.
    Nothing,
    /// A trusted authority must have issued the certificate.
    Authority,
    /// A trusted authority must have issued the certificate for the host in the URL.
    Host,
}

/// The TLS parameters of a connection URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsMode {
    pub(super) mode: SslMode,
    check: Check,
    /// PEM file of trusted certificate authorities. They replace the authorities of the operating system.
    roots: Option<PathBuf>,
    /// PEM files of the client's certificate and its private key.
    identity: Option<(PathBuf, PathBuf)>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl TlsMode {
    /// Parses `sslmode` (`prefer` by default), `sslrootcert`, `sslcert`, `sslkey` and `ssl_min_protocol_version`.
    pub(super) fn parse<'a>(get: impl Fn(&str) -> Option<&'a str> + Copy) -> Result<Self, String> {
        let system = get("sslrootcert") == Some("system");
        let roots = get("sslrootcert").filter(|_| !system).map(PathBuf::from);
        let default = if system { "verify-full" } else { "prefer" };
        let (mode, check) = match get("sslmode").unwrap_or(default) {
            // As in libpq, `sslrootcert=system` requires `verify-full`. Otherwise any certificate of a public authority would be
            // accepted.
            mode if system && mode != "verify-full" => {
                return Err("sslrootcert=system: sslmode must be verify-full".to_owned());
            }
            "disable" => (SslMode::Disable, Check::Nothing),
            "allow" | "prefer" => (SslMode::Prefer, Check::Nothing),
            // As in libpq, `sslrootcert` turns `require` into `verify-ca`.
            "require" if roots.is_some() => (SslMode::Require, Check::Authority),
            "require" => (SslMode::Require, Check::Nothing),
            "verify-ca" => (SslMode::Require, Check::Authority),
            "verify-full" => (SslMode::Require, Check::Host),
            other => {
                return Err(format!(
                    "sslmode={other}: must be disable, allow, prefer, require, verify-ca or verify-full"
                ));
            }
        };
        let identity = match (get("sslcert"), get("sslkey")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            _ => return Err("sslcert and sslkey must be given together".to_owned()),
        };
        let versions = match get("ssl_min_protocol_version") {
            None | Some("TLSv1" | "TLSv1.1" | "TLSv1.2") => ALL_VERSIONS,
            Some("TLSv1.3") => NEWEST_VERSION,
            Some(other) => {
                let versions = "TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3";
                return Err(format!("ssl_min_protocol_version={other}: must be {versions}"));
            }
        };
        Ok(Self { mode, check, roots, identity, versions })
    }

    /// Creates the TLS connector.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match (self.check, &self.roots) {
            (Check::Nothing, _) => Arc::new(Unverified(provider.signature_verification_algorithms)),
            (check, roots) => {
                let inner = self.authorities(roots.as_ref(), &provider)?;
                if check == Check::Host { inner } else { Arc::new(AnyHost(inner)) }
            }
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates::parse(&read("sslcert", certificate)?)
                    .map_err(|error| format!("sslcert {} {error}", certificate.display()))?;
                let unusable = |error: String| format!("sslkey {}: {error}", key.display());
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(error.to_string()))?;
                config.with_client_auth_cert(chain, key).map_err(|error| unusable(error.to_string()))?
            }
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn authorities(
        &self,
        roots: Option<&PathBuf>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, String> {
        let Some(path) = roots else {
            let verifier = PlatformVerifier::new(provider.clone()).map_err(|error| error.to_string())?;
            return Ok(Arc::new(verifier));
        };
        let content = read("sslrootcert", path)?;
        let verifier = CertificateVerifier::with_file(RootCertStore::empty(), &content);
        Ok(Arc::new(verifier.map_err(|error| format!("sslrootcert {} {error}", path.display()))?))
    }
}

/// Reads the file that a parameter names. The error names the parameter.
fn read(parameter: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{parameter} {}: {error}", path.display()))
}

/// Accepts any certificate, but verifies the signatures of the handshake.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Accepts a certificate for another host if a trusted authority issued it.
#[derive(Debug)]
struct AnyHost(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The verifier checks the name last, so everything else is valid.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
