//! The keys of one issuer at one time.

use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::jws::Jws;
use super::key::{Key, KeyFault};
use super::key_source::KeySourceError;
use super::rejection::Rejection;

/// The most keys tried on one token: a set of thousands must not make each forged token cost as much.
const MOST_TRIES: usize = 8;

/// The format of a source of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A JWK Set at a public address.
    PublishedJwks,
    /// A JWK Set in a local file. It may hold shared secrets.
    Jwks,
    /// A PEM public key.
    PublicKey,
    /// A shared secret.
    Secret,
}

impl Format {
    /// Parses the bytes of a source.
    pub(super) fn parse(self, bytes: &[u8], allowed: &[Algorithm]) -> Result<KeySet, KeySourceError> {
        match self {
            Self::PublishedJwks => KeySet::from_jwks(bytes, allowed, true),
            Self::Jwks => KeySet::from_jwks(bytes, allowed, false),
            Self::PublicKey => Ok(KeySet::of(Key::from_pem(bytes, allowed)?)),
            Self::Secret => Ok(KeySet::of(Key::from_secret(bytes, allowed)?)),
        }
    }
}

/// The keys of one issuer at one time; never empty.
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// The set of one key.
    pub(super) fn of(key: Key) -> Self {
        Self(vec![key])
    }

    /// Reads a JWK Set (RFC 7517, 5). Keys that cannot be used are skipped, as that section asks.
    ///
    /// # Errors
    /// If it is no such set, or not one of its keys can be used.
    pub(super) fn from_jwks(
        json: &[u8],
        allowed: &[Algorithm],
        published: bool,
    ) -> Result<Self, KeySourceError> {
        #[derive(Deserialize)]
        struct Jwks<'a> {
            // Unparsed: one strange key must not cost us the others.
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        // Only the place: a message of the parser might quote a secret.
        let jwks: Jwks<'_> = serde_json::from_slice(json)
            .map_err(|error| KeySourceError::NotAKeySet { line: error.line(), column: error.column() })?;
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
            return Err(KeySourceError::Mixed);
        }
        let found = usable.len();
        let usable = distinct(usable, &unreadable);
        if usable.len() < found {
            first_fault = first_fault.or(Some(KeyFault::AmbiguousId));
        }
        match first_fault {
            _ if !usable.is_empty() => Ok(Self(usable)),
            Some(first) => Err(KeySourceError::NoUsableKey { keys: jwks.keys.len(), first }),
            None => Err(KeySourceError::Empty),
        }
    }

    /// Whether one of these keys made the token's signature.
    ///
    /// # Errors
    /// [`Rejection::UnknownKey`] if no key answers to the token's `kid` (or, without one, to its algorithm),
    /// [`Rejection::Algorithm`] if the named key may not be used so, [`Rejection::Signature`] if it does not hold.
    pub(super) fn verify(&self, jws: &Jws<'_>) -> Result<(), Rejection> {
        let named = self.named(jws.key_id.as_deref());
        if named.is_empty() {
            return Err(Rejection::UnknownKey);
        }
        let fitting = named.iter().filter(|key| key.fits(jws.algorithm)).take(MOST_TRIES).collect::<Vec<_>>();
        if fitting.is_empty() {
            return Err(if jws.key_id.is_some() { Rejection::Algorithm } else { Rejection::UnknownKey });
        }
        if fitting.iter().any(|key| key.verifies(jws.algorithm, jws.signed, &jws.signature)) {
            Ok(())
        } else {
            Err(Rejection::Signature)
        }
    }

    /// The keys of that name; if there are none, those without a name, for which a `kid` says nothing. Several
    /// keys may share a name if their algorithms differ (RFC 7517, 4.5).
    fn named(&self, id: Option<&str>) -> Vec<&Key> {
        let Some(id) = id else { return self.0.iter().collect() };
        let named = self.0.iter().filter(|key| key.id() == Some(id)).collect::<Vec<_>>();
        if named.is_empty() { self.0.iter().filter(|key| key.id().is_none()).collect() } else { named }
    }
}

/// The keys without those of which a token's `kid` and `alg` would not tell which one is meant, be the other one a key that
/// cannot be read.
fn distinct(keys: Vec<Key>, unreadable: &[String]) -> Vec<Key> {
    let is_distinct = |place: usize| {
        let key = &keys[place];
        let mut others = keys.iter().enumerate().filter(|(other, _)| *other != place);
        !others.any(|(_, other)| key.is_confused_with(other))
            && !unreadable.iter().any(|id| key.id() == Some(id))
    };
    let distinct = (0..keys.len()).map(is_distinct).collect::<Vec<_>>();
    keys.into_iter().zip(distinct).filter_map(|(key, is_distinct)| is_distinct.then_some(key)).collect()
}
