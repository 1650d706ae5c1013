//! The reasons why a token is rejected.

use crate::config::{IssuerSettings, claim_names};

/// A rejected token, with the details for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rejection}")]
pub struct RejectedToken {
    /// Reason for the rejection.
    pub rejection: Rejection,
    /// The configured issuer that the token names. `None` if the token cannot be parsed or names no configured
    /// issuer.
    pub issuer: Option<String>,
    /// The claims that caused the rejection, separated by commas.
    pub claim: Option<String>,
}

impl RejectedToken {
    /// Creates the rejection of a token that names this issuer.
    pub(super) fn of(rejection: Rejection, issuer: &IssuerSettings) -> Self {
        let tenant_claim = (rejection == Rejection::TenantClaim).then(|| claim_names(&issuer.tenant_claim));
        let rejected = Self::from(rejection);
        Self { issuer: Some(issuer.issuer.clone()), claim: tenant_claim.or(rejected.claim), ..rejected }
    }
}

impl From<Rejection> for RejectedToken {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, issuer: None, claim: rejection.claim().map(str::to_owned) }
    }
}

/// Reason why a token is rejected.
///
/// The text is valid as `error_description` of RFC 6750: printable ASCII without quotation marks and backslashes. It never
/// contains a part of the token, which may be a secret or an attack on readers of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The request has no `Authorization` header.
    #[error("a bearer token is required")]
    Missing,
    /// The request has more than one `Authorization` header. A proxy and a server might not use the same header.
    #[error("the request has more than one Authorization header")]
    SeveralHeaders,
    /// The authentication scheme is not `Bearer`.
    #[error("the Authorization header does not use the scheme Bearer")]
    NotBearer,
    /// The token is larger than 8 KiB.
    #[error("the token is larger than 8 KiB")]
    TooLarge,
    /// The token is not a signed JWT in compact form; the text has the reason.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `iss` is missing or is not a configured issuer.
    #[error("the issuer of the token is not trusted")]
    UnknownIssuer,
    /// `alg` is missing, `none`, unknown, or not allowed for the issuer or the key.
    #[error("the algorithm of the token is not allowed for its issuer and key")]
    Algorithm,
    /// The header requires an extension (RFC 7515, 4.1.11). None is supported.
    #[error("the token requires an extension that is not supported")]
    Crit,
    /// `typ` is not the type of an access token.
    #[error("the type of the token is neither JWT nor at+jwt")]
    Typ,
    /// The issuer does not have the key, or has withdrawn it.
    #[error("the issuer does not publish the key that signed the token")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the token is not valid")]
    Signature,
    /// `exp` is missing, or one of `exp`, `nbf`, `iat` is not a number.
    #[error("exp is missing, or one of exp, nbf, iat is not a number of seconds")]
    TimeClaim,
    /// The time in `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// The time in `nbf` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The time in `iat` is in the future.
    #[error("the token was issued in the future")]
    IssuedInFuture,
    /// `aud` is missing or has no configured audience.
    #[error("the audience of the token is not this service")]
    Audience,
    /// The tenant claim is missing or is not a valid tenant id.
    #[error("the token has no valid tenant claim")]
    TenantClaim,
    /// The issuer's keys were never fetched, or the last good ones are too old. The token is not the cause.
    #[error("the keys of the token's issuer are currently not available")]
    KeysUnavailable,
}

impl Rejection {
    /// Returns the label `reason` in metrics.
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

    /// Returns the registered claim that caused the rejection (RFC 7519, 4.1).
    const fn claim(self) -> Option<&'static str> {
        match self {
            Self::UnknownIssuer => Some("iss"),
            Self::TimeClaim => Some("exp, nbf, iat"),
            Self::Expired => Some("exp"),
            Self::NotYetValid => Some("nbf"),
            Self::IssuedInFuture => Some("iat"),
            Self::Audience => Some("aud"),
            Self::Missing
            | Self::SeveralHeaders
            | Self::NotBearer
            | Self::TooLarge
            | Self::Malformed(_)
            | Self::Algorithm
            | Self::Crit
            | Self::Typ
            | Self::UnknownKey
            | Self::Signature
            | Self::TenantClaim
            | Self::KeysUnavailable => None,
        }
    }

    /// Returns the `error` attribute of `WWW-Authenticate`.
    ///
    /// Returns `None` if the request has no bearer token: the answer then has the scheme only (RFC 6750, 3.1). Also
    /// returns `None` for [`Self::KeysUnavailable`], which the token does not cause.
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

    /// Whether the gateway may accept the same token later. In this case, the answer has status 503 instead of 401.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::KeysUnavailable)
    }
}
