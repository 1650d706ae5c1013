//! The stage of each test: a verifier, the time, a directory for keys, and what the observer heard.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alovoice_gateway::auth::{Caller, Refresh, RefreshOutcome, Verifier, VerifierError};
use alovoice_gateway::config::{AuthSettings, IssuerSettings, KeySource};
use alovoice_gateway::domain::clock::{Clock, Timestamp};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

pub(crate) const ISSUER: &str = "https://issuer.test";
pub(crate) const AUDIENCE: &str = "alovoice-gateway";
/// The present, in seconds.
pub(crate) const NOW: i64 = 1_716_207_617;
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) const REFRESH: Duration = Duration::from_secs(600);
pub(crate) const MAX_STALE: Duration = Duration::from_secs(3600);
pub(crate) const REFETCH_PAUSE: Duration = Duration::from_secs(30);

/// A clock that stands still until it is told otherwise.
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct Stage {
    pub(crate) verifier: Verifier,
    pub(crate) clock: Arc<ManualClock>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    pub(crate) fn new(issuers: Vec<IssuerSettings>) -> Self {
        Self::try_new(issuers).unwrap()
    }

    pub(crate) fn try_new(issuers: Vec<IssuerSettings>) -> Result<Self, VerifierError> {
        let clock = Arc::new(ManualClock(AtomicI64::new(NOW * 1000)));
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&heard);
        let observer = move |refresh: &Refresh| {
            assert!(!format!("{refresh:?}").contains("hunter2"), "an address is told nowhere");
            let outcome = match &refresh.outcome {
                RefreshOutcome::Updated => "updated".to_owned(),
                RefreshOutcome::Unchanged => "unchanged".to_owned(),
                RefreshOutcome::Failed(reason) => format!("failed: {reason}"),
            };
            log.lock().unwrap().push(outcome);
        };
        let verifier = Verifier::new(&AuthSettings { issuers }, clock.clone(), observer)?;
        Ok(Self { verifier, clock, heard })
    }

    /// The reason if the token is turned away.
    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<Caller>, &'static str> {
        self.verifier.verify(token).await.map_err(|rejection| rejection.reason())
    }

    /// The verdict alone.
    pub(crate) async fn verdict(&self, token: &str) -> &'static str {
        self.verify(token).await.map_or_else(|reason| reason, |_| "ok")
    }

    /// Lets time pass and looks at the sources that are due then; tells what the observer heard since the last time.
    pub(crate) async fn refresh_after(&self, time: Duration) -> Vec<String> {
        self.clock.advance(time);
        self.verifier.refresh_once().await;
        self.heard()
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    /// How long from now to the next refresh.
    pub(crate) fn pause(&self) -> Duration {
        self.verifier.next_refresh().since(self.clock.now())
    }
}

/// An issuer with these algorithms and keys.
pub(crate) fn issuer(algorithms: &[Algorithm], keys: KeySource) -> IssuerSettings {
    IssuerSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned(), "another-of-ours".to_owned()],
        algorithms: algorithms.to_vec(),
        keys,
        tenant_claim: "tenant".to_owned(),
        scope_claim: "scope".to_owned(),
    }
}

/// Keys behind an address.
pub(crate) fn address(url: &Url) -> KeySource {
    KeySource::JwksUrl {
        url: url.clone(),
        refresh: REFRESH,
        max_stale: MAX_STALE,
        refetch_pause: REFETCH_PAUSE,
    }
}

/// Claims with nothing wrong about them.
pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 86_400, "tenant": "acme"})
}

/// The same with some of them changed, or taken away by a null.
pub(crate) fn claims_with(changes: &Value) -> Value {
    let mut claims = claims();
    let members = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    claims
}

/// A directory with a file in it.
pub(crate) fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    std::fs::write(&path, content).unwrap();
    (directory, path)
}
