//! The keys of an issuer that publishes them at a JWKS URL.
//!
//! Keys are fetched in the background. An unknown `kid` causes one additional fetch, which all waiting callers share. There is at
//! most one such fetch in each `jwks_refetch_pause`. If fetches fail, the last good keys stay valid for `jwks_max_stale`. A
//! fetched set replaces the whole previous set, so a key that the issuer removed stops working.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use aws_lc_rs::digest;
use jsonwebtoken::Algorithm;
use tokio::sync::Mutex;

use super::jwks_client::{FetchError, JwksClient};
use super::jws::Jws;
use super::key_set::{KeyFormat, KeySet};
use super::rejection::Rejection;
use crate::config::IssuerSettings;
use crate::domain::clock::{Clock, Timestamp};

/// Pause between the first failed fetch and the next one. The pause doubles with each further failure.
const MIN_RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Maximum pause between fetches while they fail. The gateway notices the end of an outage within this time.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(60);

/// The result of one fetch of an issuer's keys.
#[derive(Debug)]
pub struct Refresh {
    /// The `iss` of the issuer.
    pub issuer: String,
    /// The result of the fetch.
    pub outcome: RefreshOutcome,
}

/// The result of one fetch of keys.
#[derive(Debug)]
pub enum RefreshOutcome {
    /// The keys changed.
    Updated,
    /// The keys are the same as before.
    Unchanged,
    /// The fetch failed. The last good keys stay valid until they are too old.
    Failed(FetchError),
}

/// Function that is called after each fetch of any issuer's keys.
pub(super) type RefreshObserver = Arc<dyn Fn(&Refresh) + Send + Sync>;

/// The keys of one issuer that publishes them at a URL.
pub(super) struct RemoteKeys {
    issuer: String,
    algorithms: Vec<Algorithm>,
    client: JwksClient,
    timing: Timing,
    clock: Arc<dyn Clock>,
    observer: RefreshObserver,
    state: RwLock<FetchState>,
    /// A fetch holds this lock, so that there is one fetch at a time.
    single_flight: Arc<Mutex<()>>,
}

/// Pauses between fetches, and the duration for which the keys stay valid.
pub(super) struct Timing {
    /// Pause between two fetches (`jwks_refresh`).
    pub(super) refresh: Duration,
    /// Duration for which the last good keys stay valid while fetches fail (`jwks_max_stale`).
    pub(super) max_stale: Duration,
    /// Minimum pause between two fetches for unknown keys (`jwks_refetch_pause`).
    pub(super) refetch_pause: Duration,
}

#[derive(Default)]
struct FetchState {
    keys: Option<Arc<KeySet>>,
    /// Time of the last successful fetch.
    fetched_at: Option<Timestamp>,
    /// Time of the next fetch; `None` before the first one, which is due at once.
    due: Option<Timestamp>,
    /// Number of fetches, including failed ones.
    fetches: u64,
    /// Number of failed fetches since the last successful one.
    failures: u32,
    /// Time of the last fetch for an unknown key.
    refetched_at: Option<Timestamp>,
}

impl RemoteKeys {
    /// Prepares the keys; the first refresh fetches them.
    pub(super) fn new(
        issuer: &IssuerSettings,
        client: JwksClient,
        timing: Timing,
        clock: Arc<dyn Clock>,
        observer: RefreshObserver,
    ) -> Arc<Self> {
        Arc::new(Self {
            issuer: issuer.issuer.clone(),
            algorithms: issuer.algorithms.clone(),
            client,
            timing,
            clock,
            observer,
            state: RwLock::default(),
            single_flight: Arc::default(),
        })
    }

    /// Returns the current keys; `None` if they were never fetched, or if the last good ones are too old.
    pub(super) fn current(&self, now: Timestamp) -> Option<Arc<KeySet>> {
        self.current_of(&self.read_state(), now)
    }

    /// Checks the token's signature and returns the keys that verified it.
    ///
    /// # Errors
    /// The errors of [`KeySet::verify`], and [`Rejection::KeysUnavailable`] if there are no current keys.
    pub(super) async fn verify(self: &Arc<Self>, jws: &Jws<'_>) -> Result<Arc<KeySet>, Rejection> {
        let (keys, fetches) = {
            let state = self.read_state();
            (self.current_of(&state, self.clock.now()), state.fetches)
        };
        match keys {
            Some(keys) => match keys.verify(jws) {
                Err(Rejection::UnknownKey) => {}
                verdict => return verdict.map(|()| keys),
            },
            // Only callers before the first fetch wait. In an outage, a prompt answer is better than a late one.
            None if fetches == 0 => {}
            None => return Err(Rejection::KeysUnavailable),
        }
        self.refetch(fetches).await;
        let keys = self.current(self.clock.now()).ok_or(Rejection::KeysUnavailable)?;
        keys.verify(jws)?;
        Ok(keys)
    }

    /// Returns the time of the next fetch. A time that is too far in the future comes from a clock that was wrong, so the fetch
    /// is due now.
    pub(super) fn due(&self, now: Timestamp) -> Timestamp {
        let due = self.read_state().due.unwrap_or(Timestamp::from_millis(i64::MIN));
        if due > now + self.timing.refresh { now } else { due }
    }

    /// Fetches the keys if they are due.
    pub(super) async fn refresh_if_due(&self) {
        let _flight = self.single_flight.lock().await;
        let now = self.clock.now();
        if self.due(now) <= now {
            self.fetch().await;
        }
    }

    /// Fetches the keys because a token names an unknown key, or because they were never fetched. `fetches` is the number of
    /// fetches that the caller has seen. If the number has changed, another caller has fetched the keys in the meantime, and no
    /// further fetch is needed.
    async fn refetch(self: &Arc<Self>, fetches: u64) {
        let flight = Arc::clone(&self.single_flight).lock_owned().await;
        let now = self.clock.now();
        {
            let mut state = self.write_state();
            let refetch_pause = self.timing.refetch_pause;
            let paused = state.refetched_at.is_some_and(|at| at <= now && now.since(at) < refetch_pause);
            if state.fetches != fetches || paused {
                return;
            }
            state.refetched_at = Some(now);
        }
        let keys = Arc::clone(self);
        // The fetch runs in a separate task: a caller that disconnects must not cancel the fetch that others wait
        // for.
        let fetch = tokio::spawn(async move {
            keys.fetch().await;
            drop(flight);
        });
        // The join fails only if the runtime is shutting down.
        let _ = fetch.await;
    }

    async fn fetch(&self) {
        let content = self.client.fetch().await;
        let outcome = self.record(content);
        (self.observer)(&Refresh { issuer: self.issuer.clone(), outcome });
    }

    fn record(&self, content: Result<Vec<u8>, FetchError>) -> RefreshOutcome {
        let previous = self.read_state().keys.clone();
        let fetched = content.and_then(|content| match previous {
            Some(keys) if keys.fingerprint()[..] == *digest::digest(&digest::SHA256, &content).as_ref() => {
                Ok(None)
            }
            _ => Ok(Some(KeySet::parse(KeyFormat::PublishedJwks, &content, &self.algorithms)?)),
        });
        let now = self.clock.now();
        let mut state = self.write_state();
        state.fetches += 1;
        state.failures = if fetched.is_ok() { 0 } else { state.failures.saturating_add(1) };
        state.due = Some(now + self.pause_after(state.failures));
        match fetched {
            Ok(changed) => {
                state.fetched_at = Some(now);
                let Some(keys) = changed else { return RefreshOutcome::Unchanged };
                state.keys = Some(Arc::new(keys));
                RefreshOutcome::Updated
            }
            Err(error) => RefreshOutcome::Failed(error),
        }
    }

    fn current_of(&self, state: &FetchState, now: Timestamp) -> Option<Arc<KeySet>> {
        let is_fresh = now.since(state.fetched_at?) <= self.timing.max_stale;
        state.keys.clone().filter(|_| is_fresh)
    }

    /// Returns the pause before the next fetch, after this number of consecutive failures.
    fn pause_after(&self, failures: u32) -> Duration {
        let refresh = self.timing.refresh;
        match failures.checked_sub(1) {
            None => refresh,
            Some(earlier) => {
                MIN_RETRY_PAUSE.saturating_mul(2u32.saturating_pow(earlier)).min(MAX_RETRY_PAUSE).min(refresh)
            }
        }
    }

    // No code panics while it holds the lock, so the state is never half written.
    fn read_state(&self) -> RwLockReadGuard<'_, FetchState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, FetchState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
