//! Why a caller was turned away.

/// Why a caller was turned away.
///
/// The text is fit for `error_description` of RFC 6750: printable ASCII without quotation marks and backslashes,
/// and never a part of the token, which may be somebody's secret or an attack on the log's reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No `Authorization` header.
    #[error("a bearer token is required")]
    Missing,
    /// More than one `Authorization` header: proxies and servers may pick different ones.
    #[error("the request has more than one Authorization header")]
    SeveralHeaders,
    /// Another authentication scheme.
    #[error("the Authorization header is not of the scheme Bearer")]
    NotBearer,
    /// More than 8 KiB.
    #[error("the token is larger than 8 KiB")]
    TooLarge,
    /// Not a signed JWT in compact form; the text says what is wrong with it.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `iss` is missing or names nobody we trust.
    #[error("the issuer of the token is not trusted here")]
    UnknownIssuer,
    /// `alg` is missing, `none`, unknown, or neither the issuer nor the key may use it.
    #[error("the algorithm of the token is not allowed for its issuer and key")]
    Algorithm,
    /// The header names an extension that must be understood (RFC 7515, 4.1.11); we understand none.
    #[error("the token asks for an extension that is not supported")]
    Crit,
    /// `typ` says that this is no access token.
    #[error("the type of the token is neither JWT nor at+jwt")]
    Typ,
    /// The issuer has no such key, or has withdrawn it.
    #[error("the token is signed with a key that its issuer does not publish")]
    UnknownKey,
    /// The signature does not hold.
    #[error("the signature of the token is not valid")]
    Signature,
    /// `exp` is missing, or one of `exp`, `nbf`, `iat` is not a number.
    #[error("exp is missing, or one of exp, nbf, iat is not a number of seconds")]
    TimeClaim,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` lies ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iat` lies ahead.
    #[error("the token was issued in the future")]
    IssuedInFuture,
    /// `aud` is missing or does not name us.
    #[error("the token is not meant for this service")]
    Audience,
    /// The claim that names the tenant is missing or no valid name.
    #[error("the token does not name a tenant")]
    TenantClaim,
    /// The issuer's keys could not be had for so long that none can be trusted: our trouble, not the token's.
    #[error("the keys of the token's issuer are not available at present")]
    KeysUnavailable,
}

impl Rejection {
    /// A label for metrics, of a small fixed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::SeveralHeaders => "several_headers",
            Self::NotBearer => "not_bearer",
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Algorithm => "algorithm",
            Self::Crit => "crit",
            Self::Typ => "typ",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::TimeClaim => "time_claim",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::Audience => "audience",
            Self::TenantClaim => "tenant_claim",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    /// The `error` of `WWW-Authenticate`.
    ///
    /// None where the request carries no credential that we know how to read: such a caller is told no more than
    /// the scheme (RFC 6750, 3.1). None also for [`Self::KeysUnavailable`], which is no fault of the token.
    pub fn error(&self) -> Option<&'static str> {
        match self {
            Self::Missing | Self::NotBearer | Self::KeysUnavailable => None,
            Self::SeveralHeaders => Some("invalid_request"),
            Self::TooLarge
            | Self::Malformed(_)
            | Self::UnknownIssuer
            | Self::Algorithm
            | Self::Crit
            | Self::Typ
            | Self::UnknownKey
            | Self::Signature
            | Self::TimeClaim
            | Self::Expired
            | Self::NotYetValid
            | Self::IssuedInFuture
            | Self::Audience
            | Self::TenantClaim => Some("invalid_token"),
        }
    }

    /// Whether the same token may be good in a while: a 503 rather than a 401.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::KeysUnavailable)
    }
}
