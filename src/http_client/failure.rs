//! Finds the reason of a failed request in the chain of its errors.
//!
//! The errors of the libraries have no common type: the reason may be an error of rustls, of the operating system, of
//! the name resolution, of hyper, or a text of the proxy connector. These texts may contain the URL with the vendor's
//! token, so they are not shown.

use std::error::Error;
use std::io::{self, ErrorKind};

use rustls::{AlertDescription, CertificateError, OtherError, PeerIncompatible};
use url::Url;

use crate::certificates::SelfSigned;
use crate::domain::transport_error::TransportError;

/// Explains a failed request. `is_proxied` is `true` if a proxy forwards requests to the URL.
pub(super) fn explain(error: &reqwest::Error, is_proxied: impl Fn(&Url) -> bool) -> TransportError {
    if error.is_builder() {
        return TransportError::Request;
    }
    if let Some(tls) = causes(error).find_map(|cause| cause.downcast_ref()) {
        return of_tls(tls);
    }
    if let Some(reason) = causes(error).find_map(of_proxy) {
        return reason;
    }
    // With socks4 and socks5 the client resolves the name of the server itself.
    if causes(error).any(|cause| cause.to_string() == "error resolving for socks proxy") {
        return of_dns(error);
    }
    // With an http:// URL, the client connects only to the proxy, so only the connection to the proxy can fail.
    let is_to_proxy = error.url().is_some_and(|url| url.scheme() == "http" && is_proxied(url));
    if error.is_connect() && is_to_proxy {
        return TransportError::ProxyUnreachable;
    }
    if error.is_dns() {
        return of_dns(error);
    }
    if error.is_timeout() {
        return if error.is_connect() { TransportError::ConnectTimeout } else { TransportError::Timeout };
    }
    if let Some(reason) = causes(error).find_map(|cause| of_io(cause, error.is_connect())) {
        return reason;
    }
    if causes(error).any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_parse)) {
        return TransportError::Protocol;
    }
    if error.is_connect() { TransportError::Connect } else { TransportError::Closed }
}

/// Returns an error, followed by all its causes.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        // The `source` of an I/O error skips the error that it wraps.
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

fn of_tls(error: &rustls::Error) -> TransportError {
    match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        rustls::Error::InvalidMessage(_) => TransportError::NoTls,
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            TransportError::ClientCertificate
        }
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            TransportError::TlsVersion
        }
        _ => TransportError::TlsHandshake,
    }
}

fn of_certificate(error: &CertificateError) -> TransportError {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            TransportError::CertificateExpired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TransportError::CertificateNotYetValid
        }
        // A renewed authority may have the name of the trusted authority but another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TransportError::UnknownAuthority,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TransportError::WrongName
        }
        CertificateError::Other(OtherError(error)) if error.is::<SelfSigned>() => TransportError::SelfSigned,
        _ => TransportError::InvalidCertificate,
    }
}

/// Returns the reason that the connector of a proxy gives. The error types of the connector are private, so only the texts
/// identify the errors. A test with a real proxy covers each text.
fn of_proxy(error: &(dyn Error + 'static)) -> Option<TransportError> {
    let text = error.to_string();
    let (reason, is_socks) = match (text.strip_prefix("tunnel error: "), text.strip_prefix("SOCKS error: ")) {
        (Some(reason), _) => (reason, false),
        (None, Some(reason)) => (reason, true),
        (None, None) => return None,
    };
    Some(match reason {
        "failed to create underlying connection" | "io error establishing tunnel" => {
            TransportError::ProxyUnreachable
        }
        "proxy authorization required" => TransportError::ProxyAuthentication,
        _ if is_socks && (reason.contains("authentication") || reason.contains("credentials")) => {
            TransportError::ProxyAuthentication
        }
        _ => TransportError::ProxyRefused,
    })
}

/// Returns the reason of a failed name resolution. The standard library does not return the error codes of `getaddrinfo`, only
/// texts. The function knows the texts of glibc and musl.
fn of_dns(error: &reqwest::Error) -> TransportError {
    const FAILURES: [&str; 4] =
        ["Temporary failure", "Non-recoverable failure", "Try again", "Unrecoverable error"];
    let mut texts = causes(error).map(ToString::to_string);
    let is_failure = |text: String| FAILURES.iter().any(|failure| text.contains(failure));
    if texts.any(is_failure) { TransportError::NameServer } else { TransportError::UnknownHost }
}

fn of_io(error: &(dyn Error + 'static), is_connect: bool) -> Option<TransportError> {
    match error.downcast_ref::<io::Error>()?.kind() {
        ErrorKind::ConnectionRefused => Some(TransportError::Refused),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            Some(TransportError::Reset)
        }
        ErrorKind::NetworkUnreachable
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable => Some(TransportError::Unreachable),
        // Connecting over TCP cannot fail with this kind, so the server closed the connection during the TLS handshake.
        ErrorKind::UnexpectedEof if is_connect => Some(TransportError::TlsHandshake),
        _ => None,
    }
}
