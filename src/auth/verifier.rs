//! The gate: a token in, a caller or a rejection out.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;
use futures_util::future::join_all;
use moka::sync::Cache;

use super::caller::Caller;
use super::claims::{Claims, Validity};
use super::jws::Jws;
use super::key_ring::{KeyRing, Refresh, RefreshObserver};
use super::key_source::KeySourceError;
use super::rejection::Rejection;
use crate::config::{AuthSettings, IssuerSettings, KeySource};
use crate::domain::clock::{Clock, Timestamp};

/// The largest token that is looked at.
const MOST_TOKEN_BYTES: usize = 8 * 1024;

/// The most verified tokens remembered: at some hundred bytes each, a few MiB.
const MOST_REMEMBERED: u64 = 10_000;

/// Why a [`Verifier`] could not be made: everything that is wrong, not only the first.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct VerifierError(pub Vec<IssuerFault>);

/// What is wrong with one issuer.
#[derive(Debug)]
pub struct IssuerFault {
    /// Which issuer.
    pub issuer: String,
    /// The file that its keys should come from, if they come from one.
    pub path: Option<PathBuf>,
    /// What is wrong with it.
    pub fault: KeySourceError,
}

impl fmt::Display for IssuerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "issuer {:?}: ", self.issuer)?;
        if let Some(path) = &self.path {
            write!(f, "{} ", path.display())?;
        }
        self.fault.fmt(f)
    }
}

/// Verifies bearer tokens against the issuers that the settings trust.
pub struct Verifier {
    issuers: HashMap<String, Issuer>,
    /// By SHA-256 of the token, so that no token lies about in memory.
    verified: Cache<[u8; digest::SHA256_OUTPUT_LEN], Verified>,
    clock: Arc<dyn Clock>,
}

struct Issuer {
    settings: IssuerSettings,
    keys: Arc<KeyRing>,
}

/// A token that was good, and what must still hold for it to be good again.
#[derive(Clone)]
struct Verified {
    caller: Arc<Caller>,
    validity: Validity,
    keys: Arc<KeyRing>,
    generation: u64,
}

impl Verifier {
    /// Loads the keys that lie in files. Those behind an address come with the first [`Self::refresh_once`], or
    /// with the first token that needs them.
    ///
    /// `observer` is told of every look at a key source after this one, whether it was due or an unknown `kid`
    /// asked for it. It is called where requests are served, so it must not block.
    ///
    /// # Errors
    /// Names every issuer whose file cannot be used, the file and the reason.
    pub fn new(
        settings: &AuthSettings,
        clock: Arc<dyn Clock>,
        observer: impl Fn(&Refresh) + Send + Sync + 'static,
    ) -> Result<Self, VerifierError> {
        let observer: RefreshObserver = Arc::new(observer);
        let (mut issuers, mut faults) = (HashMap::new(), Vec::new());
        for issuer in &settings.issuers {
            match KeyRing::open(issuer, Arc::clone(&clock), Arc::clone(&observer)) {
                Ok(keys) => {
                    let keys = Arc::new(keys);
                    issuers.insert(issuer.issuer.clone(), Issuer { settings: issuer.clone(), keys });
                }
                Err(fault) => faults.push(IssuerFault::new(issuer, fault)),
            }
        }
        if !faults.is_empty() {
            return Err(VerifierError(faults));
        }
        Ok(Self { issuers, verified: Cache::new(MOST_REMEMBERED), clock })
    }

    /// Says who a token speaks for.
    ///
    /// It waits only if the token names a key that its issuer did not have when last asked, or if the issuer was
    /// never asked yet: then for one fetch of the keys, shared by however many callers.
    ///
    /// # Errors
    /// [`Rejection`] names the first rule that the token breaks.
    pub async fn verify(&self, token: &str) -> Result<Arc<Caller>, Rejection> {
        if token.len() > MOST_TOKEN_BYTES {
            return Err(Rejection::TooLarge);
        }
        let mut fingerprint = [0; digest::SHA256_OUTPUT_LEN];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        if let Some(known) = self.verified.get(&fingerprint) {
            let now = self.clock.now();
            if known.keys.is_in_force(known.generation, now) && known.validity.check(now).is_ok() {
                return Ok(known.caller);
            }
            // Whatever is wrong with it now, the long way finds the right words for it.
            self.verified.invalidate(&fingerprint);
        }
        let verified = self.verify_anew(token).await?;
        self.verified.insert(fingerprint, verified.clone());
        Ok(verified.caller)
    }

    async fn verify_anew(&self, token: &str) -> Result<Verified, Rejection> {
        let jws = Jws::parse(token)?;
        let claims = Claims::parse(&jws.payload)?;
        // Not believed yet: it only says whose keys must have signed the token, if it is to be believed.
        let issuer =
            claims.issuer().and_then(|name| self.issuers.get(name)).ok_or(Rejection::UnknownIssuer)?;
        if !issuer.settings.algorithms.contains(&jws.algorithm) {
            return Err(Rejection::Algorithm);
        }
        let generation = self.verify_signature(&jws, &issuer.keys).await?;
        let validity = claims.validity()?;
        validity.check(self.clock.now())?;
        let caller = claims.caller(&issuer.settings, validity.expires_at)?;
        Ok(Verified { caller: Arc::new(caller), validity, keys: Arc::clone(&issuer.keys), generation })
    }

    /// Checks the signature and tells the generation of the keys it was checked with.
    async fn verify_signature(&self, jws: &Jws<'_>, ring: &Arc<KeyRing>) -> Result<u64, Rejection> {
        let first = ring.standing(self.clock.now());
        match &first.keys {
            Some(keys) => match keys.verify(jws) {
                Err(Rejection::UnknownKey) => {}
                verdict => return verdict.map(|()| first.generation),
            },
            // Only the very first callers wait; in an outage, a prompt answer is worth more than a late one.
            None if first.loads == 0 => {}
            None => return Err(Rejection::KeysUnavailable),
        }
        ring.refetch(first.loads).await;
        let second = ring.standing(self.clock.now());
        second.keys.ok_or(Rejection::KeysUnavailable)?.verify(jws)?;
        Ok(second.generation)
    }

    /// Looks at every key source that is due, those that failed and may be tried again included, and tells the
    /// observer what came of it. Sources do not wait for one another.
    pub async fn refresh_once(&self) {
        let now = self.clock.now();
        let due = self.issuers.values().filter(|issuer| issuer.keys.due() <= now);
        join_all(due.map(|issuer| issuer.keys.refresh_if_due())).await;
    }

    /// When [`Self::refresh_once`] has something to do next; the end of time if there is no issuer.
    pub fn next_refresh(&self) -> Timestamp {
        let due = self.issuers.values().map(|issuer| issuer.keys.due());
        due.min().unwrap_or(Timestamp::from_millis(i64::MAX))
    }
}

impl IssuerFault {
    fn new(settings: &IssuerSettings, fault: KeySourceError) -> Self {
        let path = match &settings.keys {
            KeySource::JwksUrl { .. } => None,
            KeySource::JwksFile(path) | KeySource::PublicKeyFile(path) | KeySource::HmacSecretFile(path) => {
                Some(path.clone())
            }
        };
        Self { issuer: settings.issuer.clone(), path, fault }
    }
}
