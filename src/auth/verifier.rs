//! Verifies bearer tokens.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use futures_util::future::join_all;
use moka::sync::Cache;

use super::caller::Caller;
use super::claims::{Claims, Validity};
use super::issuer_keys::IssuerKeys;
use super::jws::Jws;
use super::key_set::KeySet;
use super::rejection::{RejectedToken, Rejection};
use super::remote_keys::{Refresh, RefreshObserver, RemoteKeys};
use crate::config::{AuthSettings, IssuerSettings, SettingsProblems};
use crate::domain::clock::{Clock, Timestamp};
use crate::http_client::Network;
use crate::secrets::ReloadableSecrets;

/// Maximum size of a token in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Maximum number of verified tokens in the cache. An entry takes a few hundred bytes, so the cache needs a few MiB.
const MAX_CACHED_TOKENS: u64 = 10_000;

/// Verifies bearer tokens against the issuers of the settings.
pub struct Verifier {
    issuers: HashMap<String, Issuer>,
    /// Verified tokens by their SHA-256, so that the cache holds no tokens.
    verified: Cache<[u8; digest::SHA256_OUTPUT_LEN], Verified>,
    clock: Arc<dyn Clock>,
}

/// A configured issuer with its keys.
pub(super) struct Issuer {
    pub(super) settings: IssuerSettings,
    keys: IssuerKeys,
}

impl Issuer {
    /// Checks the algorithm and the signature of a token, and returns the keys that were used.
    pub(super) async fn check_signature(&self, jws: &Jws<'_>) -> Result<Arc<KeySet>, Rejection> {
        if !self.settings.algorithms.contains(&jws.algorithm) {
            return Err(Rejection::Algorithm);
        }
        self.keys.verify(jws).await
    }

    async fn verify(&self, jws: &Jws<'_>, claims: &Claims, now: Timestamp) -> Result<Verified, Rejection> {
        let key_set = self.check_signature(jws).await?;
        let validity = claims.validity()?;
        validity.check(now)?;
        let caller = Arc::new(claims.caller(&self.settings, validity.expires_at)?);
        Ok(Verified { caller, validity, keys: self.keys.clone(), key_set: Arc::clone(key_set.fingerprint()) })
    }
}

/// Parses the header and the claims of a token.
pub(super) fn parse(token: &str) -> Result<(Jws<'_>, Claims), Rejection> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Rejection::TooLarge);
    }
    let jws = Jws::parse(token)?;
    let claims = Claims::parse(&jws.payload)?;
    Ok((jws, claims))
}

/// A verified token, with the conditions under which it is accepted again.
#[derive(Clone)]
struct Verified {
    caller: Arc<Caller>,
    validity: Validity,
    keys: IssuerKeys,
    /// Fingerprint of the key set that verified the signature. The cache does not keep the keys, because a withdrawn
    /// secret must not stay in memory.
    key_set: Arc<[u8]>,
}

impl Verified {
    fn still_holds(&self, now: Timestamp) -> bool {
        let keys = self.keys.current(now);
        keys.is_some_and(|keys| keys.fingerprint() == &self.key_set) && self.validity.check(now).is_ok()
    }
}

impl Verifier {
    /// Reads the key files of all issuers. The gateway fetches a JWKS URL at the first
    /// [`Self::refresh_once`], or when the first token needs its keys.
    ///
    /// `observer` is called after each fetch of a JWKS URL. The observer runs on threads that serve requests, so the observer
    /// must not block.
    ///
    /// # Errors
    /// [`SettingsProblems`] lists every issuer whose keys cannot be loaded, by settings key.
    pub fn new(
        settings: &AuthSettings,
        network: &Network,
        clock: Arc<dyn Clock>,
        observer: impl Fn(&Refresh) + Send + Sync + 'static,
    ) -> Result<Self, SettingsProblems> {
        let observer: RefreshObserver = Arc::new(observer);
        let (mut issuers, mut problems) = (HashMap::new(), Vec::new());
        for (index, issuer) in settings.issuers.iter().enumerate() {
            match IssuerKeys::load(issuer, &format!("auth.issuers[{index}]"), network, &clock, &observer) {
                Ok(keys) => {
                    issuers.insert(issuer.issuer.clone(), Issuer { settings: issuer.clone(), keys });
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(SettingsProblems(problems));
        }
        Ok(Self { issuers, verified: Cache::new(MAX_CACHED_TOKENS), clock })
    }

    /// Verifies a token and returns its caller.
    ///
    /// The function waits only if the token names an unknown key, or if the issuer's keys were never fetched. All concurrent
    /// callers then wait for the same fetch.
    ///
    /// # Errors
    /// [`RejectedToken`] names the first rule that the token violates.
    pub async fn verify(&self, token: &str) -> Result<Arc<Caller>, RejectedToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::TooLarge.into());
        }
        let mut fingerprint = [0; digest::SHA256_OUTPUT_LEN];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        if let Some(known) = self.verified.get(&fingerprint) {
            if known.still_holds(self.clock.now()) {
                return Ok(known.caller);
            }
            // The full verification below determines the reason.
            self.verified.invalidate(&fingerprint);
        }
        // The box keeps the future of a request small, because most tokens are known.
        let verified = Box::pin(self.verify_uncached(token)).await?;
        self.verified.insert(fingerprint, verified.clone());
        Ok(verified.caller)
    }

    async fn verify_uncached(&self, token: &str) -> Result<Verified, RejectedToken> {
        let (jws, claims) = parse(token)?;
        let issuer = self.issuer_of(&claims).ok_or(Rejection::UnknownIssuer)?;
        let verified = issuer.verify(&jws, &claims, self.clock.now()).await;
        verified.map_err(|rejection| RejectedToken::of(rejection, &issuer.settings))
    }

    /// Returns the issuer that a token names. The claim `iss` is not trusted yet. It only selects the keys that must have signed
    /// the token.
    pub(super) fn issuer_of(&self, claims: &Claims) -> Option<&Issuer> {
        self.issuers.get(claims.issuer()?)
    }

    /// Returns the settings of the issuer with this `iss`; `None` if it is not configured.
    pub fn issuer(&self, name: &str) -> Option<&IssuerSettings> {
        self.issuers.get(name).map(|issuer| &issuer.settings)
    }

    /// Returns the names of all issuers, in alphabetical order.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<_> = self.issuers.keys().map(String::as_str).collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// Returns the current time, for the comparison with the times in tokens.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Fetches the keys of every JWKS URL that is due. The fetches are concurrent. Calls the observer after each fetch.
    pub async fn refresh_once(&self) {
        let now = self.clock.now();
        join_all(self.remote().filter(|keys| keys.due(now) <= now).map(RemoteKeys::refresh_if_due)).await;
    }

    /// Returns the time of the next [`Self::refresh_once`]; `None` if no issuer has a JWKS URL.
    pub fn next_refresh(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        self.remote().map(|keys| keys.due(now)).min()
    }

    /// Returns the key files, which may change while the process runs.
    pub fn secrets(&self) -> ReloadableSecrets {
        let files = self.issuers.values().filter_map(|issuer| match &issuer.keys {
            IssuerKeys::File(keys) => Some(Arc::clone(keys) as _),
            IssuerKeys::Remote(_) => None,
        });
        files.collect()
    }

    fn remote(&self) -> impl Iterator<Item = &RemoteKeys> {
        self.issuers.values().filter_map(|issuer| match &issuer.keys {
            IssuerKeys::File(_) => None,
            IssuerKeys::Remote(keys) => Some(&**keys),
        })
    }
}
