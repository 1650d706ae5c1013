//! An issuer's keys over time: fetched in the background, kept through an outage, withdrawn when they should be.
//!
//! A set is replaced as a whole. Its generation counts up with each change of content, which is how the cache of
//! verified tokens learns that a key may be gone. Loads are single-flight: whoever holds `flight` loads, the
//! others wait and then see what came.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use aws_lc_rs::digest;
use jsonwebtoken::Algorithm;
use secrecy::{ExposeSecret, SecretSlice};
use tokio::sync::Mutex;
use url::Url;

use super::key_set::{Format, KeySet};
use super::key_source::{KeySourceError, fetch, http_client, read, read_aside};
use crate::config::{IssuerSettings, KeySource};
use crate::domain::clock::{Clock, Timestamp};

/// How often a file is looked at. Content is compared: Kubernetes changes a mounted secret by swapping symlinks.
const FILE_POLL: Duration = Duration::from_secs(5);
/// From the first failed fetch to the next one; doubled from failure to failure.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// The longest pause between fetches while they fail: how late we may notice that an outage is over.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What became of one look at an issuer's keys.
#[derive(Debug)]
pub struct Refresh {
    /// Whose keys.
    pub issuer: String,
    /// What became of it.
    pub outcome: RefreshOutcome,
    /// Whether they lie in a file of our own.
    pub is_file: bool,
    /// Whether the look before this one failed.
    pub failed_before: bool,
}

/// What became of one look at an issuer's keys.
#[derive(Debug)]
pub enum RefreshOutcome {
    /// They are others than before.
    Updated,
    /// They are the same.
    Unchanged,
    /// They could not be had; the last good ones stay in use for as long as they may.
    Failed(KeySourceError),
}

/// Told of every look at any issuer's keys, whether it was due or an unknown `kid` asked for it.
pub(super) type RefreshObserver = Arc<dyn Fn(&Refresh) + Send + Sync>;

/// One issuer's keys.
pub(super) struct KeyRing {
    issuer: String,
    algorithms: Vec<Algorithm>,
    source: Source,
    clock: Arc<dyn Clock>,
    observer: RefreshObserver,
    state: RwLock<State>,
    flight: Arc<Mutex<()>>,
}

enum Source {
    File {
        path: PathBuf,
        format: Format,
    },
    Address {
        url: Url,
        client: reqwest::Client,
        refresh: Duration,
        max_stale: Duration,
        refetch_pause: Duration,
    },
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// SHA-256 of what the keys were made of.
    fingerprint: Option<Vec<u8>>,
    generation: u64,
    /// When the keys were last seen at their source.
    seen_at: Option<Timestamp>,
    /// When to look next; none until the first look, which is due at once.
    due: Option<Timestamp>,
    loads: u64,
    failures: u32,
    /// When an unknown key last caused a fetch.
    refetched_at: Option<Timestamp>,
}

/// The keys as they stand.
pub(super) struct Standing {
    /// The keys in force; none if they were never had, or not for too long.
    pub(super) keys: Option<Arc<KeySet>>,
    /// Counts the changes of the keys.
    pub(super) generation: u64,
    /// Counts the looks at the source, so that a waiter can tell whether one has ended meanwhile.
    pub(super) loads: u64,
}

impl KeyRing {
    /// Reads a file source at once; leaves an address to the first refresh.
    ///
    /// # Errors
    /// If the file cannot be read, or has no usable key in it.
    pub(super) fn open(
        settings: &IssuerSettings,
        clock: Arc<dyn Clock>,
        observer: RefreshObserver,
    ) -> Result<Self, KeySourceError> {
        let ring = Self {
            issuer: settings.issuer.clone(),
            algorithms: settings.algorithms.clone(),
            source: Source::new(&settings.keys)?,
            clock,
            observer,
            state: RwLock::default(),
            flight: Arc::default(),
        };
        if let Source::File { path, .. } = &ring.source
            && let RefreshOutcome::Failed(error) = ring.record(read(path))
        {
            return Err(error);
        }
        Ok(ring)
    }

    /// How the keys stand.
    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        let state = self.read_state();
        let keys = state.keys.clone().filter(|_| self.is_fresh(&state, now));
        Standing { keys, generation: state.generation, loads: state.loads }
    }

    /// Whether the keys of that generation are still in force.
    pub(super) fn is_in_force(&self, generation: u64, now: Timestamp) -> bool {
        let state = self.read_state();
        state.generation == generation && self.is_fresh(&state, now)
    }

    /// When to look at the source next.
    pub(super) fn due(&self) -> Timestamp {
        self.read_state().due.unwrap_or(Timestamp::from_millis(i64::MIN))
    }

    /// Looks at the source if it is time.
    pub(super) async fn refresh_if_due(&self) {
        let _flight = self.flight.lock().await;
        if self.due() <= self.clock.now() {
            self.load().await;
        }
    }

    /// Fetches anew because of a key that is unknown, or because no keys were ever had; `loads` is where the
    /// caller's [`Standing`] was. One fetch serves all that wait, and within the issuer's pause there is no other.
    pub(super) async fn refetch(self: &Arc<Self>, loads: u64) {
        let Source::Address { refetch_pause, .. } = &self.source else { return };
        let flight = Arc::clone(&self.flight).lock_owned().await;
        let now = self.clock.now();
        {
            let mut state = self.write_state();
            let paused = state.refetched_at.is_some_and(|at| now.since(at) < *refetch_pause);
            if state.loads != loads || paused {
                return;
            }
            state.refetched_at = Some(now);
        }
        let ring = Arc::clone(self);
        // A task of its own: a caller that hangs up must not take away what the others wait for.
        let load = tokio::spawn(async move {
            ring.load().await;
            drop(flight);
        });
        // It fails only if the runtime is going down, and then so are we.
        let _ = load.await;
    }

    async fn load(&self) {
        let bytes = match &self.source {
            Source::File { path, .. } => read_aside(path.clone()).await,
            Source::Address { url, client, .. } => fetch(client, url).await,
        };
        let failed_before = self.read_state().failures > 0;
        let outcome = self.record(bytes);
        let is_file = matches!(self.source, Source::File { .. });
        (self.observer)(&Refresh { issuer: self.issuer.clone(), outcome, is_file, failed_before });
    }

    fn record(&self, bytes: Result<SecretSlice<u8>, KeySourceError>) -> RefreshOutcome {
        let outcome = bytes.and_then(|bytes| {
            let bytes = bytes.expose_secret();
            let fingerprint = digest::digest(&digest::SHA256, bytes).as_ref().to_vec();
            if self.read_state().fingerprint.as_ref() == Some(&fingerprint) {
                return Ok(None);
            }
            let keys = self.source.format().parse(bytes, &self.algorithms)?;
            Ok(Some((Arc::new(keys), fingerprint)))
        });
        let now = self.clock.now();
        let mut state = self.write_state();
        state.loads += 1;
        state.failures = if outcome.is_ok() { 0 } else { state.failures.saturating_add(1) };
        state.due = Some(now + self.source.pause_after(state.failures));
        match outcome {
            Ok(changed) => {
                state.seen_at = Some(now);
                let Some((keys, fingerprint)) = changed else { return RefreshOutcome::Unchanged };
                (state.keys, state.fingerprint) = (Some(keys), Some(fingerprint));
                state.generation += 1;
                RefreshOutcome::Updated
            }
            Err(error) => RefreshOutcome::Failed(error),
        }
    }

    fn is_fresh(&self, state: &State, now: Timestamp) -> bool {
        match (&self.source, state.seen_at) {
            (_, None) => false,
            (Source::File { .. }, Some(_)) => true,
            (Source::Address { max_stale, .. }, Some(seen_at)) => now.since(seen_at) <= *max_stale,
        }
    }

    // Nothing panics while it holds the lock, and no panic could leave the state half written.
    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn new(keys: &KeySource) -> Result<Self, KeySourceError> {
        let file = |path: &PathBuf, format| Ok(Self::File { path: path.clone(), format });
        match keys {
            KeySource::JwksUrl { url, refresh, max_stale, refetch_pause } => Ok(Self::Address {
                url: url.clone(),
                client: http_client()?,
                refresh: *refresh,
                max_stale: *max_stale,
                refetch_pause: *refetch_pause,
            }),
            KeySource::JwksFile(path) => file(path, Format::Jwks),
            KeySource::PublicKeyFile(path) => file(path, Format::PublicKey),
            KeySource::HmacSecretFile(path) => file(path, Format::Secret),
        }
    }

    fn format(&self) -> Format {
        match self {
            Self::File { format, .. } => *format,
            Self::Address { .. } => Format::PublishedJwks,
        }
    }

    /// How long to leave the source alone, after so many failures in a row.
    fn pause_after(&self, failures: u32) -> Duration {
        match (self, failures.checked_sub(1)) {
            (Self::File { .. }, _) => FILE_POLL,
            (Self::Address { refresh, .. }, None) => *refresh,
            (Self::Address { refresh, .. }, Some(earlier)) => {
                FIRST_RETRY.saturating_mul(2u32.saturating_pow(earlier)).min(LAST_RETRY).min(*refresh)
            }
        }
    }
}
