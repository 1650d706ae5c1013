//! Creates tokens for development, signed with a shared secret.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value};

use super::key::{KeyFault, secret_key};
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::secrets::trimmed;

/// The content of a development token.
#[derive(Debug, Clone)]
pub struct DevelopmentToken<'a> {
    /// The algorithm: HS256, HS384 or HS512.
    pub algorithm: Algorithm,
    /// Value of `iss`.
    pub issuer: &'a str,
    /// Value of `aud`.
    pub audience: &'a str,
    /// Name of the claim with the tenant.
    pub tenant_claim: &'a str,
    /// Value of the tenant claim.
    pub tenant: &'a TenantId,
    /// Name of the claim with the scopes.
    pub scope_claim: &'a str,
    /// Value of the scope claim: scopes separated by spaces.
    pub scopes: &'a str,
    /// Value of `sub`.
    pub subject: Option<&'a str>,
    /// Time from now to `exp`.
    pub lifetime: Duration,
}

/// Reason why a token could not be created.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The gateway would refuse the secret.
    #[error("the secret {0}")]
    Secret(#[from] KeyFault),
    /// The algorithm does not use a shared secret.
    #[error("{0:?} does not use a shared secret")]
    NotHmac(Algorithm),
    /// The library failed to sign.
    #[error("cannot sign the token: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

impl DevelopmentToken<'_> {
    /// Signs the token with the content of a secret file; a trailing line break is not part of the secret.
    ///
    /// # Errors
    /// Returns an error if the algorithm is not HMAC, if the secret is too short for it (RFC 7518, 3.2), or if signing fails.
    pub fn mint(&self, secret: &[u8], now: Timestamp) -> Result<String, MintError> {
        if self.algorithm.family() != jsonwebtoken::AlgorithmFamily::Hmac {
            return Err(MintError::NotHmac(self.algorithm));
        }
        let secret = trimmed(secret);
        secret_key(secret, self.algorithm)?;
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), self.issuer.into());
        claims.insert("aud".to_owned(), self.audience.into());
        claims.insert("iat".to_owned(), now.as_seconds().into());
        claims.insert("exp".to_owned(), (now + self.lifetime).as_seconds().into());
        claims.insert(self.tenant_claim.to_owned(), self.tenant.as_str().into());
        claims.insert(self.scope_claim.to_owned(), self.scopes.into());
        if let Some(subject) = self.subject {
            claims.insert("sub".to_owned(), subject.into());
        }
        let header = Header::new(self.algorithm);
        Ok(encode(&header, &Value::Object(claims), &EncodingKey::from_secret(secret))?)
    }
}
