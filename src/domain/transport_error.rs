//! Reasons why a request to another server got no answer.

/// Reason why a request to another server got no answer.
///
/// The text of a reason is public: callers read it in `last_error` and in attempts of deliveries. The text therefore suggests how
/// to repair the error, and names no host, address or URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// DNS has no such name, or the name has no address.
    #[error("the host name does not exist in DNS")]
    UnknownHost,
    /// The name server failed or did not answer.
    #[error("the host name could not be resolved: the DNS server failed")]
    NameServer,
    /// No program listens on the port, or a firewall rejects the connection.
    #[error("the connection was refused")]
    Refused,
    /// No route leads to the host.
    #[error("the host or its network is unreachable")]
    Unreachable,
    /// The connection was not established within its deadline.
    #[error("the connection was not established in time")]
    ConnectTimeout,
    /// The connection failed for another reason.
    #[error("the connection failed")]
    Connect,
    /// The certificate has expired.
    #[error("the TLS certificate has expired")]
    CertificateExpired,
    /// The certificate becomes valid later.
    #[error("the TLS certificate is not valid yet")]
    CertificateNotYetValid,
    /// No trusted authority signed the certificate.
    #[error("the TLS certificate is from an unknown authority (network.ca_file adds one)")]
    UnknownAuthority,
    /// The server signed its certificate itself.
    #[error("the TLS certificate is self-signed, so no trusted authority vouches for it")]
    SelfSigned,
    /// The certificate does not name the host.
    #[error("the TLS certificate is for another host name")]
    WrongName,
    /// The certificate is unusable for another reason, such as its format, purpose or algorithm.
    #[error("the TLS certificate is not usable for a server")]
    InvalidCertificate,
    /// The server answered with a protocol other than TLS.
    #[error("the server does not speak TLS on this port")]
    NoTls,
    /// The server requires a certificate from its clients (mutual TLS).
    #[error("the server requires a TLS client certificate, which the gateway does not have")]
    ClientCertificate,
    /// The server supports only older versions of TLS.
    #[error("the server has no TLS version in common: the gateway uses TLS 1.2 and 1.3")]
    TlsVersion,
    /// The handshake ended without a session: no common version or algorithm, or the server closed the connection.
    #[error("the TLS handshake failed: the server refused it, or has no TLS version or algorithm in common")]
    TlsHandshake,
    /// The deadline passed before the answer arrived.
    #[error("the answer did not arrive in time")]
    Timeout,
    /// The server or a device between the gateway and the server reset the connection.
    #[error("the connection was reset")]
    Reset,
    /// The connection closed before the answer was complete.
    #[error("the connection was closed before the answer arrived")]
    Closed,
    /// The answer is not HTTP.
    #[error("the answer is not HTTP")]
    Protocol,
    /// The URL or a header is not valid in a request.
    #[error("the request could not be built")]
    Request,
    /// The gateway cannot connect to the proxy.
    #[error("the proxy cannot be reached")]
    ProxyUnreachable,
    /// The proxy answered 407.
    #[error("the proxy requires a valid user name and password (407)")]
    ProxyAuthentication,
    /// The proxy did not connect to the server.
    #[error("the proxy refused to connect to the server")]
    ProxyRefused,
}

impl TransportError {
    /// Whether the error persists until an operator changes the settings, a certificate or the proxy. The cause of any other
    /// error may be a temporary outage.
    pub fn is_permanent(self) -> bool {
        self.kind() == "tls" || matches!(self, Self::ProxyAuthentication | Self::ProxyRefused)
    }

    /// Returns the kind of the error, for the labels of metrics.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::UnknownHost | Self::NameServer => "dns",
            Self::Refused | Self::Unreachable | Self::Connect => "connect",
            Self::ConnectTimeout | Self::Timeout => "timeout",
            Self::CertificateExpired
            | Self::CertificateNotYetValid
            | Self::UnknownAuthority
            | Self::SelfSigned
            | Self::WrongName
            | Self::InvalidCertificate
            | Self::NoTls
            | Self::ClientCertificate
            | Self::TlsVersion
            | Self::TlsHandshake => "tls",
            Self::Reset | Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Request => "request",
            Self::ProxyUnreachable | Self::ProxyAuthentication | Self::ProxyRefused => "proxy",
        }
    }
}
