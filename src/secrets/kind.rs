//! The kinds of secrets.

/// A kind of secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// A tenant's token for the vendor.
    VendorToken,
    /// The secrets that sign a tenant's callbacks.
    CallbackSecret,
    /// The keys that seal stored secrets and links.
    EncryptionKey,
    /// The key file of an issuer of tokens.
    IssuerKey,
    /// The HTTP headers for the trace collector.
    CollectorHeaders,
    /// Certificate authorities. They are public, but wrong authorities prevent connections, as a wrong secret does.
    CertificateAuthorities,
}

impl SecretKind {
    /// All kinds of secrets.
    pub const ALL: [Self; 6] = [
        Self::VendorToken,
        Self::CallbackSecret,
        Self::EncryptionKey,
        Self::IssuerKey,
        Self::CollectorHeaders,
        Self::CertificateAuthorities,
    ];

    /// Returns the label `kind` in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::VendorToken => "vendor_token",
            Self::CallbackSecret => "callback_secret",
            Self::EncryptionKey => "encryption_key",
            Self::IssuerKey => "issuer_key",
            Self::CollectorHeaders => "collector_headers",
            Self::CertificateAuthorities => "certificate_authorities",
        }
    }

    /// Returns the maximum size of the file. The limit prevents a wrong path, such as `/dev/zero`, from filling the
    /// memory.
    pub(super) const fn max_file_bytes(self) -> usize {
        match self {
            // A JWK Set with hundreds of keys fits, and so do all authorities of an operating system.
            Self::IssuerKey | Self::CertificateAuthorities => 1024 * 1024,
            Self::VendorToken | Self::CallbackSecret | Self::EncryptionKey | Self::CollectorHeaders => {
                64 * 1024
            }
        }
    }
}
