//! The keys of one issuer at one time.

use std::sync::Arc;

use aws_lc_rs::digest;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::jws::Jws;
use super::key::{Key, KeyFault};
use super::rejection::Rejection;
use crate::secrets::trimmed;

/// Maximum number of keys that are tried for one token. Without this limit, a forged token could cause thousands of signature
/// checks.
const MAX_TRIED_KEYS: usize = 8;

/// Reason why the content of a key file or of a JWKS URL cannot be used. Its text never repeats a key.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The content is not a JWK Set (RFC 7517, 5).
    #[error("is not a JWK Set (line {line}, column {column})")]
    NotAKeySet {
        /// The line where the parser failed.
        line: usize,
        /// The column where the parser failed.
        column: usize,
    },
    /// The JWK Set has no keys.
    #[error("is a JWK Set without keys")]
    Empty,
    /// None of the keys in the JWK Set can be used.
    #[error("has no usable key among its {keys}; the first {first}")]
    NoUsableKey {
        /// The number of keys in the set.
        keys: usize,
        /// The reason why the first key cannot be used.
        first: KeyFault,
    },
    /// The set has shared secrets in addition to public keys. Such a set is likely to be published by mistake.
    #[error("has shared secrets and public keys in one set")]
    Mixed,
    /// The only key of a PEM or secret file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFault),
}

/// The format of a key source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyFormat {
    /// A JWK Set from a URL. It must not contain shared secrets.
    PublishedJwks,
    /// A JWK Set from a local file. It may contain shared secrets.
    Jwks,
    /// A public key in PEM.
    PublicKey,
    /// A shared secret.
    Secret,
}

/// The keys of one issuer at one time; never empty.
pub(super) struct KeySet {
    keys: Vec<Key>,
    fingerprint: Arc<[u8]>,
}

impl KeySet {
    /// Reads the keys and pins each of them to the `allowed` algorithms that fit it.
    ///
    /// # Errors
    /// Returns an error if the content has the wrong form, if none of its keys can be used, or if a set mixes shared secrets
    /// with public keys.
    pub(super) fn parse(
        format: KeyFormat,
        content: &[u8],
        allowed: &[Algorithm],
    ) -> Result<Self, KeySetError> {
        let text = trimmed(content);
        let keys = match format {
            KeyFormat::PublishedJwks => from_jwks(text, allowed, true)?,
            KeyFormat::Jwks => from_jwks(text, allowed, false)?,
            KeyFormat::PublicKey => vec![Key::from_pem(text, allowed)?],
            KeyFormat::Secret => vec![Key::from_secret(content, allowed)?],
        };
        Ok(Self { keys, fingerprint: digest::digest(&digest::SHA256, content).as_ref().into() })
    }

    /// Returns the SHA-256 of the content that the keys were read from.
    pub(super) fn fingerprint(&self) -> &Arc<[u8]> {
        &self.fingerprint
    }

    /// Checks that one of these keys made the token's signature.
    ///
    /// # Errors
    /// [`Rejection::UnknownKey`] if no key matches the token's `kid` (or, without a `kid`, its algorithm),
    /// [`Rejection::Algorithm`] if the named key does not allow the algorithm, [`Rejection::Signature`] if the signature is
    /// wrong.
    pub(super) fn verify(&self, jws: &Jws<'_>) -> Result<(), Rejection> {
        let candidates = self.candidates(jws.key_id.as_deref());
        if candidates.is_empty() {
            return Err(Rejection::UnknownKey);
        }
        let fitting = candidates.iter().filter(|key| key.fits(jws.algorithm));
        let fitting = fitting.take(MAX_TRIED_KEYS).collect::<Vec<_>>();
        if fitting.is_empty() {
            return Err(if jws.key_id.is_some() { Rejection::Algorithm } else { Rejection::UnknownKey });
        }
        if fitting.iter().any(|key| key.verifies(jws.algorithm, jws.signed, &jws.signature)) {
            Ok(())
        } else {
            Err(Rejection::Signature)
        }
    }

    /// Returns the keys with this id, or all keys if `id` is `None`. If no key has the id, returns the keys without an id,
    /// because a `kid` cannot exclude them. Several keys may share an id if their algorithms differ (RFC 7517, 4.5).
    fn candidates(&self, id: Option<&str>) -> Vec<&Key> {
        let Some(id) = id else { return self.keys.iter().collect() };
        let named = self.keys.iter().filter(|key| key.id() == Some(id)).collect::<Vec<_>>();
        if named.is_empty() { self.keys.iter().filter(|key| key.id().is_none()).collect() } else { named }
    }
}

/// Reads a JWK Set (RFC 7517, 5). Keys that cannot be used are skipped, as that section recommends.
fn from_jwks(json: &[u8], allowed: &[Algorithm], published: bool) -> Result<Vec<Key>, KeySetError> {
    #[derive(Deserialize)]
    struct Jwks<'a> {
        // The keys are not parsed here, so that one malformed key does not invalidate the others.
        #[serde(borrow)]
        keys: Vec<&'a RawValue>,
    }
    // The error contains only the position, because a message of the parser might quote a secret.
    let jwks: Jwks<'_> = serde_json::from_slice(json)
        .map_err(|error| KeySetError::NotAKeySet { line: error.line(), column: error.column() })?;
    let mut unreadable = Vec::new();
    let mut read = |json: &RawValue| {
        let jwk: Jwk = serde_json::from_str(json.get()).map_err(|_| KeyFault::Unreadable)?;
        if published && matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
            return Err(KeyFault::PublishedSecret);
        }
        Key::from_jwk(&jwk, allowed).inspect_err(|fault| {
            if *fault == KeyFault::Unreadable {
                unreadable.extend(jwk.common.key_id);
            }
        })
    };
    let (mut usable, mut first_fault) = (Vec::new(), None);
    for key in jwks.keys.iter().map(|json| read(json)) {
        match key {
            Ok(key) => usable.push(key),
            Err(fault) => first_fault = first_fault.or(Some(fault)),
        }
    }
    if usable.iter().any(Key::is_secret) && !usable.iter().all(Key::is_secret) {
        return Err(KeySetError::Mixed);
    }
    let count = usable.len();
    let usable = without_ambiguous(usable, &unreadable);
    if usable.len() < count {
        first_fault = first_fault.or(Some(KeyFault::AmbiguousId));
    }
    match first_fault {
        _ if !usable.is_empty() => Ok(usable),
        Some(first) => Err(KeySetError::NoUsableKey { keys: jwks.keys.len(), first }),
        None => Err(KeySetError::Empty),
    }
}

/// Removes every key that a token's `kid` and `alg` cannot distinguish from another key. `unreadable` has the ids of
/// keys that could not be read.
fn without_ambiguous(keys: Vec<Key>, unreadable: &[String]) -> Vec<Key> {
    let is_distinct = |place: usize| {
        let key = &keys[place];
        let mut others = keys.iter().enumerate().filter(|(other, _)| *other != place);
        !others.any(|(_, other)| key.is_confused_with(other))
            && !unreadable.iter().any(|id| key.id() == Some(id))
    };
    let distinct = (0..keys.len()).map(is_distinct).collect::<Vec<_>>();
    keys.into_iter().zip(distinct).filter_map(|(key, is_distinct)| is_distinct.then_some(key)).collect()
}
