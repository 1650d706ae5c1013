//! Tokens for trying the gateway out, signed with a shared secret.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value};

use super::key::{KeyFault, secret_key};
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::secrets::without_line_break;

/// What a development token says.
#[derive(Debug, Clone)]
pub struct DevelopmentToken<'a> {
    /// One of HS256, HS384, HS512.
    pub algorithm: Algorithm,
    /// `iss`.
    pub issuer: &'a str,
    /// `aud`.
    pub audience: &'a str,
    /// The claim that names the tenant.
    pub tenant_claim: &'a str,
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The claim that lists the scopes.
    pub scope_claim: &'a str,
    /// The scopes, parted by spaces.
    pub scopes: &'a str,
    /// `sub`.
    pub subject: Option<&'a str>,
    /// From now to `exp`.
    pub lifetime: Duration,
}

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The secret, or the algorithm it should be used with, would be refused by every verifier of ours.
    #[error("the secret {0}")]
    Secret(#[from] KeyFault),
    /// Only shared secrets sign development tokens.
    #[error("{0:?} does not sign with a shared secret")]
    NotHmac(Algorithm),
    /// The library failed to sign.
    #[error("cannot sign the token: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

impl DevelopmentToken<'_> {
    /// Signs the token with the content of a secret file; a trailing line break is not part of the secret.
    ///
    /// # Errors
    /// If the algorithm is not of the HMAC family, or the secret too short for it (RFC 7518, 3.2).
    pub fn mint(&self, secret: &[u8], now: Timestamp) -> Result<String, MintError> {
        if self.algorithm.family() != jsonwebtoken::AlgorithmFamily::Hmac {
            return Err(MintError::NotHmac(self.algorithm));
        }
        let secret = without_line_break(secret);
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
